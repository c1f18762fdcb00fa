"""Sections that the code cites, as `§2.8` or `appendix A`, are headings of the protocol page of their package.

The long tables of the Pegasus page agree with the code.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from shared.pegasus.metrics.catalog import ENTITY_TYPES, Role, prototypes
from shared.pegasus.serving.call_help import HELP
from shared.pegasus.settings.flags import Flag, Flags
from shared.pegasus.wire.errors import ErrorCode

ROOT = Path(__file__).parents[1]
PAGES = {
    "iserver": ("iserver",),
    "gateway": ("gateway",),
    "intake": ("intake_server",),
    "pegasus": ("metaserver", "replicaserver", "shared/pegasus"),
}
"""Protocol page (in docs/protocols/) and the folders whose sources cite it; their tests cite the same page."""

_HEADING = re.compile(r"^#{2,4} ((?:Appendix )?[0-9A-Z]+(?:\.[0-9]+)*) ", re.MULTILINE)
_STANDARD = re.compile(r"RFC \d+,? (?:§[\d.]+(?:, | and | to )?)+")
_SECTION = re.compile(r"§ ?([0-9]+(?:\.[0-9]+)*)")
_APPENDIX = re.compile(r"\bappendix ([A-Z])\b", re.IGNORECASE)


def sections(page: str) -> set[str]:
    """The numbers of a page's headings, such as `2.8` and `Appendix A`."""
    return set(_HEADING.findall((ROOT / "docs" / "protocols" / f"{page}.md").read_text(encoding="utf-8")))


def citations(text: str) -> set[str]:
    """The sections that a text cites; those of standards (`RFC 9112 §2`) are not ours to check."""
    text = _STANDARD.sub("", text)
    return {*_SECTION.findall(text), *(f"Appendix {letter.upper()}" for letter in _APPENDIX.findall(text))}


def sources(*folders: str) -> list[Path]:
    """All Python files in these folders."""
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize(("page", "folders"), PAGES.items())
def test_every_section_that_the_code_cites_is_a_heading(page: str, folders: tuple[str, ...]):
    existing = sections(page)
    missing = {
        str(path.relative_to(ROOT)): wrong
        for path in sources(*folders, *(f"tests/{folder}" for folder in folders))
        if (wrong := citations(path.read_text(encoding="utf-8")) - existing)
    }
    assert missing == {}


def test_nothing_else_cites_a_section():
    outside = [path for path in sources("shared") if not path.is_relative_to(ROOT / "shared" / "pegasus")]
    assert {path.name: wrong for path in outside if (wrong := citations(path.read_text(encoding="utf-8")))} == {}


@pytest.mark.parametrize("page", PAGES)
def test_every_section_that_a_page_cites_is_a_heading(page: str):
    text = (ROOT / "docs" / "protocols" / f"{page}.md").read_text(encoding="utf-8")
    assert citations(text) - sections(page) == set()


@pytest.mark.parametrize("page", PAGES)
def test_no_two_headings_have_the_same_number(page: str):
    text = (ROOT / "docs" / "protocols" / f"{page}.md").read_text(encoding="utf-8")
    numbers = _HEADING.findall(text)
    assert sorted(set(numbers)) == sorted(numbers)


def test_citations_are_told_from_those_of_standards():
    text = "as in §2.8 and appendix B, or § 4 (RFC 9112 §2 to §6, RFC 9110 §13, §14), see §10.2"
    assert citations(text) == {"2.8", "4", "10.2", "Appendix B"}


def part(page: str, start: str, end: str) -> str:
    """A page from one heading to another."""
    text = (ROOT / "docs" / "protocols" / f"{page}.md").read_text(encoding="utf-8")
    return text[text.index(f"\n{start}") : text.index(f"\n{end}")]


def rows(text: str) -> list[list[str]]:
    """The cells of all rows of tables whose first cell is code, without backticks and escapes."""
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip().strip("`").replace("\\|", "|") for cell in line] for line in lines]


def test_the_pegasus_page_lists_the_settings():
    own = {
        "compat_omit_host_port": ["b", "false", ""],
        "min_live_node_count_for_unfreeze": ["u64", "1", "yes"],
        "mutation_2pc_min_replica_count": ["i32", "0", ""],
    }
    listed = {name: rest for name, *rest in rows(part("pegasus", "## Appendix B", "## Appendix C")) if len(rest) == 3}
    catalog = {
        flag.name: [flag.type, default_text(flag), "yes" if flag.is_mutable else ""]
        for flag in Flags().catalog.values()
    }
    assert listed | own == catalog


def default_text(flag: Flag) -> str:
    """A default as the page has it."""
    match flag.type:
        case "s":
            return f'"{flag.default}"'
        case "d":
            return f"{flag.default:.2f}"
        case _:
            return str(flag.default).lower()


def test_the_pegasus_page_lists_the_error_codes():
    names = re.findall(r"`(ERR_\w+)`", part("pegasus", "## Appendix C", "## Appendix D"))
    assert set(names) == set(ErrorCode)


def test_the_pegasus_page_lists_the_calls():
    assert dict(rows(part("pegasus", "### 4.1 ", "### 4.2 "))) == HELP


def test_the_pegasus_page_lists_the_metrics():
    own = {("server", "Counter", "Tasks", "background_task_failed_count")}
    found, entity = set(), ""
    for line in part("pegasus", "## Appendix A", "## Appendix B").splitlines():
        if named := re.match(r"\*\*(\w+)\*\*", line):
            entity = named[1]
        elif line.startswith(("| Counter ", "| Gauge ", "| Percentile ")):
            kind, unit, names = (cell.strip() for cell in line.split("|")[1:-1])
            found |= {(entity, kind, unit, name) for name in re.findall(r"`(\w+)`", names)}
    known = {
        (kind_of_entity, prototype.kind, prototype.unit, prototype.name)
        for kind_of_entity in ENTITY_TYPES
        for role in get_args(Role)
        for prototype in prototypes(kind_of_entity, role)
    }
    assert found | own == known
