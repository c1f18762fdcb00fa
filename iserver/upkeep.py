"""What an iserver does unasked: sweeping, ETL, polling, heartbeats (specification §8, §9.2, §11, §12)."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import structlog

from iserver.refusals import InvalidConfigurationError, NotStoredError, UnreachableError
from shared.errors import StartupError

log = structlog.get_logger("iserver.upkeep")

SWEEP_S = 0.5
TEND_S = 1.0
TIDY_S = 0.25
TIDY_SESSIONS, TIDY_IDLE = 2000, 240
YOUNG_OBJECTS, MIDDLE_COLLECTIONS, NO_FULL_COLLECTIONS = 5000, 20, 1_000_000

Chore = Callable[[], Awaitable[object]]


async def give_way() -> None:
    """Let everybody else who is ready go first."""
    await asyncio.sleep(0)


class Upkeep:
    """Repeats chores until it is stopped. A chore that fails is logged, once a reason; its next time comes anyway."""

    def __init__(self) -> None:
        self._failing: dict[str, str] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()

    def every(self, interval_s: float, name: str, chore: Chore) -> None:
        """Start repeating a chore, the first time after one interval."""
        self._tasks.append(asyncio.create_task(self._repeat(interval_s, name, chore), name=name))

    def once(self, delay_s: float, name: str, chore: Chore) -> None:
        """Do a chore once, after a delay."""
        self._tasks.append(asyncio.create_task(self._later(delay_s, name, chore), name=name))

    def when_changed(self, paths: Sequence[Path], name: str, chore: Chore) -> None:
        """Do a chore whenever one of some files changes, is replaced, or appears."""
        self._tasks.append(asyncio.create_task(self._watch(paths, name, chore), name=name))

    async def stop(self) -> None:
        """Begin no chore any more, and wait for those under way."""
        self._stopping.set()
        await asyncio.gather(*self._tasks)

    async def _repeat(self, interval_s: float, name: str, chore: Chore) -> None:
        while not await self._stops_within(interval_s):
            await self._do(name, chore)

    async def _later(self, delay_s: float, name: str, chore: Chore) -> None:
        if not await self._stops_within(delay_s):
            await self._do(name, chore)

    async def _watch(self, paths: Sequence[Path], name: str, chore: Chore) -> None:
        from watchfiles import awatch  # takes its time to import, and few servers need it

        wanted = {str(path.absolute()) for path in paths}
        folders = {path.absolute().parent for path in paths}  # editors replace files, so a file alone is lost sight of
        changes = awatch(
            *folders,
            watch_filter=lambda _, path: path in wanted,
            stop_event=self._stopping,
            recursive=False,
            step=20,
            debounce=200,
        )
        async for _ in changes:
            await self._do(name, chore)

    async def _stops_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._stopping.wait()
        except TimeoutError:
            return False

    async def _do(self, name: str, chore: Chore) -> None:
        try:
            await chore()
        except (OSError, NotStoredError, UnreachableError, InvalidConfigurationError, StartupError) as error:
            if self._failing.get(name) != str(error):
                self._failing[name] = str(error)
                log.error("chore failed", chore=name, reason=str(error))
        else:
            if self._failing.pop(name, None) is not None:
                log.info("chore works again", chore=name)


class Tidying:
    """Keeps the garbage collector from looking through all sessions again and again.

    Sessions hold no reference cycles, so what is alive is set aside (`gc.freeze`) as it grows: the collector looks
    only at what is new. Otherwise a million sessions would stop the server for seconds.

    Args:
        begun_count: How many sessions have begun so far.
    """

    def __init__(self, begun_count: Callable[[], int]) -> None:
        self._begun_count = begun_count
        self._seen = 0
        self._idle = 0

    def begin(self) -> None:
        """Set aside what there is, and leave full collections to `tidy`."""
        gc.set_threshold(YOUNG_OBJECTS, MIDDLE_COLLECTIONS, NO_FULL_COLLECTIONS)
        gc.freeze()
        self._seen = self._begun_count()

    async def tidy(self) -> None:
        """Collect what is new and set aside what is left of it, when there is enough of it or after a while."""
        begun = self._begun_count()
        self._idle += 1
        if begun - self._seen >= TIDY_SESSIONS or self._idle >= TIDY_IDLE:
            gc.collect()
            gc.freeze()
            self._seen, self._idle = begun, 0
