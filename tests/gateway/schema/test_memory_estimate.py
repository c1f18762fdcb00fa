"""What a request may cost: a bound for the memory that its structs take, and slices for those that are many."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.schema.invalid import InvalidInput
from gateway.schema.memory_estimate import MemoryLimit
from tests.gateway.conftest import Serve, declare
from tests.gateway.examples import DEMO_TYPES, TYPES

JSON = {"content-type": "application/json"}
MILLION = b"[" + b",".join([b"{}"] * 1_000_000) + b"]"


async def rejected(gateway: Any, path: str, body: bytes) -> Any:
    answer = await gateway.http.post(path, data=body, headers=JSON)
    assert answer.status == 422, (answer.status, (await answer.read())[:300])
    (fault,) = (await answer.json())["detail"]
    return fault


@pytest.mark.parametrize("path", ["send/example", "send/example_list", "send/lists", "stage/example"])
async def test_a_million_structs_in_three_megabytes_are_rejected_with_the_limit(serve: Serve, path: str):
    gateway = await serve(DEMO_TYPES)
    fault = await rejected(gateway, f"/api/v1/{path}", b'{"p":' + MILLION + b"}" if path == "send/lists" else MILLION)
    assert fault["type"] == "too_large"
    assert f"{8 * 2**24} are allowed" in fault["msg"]
    assert fault["ctx"] == {"max_bytes": 8 * 2**24}
    assert await gateway.get("/last/example") == []


async def test_a_million_structs_in_a_frame_are_rejected_with_the_limit(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    socket = await gateway.stream()
    await socket.send_json({"action": "hello", "errors": True})
    await socket.send_str('{"action":"send","channel":"example","data":' + MILLION.decode() + "}")
    assert (await socket.receive_json(timeout=20))["channel"] == "ack"
    told = await socket.receive_json(timeout=20)
    assert told["channel"] == "error"
    assert "are allowed" in told["data"]["detail"][0]["msg"]


async def test_nested_structs_and_their_defaults_count(serve: Serve):
    text = TYPES.replace('b: str = ""', f"b: {{type: str, default: {'x' * 5000}}}").replace(
        "inner: Inner", 'inner: "list[Inner]"'
    )
    gateway = await serve(text)
    body = b'{"inner":[' + b",".join([b"{}"] * 100_000) + b"]}"  # 300 kB that would print as half a gigabyte
    assert (await rejected(gateway, "/api/v1/send/all", body))["type"] == "too_large"


async def test_many_faults_are_counted_and_not_listed(serve: Serve):
    gateway = await serve(TYPES)
    fault = await rejected(gateway, "/api/v1/send/all", b'{"list_":[' + b",".join([b'"x"'] * 5000) + b"]}")
    assert (fault["type"], fault["loc"]) == ("too_many_errors", ["body"])
    assert "5000 faults" in fault["msg"]


def test_marks_inside_of_strings_do_not_count():
    expansion = MemoryLimit(most_bytes=2**20)
    text = json.dumps({"y": '{"[,:' * 100_000}).encode()
    expansion.check(text)
    with pytest.raises(InvalidInput, match="allowed: send fewer at a time"):
        expansion.check(b"[" + b",".join([b'{"y":"a"}'] * 1000) + b"]")


def test_small_bodies_are_bound_as_well_when_max_body_is_small():
    declared = declare("server: {max_body: 1000}\n" + DEMO_TYPES)
    expansion = MemoryLimit.of(declared.options.server.max_body, {spec.name: spec for spec in declared.structs})
    expansion.check(b'[{"x":1},{"x":2}]')
    with pytest.raises(InvalidInput):
        expansion.check(b"[" + b",".join([b"{}"] * 2000) + b"]")


@pytest.mark.parametrize("path", ["example", "example_list", "basket"])
async def test_a_long_list_is_accepted_whole_in_order_and_others_are_served_in_between(serve: Serve, path: str):
    gateway = await serve(DEMO_TYPES)
    rows: Any = [{"x": x} for x in range(5000)]
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count())
    if path == "basket":
        (path,) = ("lists",)
        sent = await gateway.send(path, {"p": rows})
    else:
        sent = await gateway.send(path, rows)
    counting.cancel()
    assert [each["x"] for each in sent] == list(range(5000))
    assert turns > 15
    if path == "example":
        assert len(await gateway.get("/state/example")) == 5000


async def test_one_wrong_struct_in_a_long_list_is_named_by_its_place_and_nothing_ticks(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    rows: list[Any] = [{"x": x} for x in range(2000)]
    rows[1500] = {"x": -1}
    fault = await rejected(gateway, "/api/v1/send/example", json.dumps(rows).encode())
    assert fault["loc"] == ["body", 1500, "x"]
    assert await gateway.get("/last/example") == []


async def test_frames_after_a_long_one_are_carried_out_after_it(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    socket = await gateway.stream()
    await socket.send_json({"action": "hello", "errors": True})
    for data in ([{"x": x} for x in range(3000)], {"x": 9999}):
        await socket.send_json({"action": "send", "channel": "by_x", "data": data})
    await socket.receive_json(timeout=20)
    assert len((await socket.receive_json(timeout=20))["data"]["ids"]) == 3000
    await socket.receive_json(timeout=20)
    (last,) = await gateway.get("/last/by_x")
    assert last["x"] == 9999


async def test_a_set_of_many_objects_is_made_distinct_in_one_pass(serve: Serve):
    gateway = await serve(TYPES.replace("set[int]", "set[any]"))
    values = [{"a": [n % 20_000]} for n in range(40_000)]
    (sent,) = await gateway.send("all", {"set_": values})
    assert sent["set_"] == values[:20_000]


def test_a_printed_record_keeps_no_more_memory_than_its_text():
    import tracemalloc

    from gateway.schema.record import Record

    tracemalloc.start()
    try:
        kept = [Record("Row", {"k": k}).encoded for k in range(1000)]
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(kept) == 1000
    assert size < 1000 * 300
