"""The WebSocket (§4)."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Sequence
from typing import Any

import aiohttp
import pytest

from gateway.engine.engine import Change
from shared.errors import Problem
from tests.gateway.conftest import Serve, until
from tests.gateway.examples import DEMO_TYPES


async def act(socket: Any, **action: Any) -> None:
    await socket.send_json(action)


async def received(socket: Any, count: int = 1) -> list[dict[str, Any]]:
    """The next messages."""
    return [await socket.receive_json(timeout=10) for _ in range(count)]


async def settled(gateway: Any, socket: Any) -> None:
    """Return when the gateway has carried out all that was sent to it; nothing else may be on its way."""
    await act(socket, action="hello", errors=True)
    (message,) = await received(socket)
    assert message == {"channel": "ack", "data": {"action": "hello", "channel": None, "ids": []}}
    await act(socket, action="hello")


def xs(messages: list[dict[str, Any]]) -> list[list[int]]:
    return [[record["x"] for record in message["data"]] for message in messages]


async def test_a_subscriber_gets_every_tick_as_last_would_print_it(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    socket = await gateway.stream()
    await act(socket, action="subscribe", channel="example")
    await settled(gateway, socket)
    sent = await gateway.send("example", [{"x": 1}, {"x": 2}])
    first = (await socket.receive(timeout=10)).data
    assert first == '{"channel":"example","data":' + json.dumps([sent[0]], separators=(",", ":")) + "}"
    assert await received(socket) == [{"channel": "example", "data": [sent[1]]}]


async def test_a_tick_of_a_list_channel_is_one_message(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    socket = await gateway.stream()
    await act(socket, action="subscribe", channel="example_list")
    await settled(gateway, socket)
    await gateway.send("example_list", [{"x": 1}, {"x": 2}])
    assert xs(await received(socket)) == [[1, 2]]


async def test_a_basket_sends_one_message_for_each_key(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    socket = await gateway.stream()
    await act(socket, action="subscribe", channel="basket")
    await settled(gateway, socket)
    await gateway.send("basket", {"B": {"x": 2}, "A": {"x": 1}})
    messages = await received(socket, 2)
    assert [list(message) for message in messages] == [["channel", "key", "data"]] * 2
    assert [message["key"] for message in messages] == ["B", "A"]


async def test_one_key_can_be_subscribed_to_and_taken_from_a_whole_basket(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    one, rest = await gateway.stream(), await gateway.stream()
    await act(one, action="subscribe", channel="basket", key="A")
    await act(rest, action="subscribe", channel="basket", key=None)
    await act(rest, action="unsubscribe", channel="basket", key="A")
    await settled(gateway, one)
    await settled(gateway, rest)
    await gateway.send("basket", {"A": {"x": 1}, "B": {"x": 2}, "C": {"x": 3}})
    assert xs(await received(one)) == [[1]]
    assert xs(await received(rest, 2)) == [[2], [3]]


async def test_the_key_of_an_enumeration_may_be_its_value(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    socket = await gateway.stream()
    await act(socket, action="subscribe", channel="basket", key=2)
    await settled(gateway, socket)
    await gateway.send("basket/B", {"x": 2})
    assert (await received(socket))[0]["key"] == "B"


async def test_unsubscribing_from_a_basket_ends_its_keys_too(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    socket = await gateway.stream()
    await act(socket, action="subscribe", channel="basket", key="A")
    await act(socket, action="unsubscribe", channel="basket")
    await act(socket, action="subscribe", channel="example")
    await act(socket, action="subscribe", channel="example")
    await settled(gateway, socket)
    await gateway.send("basket/A", {"x": 1})
    await gateway.send("example", [{"x": 2}, {"x": 3}])
    assert xs(await received(socket, 2)) == [[2], [3]]


async def test_what_ticked_before_is_not_sent(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    await gateway.send("example", {"x": 1})
    socket = await gateway.stream()
    await act(socket, action="subscribe", channel="example")
    await settled(gateway, socket)
    await gateway.send("example", {"x": 2})
    assert xs(await received(socket)) == [[2]]


@pytest.mark.parametrize(
    ("action", "path", "expected"),
    [
        ({"channel": "example", "data": {"x": 1}}, "example", [1]),
        ({"channel": "example", "data": [{"x": 1}, {"x": 2}]}, "example", [2]),
        ({"channel": "example_list", "data": [{"x": 1}, {"x": 2}]}, "example_list", [1, 2]),
        ({"channel": "basket", "key": "A", "data": {"x": 1}}, "basket/A", [1]),
    ],
)
async def test_a_client_can_send(serve: Serve, action: dict[str, Any], path: str, expected: list[int]):
    gateway = await serve(DEMO_TYPES)
    socket = await gateway.stream()
    await act(socket, action="send", **action)
    await settled(gateway, socket)
    assert [record["x"] for record in await gateway.get(f"/last/{path}")] == expected


IGNORED: list[str] = [
    "not json",
    "[]",
    "5",
    "null",
    '"x"',
    "{}",
    '{"action":"dance"}',
    '{"action":"subscribe"}',
    '{"action":"subscribe","channel":""}',
    '{"action":"subscribe","channel":["example"]}',
    '{"action":"subscribe","channel":{"a":1}}',
    '{"action":"subscribe","channel":"nope"}',
    '{"action":"subscribe","channel":"example","key":"A"}',
    '{"action":"subscribe","channel":"example","key":""}',
    '{"action":"subscribe","channel":"basket","key":"ZZ"}',
    '{"action":"unsubscribe","channel":"example"}',
    '{"action":"send","channel":"example"}',
    '{"action":"send","channel":"example","data":{}}',
    '{"action":"send","channel":"example","data":[]}',
    '{"action":"send","channel":"example","data":null}',
    '{"action":"send","channel":"example","data":{"x":-1}}',
    '{"action":"send","channel":"example","data":[{"x":1},{"x":-1}]}',
    '{"action":"send","channel":"example","data":{"bogus":1}}',
    '{"action":"send","channel":"basket","data":{"x":1}}',
    '{"action":"send","channel":"basket","key":"ZZ","data":{"x":1}}',
    '{"action":"send","channel":"never_ticks","data":{"x":1}}',
    '{"action":"send","channel":"heartbeat","data":{"x":1}}',
]


async def test_what_makes_no_sense_is_ignored_also_as_the_first_frame(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    for first in (IGNORED[0], IGNORED[1]):
        socket = await gateway.stream()
        await socket.send_str(first)
        for text in IGNORED:
            await socket.send_str(text)
        await socket.send_bytes(b"\x00\xff")
        await act(socket, action="subscribe", channel="example")
        await settled(gateway, socket)
        await gateway.send("example", {"x": 7})
        assert xs(await received(socket)) == [[7]]
    assert gateway.gateway.engine.counters.ticks == 2


async def test_a_client_that_asks_is_told_what_was_ignored_and_what_was_done(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    socket = await gateway.stream()
    await act(socket, action="hello", errors=True)
    await received(socket)
    for text in IGNORED:
        await socket.send_str(text)
    told = await received(socket, len(IGNORED))
    assert {message["channel"] for message in told[:15]} == {"error"}
    assert told[15] == {"channel": "ack", "data": {"action": "unsubscribe", "channel": "example", "ids": []}}
    assert told[20]["data"]["detail"][0]["loc"] == ["data", "x"]
    await act(socket, action="send", channel="example", data=[{"id": "a"}, {"id": "b"}])
    assert await received(socket) == [
        {"channel": "ack", "data": {"action": "send", "channel": "example", "ids": ["a", "b"]}}
    ]


async def test_the_heartbeat_comes_regularly(serve: Serve):
    gateway = await serve("stream: {ping_time_s: 0.01}\n" + DEMO_TYPES)
    socket = await gateway.stream()
    await act(socket, action="subscribe", channel="heartbeat")
    assert await received(socket, 3) == [{"channel": "heartbeat", "data": "PING"}] * 3


async def test_a_snapshot_is_sent_to_who_asks_for_it(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    await gateway.send("basket/B", {"x": 2})
    await gateway.send("basket/A", {"x": 1})
    socket = await gateway.stream()
    await act(socket, action="subscribe", channel="basket", snapshot=True)
    await act(socket, action="subscribe", channel="example", snapshot=True)
    assert xs(await received(socket, 2)) == [[2], [1]]


async def test_a_client_resumes_behind_the_tick_it_knows(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    sent = await gateway.send("example", [{"x": 1}, {"x": 2}, {"x": 3}])
    socket = await gateway.stream()
    await act(socket, action="subscribe", channel="example", after=sent[0]["id"])
    await gateway.send("example", {"x": 4})
    assert xs(await received(socket, 3)) == [[2], [3], [4]]


async def test_resuming_a_basket_keeps_the_order_of_its_keys_ticks(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    await gateway.send("basket/A", {"x": 1})
    await gateway.send("basket/B", {"x": 2, "id": "two"})
    await gateway.send("basket/A", {"x": 3})
    await gateway.send("basket/B", {"x": 4})
    socket = await gateway.stream()
    await act(socket, action="subscribe", channel="basket", after="two")
    assert xs(await received(socket, 2)) == [[3], [4]]


async def test_resuming_behind_an_unknown_tick_is_a_snapshot_when_asked_for(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    await gateway.send("example", [{"x": 1}, {"x": 2}])
    socket = await gateway.stream()
    await act(socket, action="subscribe", channel="example", after="unknown", snapshot=True)
    assert xs(await received(socket)) == [[2]]


async def test_a_read_only_stream_ignores_sends(serve: Serve):
    gateway = await serve("stream: {readonly: true}\n" + DEMO_TYPES)
    socket = await gateway.stream()
    await act(socket, action="send", channel="example", data={"x": 1})
    await settled(gateway, socket)
    assert await gateway.get("/last/example") == []


async def test_the_stream_can_be_limited_to_some_channels(serve: Serve):
    gateway = await serve("stream: {include: [by_x]}\n" + DEMO_TYPES)
    assert await gateway.get("/stream") == ["by_x", "heartbeat"]
    socket = await gateway.stream()
    await act(socket, action="subscribe", channel="example")
    await act(socket, action="subscribe", channel="by_x")
    await settled(gateway, socket)
    await gateway.send("example", {"x": 1})
    await gateway.send("by_x", {"x": 2})
    assert xs(await received(socket)) == [[2]]


async def test_a_frame_that_is_too_large_ends_the_connection_with_1009(serve: Serve):
    gateway = await serve("server: {max_body: 1KiB}\n" + DEMO_TYPES)
    socket = await gateway.stream()
    await socket.send_str("x" * 5000)
    message = await socket.receive(timeout=10)
    assert message.type is aiohttp.WSMsgType.CLOSE
    assert message.data == 1009


async def test_a_client_that_leaves_is_forgotten_at_once(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    socket = await gateway.stream()
    await act(socket, action="subscribe", channel="example")
    await settled(gateway, socket)
    feed = gateway.gateway.engine.channels["example"].feeds[0]
    assert len(feed.subscribers) == 1
    await socket.close()
    await until(lambda: not feed.subscribers)
    assert not gateway.gateway.connections.outboxes


async def test_at_shutdown_every_client_is_told_that_the_server_goes_away(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    socket = await gateway.stream()
    await settled(gateway, socket)
    closing = asyncio.ensure_future(gateway.parts.stream.close())
    message = await socket.receive(timeout=10)
    assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1001)
    await closing


@pytest.mark.parametrize("size", [10, 200, 70_000])
async def test_messages_of_every_length_are_framed_right(serve: Serve, size: int):
    gateway = await serve(DEMO_TYPES)
    for compress in (0, 15):
        socket = await gateway.http.ws_connect("/api/v1/stream", compress=compress, max_msg_size=0)
        await act(socket, action="subscribe", channel="example")
        await settled(gateway, socket)
        await gateway.send("example", {"y": "é" * size})
        ((record,),) = [message["data"] for message in await received(socket)]
        assert record["y"] == "é" * size
        await socket.close()


async def test_another_path_is_no_stream(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    for path in ("/api/v1/stream/", "/api/v1/nowhere", "/api/v1/stream/example"):
        with pytest.raises(aiohttp.WSServerHandshakeError) as error:
            await gateway.http.ws_connect(path)
        assert error.value.status == 403


class SilentBus:
    """A bus that never takes a tick."""

    is_ready = False

    async def publish(self, _groups: Sequence[Sequence[Change]]) -> None:
        raise Problem(503, "the bus does not answer: it is unknown whether this will tick")


async def test_who_asked_for_errors_learns_that_the_bus_did_not_take_a_tick(
    serve: Serve, caplog: pytest.LogCaptureFixture
):
    gateway = await serve(DEMO_TYPES)
    gateway.gateway.engine.bus = SilentBus()
    socket = await gateway.stream()
    await act(socket, action="hello", errors=True)
    await act(socket, action="send", channel="example", data={"x": 1})
    many = [{"x": number} for number in range(20_000)]
    await act(socket, action="send", channel="example", data=many)
    for told in (await received(socket, 3))[1:]:
        assert told["channel"] == "error"
        assert told["data"]["detail"] == "the bus does not answer: it is unknown whether this will tick"
    await socket.close()
    gc.collect()
    assert "never retrieved" not in caplog.text
