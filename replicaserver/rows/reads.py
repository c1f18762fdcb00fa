"""The reading operations on the rows of one partition (protocol §11.3).

Each takes the rows, the request, the present second (since the epoch of §10.8) and what limits it,
and returns the response. Nothing here knows who may read, or how long anything took.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from replicaserver.rows.checks import key_filter
from replicaserver.rows.store import Responder, Rows, Usage
from shared.pegasus.wire.errors import RocksdbError
from shared.pegasus.wire.keys import HEADER_SIZES, encode_key, hash_key_range, next_prefix, value_expire
from shared.pegasus.wire.structures.rrdb import (
    BatchGetRequest,
    BatchGetResponse,
    CountResponse,
    FullData,
    KeyValue,
    MultiGetRequest,
    MultiGetResponse,
    ReadResponse,
    TtlResponse,
)

CHECK_EVERY_ROWS = 256
"""How many rows are read between two checks of the time."""

LONGEST_TTL = 2**31 - 1
"""The most seconds that a response can say; a row may have more."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one range read may do.

    Attributes:
        rows: Rows that it may read.
        size_bytes: Bytes of values and keys that it may return.
        is_overdue: Says whether the time for one range read is over; asked now and then.
    """

    rows: int
    size_bytes: int
    is_overdue: Callable[[], bool]


class Reader:
    """The reading operations of one partition.

    Args:
        rows: Where the rows are.
        who: What responses repeat.
        data_version: The layout of stored values.
    """

    def __init__(self, rows: Rows, who: Responder, data_version: int) -> None:
        self.rows = rows
        self.who = who
        self.header = HEADER_SIZES[data_version]
        self._version = data_version
        self._never = b"\0\0\0\0" if data_version != 2 else b"\x82\0\0\0\0"
        self._expire_end = len(self._never)

    def is_live(self, stored: bytes, now: int) -> bool:
        """Whether a stored value is there for readers."""
        if stored[: self._expire_end] == self._never:
            return True
        expire = value_expire(self._version, stored)
        return expire == 0 or expire > now

    def live(self, key: bytes, now: int, usage: Usage) -> bytes | None:
        """The data of a raw key, None when it is absent or its time is over."""
        stored = self.rows.get(key)
        if stored is None:
            usage.bytes_ += len(key)
            return None
        if not self.is_live(stored, now):
            usage.expired += 1
            usage.bytes_ += len(key)
            return None
        usage.bytes_ += len(key) + len(stored) - self.header
        return stored[self.header :]

    def get(self, key: bytes, now: int, usage: Usage) -> ReadResponse:
        """The value of a row."""
        data = self.live(key, now, usage)
        error = RocksdbError.NOT_FOUND if data is None else RocksdbError.OK
        return ReadResponse(error, data or b"", self.who.app_id, self.who.partition_index, self.who.server)

    def ttl(self, key: bytes, now: int, usage: Usage) -> TtlResponse:
        """The seconds that a row still has; -1 when it does not expire."""
        who = self.who
        stored = self.rows.get(key)
        usage.bytes_ += len(key)
        if stored is None or not self.is_live(stored, now):
            usage.expired += stored is not None
            return TtlResponse(RocksdbError.NOT_FOUND, 0, who.app_id, who.partition_index, who.server)
        expire = value_expire(self._version, stored)
        left = min(expire - now, LONGEST_TTL) if expire else -1
        return TtlResponse(RocksdbError.OK, left, who.app_id, who.partition_index, who.server)

    def sortkey_count(self, hash_key: bytes, now: int, limits: Limits, usage: Usage) -> CountResponse:
        """The number of live rows of a hash key; -1 when there was not enough time to count them."""
        who, count = self.who, 0
        for _, stored in self.rows.scan(*hash_key_range(hash_key)):
            usage.rows += 1
            if usage.rows % CHECK_EVERY_ROWS == 0 and limits.is_overdue():
                count = -1
                break
            if self.is_live(stored, now):
                count += 1
            else:
                usage.expired += 1
        return CountResponse(RocksdbError.OK, count, who.app_id, who.partition_index, who.server)

    def batch_get(self, request: BatchGetRequest, now: int, usage: Usage) -> BatchGetResponse:
        """The values of several rows; absent ones are left out."""
        who, found = self.who, []
        if not request.keys:
            usage.has_failed = True
            return BatchGetResponse(RocksdbError.INVALID_ARGUMENT, (), who.app_id, who.partition_index, who.server)
        raw = [encode_key(key.hash_key, key.sort_key) for key in request.keys]
        for key, stored in zip(request.keys, self.rows.get_many(raw), strict=True):
            usage.rows += 1
            usage.bytes_ += len(key.hash_key) + len(key.sort_key)
            if stored is None:
                continue
            if not self.is_live(stored, now):
                usage.expired += 1
                continue
            data = stored[self.header :]
            usage.bytes_ += len(data)
            found.append(FullData(key.hash_key, key.sort_key, data))
        return BatchGetResponse(RocksdbError.OK, found, who.app_id, who.partition_index, who.server)

    def multi_get(self, request: MultiGetRequest, now: int, limits: Limits, usage: Usage) -> MultiGetResponse:
        """Rows of one hash key: those asked for, or those of a range (§11.3)."""
        who = self.who
        max_count = min(request.max_kv_count, limits.rows) if request.max_kv_count > 0 else limits.rows
        max_size = min(request.max_kv_size, limits.size_bytes) if request.max_kv_size > 0 else limits.size_bytes
        if request.sort_keys:
            kvs, is_complete = self._of_sort_keys(request, now, max_count, max_size, usage)
        else:
            kvs, is_complete = self._of_range(request, now, max_count, max_size, limits, usage)
        error = RocksdbError.OK if is_complete else RocksdbError.INCOMPLETE
        return MultiGetResponse(error, kvs, who.app_id, who.partition_index, who.server)

    def _of_sort_keys(
        self, request: MultiGetRequest, now: int, max_count: int, max_size: int, usage: Usage
    ) -> tuple[list[KeyValue], bool]:
        """The rows asked for, in the order of the request, and whether none was left out for the limits."""
        header, is_live, no_value = self.header, self.is_live, request.no_value
        prefix = encode_key(request.hash_key, b"")
        sort_keys = request.sort_keys
        kvs: list[KeyValue] = []
        size = 0
        is_complete = True
        for sort_key, stored in zip(
            sort_keys, self.rows.get_many([prefix + sort_key for sort_key in sort_keys]), strict=True
        ):
            if stored is None:
                continue
            if not is_live(stored, now):
                usage.expired += 1
                continue
            if len(kvs) >= max_count or size >= max_size:
                is_complete = False
                break
            data = b"" if no_value else stored[header:]
            size += len(sort_key) + len(data)
            kvs.append(KeyValue(sort_key, data))
        usage.rows += len(sort_keys)
        usage.bytes_ += size + len(request.hash_key)
        return kvs, is_complete

    def _of_range(
        self, request: MultiGetRequest, now: int, max_count: int, max_size: int, limits: Limits, usage: Usage
    ) -> tuple[list[KeyValue], bool]:
        """The rows of a range in ascending order, and whether the range was read to its end."""
        prefix_size = 2 + len(request.hash_key)
        matches = key_filter(request.sort_key_filter_type, request.sort_key_filter_pattern)
        kvs: list[KeyValue] = []
        size = 0
        is_complete = True
        usage.bytes_ += len(request.hash_key)
        for key, stored in self._range(request):
            if len(kvs) >= max_count or size >= max_size or usage.rows >= limits.rows:
                is_complete = False
                break
            usage.rows += 1
            if usage.rows % CHECK_EVERY_ROWS == 0 and limits.is_overdue():
                is_complete = False
                break
            if not self.is_live(stored, now):
                usage.expired += 1
                continue
            sort_key = key[prefix_size:]
            if matches is not None and not matches(sort_key):
                usage.filtered += 1
                continue
            data = b"" if request.no_value else stored[self.header :]
            size += len(sort_key) + len(data)
            kvs.append(KeyValue(sort_key, data))
        usage.bytes_ += size
        if request.reverse:
            kvs.reverse()
        return kvs, is_complete

    def _range(self, request: MultiGetRequest) -> Iterator[tuple[bytes, bytes]]:
        prefix, end = hash_key_range(request.hash_key)
        start = prefix + request.start_sortkey
        if not request.start_inclusive:
            start += b"\0"
        if request.stop_sortkey:
            end = prefix + request.stop_sortkey
            if request.stop_inclusive:
                end += b"\0"
        if request.sort_key_filter_type == 2 and request.sort_key_filter_pattern:
            first = prefix + request.sort_key_filter_pattern  # nothing outside the prefix can match
            after = next_prefix(first)
            start = max(start, first)
            end = min(end, after) if end and after else end or after
        if end and start >= end:
            return iter(())
        return self.rows.scan(start, end, reverse=request.reverse)
