"""The `gateway` command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from shared.cli import (
    LazyCommand,
    ServerOptions,
    daemon_group,
    option,
    require_authentication,
    run_daemon,
    server_options,
    start_command,
)
from shared.errors import StartupError

COMMANDS = {
    "tail": LazyCommand(
        "gateway.commands.client",
        "tail",
        "Print the ticks of CHANNEL (a channel, or BASKET/KEY) as they come, one struct a line.",
    ),
    "send": LazyCommand(
        "gateway.commands.client",
        "send",
        "Tick CHANNEL (a channel, or BASKET/KEY) with JSON: a struct, or a list of structs; - reads standard input.",
    ),
    "state": LazyCommand("gateway.commands.client", "state", "Print the records of the state of CHANNEL, one a line."),
    "import-openapi": LazyCommand(
        "gateway.commands.import_channels",
        "import_openapi",
        "Make a channel file from the OpenAPI document of a csp-gateway server.",
    ),
    "import-python": LazyCommand(
        "gateway.commands.import_channels",
        "import_python",
        "Make a channel file from a GatewayChannels class of csp-gateway.",
    ),
}

main = daemon_group(
    "gateway",
    "The csp-gateway channel server: typed channels over REST, WebSocket and server-sent events.\n\n"
    "Not here: the Perspective routes, and authentication other "
    "than API keys.",
    COMMANDS,
)

_JOURNAL = option(
    "--journal", is_flag=True, help="Keep last values, states and ids in DATA_DIR/gateway.db across restarts."
)
_BUS = option(
    "--bus",
    metavar="URL",
    help="Join the gateways on a Redis, redis://HOST:PORT/DB#NAME: they share every tick. Not together with --journal.",
)
_SET = click.option("--set", "overrides", multiple=True, metavar="SECTION.OPTION=VALUE", help="Override the file.")
_FILE = click.argument("file", type=click.Path(path_type=Path))


@start_command(main, port=8000)
@option("--channels", type=click.Path(path_type=Path), help="Channel file; the demo without one.")
@_JOURNAL
@_BUS
@_SET
def start(channels: Path | None, journal: bool, bus: str | None, overrides: tuple[str, ...], **flags: Any) -> None:
    """Serve a channel file, or the demo."""
    _serve(channels, journal, bus, overrides, flags)


@main.command("run")
@server_options(port=8000)
@_JOURNAL
@_BUS
@_SET
@_FILE
def run(file: Path, journal: bool, bus: str | None, overrides: tuple[str, ...], **flags: Any) -> None:
    """Serve the channel file FILE."""
    _serve(file, journal, bus, overrides, flags)


@main.command("check")
@_SET
@_FILE
def check(file: Path, overrides: tuple[str, ...]) -> None:
    """Read the channel file FILE and print its routes; say what is wrong with it, and where."""
    from gateway.app import build
    from gateway.settings import Settings, read_declared

    try:
        declared = read_declared(Settings(file, overrides))
        parts = build(declared, folder=file.resolve().parent)
    except StartupError as error:
        raise click.ClickException(str(error)) from error
    for line in route_table(parts):
        click.echo(line)


def route_table(parts: Any) -> list[str]:
    """Method and path of every concrete route, as the OpenAPI document has them."""
    from gateway.handlers.documents import DocumentHandlers

    lines = []
    for path, operations in DocumentHandlers(parts.gateway).openapi_document()["paths"].items():
        lines += [f"{method.upper():6} {path}" for method in operations]
    return lines


def _serve(
    file: Path | None, journal: bool, bus: str | None, overrides: tuple[str, ...], flags: dict[str, Any]
) -> None:
    from gateway.daemon import service
    from gateway.settings import Settings, read_declared

    options = ServerOptions.take(flags)
    context = click.get_current_context()
    if journal and bus is not None:
        raise click.UsageError("--journal and --bus: choose one; on a bus Redis keeps what the journal would")
    prefix = (f"server.api_prefix={options.prefix}",) if options.prefix else ()
    settings = Settings(file, (*overrides, *prefix), options.data_dir / "gateway.db" if journal else None, bus)
    try:
        declared = read_declared(settings)
    except StartupError as error:
        click.echo(f"gateway: {error}", err=True)
        context.exit(1)
    options = options.completed(host=declared.options.server.bind, port=declared.options.server.port)
    api_key = declared.options.auth.api_key
    require_authentication(options, authenticated=api_key is not None, how="auth.api_key in the channel file")
    path = declared.options.server.root_path
    run_daemon("gateway", options, lambda: service(settings, declared), listener=options.listener(path))
