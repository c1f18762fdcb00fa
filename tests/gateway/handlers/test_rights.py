"""A key that is limited to channels sees nothing of the others: neither what they hold nor what they are called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.conftest import Serve

FILE = """
auth:
  api_key:
    keys:
      - all-rights
      - {key: narrow, channels: [prices]}
      - {key: watcher, channels: [prices, controls]}
enums:
  Venue: {members: {XETRA: 1, LSE: 2}}
  Rating: {members: {AAA: 1, BBB: 2}}
structs:
  Depth: {implicit: false, fields: {levels: int = 1}}
  Price: {fields: {symbol: str, bid: float, depth: {type: Depth, default: {}}, venue: "Venue?"}}
  Salary: {fields: {amount: float, rating: Rating}}
channels:
  prices: {type: Price, send: true, stage: true, state: {keyby: [symbol], alias: by_symbol}}
  insider: {type: Price, send: true, stage: true, state: {keyby: [symbol], alias: by_insider}}
  salaries: {type: Salary, keys: [board, staff], send: true, state: {keyby: [amount], alias: by_amount}}
modules:
  - {use: timer, channel: salaries, key: board, value: {amount: 1}, interval: 3600}
graph: true
"""
HIDDEN = ("insider", "by_insider", "salaries", "Salary", "by_amount", "Rating", "AAA", "board", "amount")
NARROW: dict[str, Any] = {"params": {"token": "narrow"}}


def hidden_in(text: str) -> list[str]:
    return [name for name in HIDDEN if name in text]


async def test_lookup_finds_no_record_that_ticked_elsewhere_alone(serve: Serve):
    gateway = await serve(FILE)
    await gateway.send("insider?token=all-rights", {"id": "1", "symbol": "secret"})
    await gateway.send("prices?token=all-rights", {"id": "2", "symbol": "known"})
    assert await gateway.get("/lookup/prices/1", **NARROW) == []
    assert [each["symbol"] for each in await gateway.get("/lookup/prices/2", **NARROW)] == ["known"]
    assert [each["symbol"] for each in await gateway.get("/lookup/prices/1?token=all-rights")] == ["secret"]


@pytest.mark.parametrize("record_id", ["1", "made up"])
@pytest.mark.parametrize("channels", [("prices", "insider"), ("insider", "prices")])
async def test_lookup_finds_a_record_that_ticked_here_too(serve: Serve, record_id: str, channels: tuple[str, str]):
    gateway = await serve(FILE)
    record = {"id": record_id, "symbol": "both", "timestamp": "2026-11-21T12:00:00"}
    for channel in channels:
        await gateway.send(f"{channel}?token=all-rights", record)
    assert [each["symbol"] for each in await gateway.get(f"/lookup/prices/{record_id}", **NARROW)] == ["both"]


async def test_lookup_of_a_staged_record_belongs_to_its_channel(serve: Serve):
    gateway = await serve(FILE)
    for record_id, channel in (("1", "insider"), ("2", "prices")):
        path = f"/api/v1/stage/{channel}?token=all-rights"
        assert (await gateway.http.post(path, json={"id": record_id})).status == 200
    assert await gateway.get("/lookup/prices/1", **NARROW) == []
    assert len(await gateway.get("/lookup/prices/2", **NARROW)) == 1


@pytest.mark.parametrize("path", ["/openapi.json", "/asyncapi.json", "/channels_graph", "/api/v1/channels_graph"])
async def test_what_describes_the_gateway_does_not_name_the_others(serve: Serve, path: str):
    gateway = await serve(FILE)
    everything = await (await gateway.http.get(path, params={"token": "all-rights"})).text()
    assert "prices" in everything
    assert hidden_in(everything)
    told = await (await gateway.http.get(path, **NARROW)).text()
    assert "prices" in told
    assert hidden_in(told) == []


async def test_the_documents_of_a_limited_key_refer_to_nothing_that_is_missing(serve: Serve):
    gateway = await serve(FILE)
    for path in ("/openapi.json", "/asyncapi.json"):
        document = await (await gateway.http.get(path, **NARROW)).json()
        assert {"Price", "Depth", "Venue"} <= set(document["components"]["schemas"])
        for reference in references(document):
            found = document
            for step in reference.removeprefix("#/").split("/"):
                found = found[step]


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for item in value.values() for found in references(item)]
    return [found for item in value for found in references(item)] if isinstance(value, list) else []


async def test_statistics_count_the_channels_of_the_key_alone(serve: Serve):
    gateway = await serve(FILE)
    (stats,) = await gateway.get("/controls/stats", **NARROW)
    counters = stats["data"]["gateway"]
    assert (set(counters["channels"]), set(counters["lookup"]), set(counters["states"])) == (
        {"prices"}, {"Price"}, {"by_symbol"},
    )  # fmt: skip
    assert hidden_in(json.dumps(stats)) == []


async def test_statistics_that_somebody_else_asked_for_tell_nothing(serve: Serve):
    gateway = await serve(FILE)
    socket = await gateway.stream("?token=watcher")
    await socket.send_json({"action": "subscribe", "channel": "controls", "snapshot": True})
    (stats,) = await gateway.get("/controls/stats?token=all-rights")
    assert "salaries/board" in stats["data"]["gateway"]["channels"]
    assert "salaries/board" in stats["data_str"]
    assert hidden_in((await socket.receive()).data) == []
    last = await gateway.http.get("/api/v1/last/controls?token=watcher")
    assert '"name":"stats"' in await last.text()
    assert hidden_in(await last.text()) == []


async def test_what_is_about_the_whole_process_needs_a_key_without_limits(serve: Serve, tmp_path: Path):
    (tmp_path / "day.log").write_text("salaries")
    gateway = await serve(f"outputs: {tmp_path}\n" + FILE)
    for path in ("/metrics", "/outputs", "/outputs/day.log", "/outputs/_tree", "/outputs/_chunk?path=day.log"):
        assert (await gateway.http.get(path, headers={"token": "all-rights"})).status == 200, path
        answer = await gateway.http.get(path, headers={"token": "narrow"})
        assert (answer.status, await answer.json()) == (403, {"detail": "unauthorized", "status_code": 403}), path


async def test_a_modules_route_needs_a_key_whatever_its_handler_is_called(serve: Serve, tmp_path: Path):
    (tmp_path / "routes.py").write_text(
        "from aiohttp import web\n"
        "class Routes:\n"
        "    def connect(self, gw):\n"
        "        async def redirect(request): return web.Response(text='inside')\n"
        "        gw.http.add_get('/inside', redirect)\n"
    )
    gateway = await serve(FILE.replace("modules:\n", "modules:\n  - {use: 'routes.py:Routes'}\n"), folder=tmp_path)
    assert (await gateway.http.get("/inside")).status == 403
    assert (await gateway.http.get("/inside", **NARROW)).status == 200
