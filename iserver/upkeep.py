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
FEW_OBJECTS = 100_000
"""So many objects, six thousand sessions or so beside the server itself, are looked through in less than 0.1 s."""


async def give_way() -> None:
    """Let everybody else who is ready go first."""
    await asyncio.sleep(0)


class Tidying:
    """Keeps the garbage collector from looking through all sessions again and again.

    Sessions hold no reference cycles, so what is alive is set aside (`gc.freeze`, which costs a microsecond) as it
    grows: the collector looks only at what is new. A full collection with 200,000 sessions takes about a second, and
    one with a million five. What was set aside and has become garbage in a cycle since, as connections and replaced
    configurations do, is collected after a while without many new sessions, when there is little to look through.

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
            if self._idle >= TIDY_IDLE and gc.get_freeze_count() <= FEW_OBJECTS:
                gc.unfreeze()
            gc.collect()
            gc.freeze()
            self._seen, self._idle = begun, 0
