"""A daemon that is as small as a daemon can be, to test what all of them share: ``python -m tests.shared.subject``."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import click
import structlog
from aiohttp import web

from shared.cli import ServerOptions, daemon_group, option, require_authentication, run_daemon, start_command
from shared.daemon import WebService
from shared.errors import Problem, StartupError
from shared.http.app import apply_conventions, health_routes, json_response, read_json_object

log = structlog.get_logger("subject")

main = daemon_group("subject", "A daemon to test with.")


@start_command(main, port=4999, prefix="api")
@option("--paint-colour", "colour", default="red", help="What to paint.")
@option("--fails", is_flag=True, help="Cannot start.")
@option("--dawdles", is_flag=True, help="Never finishes starting.")
@option("--show", is_flag=True, help="Print the options and end.")
def start(**flags: Any) -> None:
    """Serve until told to stop."""
    options = ServerOptions.take(flags)
    require_authentication(options, authenticated=False, how="--token")
    if flags["show"]:
        click.echo(f"{options.host} {options.port} {options.prefix} {flags['colour']} {options.data_dir}")
        return
    run_daemon("subject", options, lambda: service(options, fails=flags["fails"], dawdles=flags["dawdles"]))


@main.command("paint")
@click.argument("path", type=click.Path(path_type=Path))
def paint(path: Path) -> None:
    """Write the colour to a file."""
    path.write_text("red")


def service(options: ServerOptions, *, fails: bool = False, dawdles: bool = False) -> WebService:
    reloads = 0

    async def open_parts(_app: web.Application) -> None:
        if dawdles or fails:
            threading.Thread(target=threading.Event().wait).start()  # a part that is open, and will not be closed
        if dawdles:
            log.info("mixing")
            await asyncio.sleep(60)
        if fails:
            raise StartupError("the paint is dry")

    async def reload() -> None:
        nonlocal reloads
        reloads += 1
        if reloads == 2:
            raise StartupError("no paint left")
        if reloads == 3:
            raise KeyError("paint")

    async def echo(request: web.Request) -> web.Response:
        return json_response(await read_json_object(request, limit=1000))

    async def slow(_request: web.Request) -> web.Response:
        log.info("painting")
        await asyncio.sleep(0.2)
        return json_response({"reloads": reloads})

    async def refuse(_request: web.Request) -> web.Response:
        raise Problem(422, "colour: found 'blu', expected a colour", code="bad_colour", headers={"X-Hint": "blue"})

    async def bug(_request: web.Request) -> web.Response:
        raise KeyError("a secret detail")

    app = web.Application()
    apply_conventions(app)
    app.on_startup.append(open_parts)
    app.add_routes(
        [
            *health_routes(list),
            web.post(f"/{options.prefix}/echo", echo),
            web.get(f"/{options.prefix}/slow", slow),
            web.get(f"/{options.prefix}/refuse", refuse),
            web.get(f"/{options.prefix}/bug", bug),
        ]
    )
    return WebService(app, reload=reload)


if __name__ == "__main__":
    main()
