"""The built-in modules, each as somebody would declare it (§8.4)."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiohttp import web
from aiohttp.test_utils import TestServer

from shared.errors import StartupError
from tests.gateway.conftest import Client, Serve, until

CHANNELS = """
enums:
  Venue: {members: {XETRA: 1, LSE: 2}}
structs:
  Quote:
    fields: {symbol: str, price: float, size: int}
  Trade:
    fields: {name: str, price: float, volume: int}
channels:
  quotes: {type: Quote, send: true}
  copies: {type: Quote}
  trades: {type: Trade}
  batches: {type: Quote, list: true, send: true}
  venues: {type: Quote, keys: Venue, send: true}
  mirrored: {type: Quote, keys: Venue}
"""


def with_modules(*modules: dict[str, Any]) -> str:
    return CHANNELS + "modules: " + json.dumps(modules)


async def last(client: Client, channel: str) -> Any:
    return await client.get(f"/last/{channel}")


# Mirror


async def test_a_mirror_ticks_the_very_same_struct_on_another_channel(serve: Serve):
    client = await serve(with_modules({"use": "mirror", "source": "quotes", "target": "copies"}))
    sent = await client.send("quotes", {"symbol": "DTE", "price": 31.5})
    assert await last(client, "copies") == sent


async def test_a_mirror_renames_members(serve: Serve):
    fields = {"name": "symbol", "price": "price", "volume": "size"}
    client = await serve(with_modules({"use": "mirror", "source": "quotes", "target": "trades", "fields": fields}))
    sent = await client.send("quotes", {"symbol": "DTE", "price": 31.5, "size": 7})
    [copy] = await last(client, "trades")
    assert (copy["name"], copy["price"], copy["volume"]) == ("DTE", 31.5, 7)
    assert copy["id"] != sent[0]["id"]


async def test_a_mirror_copies_what_two_structs_have_in_common(serve: Serve):
    client = await serve(with_modules({"use": "mirror", "source": "quotes", "target": "trades"}))
    await client.send("quotes", {"symbol": "DTE", "price": 31.5})
    [copy] = await last(client, "trades")
    assert set(copy) == {"id", "timestamp", "price"}


async def test_a_mirror_keeps_the_keys_of_a_basket_or_puts_all_in_one_channel(serve: Serve):
    client = await serve(
        with_modules(
            {"use": "mirror", "source": "venues", "target": "mirrored"},
            {"use": "mirror", "source": "venues", "target": "copies", "key": "LSE"},
        )
    )
    await client.send("venues/XETRA", {"symbol": "a"})
    sent = await client.send("venues/LSE", {"symbol": "b"})
    assert await last(client, "mirrored/LSE") == await last(client, "copies") == sent
    assert (await last(client, "mirrored/XETRA"))[0]["symbol"] == "a"


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ({"use": "mirror", "source": "nowhere", "target": "copies"}, "there is no channel 'nowhere'"),
        ({"use": "mirror", "source": "quotes", "target": "quotes"}, "source and target are the same"),
        ({"use": "mirror", "source": "quotes", "target": "trades", "fields": {"nam": "price"}}, "member of trades"),
        ({"use": "mirror", "source": "quotes", "target": "trades", "fields": {"name": "symb"}}, "member of quotes"),
        ({"use": "log", "level": "loud"}, "level is debug, info or warning"),
        ({"use": "replay_json", "path": "no such file"}, "there is no file no such file"),
        ({"use": "upstream", "url": "ftp://prices", "channels": ["quotes"]}, "is no http address"),
        ({"use": "http_poll", "url": "http://x/", "channel": "quotes", "fields": {"pr": "p"}}, "member of quotes"),
        ({"use": "mirrow", "source": "quotes", "target": "copies"}, "did you mean 'mirror'"),
    ],
)  # fmt: skip
async def test_a_module_that_cannot_work_fails_the_start(serve: Serve, module: dict[str, Any], reason: str):
    with pytest.raises(StartupError) as caught:
        await serve(with_modules(module))
    assert reason in str(caught.value)


# Log and print


async def test_ticks_are_logged_and_printed(serve: Serve, capsys: pytest.CaptureFixture[str]):
    with structlog.testing.capture_logs() as logs:
        client = await serve(
            with_modules(
                {"use": "log", "channels": ["quotes", "venues"], "level": "warning"},
                {"use": "print", "channels": ["quotes"]},
            )
        )
        [quote] = await client.send("quotes", {"symbol": "DTE"})
        [keyed] = await client.send("venues/LSE", {"symbol": "BP"})
        await client.send("batches", [{"symbol": "not logged"}])
    ticks = [json.loads(entry["tick"]) for entry in logs if entry["event"] == "tick"]
    assert ticks == [
        {"channel": "quotes", "data": [quote]},
        {"channel": "venues", "key": "LSE", "data": [keyed]},
    ]
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert [json.loads(line) for line in printed] == [{"channel": "quotes", "data": [quote]}]


# Record and replay


async def test_what_was_recorded_is_replayed_as_it_was(serve: Serve, tmp_path: Path):
    file = tmp_path / "ticks.jsonl"
    recorder = await serve(with_modules({"use": "record_json", "path": str(file)}))
    [quote] = await recorder.send("quotes", {"symbol": "DTE", "price": 31.5})
    batch = await recorder.send("batches", [{"symbol": "a"}, {"symbol": "b"}])
    both = await recorder.send("venues", {"XETRA": {"symbol": "x"}, "LSE": {"symbol": "y"}})
    await recorder.http.close()
    moment = "2026-11-21T03:56:00.381782Z"
    assert [json.loads(line) for line in file.read_text().splitlines()] == [
        {"quotes": quote, "csp_engine_timestamp": moment},
        {"batches": batch, "csp_engine_timestamp": moment},
        {"venues": {"XETRA": both[0], "LSE": both[1]}, "csp_engine_timestamp": moment},
    ]

    player = await serve(with_modules({"use": "replay_json", "path": str(file), "speed": 0}))
    await until(lambda: player.gateway.engine.counters.ticks >= 4)
    assert await last(player, "quotes") == [quote]
    assert await last(player, "batches") == batch
    assert await last(player, "venues") == both


async def test_a_replay_passes_over_what_does_not_fit(serve: Serve, tmp_path: Path):
    file = tmp_path / "ticks.jsonl"
    lines = [
        "not json",
        "[1]",
        "",
        '{"quotes":{"symbol":"first"},"unknown":{"x":1},"venues":null,"csp_engine_timestamp":"never"}',
        '{"quotes":{"bogus":1}}',
        '{"venues":{"PARIS":{"symbol":"p"},"LSE":{"symbol":"l"}},"csp_engine_timestamp":"2026-11-21T03:56:00"}',
        '{"quotes":{"symbol":"last"},"csp_engine_timestamp":"2026-11-21T03:56:00.001Z"}',
    ]
    file.write_text("\n".join(lines))
    client = await serve(with_modules({"use": "replay_json", "path": str(file)}))
    await until(lambda: client.gateway.engine.counters.ticks >= 3)
    assert (await last(client, "quotes"))[0]["symbol"] == "last"
    assert (await last(client, "venues"))[0]["symbol"] == "l"


async def test_a_replay_can_give_new_ids_and_go_round(serve: Serve, tmp_path: Path):
    file = tmp_path / "ticks.jsonl"
    file.write_text('{"quotes":{"id":"1","symbol":"a"}}\n')
    module = {"use": "replay_json", "path": str(file), "speed": 0, "loop": True, "keep_ids": False}
    client = await serve(with_modules(module))
    await until(lambda: client.gateway.engine.counters.ticks >= 3)
    ids = {tick.records[0].id for tick in client.gateway.engine.channels["quotes"].feeds[0].recent}
    assert len(ids) >= 3
    assert "1" not in ids


# Upstream


async def test_a_gateway_follows_another_one(serve: Serve):
    source = await serve(CHANNELS)
    before = await source.send("quotes", {"symbol": "before"})
    url = str(source.http.make_url("")).rstrip("/")
    module = {
        "use": "upstream",
        "url": url,
        "channels": {"quotes": "copies", "venues": "mirrored", "batches": "batches"},
    }
    follower = await serve(with_modules(module))
    ticked = follower.gateway.engine.counters
    await until(lambda: ticked.ticks >= 1)  # the snapshot
    assert await last(follower, "copies") == before
    sent = await source.send("quotes", {"symbol": "now"})
    keyed = await source.send("venues/LSE", {"symbol": "keyed"})
    batch = await source.send("batches", [{"symbol": "a"}, {"symbol": "b"}])
    await until(lambda: ticked.ticks >= 4)
    assert await last(follower, "copies") == sent
    assert await last(follower, "mirrored/LSE") == keyed
    assert await last(follower, "batches") == batch


async def test_after_a_broken_connection_what_was_missed_comes_and_nothing_twice(serve: Serve):
    source = await serve(CHANNELS)
    url = str(source.http.make_url("")).rstrip("/")
    module = {"use": "upstream", "url": url, "channels": {"quotes": "copies"}, "retry": "10ms"}
    follower = await serve(with_modules(module))
    feed = follower.gateway.engine.channels["copies"].feeds[0]
    await until(lambda: bool(source.gateway.engine.channels["quotes"].feeds[0].subscribers))
    await source.send("quotes", {"symbol": "a"})
    await until(lambda: feed.ticks == 1)
    for symbol in "bc":
        await source.parts.stream.close()
        await source.send("quotes", {"symbol": symbol})
    await source.send("quotes", {"symbol": "d"})
    await until(lambda: feed.last is not None and feed.last.records[0].symbol == "d")
    assert [tick.records[0].symbol for tick in feed.recent] == ["a", "b", "c", "d"]


async def test_members_that_only_the_other_server_has_are_left_out(serve: Serve):
    source = await serve("structs: {Q: {fields: {symbol: str, venue: str}}}\nchannels: {quotes: {type: Q, send: true}}")
    url = str(source.http.make_url("")).rstrip("/")
    follower = await serve(with_modules({"use": "upstream", "url": url, "channels": ["quotes"]}))
    await until(lambda: bool(source.gateway.engine.channels["quotes"].feeds[0].subscribers))
    await source.send("quotes", {"symbol": "a", "venue": "LSE"})
    await until(lambda: follower.gateway.engine.counters.ticks == 1)
    assert "venue" not in (await last(follower, "quotes"))[0]


# http_poll


class Document:
    """A JSON document on a server, which counts who asks."""

    def __init__(self) -> None:
        self.body: bytes = b"{}"
        self.status = 200
        self.asked = 0
        self.unchanged = 0
        self.changed = asyncio.Event()

    async def serve(self, request: web.Request) -> web.Response:
        self.asked += 1
        etag = f'"{hash(self.body)}"'
        if request.headers.get("If-None-Match") == etag:
            self.unchanged += 1
            return web.Response(status=304)
        return web.Response(body=self.body, status=self.status, headers={"ETag": etag})


@pytest.fixture
async def document(aiohttp_server: Any) -> tuple[Document, str]:
    found = Document()
    app = web.Application()
    app.router.add_get("/rates", found.serve)
    server: TestServer = await aiohttp_server(app)
    return found, str(server.make_url("/rates"))


async def test_a_document_is_fetched_again_and_again_and_ticks_when_it_has_changed(
    serve: Serve, document: tuple[Document, str]
):
    source, url = document
    source.body = b'{"data":{"rates":[{"code":"EUR","px":{"mid":1.1}},{"code":"GBP","px":{"mid":0.9}}]}}'
    module = {
        "use": "http_poll", "url": url, "channel": "quotes", "interval": "5ms",
        "items": "data.rates", "fields": {"symbol": "code", "price": "px.mid"},
    }  # fmt: skip
    client = await serve(with_modules(module))
    feed = client.gateway.engine.channels["quotes"].feeds[0]
    await until(lambda: source.unchanged >= 2)
    assert [(tick.records[0].symbol, tick.records[0].price) for tick in feed.recent] == [("EUR", 1.1), ("GBP", 0.9)]
    source.body = b'{"data":{"rates":[{"code":"JPY","px":{"mid":150}}]}}'
    await until(lambda: feed.ticks == 3)
    assert (await last(client, "quotes"))[0]["symbol"] == "JPY"


@pytest.mark.parametrize("body", [b"not json", b'{"symbol":[]}', b"[1,2]", b'"text"', b"null"])
async def test_a_document_that_does_not_fit_ticks_nothing_and_the_next_one_does(
    serve: Serve, document: tuple[Document, str], body: bytes
):
    source, url = document
    source.body = body
    module = {"use": "http_poll", "url": url, "channel": "quotes", "interval": "5ms"}
    client = await serve(with_modules(module))
    await until(lambda: source.asked >= 2)
    assert client.gateway.engine.counters.ticks == 0
    source.status = 500
    asked = source.asked
    await until(lambda: source.asked >= asked + 2)
    source.status, source.body = 200, b'{"symbol":"fits","other":1}'
    await until(lambda: client.gateway.engine.counters.ticks == 1)
    assert (await last(client, "quotes"))[0]["symbol"] == "fits"


# Faults


async def test_a_module_that_fails_everywhere_stops_nothing(serve: Serve, tmp_path: Path):
    (tmp_path / "broken.py").write_text(
        "class Broken:\n"
        "    def connect(self, gw):\n"
        "        gw.on_group(['quotes'], self.fail)\n"
        "        gw.on('quotes')(self.fail)\n"
        "        gw.on('quotes')(self.fail_later)\n"
        "        gw.every(0.001, self.fail)\n"
        "    def fail(self, *anything):\n"
        "        raise RuntimeError('broken')\n"
        "    async def fail_later(self, tick):\n"
        "        raise RuntimeError('broken later')\n"
        "    async def start(self, gw):\n"
        "        gw.task(self.fail_later(None))\n"
        "    async def stop(self, gw):\n"
        "        raise RuntimeError('broken at the end')\n"
    )
    mirror = {"use": "mirror", "source": "quotes", "target": "copies"}
    client = await serve(with_modules({"use": "broken.py:Broken"}, mirror), folder=tmp_path)
    for symbol in "ab":
        sent = await client.send("quotes", {"symbol": symbol})
        assert await last(client, "copies") == sent
    await until(lambda: client.gateway.engine.counters.handler_errors >= 8)
    assert (await client.get("/controls/stats"))[0]["data"]["gateway"]["handler_errors"] >= 8
