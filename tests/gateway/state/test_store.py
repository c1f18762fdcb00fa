"""States: order, index, eviction, and filters beside a plain evaluator (§2.4, §3, §8.3)."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, timedelta, timezone
from operator import eq, ge, gt, le, lt, ne
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.schema.field_types import Nullable, Scalar
from gateway.schema.record import Record
from gateway.schema.structs import FieldSpec, StructSpec
from gateway.state import selection
from gateway.state.columns import Column, Columns
from gateway.state.query import Query
from gateway.state.selection import Compare, CompareColumns, IsNull, OneOf, Predicate, compile_query
from gateway.state.slices import run_in_slices
from gateway.state.store import State, StateSpec
from tests.gateway.conftest import Serve

SPEC = StructSpec(
    "Row",
    (
        FieldSpec("k", Scalar("int")),
        FieldSpec("s", Scalar("str")),
        FieldSpec("f", Nullable(Scalar("float"))),
        FieldSpec("m", Scalar("datetime")),
        FieldSpec("any", Scalar("any")),
    ),
)
COLUMNS = Columns(SPEC, {"Row": SPEC}, {})


def row(**values: Any) -> Record:
    return Record("Row", values)


def state(*keyby: str, **options: Any) -> State:
    return State(StateSpec("rows", keyby, **options), COLUMNS)


def test_rows_are_listed_by_key_with_nulls_first():
    rows = state("s", "k")
    for values in ({"s": "b", "k": 2}, {"s": "b", "k": 1}, {"k": 9}, {"s": "a", "k": None}, {"s": "a", "k": 5}):
        rows.update(row(**values))
    listed = [(record.get("s"), record.get("k")) for record in rows.rows()]
    assert listed == [(None, 9), ("a", None), ("a", 5), ("b", 1), ("b", 2)]


def test_strings_are_ordered_by_code_point_and_numbers_by_size():
    rows = state("s")
    for word in ("é", "Z", "a", "10", "9"):
        rows.update(row(s=word))
    assert [record.s for record in rows.rows()] == ["10", "9", "Z", "a", "é"]


def test_a_key_of_any_type_has_a_fixed_order():
    rows = state("any")
    for value in ("b", 2, True, None, [1], 1.5, {"x": 1}, "a"):
        rows.update(row(any=value))
    assert [record.any for record in rows.rows()] == [None, True, 1.5, 2, "a", "b", [1], {"x": 1}]


def test_only_the_last_record_of_a_combination_is_kept():
    rows = state("k")
    rows.update(row(k=1, s="old"))
    rows.update(row(k=1, s="new"))
    assert [record.s for record in rows.rows()] == ["new"]
    assert rows.size_bytes == len(row(k=1, s="new").encoded)


def test_a_full_state_forgets_the_combination_updated_longest_ago():
    rows = state("k", max_keys=2)
    for k in (1, 2, 1, 3):
        rows.update(row(k=k))
    assert [record.k for record in rows.rows()] == [1, 3]
    rows.update(row(k=2))
    assert [record.k for record in rows.rows()] == [2, 3]


def test_a_full_state_may_reject_new_combinations_instead():
    rows = state("k", max_keys=1, evict="reject")
    assert rows.update(row(k=1, s="a"))
    assert not rows.update(row(k=2))
    assert rows.update(row(k=1, s="b"))
    assert [record.s for record in rows.rows()] == ["b"]


def test_the_whole_combination_is_found_without_looking_at_the_rows(monkeypatch: pytest.MonkeyPatch):
    rows = state("k", "s")
    for k in range(100):
        rows.update(row(k=k, s=str(k)))
    filters = [{"attr": "s", "by": {"value": "7"}}, {"attr": "k", "by": {"value": 7}}]
    selection = compile_query(Query.model_validate({"filters": filters}), COLUMNS)
    monkeypatch.setattr(rows, "rows", None)
    assert [record.k for record in rows.find(selection) or []] == [7]
    partly = compile_query(Query.model_validate({"filters": filters[:1]}), COLUMNS)
    assert rows.find(partly) is None


ZONES = [timezone(timedelta(hours=-5)), timezone(timedelta(hours=14))]
ROWS = st.lists(
    st.fixed_dictionaries(
        {"k": st.integers(0, 30)},
        optional={
            "s": st.none() | st.sampled_from(["", "a", "a\x00", "b", "5", "é", "\x00", "\U0001f600"]),
            "f": st.none() | st.floats(width=32) | st.integers(-3, 3).map(float),
            "m": st.none() | st.datetimes(timezones=st.just(UTC) | st.sampled_from(ZONES)),
        },
    ),
    max_size=40,
)
VALUES = st.one_of(
    st.integers(-5, 40),
    st.floats(-5, 40),
    st.sampled_from(["a", "a\x00", "5", "2.5", "x", "", "2024-01-01", str(2**70)]),
    st.booleans(),
    st.sampled_from([2**63, 2**70, -(2**70)]),
)
CONDITIONS = st.one_of(
    st.fixed_dictionaries(
        {"value": VALUES, "where": st.sampled_from(["==", "!=", "<", "<=", ">", ">="])},
    ),
    st.fixed_dictionaries({"attr": st.sampled_from(["k", "s", "f", "m"]), "where": st.sampled_from(["==", "<", "!="])}),
    st.fixed_dictionaries({"value": st.lists(VALUES, max_size=3), "where": st.just("in")}),
    st.fixed_dictionaries({"where": st.sampled_from(["is_null", "not_null"])}),
)
OPERATORS = {"==": eq, "!=": ne, "<": lt, "<=": le, ">": gt, ">=": ge}


def passes(record: Record, predicate: Predicate) -> bool:
    """What a predicate says of one record; a null never passes a comparison."""
    match predicate:
        case Compare(column, where, literal):
            value = column.value(record)
            return value is not None and OPERATORS[where](value, literal)
        case CompareColumns(left, where, right):
            a, b = left.value(record), right.value(record)
            return a is not None and b is not None and OPERATORS[where](a, b)
        case OneOf(column, literals):
            value = column.value(record)
            return value is not None and value in literals
        case IsNull(column, is_null):
            return (column.value(record) is None) == is_null
    return False


FILTERS = st.lists(st.fixed_dictionaries({"attr": st.sampled_from(["k", "s", "f", "m"]), "by": CONDITIONS}), max_size=3)


@settings(max_examples=150, deadline=None)
@given(before=ROWS, between=ROWS, filters=FILTERS)
def test_filters_over_columns_give_what_looking_at_every_record_gives(
    before: list[dict[str, Any]], between: list[dict[str, Any]], filters: list[dict[str, Any]]
):
    async def compare() -> None:
        rows = state("k", "s")
        selection = compile_query(Query.model_validate({"filters": filters}), COLUMNS)
        for changes in (before, between):
            for values in changes:
                rows.update(row(**values))
            expected = [each for each in rows.rows() if all(passes(each, item) for item in selection.predicates)]
            assert await run_in_slices(rows.select(selection)) == expected

    asyncio.run(compare())


SORTS = st.lists(st.tuples(st.sampled_from(["k", "s", "f", "m"]), st.sampled_from(["asc", "desc"])), max_size=3)


@settings(max_examples=150, deadline=None)
@given(values=ROWS, sort=SORTS, limit=st.none() | st.integers(0, 12), offset=st.integers(0, 5), run=st.integers(1, 9))
def test_sorting_in_short_runs_gives_what_sorting_at_once_gives(
    values: list[dict[str, Any]], sort: list[tuple[str, str]], limit: int | None, offset: int, run: int
):
    records = [row(**each) for each in values]
    expected = list(records)
    for path, direction in reversed(sort):
        column = COLUMNS.get(path)
        assert column is not None

        def key(record: Record, column: Column = column) -> tuple[bool, Any]:
            value = column.value(record)
            return value is not None, value

        expected.sort(key=key, reverse=direction == "desc")
    query = Query.model_validate({"sort": sort, "limit": limit, "offset": offset})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "RUN_LENGTH", run)
        found = compile_query(query, COLUMNS).arrange(records)
    assert found == expected[offset : None if limit is None else offset + limit]


async def test_others_are_served_while_a_large_state_is_sorted():
    rows, turns = state("k"), 0
    for k in range(30_000):
        rows.update(row(k=k, f=float(k * 7919 % 30_000)))

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count())
    query = Query.model_validate({"sort": [["f", "desc"]], "fields": ["f"]})
    found = await run_in_slices(rows.select(compile_query(query, COLUMNS)))
    counting.cancel()
    assert [record.f for record in found] == [float(f) for f in range(29_999, -1, -1)]
    assert turns > 15


FILE = """
structs:
  Row: {fields: {k: int, s: str = ""}}
