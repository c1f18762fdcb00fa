"""What holds for all endpoints: CORS, unknown paths, wrong methods (protocol §2)."""

from __future__ import annotations

import pytest

ORIGIN = {"Origin": "https://shop.example"}


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "features"), ("GET", "nsessions"), ("GET", "sse?id=nobody"), ("GET", "session"), ("GET", "nothing")],
)
async def test_every_answer_may_be_read_by_any_page(iserver, method, path):
    answer = await iserver.client.request(method, f"/iserver/{path}", headers=ORIGIN)
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


async def test_without_an_origin_there_is_no_cors_header(iserver):
    assert "Access-Control-Allow-Origin" not in (await iserver.get("nsessions")).headers


@pytest.mark.parametrize(("origin", "allowed"), [("https://shop.example", "https://shop.example"), ("https://x", None)])
async def test_origins_can_be_limited(open_iserver, origin, allowed):
    iserver = await open_iserver(cors_origins=("https://shop.example",))
    answer = await iserver.get("nsessions", headers={"Origin": origin})
    assert answer.headers.get("Access-Control-Allow-Origin") == allowed
    assert answer.headers["Vary"] == "Origin"


@pytest.mark.parametrize("path", ["features", "signal", "nothing/at/all", ""])
async def test_a_preflight_is_answered_on_every_path(iserver, path):
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,x-causal-deviceid",
    }
    answer = await iserver.client.options(f"/iserver/{path}", headers={**ORIGIN, **asked})
    assert answer.status == 204
    assert answer.headers["Access-Control-Allow-Methods"] == "GET, POST, OPTIONS"
    assert answer.headers["Access-Control-Allow-Headers"] == "content-type,x-causal-deviceid"
    assert answer.headers["Access-Control-Max-Age"] == "86400"


async def test_a_preflight_that_asks_for_nothing_is_told_the_keys(iserver):
    answer = await iserver.client.options("/iserver/features", headers=ORIGIN)
    assert answer.headers["Access-Control-Allow-Headers"] == "content-type, x-causal-deviceid, x-causal-arrivalid"


@pytest.mark.parametrize("path", ["/", "/iserver", "/iserver/copyTesting", "/features", "/iserver/features/more"])
async def test_an_unknown_path_is_not_found(iserver, path):
    answer = await iserver.client.get(path)
    assert answer.status == 404
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "features", "POST"),
        ("PUT", "//signal/", "POST"),
        ("POST", "session", "GET,HEAD"),
        ("POST", "sse", "GET"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(iserver, method, path, allow):
    answer = await iserver.client.request(method, f"/iserver/{path}")
    assert answer.status == 405
    assert answer.headers["Allow"] == allow
