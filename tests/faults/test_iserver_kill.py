"""`kill -9` at random moments: whatever was acknowledged is in the tables, once (protocol §11.6, §12.1).

Sessions are short and the ETL never rests, so that kills hit requests, the sweeper, the move of finished sessions and
the writing of tables alike. The log's files are tiny: each kill finds some that were just begun, cleaned or released.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from importlib import resources
from pathlib import Path

import aiohttp
import duckdb
import pytest

from tests.processes import start_daemon

LANES = 2
KILLS_A_LANE = 26
CLIENTS = 8
FDL = Path(str(resources.files("iserver.example"))) / "shop.fdl"
GONE = (aiohttp.ClientError, ConnectionError, asyncio.TimeoutError)


class Visitors:
    """Visitors that note what the server has acknowledged, and what it may or may not have heard."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.acknowledged: set[str] = set()
        self.attempted: set[str] = set()
        self._numbers = itertools.count()

    async def visit(self, http: aiohttp.ClientSession, url: str, device: str) -> None:
        """Impressions and events of one visitor, until the server is gone."""
        while True:
            impression = f"imp-{next(self._numbers)}"
            body = {
                "args": {"deviceId": device},
                "impressionId": impression,
                "requests": {"RatingBox": {"product": self.random.choice("abc")}, "ProductInfo": {}},
            }
            await self._send(http, f"{url}/features", body, f"RatingBox {impression}", f"ProductInfo {impression}")
            stars, sku = next(self._numbers), next(self._numbers)
            rating = {"feature": "RatingBox", "event": "Rating", "impressionId": impression, "args": {"stars": stars}}
            await self._send(http, f"{url}/signal", {"id": {"deviceId": device}, **rating}, f"Rating {stars}")
            cart = {"event": "AddToCart", "args": {"value": 1.5, "sku": str(sku)}}
            await self._send(http, f"{url}/signal", {"id": {"deviceId": device}, **cart}, f"AddToCart {sku}")

    async def _send(self, http: aiohttp.ClientSession, url: str, body: object, *facts: str) -> None:
        self.attempted.update(facts)
        async with http.post(url, json=body) as answer:
            assert answer.status in (200, 410), await answer.text()
            if answer.status == 200:
                await answer.read()
                self.acknowledged.update(facts)


OPTIONS = ("--session-timeout", "0.3", "--etl-interval", "0.1", "--journal-segment-bytes", "8192", "--enable-cmd")


def start_iserver(data: Path):
    return start_daemon("iserver", "--data-dir", data, "--fdl", FDL, *OPTIONS)


async def live_and_die(data: Path, visitors: Visitors, *, until_etl: bool) -> None:
    """Start an iserver, let visitors in, and kill it at a random moment, at once or while the ETL is at work."""
    daemon = await asyncio.to_thread(start_iserver, data)
    with daemon:
        async with aiohttp.ClientSession() as http:
            visits = [
                asyncio.create_task(visitors.visit(http, daemon.url, f"dev-{number}")) for number in range(CLIENTS)
            ]
            if until_etl:
                await asyncio.to_thread(daemon.wait_for_log, '"batch written"')
            await asyncio.wait(visits, timeout=visitors.random.uniform(0.0, 0.2))
            await asyncio.to_thread(daemon.kill)
            for outcome in await asyncio.gather(*visits, return_exceptions=True):
                assert isinstance(outcome, GONE), outcome


async def flush(data: Path) -> None:
    """Start an iserver a last time, and let it write everything."""
    daemon = await asyncio.to_thread(start_iserver, data)
    with daemon:
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{daemon.url}/cmd", json={"action": "flushToWarehouse"}) as answer,
        ):
            assert answer.status == 200, await answer.text()
        assert await asyncio.to_thread(daemon.terminate) == 0


def logged(warehouse: Path) -> Counter[str]:
    """Every impression and event in the tables, with the number of times it is there."""

    def texts(query: str, table: str) -> list[str]:
        files = f"read_parquet('{warehouse}/tables/{table}/*/*/*.parquet', union_by_name=true)"
        return [text for (text,) in duckdb.connect().execute(query.format(files)).fetchall()]

    facts: Counter[str] = Counter()
    for feature, table in (("RatingBox", "rating_box"), ("ProductInfo", "product_info")):
        facts.update(texts(f"SELECT '{feature} ' || unnest(impressions).impression_id FROM {{}}", table))
    facts.update(texts("SELECT 'Rating ' || unnest(rating).stars FROM {}", "rating_box"))
    facts.update(texts("SELECT 'AddToCart ' || unnest(add_to_cart).sku FROM {}", "session"))
    sessions = texts("SELECT session_id FROM {}", "session")
    assert len(sessions) == len(set(sessions))
    return facts


async def live_dangerously(data: Path, visitors: Visitors) -> None:
    """One server's history of kills, and a peaceful end."""
    for number in range(KILLS_A_LANE):
        await live_and_die(data, visitors, until_etl=number % 5 == 4)
    await flush(data)


@pytest.mark.timeout(600)
async def test_what_was_acknowledged_survives_every_kill_exactly_once(tmp_path):
    lanes = {tmp_path / f"lane-{seed}": Visitors(seed) for seed in range(LANES)}
    await asyncio.gather(*(live_dangerously(data, visitors) for data, visitors in lanes.items()))
    for data, visitors in lanes.items():
        facts = logged(data / "warehouse")
        assert len(visitors.acknowledged) > 1000
        assert visitors.acknowledged - facts.keys() == set(), "lost"
        assert {fact for fact, times in facts.items() if times > 1} == set(), "doubled"
        assert facts.keys() <= visitors.attempted
