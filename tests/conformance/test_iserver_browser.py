"""A browser as the client: pages of another site, in a headless Chromium, against an iserver (§2, §4, §8).

The page uses the client that the published compiler generates, with React, as a shop would. What it signals while it
is being left is what the server must still count.
"""

from __future__ import annotations

import asyncio
import re
import urllib.request
from collections.abc import AsyncIterator, Iterator
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser import chromium, site
from tests.conformance.iserver_clients import browser_page, flushed
from tests.processes import DaemonProcess, start_daemon

EXAMPLE = Path(str(resources.files("iserver.example"))) / "shop.json"
PATIENCE_S = 20.0

CALL = """async ([url, body, headers]) => {
    const answer = await fetch(url, { method: "POST", body: JSON.stringify(body), headers });
    return [answer.status, answer.headers.get("content-type"), await answer.text()];
}"""
LISTEN = """url => {
    window.heard = [];
    window.source = new EventSource(url);
    for (const name of ["open", "hello", "flushcache", "flushfeatures", "error"])
        source.addEventListener(name, event => heard.push([name, event.data ?? null]));
}"""
JSON_HEADERS = {"Content-Type": "application/json", "X-Causal-deviceId": "dev-1", "X-Causal-arrivalId": "null"}


class Shop:
    """The configuration document of a running iserver, to be changed at will."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "shop.json"
        self.data = folder / "data"
        self.document: dict[str, Any] = orjson.loads(EXAMPLE.read_bytes())
        self.write()

    def write(self) -> None:
        self.path.write_bytes(orjson.dumps(self.document))

    def start(self, *options: str) -> DaemonProcess:
        arguments = ("--config", self.path, "--data-dir", self.data, "--token", "t0ken", "--enable-cmd", *options)
        return start_daemon("iserver", *arguments)

    def put_in_force(self, iserver: DaemonProcess) -> None:
        self.write()
        with urllib.request.urlopen(f"{iserver.url}/sync?token=t0ken", timeout=30) as answer:
            assert answer.status == 200


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


@pytest.fixture
def iserver(shop: Shop) -> Iterator[DaemonProcess]:
    with shop.start() as daemon:
        yield daemon


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    """A site that serves the shop's page."""
    with site(browser_page()) as address:
        yield address


@pytest.fixture
async def page(browser: Browser, origin: str) -> Page:
    """An empty page of that site."""
    page = await browser.new_page()
    page.set_default_timeout(PATIENCE_S * 1000)
    await page.goto(f"{origin}/empty.html")
    return page


async def visit(page: Page, iserver: DaemonProcess, device: str = "dev-1", leaving: str = "") -> None:
    """Open the shop's page and wait until it shows its features."""
    origin = await page.evaluate("location.origin")
    query = urlencode({"iserver": iserver.url, "device": device, "leaving": leaving})
    await page.goto(f"{origin}/index.html?{query}")
    await expect(page.locator("main")).to_be_visible(timeout=PATIENCE_S * 1000)


def metric(iserver: DaemonProcess, name: str) -> float:
    """The value of a sample, zero when it is not there."""
    with urllib.request.urlopen(f"{iserver.url.removesuffix('/iserver')}/metrics", timeout=30) as answer:
        found = re.search(rf"^{re.escape(name)} (\S+)$", answer.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


async def until_metric(iserver: DaemonProcess, name: str, value: float) -> None:
    """Return when a sample has reached a value."""
    async with asyncio.timeout(PATIENCE_S):
        while await asyncio.to_thread(metric, iserver, name) < value:  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0.05)


def signals(kind: str) -> str:
    return f'iserver_signals_total{{kind="{kind}"}}'


async def heard(page: Page, *names: str) -> list[list[Any]]:
    """What the event source has heard, once it has heard all of these in this order."""
    wanted = "names => names.every((name, index) => heard[index]?.[0] === name)"
    await page.wait_for_function(wanted, arg=list(names))
    events: list[list[Any]] = await page.evaluate("heard")
    return events


# --- pages of another site (§2) -------------------------------------------------------------------


async def test_a_page_of_another_site_may_send_json_and_read_answers_and_refusals(page, iserver):
    features = {"args": {"deviceId": "dev-1"}, "impressionId": "imp-1", "requests": {"ProductInfo": {}}}
    status, kind, text = await page.evaluate(CALL, [f"{iserver.url}/features", features, JSON_HEADERS])
    assert (status, kind) == (200, "application/json; charset=utf-8")
    assert orjson.loads(text)["ProductInfo"]["impressionCount"] == 1
    for path, body, refusal in [
        ("signal", {"id": {"deviceId": "dev-9"}}, (410, "session not found or expired")),
        ("features", {"args": {"deviceId": 7}}, (400, "Expecting a string for deviceId")),
        ("nothing", {}, (404, "Not Found")),
    ]:
        status, _, text = await page.evaluate(CALL, [f"{iserver.url}/{path}", body, JSON_HEADERS])
        assert (status, text.strip()) == refusal


