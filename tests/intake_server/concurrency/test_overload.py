"""What clients read while every thread is taken, and what becomes of a source that is dropped while it is read."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from intake_server.auth.plugins import BaseAuth
from intake_server.catalog.model import DriverChoice, Entry, Scope
from intake_server.drivers.base import Schema
from intake_server.drivers.registry import DriverInfo
from intake_server.sources.pool import SourcePool
from intake_server.templates.resolution import Resolved
from tests.intake_server.conftest import Serve, until

CATALOG = "sources:\n" + "".join(
    f"  e{n}: {{driver: csv, args: {{urlpath: '{{{{ CATALOG_DIR }}}}/{n}.csv'}}}}\n" for n in range(100)
)


class ForeignAuth(BaseAuth):
    """A plugin of another package: it is asked in a thread."""


@pytest.mark.parametrize(
    ("settings", "ask"),
    [
        ({"plugin": ForeignAuth()}, lambda server: server.get("/v1/info")),
        ({"plugin": ForeignAuth()}, lambda server: server.get("/data/e1.csv")),
        ({"getshell": True}, lambda server: server.open("e1")),
        ({}, lambda server: server.open("e1")),
        ({}, lambda server: server.get("/v1/info")),
        ({}, lambda server: server.get("/data/e1.csv")),
        ({}, lambda server: server.post({"action": "search", "query": [["e"], {}]})),
    ],
)
async def test_a_request_that_finds_no_thread_is_503_and_told_when_to_come_again(serve: Serve, settings, ask):
    server = await serve(CATALOG, open_threads=1, queue=0, **settings)
    taken, let_go = threading.Event(), threading.Event()
    workers = server.server.open_threads
    held = asyncio.ensure_future(workers.run(lambda: (taken.set(), let_go.wait(30))))
    await asyncio.to_thread(taken.wait, 30)
    answer = await ask(server)
    let_go.set()
    await held
    assert (answer.status, "Retry-After" in answer.headers) == (503, True)


class SlowDriver:
    """Opens sources whose reads wait."""

    container = "python"

    def __init__(self) -> None:
        self.reads, self.let_go, self.closed = threading.Event(), threading.Event(), threading.Event()

    def open(self, arguments: Any, pin: Any = None) -> Any:
        return SlowSource(self)


class SlowSource:
    schema = Schema("python", None, None, 1)
    version = "1"
    pin = None

    def __init__(self, driver: SlowDriver) -> None:
        self._driver = driver

    def is_current(self) -> bool:
        return True

    def stamp(self, partition: Any) -> int:
        return 0

    def read(self, partition: Any) -> list[bool]:
        self._driver.reads.set()
        assert self._driver.let_go.wait(30)
        return [self._driver.closed.is_set()]

    def close(self) -> None:
        self._driver.closed.set()


async def test_a_source_that_is_dropped_is_closed_when_the_last_read_of_it_has_ended(serve: Serve):
    server = await serve("sources: {s: {driver: slow}}", idle_s=0.0)
    driver = SlowDriver()
    server.server.drivers.add(DriverInfo("slow", "python", "slow.SlowDriver"), driver)
    source_id = (await server.opened("s"))["source_id"]
    reading = asyncio.ensure_future(server.read(source_id, 0))
    await asyncio.to_thread(driver.reads.wait, 30)
    await server.server.sweep()
    assert len(server.server.sources) == 0
    driver.let_go.set()
    assert (await reading).value["data"] == b"\x91\xc2"  # [False]: it was open to the end
    await until(driver.closed.is_set)


class OpenDriver(SlowDriver):
    """Opens a new source whatever it is given."""


async def test_open_sources_take_a_number_of_bytes_at_most_and_the_longest_unused_are_closed(serve: Serve):
    server = await serve("sources: {}")
    driver = OpenDriver()
    server.server.drivers.add(DriverInfo("any", "python", "any.OpenDriver"), driver)
    workers, limit = server.server.open_threads, 200_000
    sources = SourcePool(
        server.server.drivers, workers, server.server.source_ids, idle_s=60, timeout_s=60, most_bytes=limit
    )
    entry = Entry("e", (DriverChoice("any", "any"),), Scope("/srv/"))
    for number in range(50):
        value = f"{number:05}" * 4000
        await sources.open(Resolved(entry.drivers[0], {"path": value}, {}, {}, {}), entry)
        assert sources.size <= limit
    assert 1 <= len(sources) < 6
    await until(driver.closed.is_set)
    sources.close()
    assert sources.size == 0
