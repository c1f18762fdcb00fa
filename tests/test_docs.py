"""The pages in docs/ agree with the code: every flag, environment variable and route, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from tests.documentation import DAEMONS, ROOT, command_group, options_table, page, routes_table, written_table

REMEDY = "run: .venv/bin/python -m tests.documentation"
TEXTS = [path.relative_to(ROOT) for path in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")))]

_FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


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


@pytest.mark.parametrize("text", TEXTS, ids=str)
def test_every_link_to_a_file_or_heading_leads_there(text: Path):
    links = [link for link in _LINK.findall(prose(ROOT / text)) if not re.match(r"[a-z]+:", link)]
    broken = [link for link in links if not leads_somewhere(ROOT / text, link)]
    assert broken == []


def test_the_guide_for_contributors_names_files_that_exist():
    spans = re.findall(r"`([^`\n]+)`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    paths = [span for span in spans if re.fullmatch(r"[\w.]+(/[\w.]+)+/?", span)]
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def prose(path: Path) -> str:
    """A Markdown file without its fenced blocks and inline code."""
    return re.sub(r"`[^`\n]*`", "", _FENCE.sub("", path.read_text(encoding="utf-8")))


def leads_somewhere(source: Path, link: str) -> bool:
    """Whether a link's file exists, and has the heading that the link names."""
    name, _, anchor = link.partition("#")
    target = source.parent / name if name else source
    return target.exists() and (not anchor or anchor in anchors(target))


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = _HEADING.findall(_FENCE.sub("", path.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
