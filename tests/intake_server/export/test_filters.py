"""Filters on rows, written as people write them."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intake_server.export.filters import Bounds, Condition, ConditionError, Filter

ROWS = pa.table(
    {
        "price": [1.5, 20.0, None, 7.25],
        "city": pa.array(["Rome", "Oslo", "Rome, Georgia", None]).dictionary_encode(),
        "a b>c": [1, 2, 3, 4],
        "at": pa.array([datetime(2024, 1, day, tzinfo=UTC) for day in (1, 2, 3, 4)], pa.timestamp("us", tz="UTC")),
        "main": [True, False, True, None],
    }
)


def matching(*texts: str) -> list[int]:
    """The values of the third column in the rows that meet all conditions."""
    conditions = [Condition.parse(text) for text in texts]
    return ROWS.filter(Filter.of(conditions, ROWS.schema).expression)["a b>c"].to_pylist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("price>=7.25", [2, 4]),
        ("price < 7.25", [1]),
        ("price = 20", [2]),
        ("price==20", [2]),
        ("price != 20", [1, 4]),
        ("price is null", [3]),
        ("price IS NOT NULL", [1, 2, 4]),
        ("city=Rome", [1]),
        ('city="Rome, Georgia"', [3]),
        ("city in Rome, Oslo", [1, 2]),
        ('city in "Rome, Georgia",Oslo', [2, 3]),
        ('"a b>c">2', [3, 4]),
        ("at>2024-01-02", [3, 4]),
        ("at <= 2024-01-02T01:00:00+01:00", [1, 2]),
        ("main=true", [1, 3]),
        ("main = false", [2]),
    ],
)
def test_a_condition_keeps_the_rows_that_meet_it(text, expected):
    assert matching(text) == expected


def test_a_row_must_meet_all_conditions():
    assert matching("price>1", "city=Rome") == [1]


@pytest.mark.parametrize("text", ["", "price", "=5", "> 3", "price in", "price ~ 5", "is null", '""=1'])
def test_what_is_no_condition_is_refused_with_an_example(text):
    with pytest.raises(ConditionError, match="where: "):
        Condition.parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour=red", "there is no column 'colour'"),
        ("price>cheap", "column 'price' holds double, which 'cheap' is not"),
        ("main=perhaps", "holds bool"),
        ("at>yesterday", "holds timestamp"),
    ],
)
def test_a_condition_that_does_not_fit_the_data_is_refused(text, message):
    with pytest.raises(ConditionError, match=message):
        Filter.of([Condition.parse(text)], ROWS.schema)


@given(
    st.lists(st.none() | st.integers(-20, 20), min_size=1, max_size=8),
    st.sampled_from(["=", "!=", "<", "<=", ">", ">=", "in", "is null", "is not null"]),
    st.integers(-25, 25),
)
def test_a_piece_whose_bounds_say_so_is_left_out_only_when_no_row_of_it_matches(values, sign, number):
    column = pa.array(values, pa.int64())
    text = f"n {sign}" if sign.startswith("is") else f"n {sign} {number}"
    filters = Filter.of([Condition.parse(text)], pa.schema([("n", pa.int64())]))
    present = [value for value in values if value is not None]
    bounds = Bounds(min(present, default=None), max(present, default=None), values.count(None), len(values))
    matches = pa.table({"n": column}).filter(filters.expression).num_rows
    assert filters.may_match(lambda _: bounds) or matches == 0
    assert filters.may_match(lambda _: None)


def test_bounds_that_exclude_a_value_leave_the_piece_out():
    filters = Filter.of([Condition.parse("n>=100")], pa.schema([("n", pa.int64())]))
    assert not filters.may_match(lambda _: Bounds(1, 99, 0, 50))
    assert filters.may_match(lambda _: Bounds(1, 100, 0, 50))


@pytest.mark.parametrize(
    "text", ["a" + " " * 1_000_000, "a" + " is" * 300_000, "a" + "is  " * 300_000, '"' * 1_000_001]
)
def test_a_million_signs_that_are_no_condition_are_refused_like_a_few(text):
    with pytest.raises(ConditionError):
        Condition.parse(text)


@pytest.mark.parametrize(
    ("text", "column"),
    [("in in a", "in"), ("a is null is null", "a is null"), ("inn=1", "inn"), ('a"b=1', 'a"b'), ("a  b = 1", "a  b")],
)
def test_the_column_is_what_stands_before_the_first_operator(text, column):
    assert Condition.parse(text).column == column
