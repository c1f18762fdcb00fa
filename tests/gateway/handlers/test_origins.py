"""What a web page of another origin may do through its visitor's browser: nothing that changes something."""

from __future__ import annotations

import aiohttp
import pytest

from tests.gateway.conftest import Client, Serve
from tests.gateway.examples import DEMO_TYPES

FOREIGN = {"origin": "http://evil.example"}
KEYS = "auth: {api_key: {keys: [sesame]}}\n"


def own(gateway: Client) -> str:
    return f"http://{gateway.http.host}:{gateway.http.port}"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/send/example"),
        ("POST", "/send/basket/A"),
        ("POST", "/stage/example"),
        ("DELETE", "/stage/example"),
        ("PATCH", "/stage/example"),
        ("POST", "/controls/shutdown"),
    ],
)
async def test_a_page_of_another_origin_changes_nothing(serve: Serve, method: str, path: str):
    gateway = await serve(DEMO_TYPES)
    detail = await gateway.rejected(method, path, 403, json={}, headers=FOREIGN)
    assert "http://evil.example" in detail
    assert "server.cors_origins" in detail
    assert gateway.gateway.engine.counters.ticks == 0
    assert gateway.stopped == []


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "origin": "http://127.0.0.1:1"},
    ],
)
async def test_another_port_a_sandbox_and_what_the_browser_calls_foreign_are_other_origins(
    serve: Serve, headers: dict[str, str]
):
    gateway = await serve(DEMO_TYPES)
    await gateway.rejected("POST", "/send/example", 403, json={"x": 1}, headers=headers)


async def test_the_gateways_own_page_and_programs_may_send(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    for headers in (
        {},
        {"origin": own(gateway)},
        {"origin": "https://prices.example", "sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
    ):
        answer = await gateway.http.post("/api/v1/send/example", json={"x": 1}, headers=headers)
        assert answer.status == 200, headers


async def test_a_configured_origin_may_send(serve: Serve):
    for origins in ("['http://evil.example/']", "['*']"):
        gateway = await serve(f"server: {{cors_origins: {origins}}}\n" + DEMO_TYPES)
        headers = {**FOREIGN, "sec-fetch-site": "cross-site"}
        assert (await gateway.http.post("/api/v1/send/example", json={"x": 1}, headers=headers)).status == 200


async def test_reading_is_left_to_the_browsers_own_rules(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    assert await gateway.get("/last/example", headers=FOREIGN) == []


async def test_a_page_of_another_origin_opens_no_stream(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    with pytest.raises(aiohttp.WSServerHandshakeError) as error:
        await gateway.http.ws_connect("/api/v1/stream", origin="http://evil.example")
    assert error.value.status == 403
    await (await gateway.http.ws_connect("/api/v1/stream", origin=own(gateway))).close()


async def test_a_cookie_does_not_speak_for_a_page_of_another_origin(serve: Serve):
    gateway = await serve(KEYS + DEMO_TYPES)
    cookie = {"cookies": {"token": "sesame"}, "json": {"x": 1}}
    await gateway.rejected("POST", "/send/example", 403, headers=FOREIGN, **cookie)
    assert (await gateway.http.post("/api/v1/send/example", headers={"origin": own(gateway)}, **cookie)).status == 200


@pytest.mark.parametrize(
    ("query", "headers"),
    [("?token=sesame", {}), ("", {"token": "sesame"}), ("", {"authorization": "Bearer sesame"})],
)
async def test_a_page_that_knows_the_key_may_act_from_anywhere(serve: Serve, query: str, headers: dict[str, str]):
    gateway = await serve(KEYS + DEMO_TYPES)
    answer = await gateway.http.post("/api/v1/send/example" + query, json={"x": 1}, headers={**FOREIGN, **headers})
    assert answer.status == 200
    socket = await gateway.http.ws_connect(
        "/api/v1/stream" + query, origin="http://evil.example", headers=headers or None
    )
    await socket.close()


async def test_a_wrong_key_does_not_help_a_page_of_another_origin(serve: Serve):
    gateway = await serve(KEYS.replace("[sesame]", "[sesame], trusted_networks: [127.0.0.0/8]") + DEMO_TYPES)
    await gateway.rejected("POST", "/send/example?token=wrong", 403, json={"x": 1}, headers=FOREIGN)
