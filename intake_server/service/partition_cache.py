"""Encoded partitions in memory, bounded by bytes and by time (specification §6.2)."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

from intake_server.encoding.parts import Parts


class PartitionCache:
    """The partitions used last.

    Args:
        limit: The most bytes kept; a partition larger than half of it is not kept at all.
        idle_s: How long a partition is kept unused, in seconds.
        clock: Seconds, for idleness.
    """

    def __init__(self, limit: int, idle_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._idle_s = idle_s
        self._clock = clock
        self._kept: OrderedDict[Hashable, tuple[Parts, float]] = OrderedDict()
        self.size = 0
        self.hits = 0
        self.misses = 0

    def get(self, key: Hashable) -> Parts | None:
        """A partition, now used once more; None when it is not here."""
        known = self._kept.get(key)
        if known is None:
            self.misses += 1
            return None
        self.hits += 1
        self._kept[key] = (known[0], self._clock())
        self._kept.move_to_end(key)
        return known[0]

    def put(self, key: Hashable, parts: Parts) -> None:
        """Keep a partition, dropping the longest unused ones if need be."""
        if parts.size > self._limit // 2 or key in self._kept:
            return
        self._kept[key] = (parts, self._clock())
        self.size += parts.size
        while self.size > self._limit:
            self._drop_oldest()

    def sweep(self) -> None:
        """Drop what was not used for too long."""
        oldest_allowed = self._clock() - self._idle_s
        while self._kept and next(iter(self._kept.values()))[1] < oldest_allowed:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, (parts, _) = self._kept.popitem(last=False)
        self.size -= parts.size
