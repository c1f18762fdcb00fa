"""Background tasks under supervision: no exception ends one for good, and none goes unnoticed."""

from __future__ import annotations

import ast
import asyncio
from collections import Counter
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from shared.tasks import Supervisor, cancel_and_wait, start_task

DAEMONS = ("iserver", "metaserver", "replicaserver", "intake_server", "gateway", "shared")


class Work:
    """Work that can be waited for, and that fails when it is told to."""

    def __init__(self, failure: Exception | None = None):
        self.times = 0
        self.failure = failure
        self._done = asyncio.Condition()

    async def __call__(self):
        async with self._done:
            self.times += 1
            self._done.notify_all()
        if self.failure is not None:
            raise self.failure

    async def has_run(self, times):
        async with asyncio.timeout(60), self._done:
            await self._done.wait_for(lambda: self.times >= times)


@pytest.fixture
def counted():
    return Counter()


@pytest.fixture
async def supervisor(counted):
    supervisor = Supervisor(lambda name: counted.update([name]), first_backoff_s=0.001)
    yield supervisor
    await supervisor.stop()


@pytest.mark.parametrize("failure", [OSError("disk full"), KeyError("a bug"), UnicodeEncodeError("u", "", 0, 1, "x")])
async def test_periodic_work_is_repeated_whatever_it_raises(supervisor, counted, failure):
    work = Work(failure)
    supervisor.periodic("sweep", 0.001, work)
    await work.has_run(4)
    assert counted["sweep"] >= 3


async def test_long_lived_work_is_begun_again_when_it_raises(supervisor):
    work = Work(ValueError("a bug"))
    supervisor.loop("reader", work)
    await work.has_run(4)


async def test_the_cancellation_of_what_work_waits_for_is_a_failure_like_others(supervisor, counted):
    work = Work()

    async def waits():
        await work()
        cancelled = asyncio.get_running_loop().create_future()
        cancelled.cancel()
        await cancelled

    supervisor.periodic("sweep", 0.001, waits)
    supervisor.loop("reader", waits)
    await asyncio.wait({supervisor.once("answer", waits)})
    await work.has_run(9)
    assert counted.keys() == {"sweep", "reader", "answer"}


async def test_long_lived_work_that_returns_has_ended(supervisor):
    work = Work()
    await supervisor.loop("reader", work)
    assert work.times == 1


async def test_a_bug_is_logged_with_its_traceback_once_and_so_is_the_recovery(supervisor):
    work = Work(KeyError("a bug"))
    with capture_logs() as logs:
        supervisor.periodic("sweep", 0.001, work)
        await work.has_run(4)
        work.failure = OSError("the disk is full")
        await work.has_run(work.times + 3)
        work.failure = None
        await work.has_run(work.times + 3)
    assert [(line["event"], line["task"], line.get("reason")) for line in logs] == [
        ("background task failed", "sweep", "KeyError: 'a bug'"),
        ("background task failed", "sweep", "OSError: the disk is full"),
        ("background task works again", "sweep", None),
    ]
    assert isinstance(logs[0]["exc_info"], KeyError)
    assert logs[1]["exc_info"] is None


async def test_persistent_failure_is_a_reason_not_to_be_ready_until_it_ends(supervisor):
    work = Work(OSError("the disk is full"))
    supervisor.periodic("sweep", 0.001, work)
    await work.has_run(5)
    assert supervisor.failures() == {"sweep": "OSError: the disk is full"}
    assert supervisor.not_ready() == ["the background task 'sweep' keeps failing"]
    work.failure = None
    await work.has_run(work.times + 3)
    assert supervisor.not_ready() == []


async def test_long_lived_work_that_runs_again_is_no_reason_any_more():
    supervisor, failures, unready = Supervisor(first_backoff_s=0.001, stable_s=0.05), 5, []

    async def read():
        nonlocal failures
        unready.append(supervisor.not_ready())
        if failures:
            failures -= 1
            raise OSError("the bus is away")
        await asyncio.Event().wait()

    supervisor.loop("reader", read)
    async with asyncio.timeout(60):
        while True:
            if not (failures or supervisor.not_ready()):
                break
            await asyncio.sleep(0.01)
    await supervisor.stop()
    assert unready[-1] == ["the background task 'reader' keeps failing"]


async def test_one_failure_leaves_the_daemon_ready(supervisor):
    work = Work(OSError("the disk is full"))
    await supervisor.once("prepare", work)
    assert work.times == 1
    assert supervisor.not_ready() == []


async def test_a_task_that_the_daemon_can_do_without_leaves_it_ready(supervisor):
    work = Work(OSError("the collector is away"))
    supervisor.periodic("export", 0.001, work, is_critical=False)
    await work.has_run(5)
    assert supervisor.not_ready() == []


async def test_a_changed_interval_acts_without_a_restart(supervisor):
    asked = iter([3600.0, 0.001, 0.001, 0.001])
    work = Work()
    supervisor.periodic("sweep", lambda: next(asked, 3600.0), work, immediately=True)
    await work.has_run(1)
    other = Supervisor()
    quick = Work()
    other.periodic("sweep", lambda: next(asked, 3600.0), quick)
    await quick.has_run(2)
    await other.stop()


async def test_stopping_waits_for_runs_under_way_and_begins_none():
    supervisor, begun, go_on, ended = Supervisor(), asyncio.Event(), asyncio.Event(), []

    async def slow():
        begun.set()
        await go_on.wait()
        ended.append(True)

    never = Work()
    supervisor.once("slow", slow)
    supervisor.once("never", never, after_s=3600)
    await begun.wait()
    stopping = asyncio.create_task(supervisor.stop(grace_s=60))
    await asyncio.sleep(0)
    assert not stopping.done()
    go_on.set()
    await stopping
    assert (ended, never.times) == ([True], 0)


async def test_stopping_cancels_what_lasts_and_what_outlasts_its_grace():
    supervisor, cancelled = Supervisor(), []

    async def lasting():
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(True)

    supervisor.loop("reader", lasting)
    supervisor.periodic("sweep", 0.001, lasting, immediately=True)
    await asyncio.sleep(0.01)
    await supervisor.stop(grace_s=0.01)
    assert cancelled == [True, True]


async def test_stopping_raises_nothing_even_when_the_clean_up_of_a_task_fails():
    supervisor, begun = Supervisor(), asyncio.Event()

    async def fails_while_ending():
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            raise OSError("the file is gone")

    supervisor.loop("reader", fails_while_ending)
    await begun.wait()
    await supervisor.stop()


async def test_a_started_task_gives_its_result_or_its_exception_to_whoever_awaits_it():
    async def divide(number):
        return 1 / number

    assert await start_task(divide(2), name="divide") == 0.5
    with pytest.raises(ZeroDivisionError):
        await start_task(divide(0), name="divide")


async def test_cancelling_a_task_that_fails_while_it_ends_is_logged_and_not_raised():
    begun = asyncio.Event()

    async def work():
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            raise OSError("the file is gone")

    task = start_task(work(), name="close")
    await begun.wait()
    with capture_logs() as logs:
        await cancel_and_wait(None, task)
    assert [(line["event"], line["task"]) for line in logs] == [("a cancelled task failed", "close")]


def test_no_other_module_starts_tasks():
    root = Path(__file__).parents[2]
    found = []
    for package in DAEMONS:
        for file in sorted((root / package).rglob("*.py")):
            if file == root / "shared" / "tasks.py":
                continue
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Attribute) and node.attr in ("create_task", "ensure_future"):
                    found.append(f"{file.relative_to(root)}:{node.lineno}")
    assert found == []
