"""Things kept as long as they pay: those used last, up to a number of bytes and a time of rest."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    """What takes up room."""

    @property
    def size(self) -> int:
        """Its bytes."""


T = TypeVar("T", bound=Sized)


class LatelyUsed(Generic[T]):
    """The things used last.

    Args:
        limit: The most bytes of all together.
        largest: The most bytes of a thing that is kept at all.
        idle_s: How long a thing is kept unused, in seconds.
        clock: Seconds, for idleness.
    """

    def __init__(self, limit: int, largest: int, idle_s: float, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._largest = largest
        self._idle_s = idle_s
        self._clock = clock
        self._kept: OrderedDict[Hashable, tuple[T, float]] = OrderedDict()
        self.size = 0
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable) -> T | None:
        """A thing, now used once more; None when it is not here."""
        known = self._kept.get(key)
        if known is None:
            self.misses += 1
            return None
        self.hits += 1
        self._kept[key] = (known[0], self._clock())
        self._kept.move_to_end(key)
        return known[0]

    def look(self, key: Hashable) -> T | None:
        """A thing as `get` gives it, without counting when it is not here."""
        return self.get(key) if key in self._kept else None

    def put(self, key: Hashable, thing: T) -> None:
        """Keep a thing; the longest unused ones make room. Whoever still uses one of those has it until then."""
        if thing.size > self._largest or key in self._kept:
            return
        self._kept[key] = (thing, self._clock())
        self.size += thing.size
        while self.size > self._limit:
            self._drop_oldest()

    def sweep(self) -> None:
        """Drop what was not used for too long."""
        oldest_allowed = self._clock() - self._idle_s
        while self._kept and next(iter(self._kept.values()))[1] < oldest_allowed:
            self._drop_oldest()

    def clear(self) -> None:
        """Drop everything."""
        self._kept.clear()
        self.size = 0

    def _drop_oldest(self) -> None:
        _, (thing, _) = self._kept.popitem(last=False)
        self.size -= thing.size
