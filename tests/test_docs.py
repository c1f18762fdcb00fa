"""The pages in docs/ agree with the code: every flag, environment variable and route, and no other."""

from __future__ import annotations

import re

import click
import pytest

from tests.documentation import DAEMONS, command_group, options_table, page, routes_table, written_table

REMEDY = "run: .venv/bin/python -m tests.documentation"


@pytest.mark.parametrize("daemon", DAEMONS)
def test_the_page_lists_the_options_of_start(daemon: str):
    assert written_table(daemon, "options") == options_table(daemon), REMEDY


@pytest.mark.parametrize("daemon", DAEMONS)
def test_the_page_lists_the_routes(daemon: str):
    assert written_table(daemon, "routes") == routes_table(daemon), REMEDY


@pytest.mark.parametrize("daemon", DAEMONS)
def test_the_page_mentions_no_flag_that_no_command_has(daemon: str):
    flags = {flag for command in commands(command_group(daemon)) for flag in flags_of(command)}
    mentioned = set(
        re.findall(rf"(?<![\w-]){daemon} [^`\n]*?(--[a-z][a-z-]+)", page(daemon).read_text(encoding="utf-8"))
    )
    assert mentioned <= flags


@pytest.mark.parametrize("daemon", DAEMONS)
def test_the_page_names_every_command(daemon: str):
    text = page(daemon).read_text(encoding="utf-8")
    group = command_group(daemon)
    assert [name for name in group.list_commands(click.Context(group)) if f"{daemon} {name}" not in text] == []


def commands(group: click.Group) -> list[click.Command]:
    """All commands of a group, also those of groups in it."""
    found: list[click.Command] = [group]
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found += commands(command) if isinstance(command, click.Group) else [command]
    return found


def flags_of(command: click.Command) -> list[str]:
    """The options of a command as they are typed."""
    own = [flag for option in command.params for flag in (*option.opts, *option.secondary_opts)]
    return [*own, "--help", "--version"]
