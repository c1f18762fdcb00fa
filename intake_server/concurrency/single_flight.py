"""Equal work asked for at the same time is done once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from shared.tasks import retrieve_exception, start_task

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Runs one task for all callers that ask for the same key while it runs.

    When the last of them goes away the task is cancelled, so that work nobody waits for does not begin.
    """

    def __init__(self) -> None:
        self._tasks: dict[Hashable, tuple[asyncio.Task[T], list[int]]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    async def run(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """The result of `work`, or of the equal work that is under way."""
        known = self._tasks.get(key)
        if known is None:
            known = (start_task(work(), name="shared work"), [0])
            self._tasks[key] = known
            known[0].add_done_callback(lambda _task: self._tasks.pop(key, None))
        task, waiters = known
        waiters[0] += 1
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if waiters[0] == 1 and not task.done():
                self._tasks.pop(key, None)
                task.cancel()
            raise
        finally:
            waiters[0] -= 1
            task.add_done_callback(retrieve_exception)
