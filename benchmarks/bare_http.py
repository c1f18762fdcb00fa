"""The least that an aiohttp server can do: answer with bytes that it already has.

``python -m benchmarks.bare_http --port 8000 FOLDER`` answers ``/NAME`` with the file of that name,
whatever the method. With ``--log FILE`` it writes the body of every request to a file and waits until that is on the
disk before it answers: the least that a server can do which loses nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import click
import uvloop
from aiohttp import web
from aiohttp.typedefs import Handler

LOG_BYTES = 64 * 1024 * 1024


def _answering(body: bytes, keep: Callable[[bytes], None]) -> Handler:
    async def answer(request: web.Request) -> web.Response:
        keep(await request.read())
        return web.Response(body=body, content_type="application/msgpack")

    return answer


def _log(path: Path) -> Callable[[bytes], None]:
    """Writes into blocks that are there already, over and over, and syncs each time."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    os.pwrite(descriptor, bytes(LOG_BYTES), 0)
    os.fsync(descriptor)
    offset = 0

    def keep(data: bytes) -> None:
        nonlocal offset
        if offset + len(data) > LOG_BYTES:
            offset = 0
        os.pwrite(descriptor, data, offset)
        os.fdatasync(descriptor)
        offset += len(data)

    return keep


@click.command()
@click.option("--port", type=int, required=True)
@click.option("--log", type=click.Path(dir_okay=False, path_type=Path), help="Sync every body to this file first.")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(port: int, log: Path | None, folder: Path) -> None:
    """Serve the files of FOLDER from memory."""
    keep = _log(log) if log is not None else lambda _body: None
    app = web.Application()
    for file in folder.iterdir():
        app.router.add_route("*", f"/{file.name}", _answering(file.read_bytes(), keep))
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=None, loop=uvloop.new_event_loop())


if __name__ == "__main__":
    main()
