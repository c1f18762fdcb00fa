"""Whatever is sent: an answer that is JSON, and a gateway that goes on."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp.test_utils import TestClient, TestServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.app import build
from tests.gateway.conftest import declare
from tests.gateway.examples import DEMO_TYPES, TYPES

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    ["id", "timestamp", "bogus"]
    + [field.name for spec in declare(TYPES).structs if spec.name == "Everything" for field in spec.fields]
)
STRUCTS = st.dictionaries(FIELDS, JSON, max_size=5)
BODIES = st.one_of(
    st.binary(max_size=60),
    STRUCTS.map(lambda value: json.dumps(value).encode()),
    st.lists(STRUCTS | JSON, max_size=3).map(lambda value: json.dumps(value).encode()),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.sampled_from(
        [b"[" * 5000, b'{"any_":' * 2000, b'{"str_":"\\ud800"}', b"\xff\xfe", b'{"int_":' + b"9" * 5000 + b"}"]
    ),
)
PATHS = st.sampled_from(
    ["/send/all", "/send/all/key", "/stage/all", "/send/", "/send", "/lookup/all/x", "/controls/heartbeat"]
)
CONDITIONS = JSON | st.fixed_dictionaries({"value": JSON})
QUERIES = st.one_of(
    st.text(max_size=30),
    JSON.map(json.dumps),
    st.fixed_dictionaries(
        {
            "filters": st.lists(
                st.fixed_dictionaries({"attr": FIELDS, "by": JSON | st.fixed_dictionaries({"value": JSON})})
            )
        }
    ).map(json.dumps),
    st.fixed_dictionaries({"sort": JSON, "limit": JSON}).map(json.dumps),
)
CHANNELS = (
    st.sampled_from(["example", "example_list", "basket", "words", "never_ticks", "controls", "heartbeat"]) | JSON
)
ACTIONS = st.fixed_dictionaries(
    {"action": st.sampled_from(["subscribe", "unsubscribe", "send", "hello"]) | JSON},
    optional={"channel": CHANNELS, "key": st.sampled_from(["A", "a", 1]) | JSON, "data": JSON, "after": JSON},
)
TEXTS = st.one_of(st.text(max_size=30), ACTIONS.map(json.dumps), JSON.map(json.dumps))
MODERATE = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
STATEFUL = TYPES.replace("{type: Everything, send: true}", "{type: Everything, send: true, stage: true, state: true}")


def with_gateway(text: str, use: Any) -> None:
    """Serve a channel file in process and use it."""

    async def run() -> None:
        async with TestClient(TestServer(build(declare(text)).app)) as client:
            await use(client)

    asyncio.run(run())


async def is_json(answer: Any) -> bool:
    """Whether an answer is what every client can read."""
    if answer.status == 307:
        return True
    assert answer.content_type == "application/json", (answer.status, await answer.text())
    value = json.loads(await answer.text())
    return answer.status == 200 or "detail" in value


@MODERATE
@given(requests=st.lists(st.tuples(st.sampled_from(["POST", "PUT", "DELETE", "GET"]), PATHS, BODIES), max_size=6))
def test_any_body_is_answered_in_json_and_never_with_a_500(requests: list[tuple[str, str, bytes]]):
    async def use(client: Any) -> None:
        headers = {"content-type": "application/json"}
        for method, path, body in requests:
            answer = await client.request(method, "/api/v1" + path, data=body, headers=headers, allow_redirects=False)
            assert await is_json(answer)
            assert answer.status < 500, (method, path, body, await answer.text())
        for path in ("/last/all", "/state/all"):
            assert isinstance(await (await client.get("/api/v1" + path)).json(), list)

    with_gateway(STATEFUL, use)


@MODERATE
@given(queries=st.lists(QUERIES, min_size=1, max_size=6), rows=st.lists(STRUCTS, max_size=3))
def test_any_query_is_answered_in_json_and_never_with_a_500(queries: list[str], rows: list[Any]):
    async def use(client: Any) -> None:
        for row in rows:
            await client.post("/api/v1/send/all", data=json.dumps(row), headers={"content-type": "application/json"})
        for query in queries:
            answer = await client.get("/api/v1/state/all", params={"query": query.encode("utf-8", "ignore").decode()})
            assert await is_json(answer)
            assert answer.status < 500, (query, await answer.text())

    with_gateway(STATEFUL, use)


@MODERATE
@given(texts=st.lists(TEXTS, max_size=10))
def test_any_frames_leave_the_connection_working(texts: list[str]):
    async def use(client: Any) -> None:
        socket = await client.ws_connect("/api/v1/stream", max_msg_size=0)
        for text in texts:
            await socket.send_str(text.encode("utf-8", "ignore").decode())
        await socket.send_json({"action": "subscribe", "channel": "by_x"})
        await socket.send_json({"action": "send", "channel": "by_x", "data": {"id": "the end"}})
        while True:
            message = await socket.receive_json(timeout=10)
            if message["channel"] == "by_x" and message["data"][0].get("id") == "the end":
                return

    with_gateway(DEMO_TYPES, use)
