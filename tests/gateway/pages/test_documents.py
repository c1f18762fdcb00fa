"""``/docs`` and ``/redoc`` in a headless Chromium: all of it comes from the gateway (§5.2)."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.browser import chromium
from tests.gateway.conftest import Serve
from tests.gateway.examples import DEMO_TYPES


@pytest.mark.parametrize(("path", "operation"), [("/docs", ".opblock"), ("/redoc", "h2")])
async def test_a_page_of_the_documents_loads_everything_from_the_gateway(serve: Serve, path: str, operation: str):
    gateway = await serve(DEMO_TYPES)
    answer = await gateway.http.get(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    address = str(gateway.http.make_url("")).rstrip("/")
    elsewhere: list[str] = []
    complaints: list[str] = []
    async with chromium() as browser:
        page = await browser.new_page()
        page.set_default_timeout(60_000)
        page.on(
            "requestfinished",
            lambda request: (
                None if request.url.startswith((address, "data:", "blob:")) else elsewhere.append(request.url)
            ),
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        await page.goto(address + path)
        await expect(page.locator(operation).first).to_be_visible(timeout=60_000)
    assert elsewhere == []
    assert complaints == []
