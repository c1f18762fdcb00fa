"""The writing operations: from a request to the changes that it makes, and the response (protocol §11.2).

A `Draft` gathers the changes of several operations over the rows that are stored, so that a later operation
sees what an earlier one will have written. Nothing is stored here; what is decided is what will be.
An operation raises `ValueError`, and changes nothing, when a key in its request cannot be one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from replicaserver.rows.checks import INT64, CheckError, parse_int64, passes
from replicaserver.rows.store import Lookup, Responder
from shared.pegasus.wire.errors import RocksdbError
from shared.pegasus.wire.keys import HEADER_SIZES, encode_key, encode_value, is_key, value_expire
from shared.pegasus.wire.structures.rrdb import (
    CheckAndMutateRequest,
    CheckAndMutateResponse,
    CheckAndSetRequest,
    CheckAndSetResponse,
    IncrRequest,
    IncrResponse,
    MultiPutRequest,
    MultiRemoveRequest,
    MultiRemoveResponse,
    MutateOperation,
    UpdateRequest,
    UpdateResponse,
)


@dataclass(slots=True)
class Cost:
    """What a write has touched, for metrics and capacity units (§11.4).

    Attributes:
        written: Keys and values that it writes, in bytes; 0 when it fails.
        read: Keys and values that it had to read first, in bytes.
    """

    written: int = 0
    read: int = 0


@dataclass(slots=True)
class Draft:
    """Changes that are decided but not stored.

    Attributes:
        rows: The stored rows.
        data_version: The layout of stored values.
        now: Seconds since the epoch of §10.8.
        timetag: What marks values written now.
        default_ttl: Seconds given to writes that say nothing; 0 for ever.
        changes: Stored values by raw key, None for a removed row.
        notes: What the store shall know of its replica besides the decree.
    """

    rows: Lookup
    data_version: int
    now: int
    timetag: int
    default_ttl: int
    changes: dict[bytes, bytes | None] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)

    def expiry(self, asked: int) -> int:
        """The expiry of a write that asks for one; 0 asks for the default."""
        return asked or (self.now + self.default_ttl if self.default_ttl else 0)

    def header(self, asked: int) -> bytes:
        """What stands before the data of a value whose write asks for an expiry."""
        return encode_value(self.data_version, b"", self.expiry(asked) & 0xFFFF_FFFF, self.timetag)

    def put(self, key: bytes, data: bytes, expire: int) -> None:
        """Store a value under a raw key."""
        self.changes[key] = encode_value(self.data_version, data, expire & 0xFFFF_FFFF, self.timetag)

    def remove(self, key: bytes) -> None:
        """Remove a raw key, whether it is there or not."""
        self.changes[key] = None

    def exchange(self, key: bytes, seen: bytes, stored: bytes | None) -> bool:
        """Change a stored value, or remove it, if it is still the one that was seen; whether it is."""
        present = self.changes[key] if key in self.changes else self.rows.get(key)
        if present != seen:
            return False
        self.changes[key] = stored
        return True

    def stored(self, key: bytes) -> bytes | None:
        """The stored value as it will be, None when absent or expired."""
        found = self.changes[key] if key in self.changes else self.rows.get(key)
        if found is None:
            return None
        expire = value_expire(self.data_version, found)
        return None if 0 < expire <= self.now else found

    def data(self, key: bytes) -> bytes | None:
        """The data of a raw key as it will be, None when absent or expired."""
        found = self.stored(key)
        return None if found is None else found[HEADER_SIZES[self.data_version] :]


def put(draft: Draft, request: UpdateRequest, who: Responder, decree: int, cost: Cost) -> UpdateResponse:
    """Store a row."""
    _check_key(request.key)
    draft.put(request.key, request.value, draft.expiry(request.expire_ts_seconds))
    cost.written = len(request.key) + len(request.value)
    return updated(who, decree)


def remove(draft: Draft, key: bytes, who: Responder, decree: int, cost: Cost) -> UpdateResponse:
    """Remove a row; one that is absent is fine."""
    _check_key(key)
    draft.remove(key)
    cost.written = len(key)
    return updated(who, decree)


def updated(who: Responder, decree: int) -> UpdateResponse:
    """The response to a row that was stored or removed."""
    return UpdateResponse(RocksdbError.OK, who.app_id, who.partition_index, decree, who.server)


def multi_put(draft: Draft, request: MultiPutRequest, who: Responder, decree: int, cost: Cost) -> UpdateResponse:
    """Store several rows of a hash key, all or none."""
    error = RocksdbError.OK if request.kvs else RocksdbError.INVALID_ARGUMENT
    prefix, header, changes = encode_key(request.hash_key, b""), draft.header(request.expire_ts_seconds), draft.changes
    for kv in request.kvs:  # thousands of them, on the event loop
        changes[prefix + kv.key] = header + kv.value
    cost.written += sum([len(kv.key) + len(kv.value) for kv in request.kvs])
    cost.written += len(request.hash_key) if request.kvs else 0
    return UpdateResponse(error, who.app_id, who.partition_index, decree, who.server)


def multi_remove(
    draft: Draft, request: MultiRemoveRequest, who: Responder, decree: int, cost: Cost
) -> MultiRemoveResponse:
    """Remove several rows of a hash key, all or none; the count is how many were asked for."""
    error = RocksdbError.OK if request.sort_keys else RocksdbError.INVALID_ARGUMENT
    prefix = encode_key(request.hash_key, b"")
    for sort_key in request.sort_keys:
        draft.remove(prefix + sort_key)
        cost.written += len(request.hash_key) + len(sort_key)
    return MultiRemoveResponse(error, len(request.sort_keys), who.app_id, who.partition_index, decree, who.server)


def incr(draft: Draft, request: IncrRequest, who: Responder, decree: int, cost: Cost) -> IncrResponse:
    """Add to a row that holds a decimal number; an absent one is 0."""

    def answer(error: RocksdbError, value: int) -> IncrResponse:
        return IncrResponse(error, value, who.app_id, who.partition_index, decree, who.server)

    _check_key(request.key)
    stored = draft.stored(request.key)
    data = b"" if stored is None else stored[HEADER_SIZES[draft.data_version] :]
    cost.read = len(request.key) + len(data)
    old = parse_int64(data) if data else 0
    if old is None:
        return answer(RocksdbError.INVALID_ARGUMENT, 0)
    new = old + request.increment
    if new not in INT64:
        return answer(RocksdbError.INVALID_ARGUMENT, old)
    if request.expire_ts_seconds < 0:
        expire = 0
    elif request.expire_ts_seconds > 0:
        expire = request.expire_ts_seconds
    elif stored is None:
        expire = draft.expiry(0)
    else:
        expire = value_expire(draft.data_version, stored)
    text = b"%d" % new
    draft.put(request.key, text, expire)
    cost.written = len(request.key) + len(text)
    return answer(RocksdbError.OK, new)


def check_and_set(
    draft: Draft, request: CheckAndSetRequest, who: Responder, decree: int, cost: Cost
) -> CheckAndSetResponse:
    """Store a row if another, or the same, meets a condition."""

    def change() -> None:
        sort_key = request.set_sort_key if request.set_diff_sort_key else request.check_sort_key
        key = encode_key(request.hash_key, sort_key)
        draft.put(key, request.set_value, draft.expiry(request.set_expire_ts_seconds))
        cost.written += len(key) - 2 + len(request.set_value)

    error, value = _check(draft, request, cost, change)
    reported = value if request.return_check_value else None
    return CheckAndSetResponse(
        error,
        request.return_check_value,
        reported is not None,
        reported or b"",
        who.app_id,
        who.partition_index,
        decree,
        who.server,
    )


def check_and_mutate(
    draft: Draft, request: CheckAndMutateRequest, who: Responder, decree: int, cost: Cost
) -> CheckAndMutateResponse:
    """Store and remove several rows of a hash key, all or none, if one meets a condition."""

    def change() -> None:
        prefix = encode_key(request.hash_key, b"")
        for mutate in request.mutate_list:
            key = prefix + mutate.sort_key
            if mutate.operation == MutateOperation.PUT:
                draft.put(key, mutate.value, draft.expiry(mutate.set_expire_ts_seconds))
                cost.written += len(key) - 2 + len(mutate.value)
            else:
                draft.remove(key)
                cost.written += len(key) - 2

    known = {operation.value for operation in MutateOperation}
    if not request.mutate_list or any(mutate.operation not in known for mutate in request.mutate_list):
        error, value, is_returned = RocksdbError.INVALID_ARGUMENT, None, False
    else:
        error, value = _check(draft, request, cost, change)
        is_returned = request.return_check_value
    reported = value if is_returned else None
    return CheckAndMutateResponse(
        error,
        is_returned,
        reported is not None,
        reported or b"",
        who.app_id,
        who.partition_index,
        decree,
        who.server,
    )


def _check(
    draft: Draft, request: CheckAndSetRequest | CheckAndMutateRequest, cost: Cost, change: Callable[[], None]
) -> tuple[RocksdbError, bytes | None]:
    """Make a change if the condition of a request is met; the outcome, and the value that was checked."""
    value = draft.data(encode_key(request.hash_key, request.check_sort_key))
    cost.read = len(request.hash_key) + len(request.check_sort_key) + len(value or b"")
    try:
        if not passes(request.check_type, request.check_operand, value):
            return RocksdbError.TRY_AGAIN, value
    except CheckError:
        return RocksdbError.INVALID_ARGUMENT, value
    change()
    return RocksdbError.OK, value


def _check_key(raw: bytes) -> None:
    if not is_key(raw):
        raise ValueError("a raw key is shorter than it promises")


def capacity_units(size_bytes: int, unit_bytes: int) -> int:
    """What an operation that touched some bytes costs: at least 1, and 1 for every unit begun (§11.4)."""
    return max(1, -(-size_bytes // unit_bytes))
