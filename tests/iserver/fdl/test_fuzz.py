"""Any text is a program or a list of errors with places in it, and never anything else."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from iserver.fdl import FdlError, SourceFile, check, compile_program
from iserver.fdl.formatter import format_source
from iserver.warehouse.ddl import ddl
from tests.iserver.fdl.programs import SHOP

WORDS = [
    *("namespace", "type", "enum", "feature", "session", "event", "offline", "abstract", "import", "args", "output"),
    *("plugin", "java", "on", "Int", "String!", "ID", "Float", "[", "]", "{", "}", "(", ")", ":", "!", "=", "@", "$"),
    *('"text"', '"""block"""', "1", "-2.5", "true", "null", "# note\n", "\n", "A", "aB", "a_b", "F", "deviceId"),
    *("@persistent_key", "@mutable", "@external(values: [", "@elapsed(kind:", "@hint(length:", "@is_default(out:"),
    *('"', "\\", "é", "\ufeff", "\x00", ";", ","),
]

TEXTS = st.one_of(
    st.text(max_size=200),
    st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join),
    st.tuples(st.integers(0, len(SHOP)), st.integers(0, 40), st.sampled_from(["", *WORDS])).map(
        lambda cut: SHOP[: cut[0]] + cut[2] + SHOP[cut[0] + cut[1] :]
    ),
)

CORPUS = [path.read_text() for path in sorted((Path(__file__).parents[2] / "conformance/fdl_corpus").rglob("*.fdl"))]
TOKEN = re.compile(r'"""[\s\S]*?"""|"[^"]*"|#[^\n]*|\w+|\s+|.')


@st.composite
def mutants(draw: st.DrawFn) -> str:
    """A program of the corpus with some tokens taken out, doubled, exchanged, or taken from another program."""
    tokens = TOKEN.findall(draw(st.sampled_from(CORPUS)))
    for _ in range(draw(st.integers(1, 5))):
        place = draw(st.integers(0, max(len(tokens) - 1, 0)))
        others = TOKEN.findall(draw(st.sampled_from(CORPUS))) or [""]
        first = draw(st.integers(0, len(others) - 1))
        put = {
            "remove": [],
            "double": tokens[place : place + 1] * 2,
            "exchange": tokens[place : place + 2][::-1],
            "replace": others[first : first + 1],
            "splice": others[first : first + draw(st.integers(1, 30))],
        }
        tokens[place : place + 1] = put[draw(st.sampled_from(sorted(put)))]
    return "".join(tokens)


@given(TEXTS | mutants())
@settings(max_examples=900, deadline=None)
def test_any_text_is_a_program_or_errors_with_places(text: str):
    lines = text.count("\n") + 1
    diagnostics = check([SourceFile("fuzz.fdl", text)])
    for item in diagnostics:
        assert 1 <= item.line <= lines
        assert item.column >= 0
    try:
        program = compile_program([SourceFile("fuzz.fdl", text)])
    except FdlError as error:
        assert error.diagnostics == tuple(item for item in diagnostics if item.is_error)
        return
    assert not any(item.is_error for item in diagnostics)
    for dialect in ("hive", "snowflake", "redshift", "duckdb"):
        assert ddl(program, dialect, "/w")
    once = format_source(text)
    assert format_source(once) == once
    assert compile_program([SourceFile("fuzz.fdl", once)]) == program
