"""Conventions of every HTTP application: errors, bodies, ids, cross-origin pages, health."""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from shared.errors import Problem
from shared.http.app import Cors, apply_conventions, health_routes, json_response, read_body, read_json_object
from shared.http.lifecycle import json_kind
from shared.metrics import Metrics

LIMIT = 1000


def application(cors: Cors | None = None, metrics: Metrics | None = None) -> web.Application:
    async def echo(request: web.Request) -> web.Response:
        return json_response(await read_json_object(request, LIMIT))

    async def count(request: web.Request) -> web.Response:
        return json_response({"bytes": len(await read_body(request, LIMIT, timeout_s=0.05))})

    async def refuse(_request: web.Request) -> web.Response:
        raise Problem(422, "colour: found 'blu'", code="bad_colour", headers={"X-Hint": "blue"})

    async def bug(_request: web.Request) -> web.Response:
        raise KeyError("a secret detail")

    app = web.Application()
    apply_conventions(app, cors=cors, metrics=metrics)
    app.add_routes(
        [web.post("/echo", echo), web.post("/count", count), web.get("/refuse", refuse), web.get("/bug", bug)]
    )
    return app


@pytest.fixture
async def client(aiohttp_client) -> TestClient:
    return await aiohttp_client(application())


async def error_of(answer) -> tuple[int, str]:
    return answer.status, (await answer.json())["error"]["message"]


async def test_a_problem_is_answered_in_the_error_shape_with_its_headers(client: TestClient):
    answer = await client.get("/refuse")
    assert answer.status == 422
    assert await answer.json() == {"error": {"code": "bad_colour", "message": "colour: found 'blu'"}}
    assert answer.headers["X-Hint"] == "blue"


async def test_a_bug_is_a_500_with_a_request_id_and_no_detail(client: TestClient):
    answer = await client.get("/bug", headers={"X-Request-Id": "id-17"})
    assert await error_of(answer) == (500, "internal error, request id id-17")
    assert answer.headers["X-Request-Id"] == "id-17"


async def test_what_a_handler_held_when_it_failed_is_let_go_at_once(aiohttp_client):
    class Held:
        pass

    held: list[weakref.ref[Held]] = []

    async def refuse(_request: web.Request) -> web.Response:
        body = Held()
        held.append(weakref.ref(body))
        raise Problem(422, f"cannot use {body}")

    app = web.Application()
    apply_conventions(app)
    app.add_routes([web.get("/refuse", refuse)])
    client = await aiohttp_client(app)
    gc.disable()
    try:
        assert (await client.get("/refuse")).status == 422
        assert (await client.get("/healthz")).status == 404  # the connection has gone on to the next request
        assert held[0]() is None
    finally:
        gc.enable()


async def test_a_request_id_with_control_characters_is_not_repeated(client: TestClient):
    answer = await client.get("/bug", headers={"X-Request-Id": "a\tb"})
    assert "\t" not in answer.headers["X-Request-Id"]


async def test_an_unknown_path_and_a_wrong_method_are_problems_too(client: TestClient):
    assert (await client.get("/nothing")).status == 404
    wrong = await client.get("/echo")
    assert (wrong.status, wrong.headers["Allow"]) == (405, "POST")
    assert (await wrong.json())["error"]["code"] == "405"


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "malformed JSON: "),
        (b"{", "malformed JSON: "),
        (b'{"a": NaN}', "malformed JSON: "),
        (b"[" * 900, "malformed JSON: "),
        (b"\xff", "malformed JSON: "),
        (b"[]", "malformed JSON: expected an object, found an array"),
        (b'"x"', "malformed JSON: expected an object, found a string"),
    ],
)
async def test_a_body_that_is_no_json_object_is_400(client: TestClient, body: bytes, complaint: str):
    status, message = await error_of(await client.post("/echo", data=body))
    assert status == 400
    assert message.startswith(complaint)


async def test_a_body_over_the_limit_is_413_whether_announced_or_chunked(client: TestClient):
    async def chunks():
        for _ in range(20):
            yield b"x" * 100

    expected = (413, "the request body is larger than 1000 bytes")
    assert await error_of(await client.post("/echo", data=b"x" * 1001)) == expected
    assert await error_of(await client.post("/echo", data=chunks())) == expected


async def test_a_body_that_never_ends_is_408(client: TestClient):
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(b"POST /count HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
    assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
    writer.close()


async def test_a_client_that_leaves_in_the_middle_harms_nobody(client: TestClient, caplog):
    with socket.create_connection(("127.0.0.1", client.port)) as connection:
        connection.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
    assert (await client.post("/echo", json={"a": 1})).status == 200
    assert "unexpected error" not in caplog.text


async def test_any_origin_may_read_when_cors_allows_all(aiohttp_client):
    client = await aiohttp_client(application(Cors(default_headers=("content-type", "x-key"))))
    preflight = await client.options("/anything", headers={"Origin": "http://a.example"})
    assert preflight.status == 204
    assert preflight.headers["Access-Control-Allow-Origin"] == "*"
    assert preflight.headers["Access-Control-Allow-Methods"] == "GET, POST, OPTIONS"
    assert preflight.headers["Access-Control-Allow-Headers"] == "content-type, x-key"
    asked = {"Origin": "http://a.example", "Access-Control-Request-Headers": "x-causal-deviceid"}
    named = await client.options("/echo", headers=asked)
    assert named.headers["Access-Control-Allow-Headers"] == "x-causal-deviceid"
    failed = await client.get("/nothing", headers={"Origin": "http://a.example"})
    assert failed.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Origin" not in (await client.get("/refuse")).headers


async def test_a_list_of_origins_is_held_to(aiohttp_client):
    client = await aiohttp_client(application(Cors(origins=frozenset({"http://a.example"}), credentials=True)))
    ours = await client.get("/refuse", headers={"Origin": "http://a.example"})
    assert ours.headers["Access-Control-Allow-Origin"] == "http://a.example"
    assert ours.headers["Access-Control-Allow-Credentials"] == "true"
    theirs = await client.get("/refuse", headers={"Origin": "http://b.example"})
    assert "Access-Control-Allow-Origin" not in theirs.headers
    assert theirs.headers["Vary"] == "Origin"


async def test_requests_are_counted_by_route_and_status(aiohttp_client):
    metrics = Metrics("subject")
    app = application(metrics=metrics)
    app.router.add_get("/metrics", metrics.handler)
    client = await aiohttp_client(app)
    await client.get("/refuse")
    await client.get("/no/such/path")
    text = await (await client.get("/metrics")).text()
    assert 'subject_request_seconds_count{route="/refuse",status="422"} 1.0' in text
    assert 'subject_request_seconds_count{route="unknown",status="404"} 1.0' in text
    assert "/no/such/path" not in text


async def test_readiness_is_503_until_the_daemon_can_work():
    reasons = ["the disk is full"]
    app = web.Application()
    app.add_routes(health_routes(lambda: reasons))
    async with TestClient(TestServer(app)) as client:
        assert (await client.get("/healthz")).status == 200
        refused = await client.get("/readyz")
        assert refused.status == 503
        assert await refused.json() == {"status": "not ready", "reasons": ["the disk is full"]}
        reasons.clear()
        assert (await client.get("/readyz")).status == 200


def test_json_values_have_names_that_people_use():
    named = [json_kind(value) for value in (None, True, 1, 1.5, "", [], {})]
    assert named == ["null", "a boolean", "an integer", "a number", "a string", "an array", "an object"]
