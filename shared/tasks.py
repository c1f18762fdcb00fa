"""Supervised background tasks: the one place where a daemon starts asyncio tasks.

A `Supervisor` runs everything that is periodic or long-lived. An exception never ends such a task: it is logged
with its traceback, counted, and the work is tried again with exponential backoff. When it keeps failing, `/readyz`
names the task. `start_task` is for work that somebody awaits, who then also receives its exception.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

import structlog

log = structlog.get_logger("shared.tasks")

T = TypeVar("T")
Work = Callable[[], Awaitable[object]]

PERSISTENT_FAILURES = 3
"""From this many failures in a row on, a task is reported as failing."""
FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 10.0
"""Longest pause before work is tried again, unless its own interval is longer."""
CANCEL_AGAIN_S = 0.5
"""How long a cancelled task may take to end before it is cancelled again, in seconds."""
STABLE_S = 60.0
"""A long-lived task that has run for this many seconds works again; its earlier failures are forgotten."""


def start_task(work: Awaitable[T], *, name: str) -> asyncio.Task[T]:
    """Start work whose result somebody awaits; the caller keeps the task, and receives its exception."""
    coroutine = work if asyncio.iscoroutine(work) else _result_of(work)
    return asyncio.get_running_loop().create_task(coroutine, name=name)


def retrieve_exception(future: asyncio.Future[Any]) -> None:
    """A done callback that marks a future's exception as retrieved, where it may be that nobody awaits the future."""
    if not future.cancelled():
        future.exception()


async def _result_of(work: Awaitable[T]) -> T:
    return await work


async def _done(work: Work) -> None:
    """Do work; when not the task is cancelled, but something that it waits for, that is a failure like others."""
    try:
        await work()
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise RuntimeError("something that it waited for was cancelled") from error


