"""State queries: every row of the tables of protocol §3 over HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.gateway.conftest import Client, Serve

FILE = """
enums:
  Number: {members: {ONE: 1, TWO: 2, TEN: 10}}
  Side: {members: {BUY: 1, SELL: 2}, wire: name}
structs:
  Inner: {implicit: false, fields: {z: int}}
  Row:
    fields:
      k: int
      x: int
      f: float
      s: str
      t: str
      b: bool
      m: datetime
      d: date
      o: time
      l: timedelta
      n: Number
      e: Side
      inner: Inner
      items: "list[int]"
channels:
  rows: {type: Row, send: true, state: {keyby: [k]}}
"""
ROWS: list[dict[str, Any]] = [
    {"k": 1, "x": 1, "f": 1.5, "s": "a", "t": "b", "b": True, "m": "2024-01-01T10:00:00", "d": "2024-01-01",
     "o": "01:00:00", "l": 1.5, "n": 1, "e": "BUY", "inner": {"z": 1}, "items": [1]},
    {"k": 2, "x": 2, "f": 2.5, "s": "b", "t": "b", "b": False, "m": "2024-01-01T12:00:00+02:00", "d": "2024-01-02",
     "o": "02:00:00", "l": 20, "n": 2, "e": "SELL", "inner": {"z": 2}, "items": [2]},
    {"k": 3, "x": 3, "f": "NaN", "s": "5", "t": "a", "b": True, "m": "2024-01-01T12:00:00Z", "d": "2024-01-03",
     "o": "03:00:00", "l": 3, "n": 10, "e": "BUY", "inner": {"z": 3}, "items": [3]},
    {"k": 4},
    {"k": 5, "x": None, "s": ""},
]  # fmt: skip


@pytest.fixture
async def states(serve: Serve) -> Client:
    gateway = await serve(FILE)
    await gateway.send("rows", list(reversed(ROWS)))
    return gateway


async def ask(gateway: Client, query: Any) -> tuple[list[int], list[str]]:
    """The keys of the rows that pass, and the warnings."""
    text = query if isinstance(query, str) else json.dumps(query)
    answer = await gateway.http.get("/api/v1/state/rows", params={"query": text})
    assert answer.status == 200, await answer.text()
    return [row["k"] for row in await answer.json()], answer.headers.getall("X-Gateway-Query-Warning", [])


def by(attr: str, value: Any, where: str = "==") -> dict[str, Any]:
    """A query with one filter, as the real clients write it: all four members."""
    return {"filters": [{"attr": attr, "by": {"value": value, "when": None, "attr": "", "where": where}}]}


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        ({}, [1, 2, 3, 4, 5]),
        ("null", [1, 2, 3, 4, 5]),
        ({"filters": None}, [1, 2, 3, 4, 5]),
        ({"filters": [], "other": 1}, [1, 2, 3, 4, 5]),
        # the operators
        (by("x", 2), [2]),
        (by("x", 2, "!="), [1, 3]),
        (by("x", 2, "<"), [1]),
        (by("x", 2, "<="), [1, 2]),
        (by("x", 2, ">"), [3]),
        (by("x", 2, ">="), [2, 3]),
        # int: numbers and numeric strings, compared exactly
        (by("x", "2"), [2]),
        (by("x", 2.0), [2]),
        (by("x", 2.5), []),
        (by("x", 2.5, "!="), [1, 2, 3]),
        (by("x", 2.5, "<"), [1, 2]),
        (by("x", 2.6, "<="), [1, 2]),
        (by("x", 2.5, ">"), [3]),
        (by("x", 1.5, ">="), [2, 3]),
        (by("x", True), [1]),
        (by("x", 10**30, "<"), [1, 2, 3]),
        # float: NaN counts as null
        (by("f", 1.5), [1]),
        (by("f", "2.5"), [2]),
        (by("f", 0, ">"), [1, 2]),
        (by("f", 1.5, "!="), [2]),
        # str: anything as text, in code-point order
        (by("s", "a"), [1]),
        (by("s", 5), [3]),
        (by("s", "", ">="), [1, 2, 3, 5]),
        (by("s", "a", "<"), [3, 5]),
        # bool
        (by("b", True), [1, 3]),
        (by("b", 0), [2]),
        (by("b", "true"), [1, 3]),
        # datetime: in UTC where either side has an offset
        (by("m", "2024-01-01T10:00:00"), [1, 2]),
        (by("m", "2024-01-01T12:00:00+02:00"), [1, 2]),
        (by("m", "2024-01-01T11:00:00", ">"), [3]),
        ({"filters": [{"attr": "m", "by": {"when": "2024-01-01T11:00:00", "where": "<"}}]}, [1, 2]),
        # date: midnight
        (by("d", "2024-01-02"), [2]),
        ({"filters": [{"attr": "d", "by": {"when": "2024-01-02", "where": ">="}}]}, [2, 3]),
        ({"filters": [{"attr": "d", "by": {"when": "2024-01-02T12:00:00", "where": "<"}}]}, [1, 2]),
        # time
        (by("o", "02:00:00", ">="), [2, 3]),
        # timedelta: as numbers
        (by("l", 1.5), [1]),
        (by("l", "1.5"), [1]),
        (by("l", 3, ">="), [2, 3]),
        # enum: value or name
        (by("n", 1), [1]),
        (by("n", "2"), [2]),
        (by("n", "TEN"), [3]),
        (by("e", "BUY"), [1, 3]),
        (by("e", 2), [2]),
        # nested struct leaf
        (by("inner.z", 2, ">="), [2, 3]),
        # field against field
        ({"filters": [{"attr": "s", "by": {"attr": "t", "where": "<"}}]}, [1, 3]),
        ({"filters": [{"attr": "s", "by": {"attr": "t"}}]}, [2]),
        ({"filters": [{"attr": "x", "by": {"attr": "f", "where": "<"}}]}, [1, 2]),
        # both ends
        ({"filters": [*by("x", 3, "<")["filters"], *by("x", 2, ">=")["filters"]]}, [2]),
        # the first of value, when, attr decides
        ({"filters": [{"attr": "x", "by": {"value": 1, "attr": "k", "when": "2024-01-01"}}]}, [1]),
        # beyond the reference
        ({"filters": [{"attr": "x", "by": {"value": [1, 3, 9], "where": "in"}}]}, [1, 3]),
        ({"filters": [{"attr": "x", "by": {"value": [], "where": "in"}}]}, []),
        ({"filters": [{"attr": "s", "by": {"where": "is_null"}}]}, [4]),
        ({"filters": [{"attr": "f", "by": {"where": "not_null"}}]}, [1, 2]),
        ({"sort": [["x", "desc"]]}, [3, 2, 1, 4, 5]),
        ({"limit": 2, "offset": 1}, [2, 3]),
        ({"limit": 0}, []),
    ],
)
async def test_what_a_query_finds(states: Client, query: Any, keys: list[int]):
    assert await ask(states, query) == (keys, [])


@pytest.mark.parametrize(
    ("query", "keys", "warning"),
    [
        (by("bogus", 1), [1, 2, 3, 4, 5], "filter 0: unknown field bogus"),
        (by("items", 1), [1, 2, 3, 4, 5], "filter 0: field items cannot be compared"),
        (by("inner", 1), [1, 2, 3, 4, 5], "filter 0: field inner cannot be compared"),
        (by("x", None), [1, 2, 3, 4, 5], "filter 0: nothing to compare with"),
        ({"filters": [{"by": {"value": 1}}]}, [1, 2, 3, 4, 5], "filter 0: no field named"),
        (
            {"filters": [{"attr": "x", "by": {"attr": "bogus"}}]},
            [1, 2, 3, 4, 5],
            "filter 0: unknown field bogus",
        ),
        (by("x", "abc"), [], "filter 0: cannot compare x (int) with 'abc'"),
        (by("b", "perhaps"), [], "filter 0: cannot compare b (bool) with 'perhaps'"),
        (by("m", "yesterday"), [], "filter 0: cannot compare m (moment) with 'yesterday'"),
        (by("o", 5), [], "filter 0: cannot compare o (time) with 5"),
        ({"filters": [{"attr": "x", "by": {"attr": "s"}}]}, [], "filter 0: cannot compare x (int) with s (text)"),
        ({"sort": [["bogus", "asc"]]}, [1, 2, 3, 4, 5], "sort: unknown field bogus"),
    ],
)
async def test_what_cannot_apply_keeps_its_answer_and_leaves_a_warning(
    states: Client, query: Any, keys: list[int], warning: str
):
    assert await ask(states, query) == (keys, [warning])


async def test_fields_can_be_chosen(states: Client):
    query = json.dumps({"fields": ["x", "k"], "limit": 1})
    assert await states.get("/state/rows", params={"query": query}) == [{"x": 1, "k": 1}]


async def test_in_strict_mode_a_warning_is_a_400(serve: Serve):
    gateway = await serve("state: {strict: true}\n" + FILE)
    params = {"query": json.dumps(by("bogus", 1))}
    assert await gateway.rejected("GET", "/state/rows", 400, params=params) == "filter 0: unknown field bogus"


@pytest.mark.parametrize("text", ["{bad", ""])
async def test_text_that_is_no_json_is_a_422(serve: Serve, text: str):
    gateway = await serve(FILE)
    (error,) = await gateway.rejected("GET", "/state/rows", 422, params={"query": text})
    assert (error["type"], error["loc"], error["input"]) == ("json_invalid", ["query", "query"], text)
    assert error["msg"].startswith("Invalid JSON: ")


@pytest.mark.parametrize(
    ("query", "kinds", "loc"),
    [
        (by("x", 5, "~"), ["literal_error"], ["filters", 0, "by", "where"]),
        ({"filters": [{"attr": "x"}]}, ["missing"], ["filters", 0, "by"]),
        ({"filters": "x"}, ["list_type"], ["filters"]),
        ([], ["model_type"], []),
        ("abc", ["model_type"], []),
        (
            {"filters": [{"attr": "m", "by": {"when": "garbage"}}]},
            ["datetime_from_date_parsing"],
            ["filters", 0, "by", "when"],
        ),
        (by("x", [1]), ["float_type", "int_type", "string_type"], ["filters", 0, "by", "value", "float"]),
        (by("x", {}), ["float_type", "int_type", "string_type"], ["filters", 0, "by", "value", "float"]),
        ({"limit": -1}, ["greater_than_equal"], ["limit"]),
    ],
)
async def test_json_that_is_no_query_is_a_400(serve: Serve, query: Any, kinds: list[str], loc: list[Any]):
    gateway = await serve(FILE)
    errors = await gateway.rejected("GET", "/state/rows", 400, params={"query": json.dumps(query)})
    assert [error["type"] for error in errors] == kinds
    assert errors[0]["loc"] == loc
    assert errors[0]["url"].startswith("https://")


async def test_the_message_for_an_unknown_operator_lists_those_that_clients_know(serve: Serve):
    gateway = await serve(FILE)
    params = {"query": json.dumps(by("x", 5, "~"))}
    (error,) = await gateway.rejected("GET", "/state/rows", 400, params=params)
    assert error["msg"] == "Input should be '==', '!=', '<', '<=', '>' or '>='"
    assert error["input"] == "~"


@pytest.mark.parametrize("number", ["1e5000000", "-1E+99999999999", "1e-5000000", "9" * 5000, "1e401", "1ee5", "e"])
@pytest.mark.parametrize("attr", ["k", "x"])
async def test_a_number_that_takes_long_to_write_out_is_no_number(states: Client, number: str, attr: str):
    for by in ({"value": number, "where": "<"}, {"value": [number], "where": "in"}):
        keys, warnings = await ask(states, {"filters": [{"attr": attr, "by": by}]})
        assert keys == []
        assert len(warnings) == 1
