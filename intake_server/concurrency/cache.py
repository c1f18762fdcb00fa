"""The one cache of the server: the values used last, bounded by number, by bytes and by idle time."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Entry(Generic[T]):
    value: T
    size: int
    used: float


class LruCache(Generic[T]):
    """Values by key; the least recently used are evicted.

    Args:
        most: The most values.
        most_bytes: The most bytes of all values together; a single value may be larger.
        largest: The most bytes of a value that is kept at all.
        idle_s: How long an unused value is kept, in seconds.
        clock: Seconds, for idleness.
    """

    def __init__(
        self,
        *,
        most: float = math.inf,
        most_bytes: float = math.inf,
        largest: float = math.inf,
        idle_s: float = math.inf,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._largest = largest
        self._idle_s = idle_s
        self._clock = clock
        self._entries: OrderedDict[Hashable, _Entry[T]] = OrderedDict()
        self.size = 0
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[T]:
        return iter([entry.value for entry in self._entries.values()])

    def get(self, key: Hashable) -> T | None:
        """A value, now used once more; None when it is missing or was idle for too long."""
        entry = self._entries.get(key)
        if entry is None:
            self.misses += 1
            return None
        now = self._clock()
        if now - entry.used > self._idle_s:
            self.misses += 1
            self.pop(key)
            return None
        self.hits += 1
        entry.used = now
        self._entries.move_to_end(key)
        return entry.value

    def peek(self, key: Hashable) -> T | None:
        """A value however long it was idle, and without using it."""
        entry = self._entries.get(key)
        return None if entry is None else entry.value

    def put(self, key: Hashable, value: T, size: int = 0) -> list[Hashable]:
        """Keep a value as the last used, instead of the one that its key had.

        Returns:
            The keys that were evicted for it.
        """
        self.pop(key)
        if size > self._largest:
            return []
        self._entries[key] = _Entry(value, size, self._clock())
        self.size += size
        return self._evict(least=1)

    def pop(self, key: Hashable) -> None:
        """Forget a value, if there is one."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.size -= entry.size

    def sweep(self) -> None:
        """Evict what was not used for too long."""
        self._evict(least=0)

    def _evict(self, least: int) -> list[Hashable]:
        """Evict what was not used for too long, and what is too much, until so many are left; the keys of that."""
        oldest_allowed = self._clock() - self._idle_s
        evicted: list[Hashable] = []
        while len(self._entries) > least:
            key, oldest = next(iter(self._entries.items()))
            is_full = len(self._entries) > self._most or self.size > self._most_bytes
            if oldest.used >= oldest_allowed and not (is_full and len(self._entries) > 1):
                break
            self.pop(key)
            evicted.append(key)
        return evicted

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self.size = 0