channels:
  rows: {type: Row, send: true, state: {keyby: [k]}}
  pairs: {type: Row, keys: [b, a], send: true, state: {keyby: [k], alias: kept}}
"""


async def test_a_query_whose_client_leaves_takes_nothing_from_the_next_one():
    rows = state("k")
    passing = compile_query(
        Query.model_validate({"filters": [{"attr": "s", "by": {"value": "new", "where": "=="}}]}), COLUMNS
    )
    for k in range(10_000):
        rows.update(row(k=k, s="old"))
    assert await run_in_slices(rows.select(passing)) == []
    for k in range(5000):
        rows.update(row(k=k, s="new"))
    leaving = asyncio.create_task(run_in_slices(rows.select(passing)))
    await asyncio.sleep(0)  # it has begun to look at what has changed
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert [record.k for record in await run_in_slices(rows.select(passing))] == list(range(5000))


async def test_a_large_state_is_streamed_whole_and_in_order(serve: Serve):
    gateway = await serve(FILE)
    sent = await gateway.send("rows", [{"k": k} for k in range(2999, -1, -1)])
    answer = await gateway.http.get("/api/v1/state/rows")
    assert await answer.json() == sent[::-1]
    assert int(answer.headers["content-length"]) == len(await answer.read())


async def test_a_range_over_a_large_state_stays_exact_while_rows_change(serve: Serve):
    gateway = await serve(FILE)
    await gateway.send("rows", [{"k": k} for k in range(5000)])
    params = {
        "query": json.dumps(
            {
                "filters": [
                    {"attr": "k", "by": {"value": 100, "where": ">="}},
                    {"attr": "k", "by": {"value": 103, "where": "<"}},
                    {"attr": "s", "by": {"value": "", "where": "=="}},
                ]
            }
        )
    }
    assert [each["k"] for each in await gateway.get("/state/rows", params=params)] == [100, 101, 102]
    await gateway.send("rows", [{"k": 101, "s": "changed"}])
    assert [each["k"] for each in await gateway.get("/state/rows", params=params)] == [100, 102]
    await gateway.send("rows", [{"k": k, "s": "changed"} for k in range(4000)] + [{"k": 101}])
    assert [each["k"] for each in await gateway.get("/state/rows", params=params)] == [101]


async def test_the_state_of_a_basket_is_the_union_of_its_keys_in_key_order(serve: Serve):
    gateway = await serve(FILE)
    await gateway.send("pairs/a", [{"k": 2}, {"k": 1}])
    await gateway.send("pairs/b", {"k": 3})
    assert [each["k"] for each in await gateway.get("/state/kept")] == [3, 1, 2]
    assert [each["k"] for each in await gateway.get("/state/kept/a")] == [1, 2]
    assert [each["k"] for each in await gateway.get("/state/kept", params={"query": '{"limit":2}'})] == [3, 1]
    assert await gateway.rejected("GET", "/state/kept/zz", 404) == "State not found: kept/zz"
    assert await gateway.rejected("GET", "/state/rows/a", 404) == "Not Found"


async def test_a_large_dump_is_the_state_of_its_moment_whatever_ticks_meanwhile(serve: Serve):
    gateway = await serve(FILE.replace("{keyby: [k]}", "{keyby: [k], max_keys: 3000}", 1))
    sent = await gateway.send("rows", [{"k": k} for k in range(3000)])
    answer = await gateway.http.get("/api/v1/state/rows")
    await gateway.send("rows", [{"k": k, "s": "later"} for k in range(2000, 5000)])
    assert await answer.json() == sent
    assert [row["k"] for row in await gateway.get("/state/rows")] == list(range(2000, 5000))


async def test_a_large_basket_is_dumped_key_by_key(serve: Serve):
    gateway = await serve(FILE)
    await gateway.send("pairs/a", [{"k": k} for k in range(600)])
    await gateway.send("pairs/b", [{"k": k} for k in range(600)])
    expected = [*range(600), *range(600)]
    assert [row["k"] for row in await gateway.get("/state/kept")] == expected
