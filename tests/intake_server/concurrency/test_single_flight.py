"""Equal work asked for at the same time is done once."""

from __future__ import annotations

import asyncio

from intake_server.concurrency.single_flight import SingleFlight
from tests.intake_server.conftest import until


async def test_equal_work_is_done_once_and_stops_when_nobody_waits():
    shared: SingleFlight[int] = SingleFlight()
    begun, ended = asyncio.Event(), asyncio.Event()
    runs = 0

    async def work() -> int:
        nonlocal runs
        runs += 1
        begun.set()
        try:
            await ended.wait()
        finally:
            begun.clear()
        return runs

    waiting = [asyncio.create_task(shared.run("key", work)) for _ in range(3)]
    await begun.wait()
    waiting[0].cancel()
    ended.set()
    assert await asyncio.gather(*waiting[1:]) == [1, 1]
    ended.clear()
    alone = asyncio.create_task(shared.run("key", work))
    await begun.wait()
    alone.cancel()
    await until(lambda: not begun.is_set())
    assert len(shared) == 0
