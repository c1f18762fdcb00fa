"""User parameters: coercion and checks (protocol §9.4)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intake_server.catalog.parameters import TYPES, Parameter, ParameterError

NOW = datetime(2026, 11, 21, 7, 2, 3, tzinfo=UTC)


def parameter(kind: str, **more: Any) -> Parameter:
    return Parameter.declare("p", {"description": "d", "type": kind, **more})


@pytest.mark.parametrize(
    ("kind", "given_value", "value"),
    [
        ("bool", "false", False),
        ("bool", "Yes", True),
        ("bool", 0, False),
        ("int", "5.5", 5),
        ("int", "7", 7),
        ("int", 5.9, 5),
        ("int", True, 1),
        ("float", "1e3", 1000.0),
        ("float", 2, 2.0),
        ("str", 5, "5"),
        ("unicode", "ü", "ü"),
        ("list", "[1, 2]", [1, 2]),
        ("list", (1, 2), [1, 2]),
        ("tuple", [1, 2], (1, 2)),
        ("dict", "{'a': 1}", {"a": 1}),
        ("datetime", "2020-01-02T03:04:05", datetime(2020, 1, 2, 3, 4, 5)),
        ("datetime", "2020", datetime(2020, 1, 1)),
        ("datetime", datetime(2020, 1, 2), datetime(2020, 1, 2)),
        ("datetime", 1_000_000_000, datetime(1970, 1, 1, 0, 0, 1)),
        ("datetime", "now", datetime(2026, 11, 21, 7, 2, 3)),
        ("datetime", "today", datetime(2026, 11, 21)),
        ("mlist", ["a"], ["a"]),
        ("other", {"any": "thing"}, {"any": "thing"}),
    ],
)
def test_values_are_brought_to_their_type(kind: str, given_value: Any, value: Any):
    assert parameter(kind).accept(given_value, lambda: NOW) == value


@pytest.mark.parametrize(
    ("kind", "given_value"),
    [
        ("bool", "perhaps"),
        ("bool", []),
        ("int", "x"),
        ("int", float("nan")),
        ("int", float("inf")),
        ("int", "__import__('os')"),
        ("int", "9" * 10_000),
        ("float", "x"),
        ("float", []),
        ("str", []),
        ("str", b"bytes"),
        ("str", None),
        ("list", 5),
        ("list", "("),
        ("list", "[" * 10_000),
        ("dict", "[1]"),
        ("datetime", "not a day"),
        ("datetime", "NaT"),
        ("datetime", []),
        ("datetime", True),
        ("datetime", 10**40),
    ],
)
def test_values_of_another_type_are_refused_by_name(kind: str, given_value: Any):
    with pytest.raises(ParameterError, match=f"parameter 'p': expected {kind}, found"):
        parameter(kind).accept(given_value, lambda: NOW)


def test_limits_are_inclusive():
    limited = parameter("int", min=1, max=3)
    assert [limited.accept(n) for n in (1, 2, 3)] == [1, 2, 3]
    for outside in (0, 4):
        with pytest.raises(ParameterError):
            limited.accept(outside)


def test_limits_of_datetimes_may_be_written_as_text():
    limited = parameter("datetime", min="2020-01-01")
    assert limited.accept("2020-01-01") == datetime(2020, 1, 1)
    with pytest.raises(ParameterError):
        limited.accept("2019-12-31")


def test_allowed_values_are_compared_after_coercion():
    assert parameter("int", allowed=[1, 2]).accept("2") == 2
    with pytest.raises(ParameterError, match="not one of the allowed"):
        parameter("str", allowed=["a"]).accept("b")


def test_every_item_of_an_mlist_must_be_allowed():
    chosen = parameter("mlist", allowed=["a", "b"])
    assert chosen.accept(["a", "b"]) == ["a", "b"]
    with pytest.raises(ParameterError):
        chosen.accept(["a", "c"])


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_every_description_has_a_type_and_a_default(kind: str):
    described = parameter(kind).describe()
    assert {"name", "description", "type", "default"} <= described.keys()
    assert not {"cls", "min", "max", "allowed"} & described.keys()


@pytest.mark.parametrize("kind", sorted(TYPES - {"mlist", "other"}))
def test_the_default_of_a_type_is_acceptable(kind: str):
    fresh = parameter(kind)
    assert fresh.accept(fresh.default) == fresh.default


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=8)
    | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(sorted(TYPES)), values)
def test_no_value_raises_anything_but_a_parameter_error(kind: str, value: Any):
    try:
        parameter(kind, min=1 if kind == "int" else None).accept(value, lambda: NOW)
    except ParameterError as error:
        assert "parameter 'p'" in str(error)
