"""What clients may send for a declared type (protocol §13.4, §10.3)."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iserver.fdl.model import FieldDefinition
from iserver.fdl.values import Arguments, InvalidValueError, MissingArgumentError, reader
from tests.iserver.fdl.programs import program

TYPES = """
    enum Tone { FORMAL CASUAL }
    type Doc { id: ID! title: String tags: [String!] }
    feature F { args { v: %s } }
"""


def field(type_text: str) -> FieldDefinition:
    return program(TYPES % type_text).features["F"].args[0]


def read(type_text: str, value: Any) -> Any:
    return reader(field(type_text).type, "v")(value)


@pytest.mark.parametrize(
    ("type_text", "value", "result"),
    [
        ("Int", 5, 5),
        ("Int", -(2**63), -(2**63)),
        ("Int", 2**63 - 1, 2**63 - 1),
        ("Float", 1, 1.0),
        ("Float", 1.5, 1.5),
        ("Boolean!", False, False),
        ("String", "", ""),
        ("ID!", "42", "42"),
        ("Tone", "FORMAL", "FORMAL"),
        ("[Int!]", [1, 2], [1, 2]),
        ("[[Float]]", [[1, None], None], [[1.0, None], None]),
        ("Doc", {"title": "T", "id": "a", "new": 1}, {"id": "a", "title": "T", "tags": None}),
        ("Int", None, None),
    ],
)
def test_a_value_of_the_type_is_taken(type_text: str, value: Any, result: Any):
    taken = read(type_text, value)
    assert taken == result
    assert orjson.dumps(taken) == orjson.dumps(result)


@pytest.mark.parametrize(
    ("type_text", "value", "message"),
    [
        ("Int", 1.0, "Expecting an integer for v"),
        ("Int", True, "Expecting an integer for v"),
        ("Int", 2**63, "Expecting an integer for v"),
        ("Int", "1", "Expecting an integer for v"),
        ("Int!", None, "Expecting an integer for v"),
        ("Float", True, "Expecting float for v"),
        ("Float", "1.5", "Expecting float for v"),
        ("Float", float("nan"), "Expecting float for v"),
        ("Float", float("inf"), "Expecting float for v"),
        ("Float", 10**400, "Expecting float for v"),
        ("Boolean", 1, "Expecting a boolean for v"),
        ("String", 1, "Expecting a string for v"),
        ("ID", 42, "Expecting a string for v"),
        ("String!", None, "Expecting a string for v"),
        ("Tone", "LOUD", "invalid value for v: expecting one of FORMAL, CASUAL"),
        ("Tone", 0, "invalid value for v: expecting one of FORMAL, CASUAL"),
        ("Tone", ["FORMAL"], "invalid value for v: expecting one of FORMAL, CASUAL"),
        ("[Int]", 1, "Expecting a list for v"),
        ("[Int]", {"0": 1}, "Expecting a list for v"),
        ("[Int!]", [1, None], "Expecting an integer for v"),
        ("Doc", [], "Malformed request: expecting an object for v"),
        ("Doc", {"title": "T"}, "Malformed request: v.id is missing"),
        ("Doc", {"id": None}, "Malformed request: v.id is missing"),
        ("Doc", {"id": "a", "tags": ["x", 1]}, "Expecting a string for v.tags"),
    ],
)
def test_another_value_is_refused_by_name(type_text: str, value: Any, message: str):
    with pytest.raises(InvalidValueError) as caught:
        read(type_text, value)
    assert str(caught.value) == message


ARGUMENTS = """
    type P { x: Int! y: Float }
    feature F { args { query: String! page: Int = 0 ratio: Float p: P tags: [String!] = ["a"] strict: Int! = 3 } }
"""


@pytest.fixture
def arguments() -> Arguments:
    return Arguments(program(ARGUMENTS).features["F"].args)


def test_defaults_fill_what_is_absent_or_null(arguments: Arguments):
    assert arguments.read({"page": None, "query": "q", "unknown": 1}) == {
        "query": "q",
        "page": 0,
        "tags": ["a"],
        "strict": 3,
    }


def test_args_come_back_in_declaration_order(arguments: Arguments):
    given_ = {"strict": 1, "tags": [], "ratio": 2, "query": "q"}
    assert list(arguments.read(given_)) == ["query", "page", "ratio", "tags", "strict"]


def test_a_missing_required_arg_is_named(arguments: Arguments):
    with pytest.raises(MissingArgumentError, match="missing required argument 'query'"):
        arguments.read({"page": 1})


@pytest.mark.parametrize("name", ["query", "strict"])
def test_null_for_a_non_null_arg_is_refused_even_with_a_default(arguments: Arguments, name: str):
    with pytest.raises(InvalidValueError, match=f"for {name}"):
        arguments.read({"query": "q", name: None})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"query": "q"}, {"query": "q", "page": 0}),
        ({"query": "q", "ratio": 1}, {"ratio": 1.0, "query": "q"}),
        ({"query": "q", "p": {"x": 1}}, {"query": "q", "p": {"y": None, "x": 1, "z": 9}}),
        ({"query": "q", "ratio": None}, {"query": "q", "more": True}),
    ],
)
def test_requests_that_mean_the_same_have_one_key(arguments: Arguments, one: Any, other: Any):
    assert arguments.key(arguments.read(one)) == arguments.key(arguments.read(other))


@pytest.mark.parametrize(
    "other",
    [{"query": "Q"}, {"query": "q", "page": 1}, {"query": "q", "tags": []}, {"query": "q", "p": {"x": 1}}],
)
def test_requests_that_differ_have_different_keys(arguments: Arguments, other: Any):
    assert arguments.key(arguments.read({"query": "q"})) != arguments.key(arguments.read(other))


def test_elapsed_fields_are_never_read():
    event = program('feature F { event E { a: Int t: Int! @elapsed(kind: "session_end") } }').features["F"].events["E"]
    assert Arguments(event.fields).read({"a": 1, "t": 5}) == {"a": 1}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.sampled_from(["Int", "Float!", "Boolean", "String", "ID", "Tone!", "[Int]", "[[String!]]", "Doc", "[Doc!]!"]),
    JSON,
)
@settings(deadline=None)
def test_any_json_is_taken_or_refused_and_taking_it_again_changes_nothing(type_text: str, value: Any):
    read_value = READERS[type_text]
    try:
        taken = read_value(value)
    except InvalidValueError:
        return
    assert read_value(taken) == taken
    orjson.dumps(taken)


READERS = {
    text: reader(field(text).type, "v")
    for text in ["Int", "Float!", "Boolean", "String", "ID", "Tone!", "[Int]", "[[String!]]", "Doc", "[Doc!]!"]
}