@pytest.mark.parametrize("allowed", [True, False])
async def test_only_pages_of_listed_origins_may_call_when_there_is_a_list(page, shop, allowed):
    origin = await page.evaluate("location.origin") if allowed else "https://shop.example"
    call = [{"args": {"deviceId": "dev-1"}, "requests": {}}, JSON_HEADERS]
    with shop.start("--cors-origins", origin) as iserver:
        answer = await page.evaluate(f"call => ({CALL})(call).catch(String)", [f"{iserver.url}/features", *call])
    assert (answer[0] == 200) if allowed else (answer == "TypeError: Failed to fetch")


# --- the event source (§8) ------------------------------------------------------------------------


async def test_an_event_source_hears_hello_and_then_what_each_change_flushes(page, iserver, shop):
    await page.evaluate(LISTEN, f"{iserver.url}/sse?id=dev-qa")
    await heard(page, "open", "hello")
    shop.document["qa"]["devices"][0]["overrides"]["RatingBox"]["values"] = {"callToAction": {"constant": "Rate!"}}
    shop.put_in_force(iserver)
    await heard(page, "open", "hello", "flushfeatures")
    shop.document["fdl"][0]["content"] += "feature Another {}"
    shop.put_in_force(iserver)
    events = await heard(page, "open", "hello", "flushfeatures", "flushcache")
    assert events[1:3] == [["hello", "0"], ["flushfeatures", "RatingBox"]]
    assert int(events[3][1]) > 0
    assert len(events) == 4


async def test_an_event_source_of_a_device_that_is_not_registered_gives_up(page, iserver):
    await page.evaluate(LISTEN, f"{iserver.url}/sse?id=dev-1")
    await heard(page, "error")
    assert await page.evaluate("source.readyState === EventSource.CLOSED")
    assert metric(iserver, 'iserver_request_seconds_count{route="/iserver/sse",status="204"}') == 1


async def test_an_event_source_comes_back_to_a_server_that_was_started_again(page, shop):
    with shop.start() as iserver:
        await page.evaluate(LISTEN, f"{iserver.url}/sse?id=dev-qa")
        await heard(page, "open", "hello")
        port = str(iserver.port)
        assert iserver.terminate() == 0
    with shop.start("--port", port):
        await page.wait_for_function("heard.filter(([name]) => name === 'hello').length === 2")


# --- the generated client -------------------------------------------------------------------------


async def test_the_client_shows_what_was_decided_and_counts_a_second_visit_from_its_cache(page, iserver, shop):
    requested: list[str] = []
    page.on("request", lambda request: requested.append(f"{request.method} {request.url}"))
    await visit(page, iserver)
    await expect(page.locator("h1")).to_have_text("Rate this product!")
    await expect(page.locator("button")).to_have_text("Submit")
    await expect(page.locator("#checkout")).to_have_text("old")
    await expect(page.locator("#variants")).to_have_text("Blue")
    await expect(page.locator("#error")).to_have_count(0)
    await page.click("button")
    await until_metric(iserver, signals("event"), 1)
    requested.clear()
    await visit(page, iserver)
    await expect(page.locator("button")).to_have_text("Submit")
    await until_metric(iserver, signals("impressions"), 1)
    assert f"POST {iserver.url}/features" not in requested
    (row,) = flushed(iserver, shop.data, "product, impression_count, len(impression_ids), rating", "rating_box")
    assert row[:3] == ("iPhone", 2, 2)
    assert [event["stars"] for event in row[3]] == [5]


async def test_signals_sent_while_the_page_is_left_are_kept(page, iserver, shop):
    await visit(page, iserver, leaving="signal")
    await page.goto("about:blank")
    await until_metric(iserver, signals("event"), 1)
    await until_metric(iserver, signals("keep_alive"), 1)
    ((cart,),) = flushed(iserver, shop.data, "add_to_cart", "session")
    assert [(event["value"], event["sku"], event["qty"]) for event in cart] == [(9.5, "s1", 2)]


async def test_a_cached_feature_that_is_shown_while_the_page_is_left_is_counted(page, iserver, shop):
    await visit(page, iserver, leaving="show")
    await page.close(run_before_unload=False)
    await until_metric(iserver, signals("impressions"), 1)
    ((ids,),) = flushed(iserver, shop.data, "impression_ids", "rating_box")
    assert len(ids) == 2
    assert ids[1] == "imp-leaving"


async def test_a_qa_device_sees_a_change_without_loading_the_page_again(page, iserver, shop):
    await page.evaluate("localStorage.setItem('_causal_registered', 'true')")
    await visit(page, iserver, device="dev-qa")
    await until_metric(iserver, "iserver_sse_connections", 1)
    shop.document["qa"]["devices"][0]["overrides"]["RatingBox"]["values"] = {"callToAction": {"constant": "Rate it!"}}
    shop.put_in_force(iserver)
    await expect(page.locator("h1")).to_have_text("Rate it!", timeout=PATIENCE_S * 1000)
    shop.document["features"]["RatingBox"]["gate"] = {"active": False}
    shop.put_in_force(iserver)
    await expect(page.locator("h1")).to_have_count(0, timeout=PATIENCE_S * 1000)
