"""Every source id that is valid, and the spec that it stands for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from intake_server.concurrency.cache import LruCache
from intake_server.sources.specs import SourceSpec
from shared.errors import Problem

MAX_BYTES = 128 * 2**20


class UnknownId(Problem):
    """410: nobody was ever given this id, or it has expired."""

    def __init__(self) -> None:
        super().__init__(410, "unknown or expired source-id", code="gone")


class Store(Protocol):
    """Keeps specs beyond the life of the process."""

    def put(self, source_id: str, spec: SourceSpec) -> None:
        """Store a spec; returns at once."""

    def touch(self, source_ids: Iterable[str]) -> None:
        """Note that specs were used; returns at once."""

    def drop(self, source_ids: Iterable[Any]) -> None:
        """Delete specs; returns at once."""


class SourceRegistry:
    """The specs by id, bounded by number, by bytes and by idle time.

    Searches have a share of their own, so that nobody's searches make other ids invalid.

    Args:
        key: The secret that ids are made with.
        most: How many specs are kept, and a tenth as many searches besides; the least recently used go first.
        idle_s: How long a spec is kept unused, in seconds.
        clock: Seconds, for idleness.
        store: Keeps specs for after a restart; None keeps none.
        most_bytes: How many bytes all of them take, about; searches a sixteenth of it besides.
    """

    def __init__(
        self,
        key: bytes,
        *,
        most: int,
        idle_s: float,
        clock: Callable[[], float] = time.monotonic,
        store: Store | None = None,
        most_bytes: int = MAX_BYTES,
    ) -> None:
        self._key = key
        self._store = store
        self._opens = LruCache[SourceSpec](most=most, most_bytes=most_bytes, idle_s=idle_s, clock=clock)
        self._searches = LruCache[SourceSpec](
            most=max(1, most // 10), most_bytes=most_bytes // 16, idle_s=idle_s, clock=clock
        )
        self._used: set[str] = set()

    def __len__(self) -> int:
        return len(self._opens) + len(self._searches)

    @property
    def size(self) -> int:
        """About how many bytes all specs take."""
        return self._opens.size + self._searches.size

    def add(self, spec: SourceSpec) -> str:
        """Register a spec.

        Returns:
            Its id; equal specs have equal ones.
        """
        source_id = spec.source_id(self._key)
        specs = self._opens if spec.query is None else self._searches
        is_new = source_id not in specs
        evicted = specs.put(source_id, spec, spec.size)
        if is_new and self._store is not None:
            self._store.put(source_id, spec)
            self._store.drop(evicted)
        return source_id

    def find(self, source_id: str) -> SourceSpec | None:
        """The spec of an id, now used once more; None when there is none in memory."""
        spec = (self._opens if source_id in self._opens else self._searches).get(source_id)
        if spec is not None and self._store is not None:
            self._used.add(source_id)
        return spec

    def sweep(self) -> None:
        """Tell the store which specs were used since the last sweep."""
        if self._store is not None and self._used:
            self._store.touch(self._used)
            self._used = set()
