"""Our FDL compiler against the published one: the same programs are accepted, the same tables come out.

The corpus holds small programs, by what we say about them. A folder is a program of several files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import pytest

from iserver.fdl import SourceFile, check, compile_program
from iserver.warehouse.ddl import Dialect, ddl
from tests.conformance.fdl_oracle import DIALECTS, REDSHIFT_SCHEMA, Verdict, judge, read_tables, read_views

pytestmark = pytest.mark.timeout(400)  # the first test waits until the compiler has judged every program

CORPUS = Path(__file__).with_name("fdl_corpus")

SKIPPED_CHARACTERS = "the original skips unknown characters with a warning; ours is an error (§13.1)"
JAVA_KEYWORD = "only Java clients cannot have the name; ours warns (§13.3)"

DEVIATIONS = {
    "text_semicolon": SKIPPED_CHARACTERS,
    "text_plus_number": SKIPPED_CHARACTERS,
    "text_unicode_name": SKIPPED_CHARACTERS,
    "text_name_only_underscore": "the original gives it a column without a name",
    "default_float_big": "JSON has no infinity (§13.4)",
    "elapsed_until": "newer versions of the language have it (§13.5)",
    "offline_without_split_key": "the original accepts it until it has to generate a client, then crashes (§13.6)",
    "type_name_with_in_suffix": "only the original's generated Java needs the name T_in",
    "enum_value_int": JAVA_KEYWORD,
    "inner_event_int": JAVA_KEYWORD,
    "java_keyword_assert": JAVA_KEYWORD,
    "java_keyword_class": JAVA_KEYWORD,
    "java_keyword_const": JAVA_KEYWORD,
    "java_keyword_enum_value": JAVA_KEYWORD,
    "java_keyword_event_name": JAVA_KEYWORD,
    "java_keyword_feature_name": JAVA_KEYWORD,
    "java_keyword_goto": JAVA_KEYWORD,
    "java_keyword_int": JAVA_KEYWORD,
    "java_keyword_object": JAVA_KEYWORD,
    "java_keyword_strictfp": JAVA_KEYWORD,
    "java_keyword_strictfp_among_others": JAVA_KEYWORD,
    "java_keyword_type_member": JAVA_KEYWORD,
    "java_name_client": JAVA_KEYWORD,
}

OTHER_COLUMNS = {
    "system_name_feature_deviceid",
    "system_name_feature_ds_hh",
    "system_name_feature_pk_name",
    "system_name_feature_sessionid",
    "system_name_session_ds",
}
"""The original writes tables with two columns of one name, which no engine creates; ours have another name for one."""


def _programs(kind: str) -> dict[str, list[Path]]:
    """The files of every program of a kind, by the program's name."""
    return {
        path.stem: sorted(path.glob("*.fdl")) if path.is_dir() else [path] for path in sorted((CORPUS / kind).iterdir())
    }


VALID = _programs("valid")
INVALID = _programs("invalid")


def _sources(files: list[Path]) -> list[SourceFile]:
    return [SourceFile(path.name, path.read_bytes().decode()) for path in files]


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Verdict]:
    return judge({**VALID, **INVALID}, tmp_path_factory.mktemp("compiler"))


def test_the_corpus_is_large_and_every_deviation_is_in_it():
    assert len(VALID) >= 150
    assert len(INVALID) >= 150
    assert DEVIATIONS.keys() <= {*VALID, *INVALID}


@pytest.mark.parametrize("name", VALID)
def test_a_valid_program_is_accepted(name: str):
    assert [str(item) for item in check(_sources(VALID[name])) if item.is_error] == []


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_program_is_rejected(name: str):
    assert any(item.is_error for item in check(_sources(INVALID[name])))


@pytest.mark.parametrize("name", [*VALID, *INVALID])
def test_the_published_compiler_accepts_and_rejects_the_same(verdicts: Mapping[str, Verdict], name: str):
    is_same = verdicts[name].accepted == (name in VALID)
    assert is_same != (name in DEVIATIONS), verdicts[name].printed


@pytest.mark.parametrize("name", [name for name in VALID if name not in {*DEVIATIONS, *OTHER_COLUMNS}])
def test_tables_columns_and_types_are_the_same(verdicts: Mapping[str, Verdict], name: str):
    program = compile_program(_sources(VALID[name]))
    assert set(DIALECTS) < set(get_args(Dialect))
    for dialect in DIALECTS:
        ours = ddl(program, dialect, "", schema=REDSHIFT_SCHEMA, table_format="orc")  # type: ignore[arg-type]
        assert read_tables(ours) == read_tables(verdicts[name].ddl[dialect]), dialect


@pytest.mark.parametrize("name", [name for name in VALID if name not in DEVIATIONS])
def test_views_unite_the_same_event_columns(verdicts: Mapping[str, Verdict], name: str):
    ours = read_views(ddl(compile_program(_sources(VALID[name])), "hive", ""))
    theirs = read_views(verdicts[name].ddl["hive"])
    assert ours.keys() == theirs.keys()
    for view, (sources, fields) in theirs.items():
        if sources:  # the original writes no select for an event that nothing imports
            assert ours[view] == (sources, fields)
