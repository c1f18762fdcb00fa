"""Scanners over the rows of one partition: pages of rows, and where to go on (protocol §11.3).

A context remembers where its next page begins, nothing of the rows: a scan is consistent within a page only,
and an open scanner holds no snapshot of the store.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from replicaserver.rows.checks import key_filter
from replicaserver.rows.reads import Limits, Reader
from replicaserver.rows.store import Usage
from shared.pegasus.wire.errors import RocksdbError
from shared.pegasus.wire.keys import decode_key, partition_of, value_expire
from shared.pegasus.wire.structures.rrdb import GetScannerRequest

FINISHED = -1
IDLE_S = 300.0
"""Seconds after which a context that nobody asked for is dropped."""
MAX_BYTES = 4 * 1024 * 1024
"""What the contexts of a partition may hold; those that were not asked for longest are dropped."""
CONTEXT_OVERHEAD = 512
"""What a context holds besides keys and patterns."""
CHUNK_ROWS = 250
"""How many rows are read between two checks of the time and of the size of the page."""

Row = tuple[bytes, bytes]
"""Raw key and stored value."""


@dataclass(slots=True)
class Page:
    """What one call of a scanner returns.

    Attributes:
        error: OK, or NOT_FOUND for a context that is unknown.
        rows: Raw keys and data; empty when only the count was asked for.
        expires: The expiry of each row, None when not asked for.
        context_id: What to ask for next; `FINISHED` at the end.
        count: The number of rows, None unless only that was asked for.
    """

    error: int
    rows: list[Row]
    expires: list[int] | None
    context_id: int
    count: int | None


@dataclass(slots=True)
class _Context:
    request: GetScannerRequest
    start: bytes
    stop: bytes
    keep: Callable[[bytes], bool] | None
    used_s: float

    @property
    def size(self) -> int:
        """What it holds, in bytes."""
        request = self.request
        patterns = len(request.hash_key_filter_pattern) + len(request.sort_key_filter_pattern)
        keys = len(request.start_key) + len(request.stop_key) + len(self.start) + len(self.stop)
        return CONTEXT_OVERHEAD + patterns + keys


class Scans:
    """The open scanners of one partition.

    Args:
        reader: Reads the rows.
        data_version: The layout of stored values.
        first_id: Where context ids begin; random, so that an id of an earlier run is not taken for one of this.
    """

    def __init__(self, reader: Reader, data_version: int, first_id: int) -> None:
        self._reader = reader
        self._version = data_version
        self._next_id = first_id
        self._contexts: OrderedDict[int, _Context] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._contexts)

    def open(
        self,
        request: GetScannerRequest,
        now: int,
        now_s: float,
        limits: Limits,
        usage: Usage,
        *,
        partition_count: int | None = None,
    ) -> Page:
        """The first page of a scan.

        Args:
            request: Range, filters and what to return.
            now: Seconds since the epoch of §10.8.
            now_s: A clock for idle contexts.
            limits: What the page may do.
            usage: What the page has done.
            partition_count: Rows that belong to another of this many partitions are left out; None keeps all.
        """
        start = request.start_key if request.start_inclusive else request.start_key + b"\0"
        stop = request.stop_key + b"\0" if request.stop_key and request.stop_inclusive else request.stop_key
        if stop and start >= stop:
            return Page(RocksdbError.OK, [], None, FINISHED, 0 if request.only_return_count else None)
        context = _Context(request, start, stop, self._filter(request, partition_count), now_s)
        return self._page(context, now, now_s, limits, usage)

    def go_on(self, context_id: int, now: int, now_s: float, limits: Limits, usage: Usage) -> Page:
        """The next page of a scan; NOT_FOUND when the context is unknown, was used before, or was idle too long."""
        self.sweep(now_s)
        context = self._forget(context_id)
        if context is None:
            return Page(RocksdbError.NOT_FOUND, [], None, 0, None)
        return self._page(context, now, now_s, limits, usage)

    def close(self, context_id: int) -> None:
        """Forget a context."""
        self._forget(context_id)

    def _forget(self, context_id: int) -> _Context | None:
        context = self._contexts.pop(context_id, None)
        if context is not None:
            self._bytes -= context.size
        return context

    def sweep(self, now_s: float) -> None:
        """Forget the contexts that have been idle too long, and the oldest while all hold too much."""
        while self._contexts:
            oldest = next(iter(self._contexts))
            if self._contexts[oldest].used_s + IDLE_S > now_s and self._bytes <= MAX_BYTES:
                break
            self._forget(oldest)

    def _page(self, context: _Context, now: int, now_s: float, limits: Limits, usage: Usage) -> Page:
        request = context.request
        wanted = min(request.batch_size, limits.rows) if request.batch_size > 0 else limits.rows
        rows = iter(self._reader.rows.scan(context.start, context.stop))
        page: list[Row] = []
        size, left = 0, wanted
        following: bytes | None = None
        while left > 0:
            chunk = list(islice(rows, min(left, CHUNK_ROWS)))
            left -= len(chunk)
            usage.rows += len(chunk)
            live = self._select(chunk, context.keep, now, usage)
            page += live
            size += sum([len(key) + len(stored) for key, stored in live])
            if len(chunk) < CHUNK_ROWS and left > 0:
                break
            if size >= limits.size_bytes or limits.is_overdue():
                left = 0
        if left <= 0:
            following = next((key for key, _ in rows), None)
        usage.bytes_ += size - self._reader.header * len(page)
        context_id = FINISHED if following is None else self._remember(context, following, now_s)
        return self._result(request, page, context_id)

    def _select(self, chunk: list[Row], keep: Callable[[bytes], bool] | None, now: int, usage: Usage) -> list[Row]:
        is_live = self._reader.is_live
        live = [row for row in chunk if row[1].startswith(b"\0\0\0\0") or is_live(row[1], now)]
        usage.expired += len(chunk) - len(live)
        if keep is None:
            return live
        kept = [row for row in live if keep(row[0])]
        usage.filtered += len(live) - len(kept)
        return kept

    def _remember(self, context: _Context, start: bytes, now_s: float) -> int:
        context.start = start
        context.used_s = now_s
        context_id = self._next_id
        self._next_id += 1
        self._contexts[context_id] = context
        self._bytes += context.size
        self.sweep(now_s)
        return context_id

    def _result(self, request: GetScannerRequest, page: list[Row], context_id: int) -> Page:
        if request.only_return_count:
            return Page(RocksdbError.OK, [], None, context_id, len(page))
        version, header = self._version, self._reader.header
        expires = [value_expire(version, stored) for _, stored in page] if request.return_expire_ts else None
        if request.no_value:
            return Page(RocksdbError.OK, [(key, b"") for key, _ in page], expires, context_id, None)
        return Page(RocksdbError.OK, [(key, stored[header:]) for key, stored in page], expires, context_id, None)

    def _filter(self, request: GetScannerRequest, partition_count: int | None) -> Callable[[bytes], bool] | None:
        """A test of raw keys, None when all pass."""
        by_hash_key = key_filter(request.hash_key_filter_type, request.hash_key_filter_pattern)
        by_sort_key = key_filter(request.sort_key_filter_type, request.sort_key_filter_pattern)
        index = self._reader.who.partition_index
        if by_hash_key is None and by_sort_key is None and partition_count is None:
            return None

        def keep(raw: bytes) -> bool:
            hash_key, sort_key = decode_key(raw)
            return (
                (by_hash_key is None or by_hash_key(hash_key))
                and (by_sort_key is None or by_sort_key(sort_key))
                and (partition_count is None or partition_of(raw, partition_count) == index)
            )

        return keep
