"""The writes of one partition between their decree and their oblivion: prepared, committed, and kept for learners.

A list knows which decrees it holds, which of them are committed, and how many bytes they take. It never knows who
prepared them or whether a disk has them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

ENTRY_BYTES = 256
"""What an entry takes besides its data."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One write.

    Attributes:
        decree: Its number; the writes of a partition are applied in the order of their decrees.
        ballot: The ballot under which it was prepared last. Of two entries of one decree, that of the higher ballot
            replaces the other.
        data: What is written; opaque here.
    """

    decree: int
    ballot: int
    data: bytes

    @property
    def size(self) -> int:
        """What it takes in memory, in bytes."""
        return ENTRY_BYTES + len(self.data)


class PrepareList:
    """The newest entries of a partition, without gaps.

    Args:
        committed: The highest committed decree; entries begin after it.
        cached_count: How many committed entries are kept for learners.
        cached_bytes: How many bytes the committed entries that are kept may take.

    Attributes:
        committed: The highest committed decree.
        size: What all entries take, in bytes.
    """

    def __init__(self, committed: int, *, cached_count: int, cached_bytes: int) -> None:
        self.committed = committed
        self.size = 0
        self._entries: deque[Entry] = deque()
        self._cached_count = cached_count
        self._cached_bytes = cached_bytes
        self._committed_bytes = 0

    @property
    def first(self) -> int:
        """The lowest decree that is held, or would be held next."""
        return self._entries[0].decree if self._entries else self.committed + 1

    @property
    def last(self) -> int:
        """The highest decree that is prepared."""
        return self._entries[-1].decree if self._entries else self.committed

    @property
    def uncommitted_count(self) -> int:
        """How many entries are prepared and not committed."""
        return self.last - self.committed

    @property
    def uncommitted_bytes(self) -> int:
        """What the entries take that are not committed, in bytes."""
        return self.size - self._committed_bytes

    def get(self, decree: int) -> Entry | None:
        """The entry of a decree, while it is held."""
        at = decree - self.first
        return self._entries[at] if 0 <= at < len(self._entries) else None

    def between(self, first: int, last: int) -> Iterator[Entry]:
        """The entries from one decree to another, both included."""
        for decree in range(max(first, self.first), min(last, self.last) + 1):
            yield self._entries[decree - self.first]

    def uncommitted(self) -> Iterator[Entry]:
        """The entries that are prepared and not committed, in order."""
        return self.between(self.committed + 1, self.last)

    def append(self, entry: Entry) -> None:
        """Add the next entry.

        Raises:
            ValueError: Its decree is not the next one.
        """
        if entry.decree != self.last + 1:
            raise ValueError(f"found decree {entry.decree}, expected {self.last + 1}")
        self._entries.append(entry)
        self.size += entry.size

    def truncate(self, last: int) -> None:
        """Forget the entries after a decree, which is not below the committed one.

        Raises:
            ValueError: A committed entry would be lost.
        """
        if last < self.committed:
            raise ValueError(f"decree {self.committed} is committed and cannot be undone to {last}")
        while self._entries and self._entries[-1].decree > last:
            self.size -= self._entries.pop().size

    def commit(self, decree: int) -> list[Entry]:
        """Mark everything up to a decree as committed.

        Returns:
            The entries that were not committed before, in order.
        """
        newly = list(self.between(self.committed + 1, decree))
        if newly:
            self.committed = newly[-1].decree
            self._committed_bytes += sum([entry.size for entry in newly])
            self._trim()
        return newly

    def restart(self, committed: int) -> None:
        """Forget everything: the state up to a decree came from elsewhere."""
        self._entries.clear()
        self.size = self._committed_bytes = 0
        self.committed = committed

    def _trim(self) -> None:
        while self._entries and self._entries[0].decree <= self.committed:
            count = self.committed - self._entries[0].decree + 1
            if count <= self._cached_count and self._committed_bytes <= self._cached_bytes:
                return
            size = self._entries.popleft().size
            self.size -= size
            self._committed_bytes -= size
