"""Server-sent events: the same messages for clients without WebSockets."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.gateway.conftest import Client, Serve, until
from tests.gateway.examples import DEMO_TYPES


async def events(gateway: Client, query: str, **options: Any) -> Any:
    """An open event stream, past its greeting."""
    answer = await gateway.http.get(f"/api/v1/sse?{query}", **options)
    assert answer.status == 200
    assert answer.content_type == "text/event-stream"
    assert await answer.content.readuntil(b"\n\n") == b"retry: 1000\n\n"
    return answer


async def next_event(answer: Any) -> bytes:
    return await asyncio.wait_for(answer.content.readuntil(b"\n\n"), 10)


async def test_every_tick_is_an_event_that_carries_its_id(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    answer = await events(gateway, "channel=example&channel=basket/A")
    await gateway.send("basket/B", {"id": "0"})
    await gateway.send("example", {"id": "1"})
    await gateway.send("basket/A", {"id": "2"})
    example = await gateway.http.get("/api/v1/last/example")
    assert await next_event(answer) == b'id: 1@2\ndata: {"channel":"example","data":' + await example.read() + b"}\n\n"
    assert (await next_event(answer)).startswith(b'id: 2@3\ndata: {"channel":"basket","key":"A","data":[{"id":"2"')


async def test_a_client_resumes_behind_its_last_event(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    await gateway.send("example", [{"id": "1"}, {"id": "2"}])
    await gateway.send("by_x", {"id": "3"})
    answer = await events(gateway, "channel=example&channel=by_x", headers={"Last-Event-ID": "1"})
    assert (await next_event(answer)).startswith(b"id: 2@2\n")
    assert (await next_event(answer)).startswith(b"id: 3@3\n")


async def test_ticks_of_one_id_neither_repeat_nor_vanish_when_a_client_resumes(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    for channel, x in (("example", 1), ("by_x", 2), ("example", 3), ("by_x", 4)):
        await gateway.send(channel, {"id": "same", "x": x})
    for channels in ("channel=example&channel=by_x", "channel=by_x&channel=example"):
        first = await events(gateway, channels, headers={"Last-Event-ID": "same@1"})
        seen = [await next_event(first) for _ in range(3)]
        assert [x_of(event) for event in seen] == [2, 3, 4]
        for place, event in enumerate(seen[:-1]):
            event_id = event.split(b"\n")[0].removeprefix(b"id: ").decode()
            resumed = await events(gateway, channels, headers={"Last-Event-ID": event_id})
            assert x_of(await next_event(resumed)) == x_of(seen[place + 1])


async def test_of_an_id_alone_a_tick_is_rather_sent_twice_than_left_out(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    for channel, x in (("example", 1), ("by_x", 2), ("example", 3)):
        await gateway.send(channel, {"id": "same", "x": x})
    await gateway.send("by_x", {"id": "other", "x": 4})
    for channels in ("channel=example&channel=by_x", "channel=by_x&channel=example"):
        for after in ("same", "same@77"):  # the latter from before a restart
            answer = await events(gateway, f"{channels}&after={after}")
            assert [x_of(await next_event(answer)) for _ in range(2)] == [3, 4]


def x_of(event: bytes) -> int:
    data = next(line for line in event.split(b"\n") if line.startswith(b"data: "))
    return int(json.loads(data.removeprefix(b"data: "))["data"][0]["x"])


async def test_the_heartbeat_is_a_channel_too(serve: Serve):
    gateway = await serve("stream: {ping_time_s: 0.01}\n" + DEMO_TYPES)
    answer = await events(gateway, "channel=heartbeat")
    assert await next_event(answer) == b'data: {"channel":"heartbeat","data":"PING"}\n\n'


async def test_without_a_channel_or_with_an_unknown_one_there_is_no_stream(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    (error,) = await gateway.rejected("GET", "/sse", 422)
    assert error["loc"] == ["query", "channel"]
    assert await gateway.rejected("GET", "/sse?channel=basket/ZZ", 404) == "Channel not found: basket/ZZ"


async def test_a_client_that_leaves_is_forgotten(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    answer = await events(gateway, "channel=example")
    feed = gateway.gateway.engine.channels["example"].feeds[0]
    assert len(feed.subscribers) == 1
    answer.close()
    await until(lambda: not feed.subscribers)


async def test_at_shutdown_the_stream_ends(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    answer = await events(gateway, "channel=example")
    await gateway.parts.events.close()
    assert await asyncio.wait_for(answer.content.read(), 10) == b""


@pytest.mark.parametrize("forged", ["1\rdata: forged\r\r", "1\ndata: forged\n\n", "1\r\n\r\ndata: forged", "1\0"])
async def test_an_id_cannot_forge_an_event(serve: Serve, forged: str):
    gateway = await serve(DEMO_TYPES)
    answer = await events(gateway, "channel=example")
    await gateway.send("example", {"id": forged})
    (line,) = (await next_event(answer)).rstrip(b"\n").splitlines()
    assert line.startswith(b"data: {")
    assert json.loads(line.removeprefix(b"data: "))["data"][0]["id"] == forged
