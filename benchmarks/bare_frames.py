"""The least that an asyncio server can do with a Pegasus request: find its end, and answer with bytes it already has.

``python -m benchmarks.bare_frames --port 8000 --value 100`` answers every request as a GET of 100 bytes.
"""

from __future__ import annotations

import asyncio
from typing import cast

import click
import uvloop

from shared.pegasus.wire.framing import encode_reply
from shared.pegasus.wire.structures.rrdb import ReadResponse
from shared.pegasus.wire.thrift import Codec, codec_of


class _Bare(asyncio.Protocol):
    def __init__(self, reply: bytes) -> None:
        self._reply = reply
        self._held = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET /"):  # is it ready?
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            self._transport.close()
            return
        self._held += data
        while len(self._held) >= 48 and len(self._held) >= (length := 48 + int.from_bytes(self._held[16:20], "big")):
            self._held = self._held[length:]
            self._transport.write(self._reply)


async def _serve(port: int, reply: bytes) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _Bare(reply), "127.0.0.1", port)
    await server.serve_forever()


@click.command()
@click.option("--port", type=int, required=True)
@click.option("--value", type=int, default=100, help="Bytes of the value in the answer.")
def main(port: int, value: int) -> None:
    """Answer Pegasus requests with the same bytes."""
    codec: Codec[ReadResponse] = codec_of(ReadResponse)
    result = codec.encode_field(ReadResponse(0, bytes(value), 2, 3, f"127.0.0.1:{port}"))
    uvloop.run(_serve(port, encode_reply("RPC_RRDB_RRDB_GET", 1, result)))


if __name__ == "__main__":
    main()
