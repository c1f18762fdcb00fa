"""Every row of the table of type encodings (§1): what is accepted, and how it is printed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateway.conftest import Serve
from tests.gateway.examples import TYPES


@pytest.mark.parametrize(
    ("field", "given", "printed"),
    [
        ("int_", "7", "7"),
        ("int_", "123456789012345678901234567890", "123456789012345678901234567890"),
        ("int_", "7.0", "7"),
        ("int_", "1e3", "1000"),
        ("int_", '"7"', "7"),
        ("int_", "true", "1"),
        ("float_", "1", "1.0"),
        ("float_", '"1.5"', "1.5"),
        ("float_", '"NaN"', "null"),
        ("float_", '"inf"', "null"),
        ("float_", "NaN", "null"),
        ("float_", "1e400", "null"),
        ("float_", "true", "1.0"),
        ("str_", '"é"', '"é"'),
        ("str_", "5", '"5"'),
        ("str_", "1.5", '"1.5"'),
        ("bool_", "true", "true"),
        ("bool_", "0", "false"),
        ("bool_", "1", "true"),
        ("bool_", '"yes"', "true"),
        ("bool_", '"off"', "false"),
        ("datetime_", '"2024-01-02T03:04:05"', '"2024-01-02T03:04:05"'),
        ("datetime_", '"2024-01-02 03:04:05.5"', '"2024-01-02T03:04:05.500000"'),
        ("datetime_", '"2024-01-02T03:04:05Z"', '"2024-01-02T03:04:05Z"'),
        ("datetime_", '"2024-01-02T03:04:05+02:00"', '"2024-01-02T03:04:05+02:00"'),
        ("datetime_", '"2024-01-02"', '"2024-01-02T00:00:00"'),
        ("datetime_", "1700000000", '"2023-11-14T22:13:20Z"'),
        ("datetime_", "1700000000000", '"2023-11-14T22:13:20Z"'),
        ("datetime_", '"1700000000"', '"2023-11-14T22:13:20Z"'),
        ("date_", '"2024-01-02"', '"2024-01-02"'),
        ("date_", '"2024-01-02T00:00:00"', '"2024-01-02"'),
        ("time_", '"03:04:05"', '"03:04:05"'),
        ("time_", '"03:04:05.5"', '"03:04:05.500000"'),
        ("time_", '"03:04:05.050789"', '"03:04:05.050789"'),
        ("time_", '"03:04:05Z"', '"03:04:05Z"'),
        ("time_", "3600", '"01:00:00Z"'),
        ("timedelta_", "5400", "5400.0"),
        ("timedelta_", '"PT1H30M"', "5400.0"),
        ("timedelta_", '"01:02:03"', "3723.0"),
        ("timedelta_", '"1 day, 02:00:00"', "93600.0"),
        ("number", "1", "1"),
        ("number", '"TWO"', "2"),
        ("colour", '"red"', '"red"'),
        ("colour", '"GREEN"', '"green"'),
        ("side", '"BUY"', '"BUY"'),
        ("side", "2", '"SELL"'),
        ("list_", "[2,1,2]", "[2,1,2]"),
        ("set_", "[2,1,2]", "[2,1]"),
        ("dict_", '{"b":1,"a":2}', '{"b":1,"a":2}'),
        ("array", "[1,2.5]", "[1.0,2.5]"),
        ("matrix", "[[1,2],[3,4]]", "[[1.0,2.0],[3.0,4.0]]"),
        ("plain", "{}", '{"z":12}'),
        ("literal", '"x"', '"x"'),
        ("positive", "0.5", "0.5"),
        ("any_", '{"deep":[null,{"x":1}]}', '{"deep":[null,{"x":1}]}'),
        ("bytes_", '"abc"', '"abc"'),
        ("union", '"seven"', '"seven"'),
        ("union", "7", "7"),
        ("nullable", "null", "null"),
    ],
)
async def test_what_is_accepted_is_printed_in_its_own_form(serve: Serve, field: str, given: str, printed: str):
    gateway = await serve(TYPES)
    body = f'{{"{field}":{given}}}'
    headers = {"content-type": "application/json"}
    answer = await gateway.http.post("/api/v1/send/all", data=body, headers=headers)
    text = await answer.text()
    assert answer.status == 200, text
    assert f'"{field}":{printed}' in text
    assert await (await gateway.http.get("/api/v1/last/all")).text() == text


@pytest.mark.parametrize(
    ("field", "given", "kind"),
    [
        ("int_", 2.5, "int_from_float"),
        ("int_", "seven", "int_parsing"),
        ("int_", [1], "int_type"),
        ("str_", True, "string_type"),
        ("bool_", 2, "bool_parsing"),
        ("date_", "2024-01-02T03:04:05", "date_from_datetime_inexact"),
        ("datetime_", "yesterday", "datetime_from_date_parsing"),
        ("number", 7, "enum"),
        ("side", "HOLD", "enum"),
        ("literal", "z", "literal_error"),
        ("positive", 0, "greater_than"),
        ("array", [[1.0]], "float_type"),
        ("array", ["one"], "float_parsing"),
        ("matrix", [1.0], "list_type"),
        ("dict_", {"a": "b"}, "int_parsing"),
        ("with_default", None, "int_type"),
    ],
)
async def test_what_is_not_accepted_is_a_422_that_names_the_field(serve: Serve, field: str, given: Any, kind: str):
    gateway = await serve(TYPES)
    errors = await gateway.rejected("POST", "/send/all", 422, json={field: given})
    assert errors[0]["type"] == kind
    assert errors[0]["loc"][:2] == ["body", field]


async def test_ids_are_given_kept_or_turned_into_text(serve: Serve):
    gateway = await serve(TYPES)
    sent = await gateway.send("all", [{}, {"id": 123}, {"id": 1.5}, {"id": "mine"}, {"id": None}])
    assert [record["id"] for record in sent] == ["1795233321154754276", "123", "1.5", "mine", None]
    errors = await gateway.rejected("POST", "/send/all", 422, json={"id": True})
    assert errors[0]["loc"] == ["body", "id"]


async def test_timestamps_are_naive_utc(serve: Serve):
    gateway = await serve(TYPES)
    given = ["2020-01-01T00:00:00", "2024-01-01T00:00:00+05:00", 1700000000, None]
    sent = await gateway.send("all", [{}, *({"timestamp": each} for each in given)])
    assert [record["timestamp"] for record in sent] == [
        "2026-11-21T03:56:00.381782",
        "2020-01-01T00:00:00",
        "2023-12-31T19:00:00",
        "2023-11-14T22:13:20",
        None,
    ]


async def test_an_absent_member_is_omitted_null_is_null_and_a_default_is_filled_in(serve: Serve):
    gateway = await serve(TYPES)
    (absent,) = await gateway.send("all", {})
    assert list(absent) == ["id", "timestamp", "with_default", "nullable"]
    (null,) = await gateway.send("all", {"int_": None, "with_default": 8})
    assert null["int_"] is None
    assert null["with_default"] == 8


async def test_a_nested_struct_gets_an_id_of_its_own_but_is_never_null(serve: Serve):
    gateway = await serve(TYPES)
    (record,) = await gateway.send("all", {"inner": {"a": 1}})
    assert list(record["inner"]) == ["id", "timestamp", "a", "b"]
    assert record["inner"]["id"] != record["id"]
    errors = await gateway.rejected("POST", "/send/all", 422, json={"inner": None})
    assert errors[0]["loc"] == ["body", "inner"]


async def test_members_print_in_the_order_of_declaration(serve: Serve):
    gateway = await serve(TYPES)
    (record,) = await gateway.send("all", {"str_": "s", "int_": 1, "timestamp": None, "id": "a"})
    assert list(record)[:4] == ["id", "timestamp", "int_", "str_"]
