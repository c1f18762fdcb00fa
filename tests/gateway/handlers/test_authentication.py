"""API keys: three places, rights, login and logout, the WebSocket (§6.1)."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from tests.gateway.conftest import Serve
from tests.gateway.examples import DEMO_TYPES
from tests.gateway.handlers.test_websocket import act, received

KEYS = """
auth:
  api_key:
    keys:
      - all-rights
      - {key: reader, name: the dashboard, read_only: true}
      - {key: narrow, channels: [example]}
"""
ONE_KEY = "auth: {api_key: {keys: [k]}}\n"
REFUSAL = {"detail": "unauthorized", "status_code": 403}


@pytest.mark.parametrize(
    "options",
    [
        {"params": {"token": "all-rights"}},
        {"headers": {"token": "all-rights"}},
        {"cookies": {"token": "all-rights"}},
        {"headers": {"authorization": "Bearer all-rights"}},
        {"params": {"token": "wrong"}, "headers": {"token": "all-rights"}},
    ],
)
async def test_a_valid_key_in_any_place_lets_in(serve: Serve, options: dict[str, Any]):
    gateway = await serve(KEYS + DEMO_TYPES)
    assert (await gateway.http.get("/api/v1/last/example", **options)).status == 200


@pytest.mark.parametrize(
    "options", [{}, {"params": {"token": "wrong"}}, {"params": {"token": ""}}, {"headers": {"x-api-key": "all-rights"}}]
)
@pytest.mark.parametrize("path", ["/api", "/api/v1/last/example", "/api/v1/stream"])
async def test_without_one_the_api_is_closed(serve: Serve, path: str, options: dict[str, Any]):
    gateway = await serve(KEYS + DEMO_TYPES)
    answer = await gateway.http.get(path, **options)
    assert (answer.status, await answer.json()) == (403, REFUSAL)


async def test_an_unknown_path_and_a_redirect_need_no_key(serve: Serve):
    gateway = await serve(KEYS + DEMO_TYPES)
    assert (await gateway.http.get("/api/v1/nowhere")).status == 404
    assert (await gateway.http.get("/api/v1/last", allow_redirects=False)).status == 307
    assert (await gateway.http.get("/healthz")).status == 200


async def test_a_page_shows_the_login_form_instead(serve: Serve):
    gateway = await serve(KEYS + DEMO_TYPES)
    answer = await gateway.http.get("/")
    assert answer.status == 403
    text = await answer.text()
    assert 'action="/api/v1/auth/login"' in text
    assert 'type="password" name="token"' in text


DOCUMENTS = ("/openapi.json", "/asyncapi.json", "/docs", "/redoc")
SCRIPTS = ("/static/swagger-ui.css", "/static/swagger-ui-bundle.js", "/static/redoc.standalone.js")


async def test_the_documents_and_what_their_pages_load_are_open_as_clients_read_them_first(serve: Serve):
    gateway = await serve(ONE_KEY + DEMO_TYPES)
    for path in (*DOCUMENTS, *SCRIPTS):
        assert (await gateway.http.get(path)).status == 200, path
    wrong = await (await gateway.http.get("/openapi.json?token=wrong")).json()
    assert wrong == await (await gateway.http.get("/openapi.json?token=k")).json()
    assert (await gateway.http.get("/api/v1/last/example")).status == 403


async def test_the_documents_can_be_behind_the_key_too(serve: Serve):
    gateway = await serve(ONE_KEY.replace("[k]", "[k], protect_docs: true") + DEMO_TYPES)
    for path in (*DOCUMENTS, *SCRIPTS):
        assert (await gateway.http.get(path)).status == 403, path
        assert (await gateway.http.get(path + "?token=k")).status == 200, path
    answer = await gateway.http.get("/openapi.json")
    assert await answer.json() == REFUSAL


@pytest.mark.parametrize("path", ["/openapi.json", "/asyncapi.json"])
async def test_without_a_key_the_documents_name_what_every_key_may_use(serve: Serve, path: str):
    gateway = await serve(KEYS + DEMO_TYPES)
    told = await (await gateway.http.get(path)).text()
    assert "Example" in told
    assert [
        name for name in ("by_x", "of_basket", "words", "lists", "never_ticks", "ExampleEnum") if name in told
    ] == []
    assert told == await (await gateway.http.get(path + "?token=narrow")).text()
    assert "by_x" in await (await gateway.http.get(path + "?token=reader")).text()


async def test_logging_in_sets_a_cookie_and_logging_out_clears_it(serve: Serve):
    gateway = await serve(KEYS + DEMO_TYPES)
    answer = await gateway.http.get("/api/v1/auth/login?token=all-rights", allow_redirects=False)
    assert (answer.status, answer.headers["location"]) == (307, "/")
    assert answer.headers["set-cookie"] == "token=all-rights; HttpOnly; Max-Age=43200; Path=/; SameSite=lax"
    answer = await gateway.http.get("/api/v1/auth/logout?token=all-rights", allow_redirects=False)
    assert (answer.status, answer.headers["location"]) == (307, "/login")
    assert answer.headers["set-cookie"].startswith('token=""; expires=')
    answer = await gateway.http.get("/api/v1/auth/login", allow_redirects=False)
    assert (answer.status, await answer.json()) == (403, REFUSAL)


async def test_a_wrong_key_is_an_error_for_programs_and_the_form_again_for_people(serve: Serve):
    gateway = await serve(KEYS + DEMO_TYPES)
    wrong = "/api/v1/auth/login?token=wrong"
    answer = await gateway.http.get(wrong)
    assert (answer.status, await answer.json()) == (403, REFUSAL)
    answer = await gateway.http.get(wrong, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert (answer.status, answer.content_type) == (403, "text/html")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    text = await answer.text()
    assert "That key is not known here." in text
    assert 'type="password" name="token"' in text
    assert (await gateway.http.get("/pages/style.css")).status == 200  # what the form loads
    assert (await gateway.http.get("/pages/main.js")).status == 403


async def test_the_login_page_passes_a_key_on(serve: Serve):
    gateway = await serve(KEYS + DEMO_TYPES)
    assert (await gateway.http.get("/login")).status == 200
    assert (await gateway.http.get("/logout")).status == 200
    answer = await gateway.http.get("/login?token=all-rights", allow_redirects=False)
    assert (answer.status, answer.headers["location"]) == (307, "/api/v1/auth/login?token=all-rights")


async def test_a_read_only_key_changes_nothing(serve: Serve):
    gateway = await serve(KEYS + DEMO_TYPES)
    for method, path in (
        ("POST", "/send/example"),
        ("POST", "/stage/example"),
        ("PATCH", "/stage/example"),
        ("POST", "/controls/shutdown"),
    ):
        answer = await gateway.http.request(method, f"/api/v1{path}?token=reader", json={})
        assert (answer.status, await answer.json()) == (403, REFUSAL)
    assert (await gateway.http.get("/api/v1/last/example?token=reader")).status == 200


async def test_a_narrow_key_sees_its_channels_alone(serve: Serve):
    gateway = await serve(KEYS + DEMO_TYPES)
    key = {"params": {"token": "narrow"}}
    assert await gateway.get("/last/", **key) == ["example"]
    assert await gateway.get("/send/", **key) == ["example"]
    assert await gateway.get("/state/", **key) == ["example"]
    assert await gateway.get("/stream", **key) == ["example"]
    assert await gateway.get("/last/example", **key) == []
    for path in ("/last/by_x", "/state/by_x", "/lookup/by_x/1", "/lookup/id/1", "/next/basket", "/sse?channel=by_x"):
        await gateway.rejected("GET", path, 403, **key)


async def test_the_stream_asks_for_the_key_before_the_upgrade(serve: Serve):
    gateway = await serve(KEYS + DEMO_TYPES)
    with pytest.raises(aiohttp.WSServerHandshakeError) as error:
        await gateway.stream()
    assert error.value.status == 403
    socket = await gateway.stream("?token=narrow")
    await act(socket, action="hello", errors=True)
    await act(socket, action="subscribe", channel="by_x")
    await act(socket, action="subscribe", channel="example")
    kinds = [message["channel"] for message in await received(socket, 3)]
    assert kinds == ["ack", "error", "ack"]


async def test_a_read_only_key_cannot_send_over_the_stream(serve: Serve):
    gateway = await serve(KEYS + DEMO_TYPES)
    socket = await gateway.stream("?token=reader")
    await act(socket, action="hello", errors=True)
    await act(socket, action="send", channel="example", data={"x": 1})
    assert (await received(socket, 2))[1]["data"]["detail"] == "example cannot be sent to"


async def test_trusted_networks_need_no_key(serve: Serve):
    gateway = await serve("auth: {api_key: {keys: [k], trusted_networks: [127.0.0.0/8]}}\n" + DEMO_TYPES)
    assert await gateway.get("/last/example") == []


async def test_a_section_without_keys_gets_a_fresh_one(serve: Serve):
    gateway = await serve("auth: {api_key: {}}\n" + DEMO_TYPES)
    assert (await gateway.http.get("/api/v1/last/example")).status == 403
