"""What is done unasked (specification §8, §9.2, §11, §12)."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from iserver.upkeep import Upkeep


class Chore:
    """A chore that can be waited for, and that fails when it is told to."""

    def __init__(self):
        self.times = 0
        self.failure: Exception | None = None
        self._done = asyncio.Condition()

    async def __call__(self):
        async with self._done:
            self.times += 1
            self._done.notify_all()
        if self.failure is not None:
            raise self.failure

    async def has_run(self, times):
        async with asyncio.timeout(20), self._done:
            await self._done.wait_for(lambda: self.times >= times)


@pytest.fixture
async def upkeep():
    upkeep = Upkeep()
    yield upkeep
    await upkeep.stop()


async def test_a_chore_is_repeated_even_when_it_fails(upkeep):
    chore = Chore()
    chore.failure = OSError("the disk is full")
    upkeep.every(0.001, "chore", chore)
    await chore.has_run(3)


async def test_a_failure_is_told_once_and_its_end_too(upkeep):
    chore = Chore()
    chore.failure = OSError("the disk is full")
    with capture_logs() as logs:
        upkeep.every(0.001, "chore", chore)
        await chore.has_run(5)
        chore.failure = OSError("the disk is gone")
        await chore.has_run(chore.times + 3)
        chore.failure = None
        await chore.has_run(chore.times + 3)
    assert [(line["event"], line.get("reason")) for line in logs] == [
        ("chore failed", "the disk is full"),
        ("chore failed", "the disk is gone"),
        ("chore works again", None),
    ]


async def test_a_chore_can_be_done_once(upkeep):
    once, often = Chore(), Chore()
    upkeep.once(0.001, "once", once)
    upkeep.every(0.005, "often", often)
    await often.has_run(3)
    assert once.times == 1


async def test_stopping_waits_for_what_is_under_way_and_begins_nothing():
    upkeep, begun, go_on, ended = Upkeep(), asyncio.Event(), asyncio.Event(), []

    async def slow():
        begun.set()
        await go_on.wait()
        ended.append(True)

    never = Chore()
    upkeep.once(0, "slow", slow)
    upkeep.once(3600, "never", never)
    await begun.wait()
    stopping = asyncio.create_task(upkeep.stop())
    await asyncio.sleep(0)
    assert not stopping.done()
    go_on.set()
    await stopping
    assert (ended, never.times) == ([True], 0)


async def test_a_file_that_is_changed_or_replaced_is_noticed_and_its_neighbours_are_not(upkeep, tmp_path):
    watched, neighbour = tmp_path / "shop.fdl", tmp_path / "other.fdl"
    watched.write_text("one")
    chore, other = Chore(), Chore()
    upkeep.when_changed([watched], "sync", chore)
    upkeep.when_changed([neighbour], "other", other)
    number = 0
    while chore.times < 1:  # the watcher takes a moment to begin
        number += 1
        watched.write_text(f"change {number}")
        await asyncio.wait([asyncio.create_task(chore.has_run(1))], timeout=0.5)
    times = chore.times
    (tmp_path / "new").write_text("replaced")
    (tmp_path / "new").rename(watched)
    await chore.has_run(times + 1)
    assert other.times == 0
