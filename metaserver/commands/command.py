"""What all subcommands share: how they reach a cluster, and how rows are printed."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import click
import orjson

from shared.cli import EXISTING_FILE, option
from shared.pegasus.client import PegasusClient
from shared.pegasus.client.connection import Call
from shared.pegasus.serving.tls import client_context
from shared.pegasus.wire import calls
from shared.pegasus.wire.errors import ErrorCode, RpcError
from shared.pegasus.wire.structures.base import HostPort
from shared.pegasus.wire.structures.layer2 import AppInfo, AppStatus
from shared.pegasus.wire.structures.meta_admin import (
    ListAppsRequest,
)

__all__ = ["CommandError", "Row", "admin", "cluster_command", "table_named"]

Row = dict[str, Any]


class CommandError(Exception):
    """A command cannot be carried out; the text is what the operator reads."""


def _servers(_ctx: click.Context, _parameter: click.Parameter, value: str) -> list[HostPort]:
    try:
        return [HostPort.parse(server) for server in value.split(",")]
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _tls(_ctx: click.Context, _parameter: click.Parameter, value: Path | None) -> ssl.SSLContext | None:
    try:
        return None if value is None else client_context(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def cluster_command(name: str) -> Callable[[Callable[..., Coroutine[Any, Any, list[Row]]]], click.Command]:
    """Make a coroutine function a command: it gets a client and returns rows, printed as a table or as JSON."""

    def decorate(function: Callable[..., Coroutine[Any, Any, list[Row]]]) -> click.Command:
        def run(
            meta: list[HostPort], timeout_s: float, as_json: bool, tls: ssl.SSLContext | None, **arguments: Any
        ) -> None:
            rows = asyncio.run(_run(function, PegasusClient(meta, timeout_s=timeout_s, tls=tls), arguments))
            click.echo(orjson.dumps(rows).decode() if as_json else _table(rows))

        run.__doc__ = function.__doc__
        run.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
        for add in (
            option("--json", "as_json", is_flag=True, help="Print JSON."),
            option("--timeout", "timeout_s", type=click.FloatRange(min=0.1), default=30.0, help="Seconds to wait."),
            option(
                "--tls-ca",
                "tls",
                type=EXISTING_FILE,
                callback=_tls,
                help="Certificates (PEM) by which the servers are known, when they speak TLS.",
            ),
            option("--meta", default="127.0.0.1:34601", callback=_servers, help="Metaservers, HOST:PORT[,…]."),
        ):
            run = add(run)
        return click.command(name)(run)

    return decorate


async def _run(
    function: Callable[..., Awaitable[list[Row]]], client: PegasusClient, arguments: dict[str, Any]
) -> list[Row]:
    async with client:
        try:
            return await function(client, **arguments)
        except (RpcError, CommandError) as error:
            raise click.ClickException(str(error)) from error


async def admin(client: PegasusClient, call: Call, request: Any) -> Any:
    """The response to an admin request.

    Raises:
        RpcError: The cluster declined it.
    """
    response = await client.meta.call(call, request)
    if response.err != ErrorCode.ERR_OK:
        hint = getattr(response, "hint_message", None) or getattr(response, "hint_msg", None)
        raise RpcError(response.err, hint or "")
    return response


def _table(rows: list[Row]) -> str:
    """Rows in columns, with a head."""
    if not rows:
        return "nothing"
    lines = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)


async def table_named(client: PegasusClient, name: str) -> AppInfo:
    response = await admin(client, calls.LIST_APPS, ListAppsRequest(AppStatus.INVALID))
    for info in response.infos:
        if info.app_name == name and info.status != AppStatus.DROPPED:
            found: AppInfo = info
            return found
    raise RpcError(ErrorCode.ERR_APP_NOT_EXIST, f"there is no table '{name}'")
