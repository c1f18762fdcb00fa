"""The page at ``/``, in a headless Chromium (§5.2)."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser import chromium
from tests.gateway.commands.conditions import RIGHT, WRONG
from tests.gateway.conftest import Client, Serve

PRICES = """
server: {title: "Prices <b>&amp;"}
enums:
  Side: {members: {buy: 1, sell: 2}, wire: name}
structs:
  Level: {implicit: false, fields: {depth: int = 1}}
  Quote:
    fields:
      symbol: str
      price: {type: float, gt: 0}
      size: int
      firm: bool
      side: Side
      level: {type: Level, default: {}}
      tags: "dict[str, int] = {}"
channels:
  quotes: {type: Quote, send: true, state: {keyby: [symbol]}}
  venues: {type: Quote, keys: ["new york", lse/main], send: true}
  quiet: {type: Quote}
"""
KEYS = "auth: {api_key: {keys: [sesame]}}\n"


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as opened:
        yield opened


class Opened:
    """The page of a gateway, open in a browser, with everything that it complained about or asked for."""

    def __init__(self, page: Page, client: Client) -> None:
        self.page = page
        self.client = client
        self.address = str(client.http.make_url("")).rstrip("/")
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda line: self.complaints.append(line.text) if line.type == "error" else None)
        page.on("request", lambda request: self.requests.append(request.url))

    async def live(self) -> None:
        await expect(self.page.locator("#connection dd")).to_have_text("live")

    def row(self, path: str) -> Any:
        return self.page.locator(f'#channels tr[data-feed="{path}"]')

    async def last(self, path: str) -> dict[str, Any]:
        found: list[dict[str, Any]] = await self.client.get(f"/last/{path}")
        return found[0]


async def open_page(browser: Browser, client: Client, width: int = 1280, height: int = 720) -> Opened:
    page = await browser.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(15_000)
    opened = Opened(page, client)
    await page.goto(opened.address + "/")
    return opened


@pytest.fixture
async def prices(serve: Serve, browser: Browser) -> Opened:
    client = await serve(PRICES)
    await client.send("quotes", {"symbol": "before", "price": 1})
    opened = await open_page(browser, client)
    await opened.live()
    return opened


async def test_every_channel_is_listed_and_its_values_follow_the_ticks(prices: Opened):
    names = await prices.page.locator("#channels tbody .name").all_text_contents()
    assert names == ["quotes", "venues/new york", "venues/lse/main", "quiet", "controls"]
    await expect(prices.row("quotes")).to_contain_text("before")  # the last value from before the page was opened
    await prices.client.send("quotes", {"symbol": "now", "price": 31.5})
    await prices.client.send("venues/lse/main", {"symbol": "keyed", "price": 2})
    await expect(prices.row("quotes")).to_contain_text("price31.5")
    await expect(prices.row("quotes").locator("td").nth(2)).to_have_text("2")
    await expect(prices.row("venues/lse/main")).to_contain_text("keyed")
    await expect(prices.row("quiet").locator("td").nth(2)).to_have_text("0")


async def test_every_number_has_a_sparkline(prices: Opened):
    for price in (2, 3, 4):
        await prices.client.send("quotes", {"symbol": "DTE", "price": price, "size": 7})
    line = prices.row("quotes").get_by_role("img", name="price, recent values").locator("polyline")
    await expect(line).to_have_attribute("points", "0.0,22.0 33.3,15.3 66.7,8.7 100.0,2.0")
    large = prices.page.locator("#panel-value figure")
    assert await large.locator("strong").all_text_contents() == ["price", "level.depth", "size"]


async def test_rates_and_readers_are_shown(prices: Opened):
    await prices.client.send("quotes", [{"symbol": "DTE", "price": 1}] * 10)
    await expect(prices.page.locator("#total-rate")).not_to_have_text("0/s")
    await expect(prices.page.locator("#readers")).to_have_text("1")
    await expect(prices.page.locator("#queued")).to_contain_text("0 (0.0 MB)")


async def test_a_tick_is_sent_with_a_form_built_from_the_schema(prices: Opened):
    page = prices.page
    await page.get_by_role("tab", name="Send").click()
    labels = await page.locator("#panel-send label").all_text_contents()
    assert labels == [
        "symbolstring", "pricenumber", "sizeinteger", "firmboolean", "sideone of", "levelobject", "tagsobject",
    ]  # fmt: skip
    await page.locator("#send-symbol").fill("DTE")
    await page.locator("#send-price").fill("31.5")
    await page.locator("#send-firm").select_option("true")
    await page.locator("#send-side").select_option("sell")
    await page.locator("#send-tags").fill('{"a": 1}')
    await page.get_by_role("button", name="Send tick").click()
    await expect(page.locator("#panel-send .done")).to_contain_text("sent, id ")
    sent = await prices.last("quotes")
    assert {name: sent[name] for name in ("symbol", "price", "firm", "side", "level", "tags")} == {
        "symbol": "DTE", "price": 31.5, "firm": True, "side": "sell", "level": {"depth": 1}, "tags": {"a": 1},
    }  # fmt: skip
    assert "size" not in sent  # what was left empty was not sent


async def test_what_is_wrong_is_said_at_the_member_it_is_wrong_with(prices: Opened):
    page = prices.page
    await page.keyboard.press("s")
    await page.locator("#send-price").fill("-1")
    await page.keyboard.press("Enter")
    await expect(page.locator("#send-price-error")).to_have_text("Input should be greater than 0")
    await expect(page.locator("#send-price")).to_be_focused()
    await page.locator("#send-price").fill("cheap")
    await page.keyboard.press("Enter")
    await expect(page.locator("#send-price-error")).to_have_text("not a number")
    await page.locator("#send-price").fill("1")
    await page.keyboard.press("Enter")
    await expect(page.locator("#send-price-error")).to_be_empty()
    assert (await prices.last("quotes"))["price"] == 1


async def test_a_key_of_a_basket_is_sent_to(prices: Opened):
    await prices.row("venues/lse/main").click()
    await prices.page.get_by_role("tab", name="Send").click()
    await prices.page.locator("#send-symbol").fill("BP")
    await prices.page.get_by_role("button", name="Send tick").click()
    await expect(prices.row("venues/lse/main")).to_contain_text("BP")
    await prices.row("quiet").click()
    await expect(prices.page.locator("#panel-send")).to_have_text("Clients cannot send to this channel.")


async def test_states_are_queried_with_conditions(prices: Opened):
    await prices.client.send("quotes", [{"symbol": s, "price": p} for s, p in (("a", 10), ("b, and c", 20), ("d", 30))])
    page = prices.page
    where, rows = page.get_by_label("Where"), page.locator("#panel-state tbody tr")
    await page.get_by_role("tab", name="State").click()
    for text, symbols in {
        "price >= 20": ["b, and c", "d"],
        "price >= 20 and price < 30": ["b, and c"],
        'symbol == "b, and c"': ["b, and c"],
        "symbol = a": ["a"],
        "level.depth > 1": [],
        "": ["a", "b, and c", "before", "d"],
    }.items():
        await where.fill(text)
        await where.press("Enter")
        await expect(page.locator("#panel-state [role=status]")).to_have_text(
            f"{len(symbols)} {'row' if len(symbols) == 1 else 'rows'}"
        )
        assert await rows.locator("td:nth-child(1)").all_text_contents() == symbols if symbols else True
    await where.fill("price about 20")
    await where.press("Enter")
    await expect(page.locator("#panel-state .error")).to_contain_text("“price about 20” is no condition")
    await where.fill("bogus == 1")
    await where.press("Enter")
    await expect(page.locator("#panel-state .error")).to_contain_text("unknown field bogus")
    await expect(page.locator("#panel-state table")).to_be_hidden()
    head = await page.locator("#panel-state th").all_text_contents()
    assert (head[0], head[-2:]) == ("symbol", ["id", "timestamp"])


async def test_the_page_reads_conditions_as_the_command_line_does(prices: Opened):
    parse = """async (texts) => {
        const { parse } = await import("/pages/query.js");
        const read = (text) => { try { return parse(text).filters ?? []; } catch (error) { return error.message; } };
        return texts.map(read);
    }"""
    found = await prices.page.evaluate(parse, [*RIGHT, *WRONG])
    assert dict(zip(RIGHT, found, strict=False)) == RIGHT
    for text, said in zip(WRONG, found[len(RIGHT) :], strict=True):
        assert isinstance(said, str), text
        assert " is no " in said


async def test_everything_can_be_done_with_the_keyboard(prices: Opened):
    page = prices.page
    await page.keyboard.press("/")
    await page.keyboard.type("venues")
    await expect(prices.row("quotes")).to_be_hidden()
    await expect(page.locator("#count")).to_have_text("2 of 5")
    await page.keyboard.press("ArrowDown")
    await expect(prices.row("venues/new york")).to_be_focused()
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")
    await expect(page.locator("#detail-title")).to_have_text("venues/lse/main")
    await expect(prices.row("venues/lse/main")).to_have_attribute("aria-selected", "true")
    await page.keyboard.press("s")
    await expect(page.locator("#send-symbol")).to_be_focused()
    await page.keyboard.type("typed")
    await page.keyboard.press("Enter")
    await expect(prices.row("venues/lse/main")).to_contain_text("typed")
    await page.keyboard.press("Escape")
    await page.keyboard.press("q")
    await expect(page.get_by_label("Where")).to_be_focused()
    await page.get_by_role("tab", name="State").focus()
    await page.keyboard.press("ArrowRight")
    await expect(page.get_by_role("tab", name="Value")).to_be_focused()
    await expect(page.locator("#panel-value")).to_be_visible()


async def test_a_paused_page_stands_still_and_then_catches_up(prices: Opened):
    await expect(prices.row("quotes")).to_contain_text("before")
    await prices.page.keyboard.press("p")
    await prices.client.send("quotes", {"symbol": "meanwhile"})
    await expect(prices.page.locator("#total-rate")).not_to_have_text("0/s")  # it has arrived
    assert "before" in await prices.row("quotes").inner_text()
    await prices.page.get_by_role("button", name="Resume").click()
    await expect(prices.row("quotes")).to_contain_text("meanwhile")


async def test_what_ticks_is_text_and_never_markup(prices: Opened):
    attack = '<img src=x onerror="document.title=`taken`"><script>document.title="taken"</script>'
    await prices.client.send("quotes", {"symbol": attack, "price": 1, "tags": {attack: 1}})
    await expect(prices.row("quotes")).to_contain_text("<img src=x")
    await prices.page.get_by_role("tab", name="State").click()
    await prices.page.get_by_role("button", name="Query").click()
    await expect(prices.page.locator("#panel-state tbody")).to_contain_text("<img src=x")
    await expect(prices.page.locator("#panel-value pre")).to_contain_text("<img src=x")
    assert await prices.page.locator("main img, main script").count() == 0
    assert await prices.page.title() == "Prices <b>&amp;"
    assert await prices.page.locator("h1").text_content() == "Prices <b>&amp;"
    assert prices.complaints == []


async def test_the_page_works_offline(prices: Opened):
    own = (prices.address + "/", prices.address.replace("http:", "ws:") + "/")
    assert [url for url in prices.requests if not url.startswith(own)] == []
    assert prices.complaints == []


async def test_a_broken_connection_is_made_again(prices: Opened):
    await prices.client.parts.stream.close()
    await expect(prices.page.locator("#connection")).to_have_attribute("data-state", "open")
    await prices.client.send("quotes", {"symbol": "after"})
    await expect(prices.row("quotes")).to_contain_text("after")


async def test_with_authentication_a_key_is_asked_for(serve: Serve, browser: Browser):
    client = await serve(PRICES + KEYS)
    opened = await open_page(browser, client)
    page = opened.page
    await page.get_by_label("Key").fill("sesame")
    await page.keyboard.press("Enter")
    await opened.live()
    await page.context.clear_cookies()  # as when the cookie has run out
    await page.keyboard.press("q")
    await page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_be_visible()
    await dialog.get_by_label("Key").fill("wrong")
    await page.keyboard.press("Enter")
    await expect(dialog.get_by_role("alert")).to_have_text("That key is not known here.")
    await dialog.get_by_label("Key").fill("sesame")
    await page.keyboard.press("Enter")
    await expect(dialog).to_be_hidden()
    await expect(page.locator("#panel-state [role=status]")).to_have_text("0 rows")


async def test_on_a_phone_a_chosen_channel_comes_into_view(serve: Serve, browser: Browser):
    opened = await open_page(browser, await serve(PRICES), width=390, height=500)
    await opened.live()
    title = opened.page.locator("#detail-title")
    await expect(title).not_to_be_in_viewport()  # opening the page scrolls nowhere
    await opened.row("quiet").click()
    await expect(title).to_have_text("quiet")
    await expect(title).to_be_in_viewport()
    await opened.page.get_by_role("button", name="All channels").click()
    await expect(opened.row("quiet")).to_be_focused()
    await expect(opened.row("quiet")).to_be_in_viewport()


async def test_ticks_are_counted_since_a_time_that_is_shown(prices: Opened):
    heading = prices.page.get_by_role("columnheader", name="Ticks since")
    assert re.fullmatch(r"Ticks since \d\d:\d\d", await heading.inner_text())


async def test_a_wrong_key_leads_back_to_the_form_and_says_so(serve: Serve, browser: Browser):
    opened = await open_page(browser, await serve(PRICES + KEYS))
    page = opened.page
    await page.get_by_label("Key").fill("wrong")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_have_text("That key is not known here.")
    await expect(page.get_by_role("button", name="Log in")).to_have_css("font-weight", "600")  # from style.css
    await page.get_by_label("Key").fill("sesame")
    await page.keyboard.press("Enter")
    await opened.live()


async def test_the_page_forbids_everything_that_is_not_its_own(serve: Serve):
    client = await serve(PRICES)
    for path in ("/", "/pages/main.js", "/pages/style.css"):
        answer = await client.http.get(path)
        assert answer.status == 200
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'; script-src 'self'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert (await client.http.get("/pages/__init__.py")).status == 404
    assert (await client.http.get("/pages/nothing.js")).status == 404


async def test_behind_a_proxy_the_page_asks_under_its_root_path(serve: Serve):
    client = await serve("server: {root_path: /prices}\n" + PRICES.partition("\n")[2].partition("\n")[2])
    text = await (await client.http.get("/")).text()
    assert 'src="/prices/pages/main.js"' in text
    settings = json.loads(text.partition('name="gateway" content="')[2].partition('"')[0].replace("&quot;", '"'))
    assert settings == {"root": "/prices", "base": "/api/v1", "stream": "/stream", "keyName": "token"}
