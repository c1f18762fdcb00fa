"""`gateway import-openapi` and `import-python`: channel files from what a team already has."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import click
from aiohttp import ClientError

from gateway.commands.importers.draft import Draft
from gateway.commands.importers.fetch import fetch_document
from gateway.commands.importers.openapi import Listings, draft_of_document
from gateway.commands.importers.python_classes import draft_of_classes
from gateway.commands.importers.python_source import draft_of_source
from gateway.config.loader import parse_channel_file
from gateway.config.text import ChannelFileError
from shared.cli import option

output_option = click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write a new file."
)


@click.command("import-openapi")
@click.argument("source", metavar="URL|FILE")
@output_option
@option("--token", help="API key of the server.", show_default=False)
def import_openapi(source: str, output: Path | None, token: str | None) -> None:
    """Make a channel file from the OpenAPI document of a csp-gateway server.

    From a running server (its URL) more is known than from the document in a file: the keys of baskets, the order of
    channels, what can be sent to, and static fields. Only reading routes are called.
    """
    try:
        if source.startswith(("http://", "https://")):
            document, listings = asyncio.run(fetch_document(source, token))
        else:
            document, listings = _document(Path(source)), Listings()
        draft = draft_of_document(document, listings, f"the OpenAPI document {source}")
    except (ValueError, ClientError, OSError, TimeoutError) as error:
        raise click.ClickException(f"cannot read {source}: {error}") from error
    _write(draft, output)


@click.command("import-python")
@click.argument("source", metavar="MODULE:CLASS|FILE.py[:CLASS]")
@output_option
@click.option("--python", metavar="PROGRAM", default=sys.executable, help="Interpreter that can import MODULE.")
def import_python(source: str, output: Path | None, python: str) -> None:
    """Make a channel file from a GatewayChannels class of csp-gateway.

    \b
    FILE.py[:CLASS]  reads the source text, and that of files beside it that it imports from; nothing is executed.
    MODULE:CLASS     imports the module. This needs an interpreter that has csp-gateway and the module's other
                     requirements: this one, or the one that --python names.
    """
    where, _, name = source.rpartition(":") if not source.endswith(".py") else (source, "", "")
    try:
        if where.endswith(".py"):
            draft = draft_of_source(Path(where), name or None)
        elif where and name:
            draft = draft_of_classes(where, name, python)
        else:
            raise click.UsageError(f"{source!r} is neither MODULE:CLASS nor FILE.py[:CLASS]")
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    _write(draft, output)


def _document(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise ValueError("this is not an OpenAPI document")
    return value


def _write(draft: Draft, output: Path | None) -> None:
    """Write the file, say what is missing in it, and whether it can be served."""
    text = draft.text()
    if output is None:
        click.echo(text, nl=False)
    else:
        try:
            with output.open("x", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise click.ClickException(f"cannot write {output}: {error.strerror}") from error
    for warning in draft.warnings():
        click.echo(f"gateway: {warning}", err=True)
    try:
        parse_channel_file(text, str(output or "channels.yml"), os.environ)
    except ChannelFileError as error:
        raise click.ClickException(f"the file needs a hand before it can be served: {error}") from error
