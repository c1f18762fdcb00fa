"""Threads with limits on all work, on waiting, on one key and on time (§6.2)."""

from __future__ import annotations

import asyncio
import os
import sys
import threading

import pytest

from intake_server.concurrency.thread_pool import Busy, ThreadPool, TookTooLong
from tests.intake_server.conftest import until


class Blocked:
    """A job that waits until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.runs = 0

    def __call__(self) -> str:
        self.runs += 1
        assert self.let_go.wait(10)
        return "done"


async def test_a_job_gives_its_result_or_its_exception():
    workers = ThreadPool("test", threads=2, queue=2, per_key=1)
    assert await workers.run(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await workers.run(lambda: 1 / 0)
    assert workers.running == 0
    workers.close()


async def test_one_key_cannot_take_all_threads():
    workers, blocked = ThreadPool("test", threads=2, queue=9, per_key=1), Blocked()
    held = [asyncio.create_task(workers.run(blocked, key="slow")) for _ in range(3)]
    await until(lambda: workers.waiting == 2)
    assert await workers.run(lambda: "other", key="other") == "other"
    blocked.let_go.set()
    assert await asyncio.gather(*held) == ["done"] * 3
    workers.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux knows the niceness of a thread")
async def test_threads_yield_as_far_as_they_are_told():
    def own_niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = own_niceness()
    nice, plain = ThreadPool("nice", 1, 1, 1, niceness=before + 1), ThreadPool("plain", 1, 1, 1)
    assert (await nice.run(own_niceness), await plain.run(own_niceness)) == (before + 1, before)
    assert own_niceness() == before
    nice.close()
    plain.close()


async def test_a_full_queue_is_busy():
    workers, blocked = ThreadPool("test", threads=1, queue=1, per_key=1), Blocked()
    held = [asyncio.create_task(workers.run(blocked)) for _ in range(2)]
    await until(lambda: workers.waiting == 1)
    with pytest.raises(Busy):
        await workers.run(lambda: None)
    blocked.let_go.set()
    await asyncio.gather(*held)
    workers.close()


async def test_a_job_that_takes_too_long_is_given_up_and_counted_until_it_ends():
    workers, blocked = ThreadPool("test", threads=1, queue=1, per_key=1), Blocked()
    with pytest.raises(TookTooLong):
        await workers.run(blocked, key="slow", timeout_s=0.01)
    assert (workers.running, workers.abandoned) == (0, 1)
    assert await workers.run(lambda: "still working", key="other") == "still working"
    blocked.let_go.set()
    await until(lambda: workers.abandoned == 0)
    assert await workers.run(lambda: "again", key="slow") == "again"
    workers.close()


async def test_a_caller_that_goes_away_leaves_its_place_in_the_line():
    workers, blocked = ThreadPool("test", threads=1, queue=5, per_key=1), Blocked()
    first = asyncio.create_task(workers.run(blocked))
    second = asyncio.create_task(workers.run(blocked))
    await until(lambda: workers.waiting == 1)
    second.cancel()
    await until(lambda: workers.waiting == 0)
    blocked.let_go.set()
    assert (await first, blocked.runs, workers.running) == ("done", 1, 0)
    workers.close()
