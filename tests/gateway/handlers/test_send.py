"""``send``, ``last`` and ``lookup`` over HTTP (§2.2, §2.5, §2.6)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.gateway.conftest import Serve
from tests.gateway.examples import DEMO_TYPES

FIRST = "1795233321154754276"


async def test_a_struct_comes_back_as_a_list_with_everything_filled_in(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    answer = await gateway.http.post("/api/v1/send/example", json={"x": 12, "y": "HEY", "nested": {"z": 13}})
    assert answer.headers["content-type"] == "application/json"
    assert await answer.text() == (
        f'[{{"id":"{FIRST}","timestamp":"2026-11-21T03:56:00.381782","x":12,"y":"HEY","nested":{{"z":13}}}}]'
    )
    assert await (await gateway.http.get("/api/v1/last/example")).text() == await answer.text()


async def test_each_struct_of_a_list_is_a_tick_of_its_own_on_a_single_value_channel(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    sent = await gateway.send("example", [{"x": 12}, {"x": 13}])
    assert [record["x"] for record in sent] == [12, 13]
    assert await gateway.get("/last/example") == sent[1:]


async def test_a_list_is_one_tick_on_a_list_channel_and_one_struct_is_a_list_of_one(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    sent = await gateway.send("example_list", [{"x": 1}, {"x": 2}])
    assert await gateway.get("/last/example_list") == sent
    sent = await gateway.send("example_list", {"x": 3})
    assert await gateway.get("/last/example_list") == sent


async def test_an_empty_list_is_no_tick(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    assert await gateway.send("example", []) == []
    assert await gateway.send("example_list", []) == []
    assert await gateway.get("/last/example") == []
    assert await gateway.get("/last/example_list") == []


async def test_one_bad_struct_rejects_the_whole_request(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    errors = await gateway.rejected("POST", "/send/example", 422, json=[{"x": 1}, {"x": -1}])
    assert errors[0]["loc"] == ["body", 1, "x"]
    assert await gateway.get("/last/example") == []


async def test_an_empty_object_is_a_struct(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    (record,) = await gateway.send("example", {})
    assert list(record) == ["id", "timestamp", "y", "nested"]


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("example", b"", {"type": "missing", "loc": ["body"], "msg": "Field required", "input": None}),
        (
            "example",
            b'{"x":}',
            {
                "type": "json_invalid",
                "loc": ["body", 5],
                "msg": "JSON decode error",
                "input": {},
                "ctx": {"error": "Expecting value"},
            },
        ),
        (
            "example",
            b"5",
            {
                "type": "model_attributes_type",
                "loc": ["body"],
                "msg": "Input should be a valid dictionary or object to extract fields from",
                "input": 5,
            },
        ),
        (
            "example",
            b'{"bogus":1}',
            {
                "type": "extra_forbidden",
                "loc": ["body", "bogus"],
                "msg": "Extra inputs are not permitted",
                "input": 1,
            },
        ),
        (
            "example",
            b'{"x":-1}',
            {
                "type": "value_error",
                "loc": ["body", "x"],
                "msg": "Value error, value must be non-negative.",
                "input": -1,
                "ctx": {"error": {}},
            },
        ),
        (
            "basket",
            b"[]",
            {"type": "dict_type", "loc": ["body"], "msg": "Input should be a valid dictionary", "input": []},
        ),
    ],
)
async def test_what_is_wrong_is_told_in_the_shape_that_clients_know(
    serve: Serve, path: str, body: bytes, expected: dict[str, Any]
):
    gateway = await serve(DEMO_TYPES)
    headers = {"content-type": "application/json"}
    assert await gateway.rejected("POST", f"/send/{path}", 422, data=body, headers=headers) == [expected]


@pytest.mark.parametrize(
    ("field", "value", "kind", "loc", "message", "context"),
    [
        ("positive", 0, "greater_than", ["body", "positive"], "Input should be greater than 0", {"gt": 0.0}),
        ("number", 7, "enum", ["body", "number"], "Input should be 1, 2 or 3", {"expected": "1, 2 or 3"}),
        (
            "literal",
            "z",
            "literal_error",
            ["body", "literal"],
            "Input should be 'x' or 'y'",
            {"expected": "'x' or 'y'"},
        ),
        ("inner", {"a": "q"}, "int_parsing", ["body", "inner", "a"], None, None),
    ],
)
async def test_limits_enums_literals_and_nested_structs_name_their_place(
    serve: Serve, field: str, value: Any, kind: str, loc: list[str], message: str | None, context: Any
):
    from tests.gateway.examples import TYPES

    gateway = await serve(TYPES)
    (error,) = await gateway.rejected("POST", "/send/all", 422, json={field: value})
    assert (error["type"], error["loc"]) == (kind, loc)
    assert message is None or error["msg"] == message
    assert context is None or error["ctx"] == context


async def test_a_body_that_is_not_declared_to_be_json_is_a_422(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    headers = {"content-type": "text/plain"}
    (error,) = await gateway.rejected("POST", "/send/example", 422, data=b'{"x":1}', headers=headers)
    assert error["type"] == "model_attributes_type"


async def test_a_body_that_is_too_large_is_a_413(serve: Serve):
    gateway = await serve("server: {max_body: 1KiB}\n" + DEMO_TYPES)
    detail = await gateway.rejected("POST", "/send/example", 413, json={"y": "a" * 2000})
    assert "1024 bytes" in detail


async def test_unknown_and_unsendable_channels_are_told_apart(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    assert await gateway.rejected("POST", "/send/nope", 404, json={}) == "Not Found"
    assert await gateway.rejected("POST", "/send/never_ticks", 404, json={}) == "Channel not found: never_ticks"
    assert await gateway.rejected("GET", "/send/example", 405) == "Method Not Allowed"
    answer = await gateway.http.get("/api/v1/send/example")
    assert answer.headers["allow"] == "POST"


async def test_a_channel_without_provider_is_a_404_and_one_that_has_not_ticked_is_empty(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    assert await gateway.rejected("GET", "/last/never_ticks", 404) == "Channel not found: never_ticks"
    assert await gateway.rejected("GET", "/next/never_ticks", 404) == "Channel not found: never_ticks"
    assert await gateway.rejected("GET", "/last/nope", 404) == "Not Found"
    assert await gateway.get("/last/example") == []


async def test_every_channel_also_answers_with_dashes(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    sent = await gateway.send("example-list", {"x": 1})
    assert await gateway.get("/last/example-list") == sent == await gateway.get("/last/example_list")
    assert await gateway.send("by-x", {"x": 4}) == await gateway.get("/state/by-x")


# --- baskets ---


async def test_a_basket_answers_the_last_values_of_the_keys_that_ticked_in_key_order(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    await gateway.send("basket/B", {"x": 2})
    await gateway.send("basket/A", {"x": 1})
    assert [record["x"] for record in await gateway.get("/last/basket")] == [1, 2]
    assert [record["x"] for record in await gateway.get("/last/basket/B")] == [2]
    assert await gateway.get("/last/basket/C") == []


async def test_a_whole_basket_ticks_at_once_in_the_order_of_the_body(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    sent = await gateway.send("basket", {"B": {"x": 202}, "A": {"x": 201}})
    assert [record["x"] for record in sent] == [202, 201]
    assert [record["x"] for record in await gateway.get("/last/basket")] == [201, 202]
    assert await gateway.send("basket", {}) == []


async def test_keys_may_contain_spaces_and_slashes(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    await gateway.send("words/b%20c", {"x": 1})
    await gateway.send("words/d/e", {"x": 2})
    assert [record["x"] for record in await gateway.get("/last/words/b%20c")] == [1]
    assert [record["x"] for record in await gateway.get("/last/words/d%2Fe")] == [2]


@pytest.mark.parametrize("route", ["last", "next"])
@pytest.mark.parametrize("path", ["basket/ZZ", "words/zz", "lists/zz"])
async def test_an_unknown_key_is_a_404_wherever_it_is_read(serve: Serve, route: str, path: str):
    gateway = await serve(DEMO_TYPES)
    assert await gateway.rejected("GET", f"/{route}/{path}", 404) == f"Channel not found: {path}"


async def test_an_unknown_key_of_an_enumeration_is_a_422_when_sent(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    (error,) = await gateway.rejected("POST", "/send/basket/ZZ", 422, json={"x": 1})
    assert error["loc"] == ["path", "key"]
    (error,) = await gateway.rejected("POST", "/send/basket", 422, json={"A": {"x": 1}, "ZZ": {"x": 1}})
    assert error["loc"] == ["body", "ZZ", "[key]"]
    assert await gateway.get("/last/basket") == []


async def test_an_unknown_string_key_is_a_404_when_sent_and_nothing_ticks(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    assert await gateway.rejected("POST", "/send/words/zz", 404, json={}) == "Channel not found: words/zz"
    body = {"a": {"x": 1}, "zz": {"x": 1}}
    assert await gateway.rejected("POST", "/send/words", 404, json=body) == "Channel not found: words/zz"
    assert await gateway.get("/last/words") == []


async def test_a_basket_of_lists_takes_a_list_or_one_struct_for_each_key(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    await gateway.send("lists", {"p": [{"x": 1}, {"x": 2}], "q": {"x": 3}})
    assert [record["x"] for record in await gateway.get("/last/lists")] == [1, 2, 3]
    assert [record["x"] for record in await gateway.get("/last/lists/p")] == [1, 2]


async def test_a_list_for_the_key_of_a_plain_basket_is_a_422(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    (error,) = await gateway.rejected("POST", "/send/basket", 422, json={"A": [{"x": 1}]})
    assert error["loc"] == ["body", "A"]


# --- lookup ---


async def test_a_struct_that_ticked_is_found_by_its_id_on_every_channel_of_its_type(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    sent = await gateway.send("example", {"x": 1})
    for channel in ("example", "example_list", "basket", "never_ticks"):
        assert await gateway.get(f"/lookup/{channel}/{sent[0]['id']}") == sent
    assert await gateway.get(f"/lookup/id/{sent[0]['id']}") == sent


async def test_an_unknown_id_is_an_empty_list_or_a_404_for_any_type(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    assert await gateway.get("/lookup/example/nope") == []
    assert await gateway.get("/lookup/example") == []
    assert await gateway.rejected("GET", "/lookup/id/nope", 404) == "No GatewayStruct found with id: nope"


async def test_ids_with_slashes_are_found(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    sent = await gateway.send("example", {"id": "a/b c"})
    assert await gateway.get("/lookup/example/a%2Fb%20c") == sent
    assert await gateway.get("/lookup/example/a/b%20c") == sent


async def test_rejected_input_is_not_kept_for_lookup(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    await gateway.rejected("POST", "/send/example", 422, json=[{"id": "good"}, {"id": "bad", "x": -1}])
    assert await gateway.get("/lookup/example/good") == []


EDGES = """
structs: {Reading: {fields: {at: datetime, n: int}}}
channels: {readings: {type: Reading, send: true, state: {keyby: [at]}}}
"""


@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+05:00"])
async def test_a_time_that_utc_does_not_have_is_a_value_but_no_timestamp(serve: Serve, moment: str):
    gateway = await serve(EDGES)
    await gateway.send("readings", [{"at": moment, "n": 1}, {"at": "2024-01-01T00:00:00Z"}, {"at": moment, "n": 2}])
    assert len(await gateway.get("/state/readings")) == 2
    query = {"filters": [{"attr": "at", "by": {"when": moment, "where": "=="}}]}
    assert [row["n"] for row in await gateway.get("/state/readings", params={"query": json.dumps(query)})] == [2]
    (fault,) = await gateway.rejected("POST", "/send/readings", 422, json={"timestamp": moment, "n": 3})
    assert fault["loc"] == ["body", "timestamp"]
    assert "between the years 1 and 9999 in UTC" in fault["msg"]
    assert (await gateway.get("/last/readings"))[0]["n"] == 2
