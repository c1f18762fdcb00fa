"""Gateways on a bus, killed while clients send: what was acknowledged is there, once, everywhere."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.processes import DaemonProcess, run_command, start_daemon
from tests.redis_server import RedisServer

FILE = """
structs:
  Order:
    fields: {number: int, client: str}
channels:
  orders: {type: Order, send: true, state: {keyby: [client, number]}}
modules:
  - {use: timer, channel: clock, value: {client: clock}, interval: 50ms}
"""
WITH_CLOCK = FILE.replace("channels:\n", "channels:\n  clock: {type: Order}\n")


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


class Gateways:
    """Some gateways of one bus, as processes."""

    def __init__(self, folder: Path, redis: RedisServer, stack: contextlib.ExitStack, text: str) -> None:
        self._file = folder / "channels.yml"
        self._file.write_text(text)
        self._redis = redis
        self._stack = stack
        self.members: list[DaemonProcess] = []

    def start(self) -> DaemonProcess:
        daemon = start_daemon("gateway", "--channels", self._file, "--bus", self._redis.url)
        self._stack.enter_context(daemon)
        self.members.append(daemon)
        return daemon

    def kill(self, daemon: DaemonProcess) -> None:
        self.members.remove(daemon)
        daemon.kill()


async def read(session: aiohttp.ClientSession, daemon: DaemonProcess, path: str) -> Any:
    async with session.get(f"{daemon.url}/api/v1{path}") as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def equal_states(session: aiohttp.ClientSession, members: list[DaemonProcess]) -> list[dict[str, Any]]:
    """The state that all gateways have in the end."""
    async with asyncio.timeout(60):
        while True:
            states = [await read(session, member, "/state/orders") for member in members]
            if all(state == states[0] for state in states):
                return states[0]


async def test_killed_gateways_lose_and_double_nothing_that_was_acknowledged(tmp_path: Path, redis: RedisServer):
    chance = random.Random(20261121)
    acknowledged: dict[tuple[str, int], str] = {}
    is_over = asyncio.Event()
    with contextlib.ExitStack() as stack:
        gateways = Gateways(tmp_path, redis, stack, FILE.partition("modules:")[0])
        for _ in range(3):
            await asyncio.to_thread(gateways.start)
        async with aiohttp.ClientSession() as session:

            async def client(name: str) -> None:
                number = 0
                while not is_over.is_set():
                    number += 1
                    daemon = chance.choice(gateways.members)
                    with contextlib.suppress(aiohttp.ClientError):
                        url = f"{daemon.url}/api/v1/send/orders"
                        async with session.post(url, json={"number": number, "client": name}) as answer:
                            if answer.status == 200:
                                acknowledged[name, number] = (await answer.json())[0]["id"]

            clients = [asyncio.create_task(client(f"client {number}")) for number in range(4)]
            for _ in range(2):
                goal = len(acknowledged) + chance.randint(50, 150)
                async with asyncio.timeout(60):
                    while len(acknowledged) < goal:  # noqa: ASYNC110 - counts what several clients do
                        await asyncio.sleep(0.001)
                await asyncio.to_thread(gateways.kill, chance.choice(gateways.members))
                await asyncio.to_thread(gateways.start)
            is_over.set()
            await asyncio.gather(*clients)
            rows = await equal_states(session, gateways.members)
    assert len(acknowledged) > 100
    found = {(row["client"], row["number"]): row["id"] for row in rows}
    assert {sent: found.get(sent) for sent in acknowledged} == acknowledged  # the last tick of each is the one answered
    ids = Counter(row["id"] for row in rows)
    assert not [record_id for record_id, times in ids.items() if times > 1]


async def test_one_gateway_runs_the_modules_and_another_takes_over(tmp_path: Path, redis: RedisServer):
    with contextlib.ExitStack() as stack:
        gateways = Gateways(tmp_path, redis, stack, WITH_CLOCK)
        one = await asyncio.to_thread(gateways.start)
        await asyncio.to_thread(one.wait_for_log, "runs the modules now")
        two = await asyncio.to_thread(gateways.start)
        async with aiohttp.ClientSession() as session:
            await read(session, two, "/next/clock")  # two sees what one's module ticks, and runs none itself
            assert "runs the modules now" not in two.stderr()
            assert await asyncio.to_thread(one.terminate) == 0
            await asyncio.to_thread(two.wait_for_log, "runs the modules now")  # handed over
            three = await asyncio.to_thread(gateways.start)
            await asyncio.to_thread(gateways.kill, two)
            await asyncio.to_thread(three.wait_for_log, "runs the modules now")  # after the lease has run out
            await read(session, three, "/next/clock")


def test_a_gateway_without_its_bus_says_so_in_one_line(tmp_path: Path, redis: RedisServer):
    redis.kill()
    done = run_command("gateway", "start", "--port", "0", "--bus", redis.url)
    assert done.returncode == 1
    assert f"cannot join the bus {redis.url}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_journal_and_a_bus_are_one_too_many(tmp_path: Path):
    done = run_command("gateway", "start", "--journal", "--data-dir", tmp_path, "--bus", "redis://127.0.0.1:1/0")
    assert done.returncode == 2
    assert "choose one" in done.stderr


async def test_a_gateway_whose_redis_came_back_empty_ends_with_an_error(tmp_path: Path, redis: RedisServer):
    with contextlib.ExitStack() as stack:
        gateway = Gateways(tmp_path, redis, stack, FILE.partition("modules:")[0]).start()
        path = f"{gateway.url}/api/v1/send/orders"
        async with aiohttp.ClientSession() as session, session.post(path, json={"number": 1}) as answer:
            assert answer.status == 200
        redis.kill()
        redis.start_again()
        assert await asyncio.to_thread(gateway.wait, 60) == 1
        assert "gateway: this gateway could not follow the bus any more" in gateway.stderr()
        assert "Traceback" not in gateway.stderr()
