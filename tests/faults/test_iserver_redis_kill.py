"""Servers that share their sessions, and their Redis, are killed at random: what was acknowledged is there, once.

Requests go to any server, so that sessions change hands all the time, between servers that live and from those
that died (issue 3: storage adapters).
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import aiohttp
import pytest

from tests.faults.test_iserver_kill import FDL, GONE, logged
from tests.processes import DaemonProcess, start_daemon
from tests.redis_server import RedisServer

SERVERS = 3
CLIENTS = 8
KILLS = 12
REDIS_KILLS = 3


class Deployment:
    """Servers over one Redis, of which some are dead."""

    def __init__(self, folder: Path, redis: RedisServer) -> None:
        self.folder = folder
        self.redis = redis
        self.alive: dict[int, DaemonProcess] = {}

    def start(self, number: int) -> None:
        flags = ["--fdl", FDL, "--enable-cmd", "--session-timeout", "0.6", "--etl-interval", "0.2"]
        shared = ["--sessions", self.redis.url, "--warehouse", self.folder / "warehouse"]
        self.alive[number] = start_daemon("iserver", "--data-dir", self.folder / str(number), *flags, *shared)

    def kill(self, number: int) -> None:
        self.alive.pop(number).kill()

    def end(self) -> None:
        for number in list(self.alive):
            self.kill(number)


class Visitors:
    """Visitors that note what was acknowledged; they go on at another server when theirs is gone."""

    def __init__(self, deployment: Deployment, seed: int) -> None:
        self.deployment = deployment
        self.random = random.Random(seed)
        self.acknowledged: set[str] = set()
        self.attempted: set[str] = set()
        self.statuses: set[int] = set()
        self.are_leaving = False
        self._count = 0

    async def visit(self, http: aiohttp.ClientSession, device: str) -> None:
        while not self.are_leaving:
            self._count += 1
            number, args = self._count, {"deviceId": device}
            product = {"product": self.random.choice("abc")}
            wanted = {"RatingBox": product, "ProductInfo": {}}
            features = {"args": args, "impressionId": f"imp-{number}", "requests": wanted}
            await self._send(http, "features", features, f"RatingBox imp-{number}", f"ProductInfo imp-{number}")
            rating = {"feature": "RatingBox", "event": "Rating", "impressionId": f"imp-{number}"}
            await self._send(http, "signal", {"id": args, **rating, "args": {"stars": number}}, f"Rating {number}")
            cart = {"event": "AddToCart", "args": {"value": 1.5, "sku": str(number)}}
            await self._send(http, "signal", {"id": args, **cart}, f"AddToCart {number}")

    async def _send(self, http: aiohttp.ClientSession, path: str, body: object, *facts: str) -> None:
        if not self.deployment.alive:
            await asyncio.sleep(0.05)
            return
        url = self.random.choice(list(self.deployment.alive.values())).url
        self.attempted.update(facts)
        try:
            async with http.post(f"{url}/{path}", json=body) as answer:
                text = await answer.text()
        except GONE:
            await asyncio.sleep(0.02)
            return
        self.statuses.add(answer.status)
        assert answer.status in (200, 404, 410, 503), text
        if answer.status == 200:
            self.acknowledged.update(facts)


async def flush(deployment: Deployment) -> None:
    (daemon, *_) = deployment.alive.values()
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{daemon.url}/cmd", json={"action": "flushToWarehouse"}) as answer,
    ):
        assert answer.status == 200, await answer.text()


@pytest.mark.timeout(600)
async def test_what_any_server_acknowledged_survives_kills_of_servers_and_of_redis_exactly_once(tmp_path: Path):
    with RedisServer(tmp_path, durable=True) as redis:
        deployment = Deployment(tmp_path, redis)
        visitors = Visitors(deployment, seed=1)
        chance = random.Random(2)
        try:
            for number in range(SERVERS):
                await asyncio.to_thread(deployment.start, number)
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as http:
                visits = [asyncio.create_task(visitors.visit(http, f"dev-{n}")) for n in range(CLIENTS)]
                for turn in range(KILLS):
                    await asyncio.wait(visits, timeout=chance.uniform(0.0, 0.6), return_when=asyncio.FIRST_COMPLETED)
                    if turn % (KILLS // REDIS_KILLS) == 3:
                        redis.kill()
                        await asyncio.wait(visits, timeout=chance.uniform(0.0, 0.3))
                        await asyncio.to_thread(redis.start_again)
                    number = chance.randrange(SERVERS)
                    deployment.kill(number)
                    await asyncio.to_thread(deployment.start, number)
                    assert not any(visit.done() for visit in visits), [v for v in visits if v.done()]
                visitors.are_leaving = True
                await asyncio.gather(*visits)
            await flush(deployment)
        finally:
            deployment.end()
    facts = logged(tmp_path / "warehouse")
    assert len(visitors.acknowledged) > 300
    assert visitors.acknowledged - facts.keys() == set(), "lost"
    assert {fact for fact, times in facts.items() if times > 1} == set(), "doubled"
    assert facts.keys() <= visitors.attempted
