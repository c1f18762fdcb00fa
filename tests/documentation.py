"""The tables of options and routes in docs/, made from the code: `python -m tests.documentation` writes them anew.

A page holds a table between two comments, ``<!-- options -->`` … ``<!-- end options -->``; for the routes, ``routes``.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from pathlib import Path
from unittest.mock import MagicMock

import click

ROOT = Path(__file__).parents[1]
CONTROLS = ("heartbeat", "stats", "shutdown")
PEGASUS = ("metaserver", "replicaserver")
DAEMONS = ("iserver", "metaserver", "replicaserver", "intake_server", "gateway")


def page(daemon: str) -> Path:
    """The page of a daemon in docs/."""
    return ROOT / "docs" / f"{daemon}.md"


def command_group(daemon: str) -> click.Group:
    """The click group behind a daemon's command."""
    group = importlib.import_module(f"{daemon}.cli").main
    assert isinstance(group, click.Group)
    return group


def options_table(daemon: str) -> str:
    """Flag, environment variable, default and help of every option of `start`, as a Markdown table."""
    group = command_group(daemon)
    start = group.commands["start"]
    parent = click.Context(group, info_name=daemon)
    with start.make_context("start", [], parent=parent, resilient_parsing=True) as context:
        rows = [_option_row(option, context) for option in start.params if isinstance(option, click.Option)]
    return _table(("option", "environment", "default", "meaning"), rows)


def _option_row(option: click.Option, context: click.Context) -> tuple[str, ...]:
    flags = ", ".join(f"`{flag}`" for flag in (*option.opts, *option.secondary_opts))
    default = option.get_default(context)
    shown = (
        ""
        if default is None or option.is_flag or option.multiple or str(default) in ("", "Sentinel.UNSET")
        else f"`{default}`"
    )
    return flags, f"`{option.envvar}`", shown, (option.help or "").replace("|", "\\|")


def routes_table(daemon: str) -> str:
    """Method and path of every route of a daemon with its default options, as a Markdown table."""
    app = importlib.import_module(f"{daemon}.app")
    function = app.http_routes if daemon in PEGASUS else app.routes
    arguments = [_stand_in() for _ in inspect.signature(function).parameters]
    routes = [
        ("GET, POST" if daemon in PEGASUS and route.method == "*" else route.method, route.path)
        for route in function(*arguments)
    ]
    if daemon in PEGASUS:
        routes.insert(0, ("GET, POST", "/"))
    return _table(("method", "path"), [(f"`{method}`", f"`{path}`") for method, path in dict.fromkeys(routes)])


def _stand_in() -> MagicMock:
    """Whatever a route table is made of, with the values that decide about paths."""
    part = MagicMock()
    part.prefix = "iserver"
    part.enable_cmd = True
    part.route_groups.configure_mock(base="/api/v1", api_root="/api", stream_path="/stream", controls=CONTROLS)
    part.declared.options.outputs = "outputs"
    part.declared.options.server.root_path = ""
    return part


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def written_table(daemon: str, kind: str) -> str | None:
    """The table that a page holds now; None when it has no place for one."""
    found = _place(kind).search(page(daemon).read_text(encoding="utf-8"))
    return found[2].strip() if found else None


def _place(kind: str) -> re.Pattern[str]:
    return re.compile(f"(<!-- {kind} -->\n)(.*?)(<!-- end {kind} -->)", re.DOTALL)


def write_tables(daemon: str) -> None:
    """Bring the tables of a page up to date."""
    path = page(daemon)
    text = path.read_text(encoding="utf-8")
    for kind, table in (("options", options_table(daemon)), ("routes", routes_table(daemon))):
        text = _place(kind).sub(lambda found, table=table: f"{found[1]}{table}\n{found[3]}", text)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    for name in sys.argv[1:] or DAEMONS:
        write_tables(name)
