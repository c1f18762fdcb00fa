"""Intervals of an iserver's background tasks, and the one that tunes the garbage collector."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

SWEEP_S = 0.5
PROBE_S = 1.0
TEND_S = 1.0
TIDY_S = 0.25
TIDY_SESSIONS, TIDY_IDLE = 2000, 240
YOUNG_OBJECTS, MIDDLE_COLLECTIONS, NO_FULL_COLLECTIONS = 5000, 20, 1_000_000


async def give_way() -> None:
    """Let everybody else who is ready go first."""
    await asyncio.sleep(0)


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
