"""The least that an aiohttp server can do: answer with bytes that it already has.

``python -m benchmarks.bare_http --port 8000 FOLDER`` answers ``/NAME`` with the file of that name,
whatever the method.
"""

from __future__ import annotations

from pathlib import Path

import click
import uvloop
from aiohttp import web
from aiohttp.typedefs import Handler


def _answering(body: bytes) -> Handler:
    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=body, content_type="application/msgpack")

    return answer


@click.command()
@click.option("--port", type=int, required=True)
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(port: int, folder: Path) -> None:
    """Serve the files of FOLDER from memory."""
    app = web.Application()
    for file in folder.iterdir():
        app.router.add_route("*", f"/{file.name}", _answering(file.read_bytes()))
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=None, loop=uvloop.new_event_loop())


if __name__ == "__main__":
    main()