async def cancel_and_wait(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel tasks and wait until they have ended; what they raise is dropped, as nobody needs their result."""
    running = [task for task in tasks if task is not None and not task.done()]
    left = set(running)
    while left:  # again and again: libraries lose a cancellation that comes together with an answer
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=CANCEL_AGAIN_S)
    for task in running:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("a cancelled task failed", task=task.get_name(), reason=_reason(error))


class Supervisor:
    """Runs the background tasks of a daemon, or of one part of it.

    Args:
        on_failure: Called with a task's name at each of its failures, to count them in a metric.
        expected: Exceptions that are conditions of the surroundings and not bugs: logged as one line, without a
            traceback. They are counted and retried like all others.
        first_backoff_s: Pause after the first failure, in seconds; it doubles with each further one.
        stable_s: After how many seconds of running what `loop` runs counts as working again.
    """

    def __init__(
        self,
        on_failure: Callable[[str], None] | None = None,
        *,
        expected: tuple[type[Exception], ...] = (OSError,),
        first_backoff_s: float = FIRST_BACKOFF_S,
        stable_s: float = STABLE_S,
    ) -> None:
        self._on_failure = on_failure
        self._expected = expected
        self._first_backoff_s = first_backoff_s
        self._stable_s = stable_s
        self._tasks: set[asyncio.Task[Any]] = set()
        self._endless: set[asyncio.Task[Any]] = set()
        self._finite: set[asyncio.Task[Any]] = set()
        self._failing: dict[str, _Failures] = {}
        self._stopping = asyncio.Event()

    def periodic(
        self,
        name: str,
        interval_s: float | Callable[[], float],
        work: Work,
        *,
        immediately: bool = False,
        is_critical: bool = True,
    ) -> asyncio.Task[None]:
        """Repeat work until `stop`.

        Args:
            name: For the log, the metric and `/readyz`.
            interval_s: Seconds between the end of one run and the start of the next; a function is asked every time,
                so that a changed setting acts at once.
            work: What to do.
            immediately: Whether the first run comes at once, and not after one interval.
            is_critical: Whether the daemon is not ready while this keeps failing.
        """
        return self._start(name, self._repeat(name, interval_s, work, immediately, is_critical))

    def loop(self, name: str, work: Work, *, is_critical: bool = True) -> asyncio.Task[None]:
        """Run work that lasts until `stop` cancels it; it is begun again when it raises, not when it returns."""
        task = self._start(name, self._keep_running(name, work, is_critical))
        self._endless.add(task)
        task.add_done_callback(self._endless.discard)
        return task

    def once(self, name: str, work: Work, *, after_s: float = 0.0) -> asyncio.Task[None]:
        """Do work once, after `after_s` seconds; a failure is logged and counted, and not retried."""
        task = self._start(name, self._do_once(name, work, after_s))
        self._finite.add(task)
        task.add_done_callback(self._finite.discard)
        return task

    async def attempt(self, name: str, work: Work, *, is_critical: bool = False) -> bool:
        """Do work now, as one run of the task `name`; whether it succeeded. A failure is logged and counted."""
        try:
            await _done(work)
        except Exception as error:  # noqa: BLE001 - a bug in one run must not end the task for good
            self._failed(name, error, is_critical)
            return False
        self._recovered(name)
        return True

    def failures(self) -> Mapping[str, str]:
        """Critical tasks that keep failing, each with the reason of its last failure."""
        return {
            name: failures.reason
            for name, failures in self._failing.items()
            if failures.is_critical and failures.count >= PERSISTENT_FAILURES
        }

    def not_ready(self) -> list[str]:
        """`failures` as reasons for `/readyz`: the names of the tasks; details are for the log alone."""
        return [f"the background task {name!r} keeps failing" for name in self.failures()]

    async def settled(self) -> None:
        """Return when all work that was given to `once` has ended."""
        while finite := self._finite - {asyncio.current_task()}:
            await asyncio.wait(finite)

    async def stop(self, grace_s: float = 0.0) -> None:
        """Begin no run any more, and end those under way; raises nothing.

        Args:
            grace_s: Seconds that runs of `periodic` and `once` may take to finish before they are cancelled, as what
                `loop` runs is at once.
        """
        self._stopping.set()
        for task in tuple(self._endless):
            task.cancel()
        finite = self._tasks - self._endless
        if finite and grace_s > 0:
            await asyncio.wait(finite, timeout=grace_s)
        await cancel_and_wait(*self._tasks)

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = start_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _repeat(
        self, name: str, interval_s: float | Callable[[], float], work: Work, immediately: bool, is_critical: bool
    ) -> None:
        pause_s = 0.0 if immediately else _seconds(interval_s)
        while not await self._stops_within(pause_s):
            if await self.attempt(name, work, is_critical=is_critical):
                pause_s = _seconds(interval_s)
            else:
                pause_s = self._backoff_s(name, max(LONGEST_BACKOFF_S, _seconds(interval_s)))

    async def _keep_running(self, name: str, work: Work, is_critical: bool) -> None:
        while not self._stopping.is_set():
            stable = asyncio.get_running_loop().call_later(self._stable_s, self._recovered, name)
            try:
                if await self.attempt(name, work, is_critical=is_critical):
                    return
            finally:
                stable.cancel()
            await self._stops_within(self._backoff_s(name, LONGEST_BACKOFF_S))

    async def _do_once(self, name: str, work: Work, after_s: float) -> None:
        if not await self._stops_within(after_s):
            try:
                await _done(work)
            except Exception as error:  # noqa: BLE001 - nobody else receives it
                self._report(name, error, is_new=True)

    def _recovered(self, name: str) -> None:
        if self._failing.pop(name, None) is not None:
            log.info("background task works again", task=name)

    def _failed(self, name: str, error: Exception, is_critical: bool) -> None:
        failures = self._failing.setdefault(name, _Failures(is_critical))
        failures.count += 1
        before, failures.reason = failures.reason, _reason(error)
        self._report(name, error, is_new=failures.reason != before)

    def _report(self, name: str, error: Exception, *, is_new: bool) -> None:
        """Count a failure, and log it unless it is the same as the one before."""
        if is_new:
            traceback = None if isinstance(error, self._expected) else error
            log.error("background task failed", task=name, reason=_reason(error), exc_info=traceback)
        if self._on_failure is not None:
            self._on_failure(name)

    def _backoff_s(self, name: str, longest_s: float) -> float:
        count = self._failing[name].count
        return min(longest_s, self._first_backoff_s * 2.0 ** min(count - 1, 20))

    async def _stops_within(self, seconds: float) -> bool:
        if seconds <= 0:
            await asyncio.sleep(0)
            return self._stopping.is_set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        return self._stopping.is_set()


class _Failures:
    """Failures in a row of one task."""

    def __init__(self, is_critical: bool) -> None:
        self.is_critical = is_critical
        self.count = 0
        self.reason = ""


def _seconds(interval_s: float | Callable[[], float]) -> float:
    return interval_s() if callable(interval_s) else interval_s


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
