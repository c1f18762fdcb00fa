"""A TCP proxy that loses answers: the request arrives, and the connection ends before its answer is passed on."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class CuttingProxy:
    """Stands between a client and a server on the loopback address.

    Attributes:
        cuts: How many of the next answers to stores are lost, each together with its connection.
        lost: Set when the first was lost.
        lost_count: How many were.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.cuts = 0
        self.lost = asyncio.Event()
        self.lost_count = 0

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    @property
    def url(self) -> str:
        """Where the first database of the server is, through the proxy."""
        assert self._server is not None
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    async def stop(self) -> None:
        """End every connection."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        back, forth = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers.add(forth)
        with suppress(ConnectionError):
            await asyncio.gather(self._pass(reader, forth), self._answer(back, writer))
        for each in (writer, forth):
            each.close()
            self._writers.discard(each)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self.cuts and b"stored" in data:
                self.cuts -= 1
                self.lost_count += 1
                self.lost.set()
                writer.close()
                return
            writer.write(data)
        writer.close()
