"""What the writing operations decide (protocol §11.2, §15)."""

from __future__ import annotations

import pytest

from replicaserver.rows import writes
from replicaserver.rows.writes import Cost, capacity_units
from shared.pegasus.wire.errors import RocksdbError
from shared.pegasus.wire.keys import decode_value, encode_key
from shared.pegasus.wire.structures.rrdb import (
    CheckAndMutateRequest,
    CheckAndSetRequest,
    CheckType,
    IncrRequest,
    KeyValue,
    MultiPutRequest,
    MultiRemoveRequest,
    Mutate,
    MutateOperation,
    UpdateRequest,
)
from tests.replicaserver.memory_rows import NOW, WHO, MemoryRows

KEY = encode_key(b"h", b"s")


@pytest.fixture
def rows() -> MemoryRows:
    return MemoryRows()


def run(rows: MemoryRows, operation, request, *, default_ttl: int = 0):
    """Decide and apply one operation, and give its response."""
    draft = rows.draft(default_ttl)
    response = operation(draft, request, WHO, 7, Cost())
    rows.apply(draft)
    return response


def data(rows: MemoryRows, sort_key: bytes = b"s") -> bytes | None:
    found = rows.get(encode_key(b"h", sort_key))
    return None if found is None else decode_value(1, found).data


def expire(rows: MemoryRows, sort_key: bytes = b"s") -> int:
    found = rows.get(encode_key(b"h", sort_key))
    assert found is not None
    return decode_value(1, found).expire


def test_a_put_is_stored_with_its_expiry_and_the_time_of_writing(rows: MemoryRows):
    response = run(rows, writes.put, UpdateRequest(KEY, b"value", 2000))
    assert (response.error, response.decree, response.server) == (0, 7, "127.0.0.1:34801")
    assert decode_value(1, rows.rows[KEY]) == (2000, 77, b"value")


def test_a_write_that_says_nothing_gets_the_default_ttl(rows: MemoryRows):
    run(rows, writes.put, UpdateRequest(KEY, b""), default_ttl=60)
    assert expire(rows) == NOW + 60
    run(rows, writes.put, UpdateRequest(KEY, b"", 5000), default_ttl=60)
    assert expire(rows) == 5000


@pytest.mark.parametrize("key", [b"", b"\0", b"\0\5abc"])
def test_what_is_no_raw_key_is_not_stored(rows: MemoryRows, key: bytes):
    with pytest.raises(ValueError, match="raw key"):
        run(rows, writes.put, UpdateRequest(key, b""))
    with pytest.raises(ValueError, match="raw key"):
        run(rows, writes.remove, key)
    with pytest.raises(ValueError, match="raw key"):
        run(rows, writes.incr, IncrRequest(key, 1))
    assert rows.rows == {}


def test_removing_an_absent_row_is_fine(rows: MemoryRows):
    assert run(rows, writes.remove, KEY).error == 0
    rows.put(b"h", b"s", b"v")
    assert run(rows, writes.remove, KEY).error == 0
    assert rows.rows == {}


def test_several_rows_are_stored_together(rows: MemoryRows):
    request = MultiPutRequest(b"h", [KeyValue(b"s", b"1"), KeyValue(b"t", b"2")], 3000)
    assert run(rows, writes.multi_put, request).error == 0
    assert (data(rows), data(rows, b"t"), expire(rows, b"t")) == (b"1", b"2", 3000)


def test_storing_no_rows_is_an_invalid_argument(rows: MemoryRows):
    assert run(rows, writes.multi_put, MultiPutRequest(b"h")).error == RocksdbError.INVALID_ARGUMENT


def test_removing_several_rows_counts_those_asked_for(rows: MemoryRows):
    rows.put(b"h", b"s", b"v")
    response = run(rows, writes.multi_remove, MultiRemoveRequest(b"h", [b"s", b"x", b"y"]))
    assert (response.error, response.count) == (0, 3)
    assert rows.rows == {}


def test_removing_no_rows_is_an_invalid_argument(rows: MemoryRows):
    assert run(rows, writes.multi_remove, MultiRemoveRequest(b"h")).error == RocksdbError.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("old", "increment", "new"),
    [
        (None, 1, 1),
        (b"10", 100, 110),
        (b"-100", -1, -101),
        (b"5", 0, 5),
        (b"", 3, 3),
        (b"9223372036854775806", 1, 2**63 - 1),
    ],
)
def test_adding_to_a_number(rows: MemoryRows, old: bytes | None, increment: int, new: int):
    if old is not None:
        rows.put(b"h", b"s", old)
    response = run(rows, writes.incr, IncrRequest(KEY, increment))
    assert (response.error, response.new_value) == (0, new)
    assert data(rows) == b"%d" % new


@pytest.mark.parametrize(
    ("old", "increment", "reported"),
    [(b"text", 1, 0), (b"9223372036854775807", 1, 2**63 - 1), (b"-9223372036854775808", -1, -(2**63))],
)
def test_what_cannot_be_added_to_stays(rows: MemoryRows, old: bytes, increment: int, reported: int):
    rows.put(b"h", b"s", old)
    response = run(rows, writes.incr, IncrRequest(KEY, increment))
    assert (response.error, response.new_value) == (RocksdbError.INVALID_ARGUMENT, reported)
    assert data(rows) == old


@pytest.mark.parametrize(("asked", "kept"), [(0, 5000), (-1, 0), (6000, 6000)])
def test_adding_keeps_clears_or_sets_the_expiry(rows: MemoryRows, asked: int, kept: int):
    rows.put(b"h", b"s", b"1", 5000)
    run(rows, writes.incr, IncrRequest(KEY, 1, asked))
    assert expire(rows) == kept


def test_adding_to_an_expired_row_begins_at_zero(rows: MemoryRows):
    rows.put(b"h", b"s", b"100", NOW)
    assert run(rows, writes.incr, IncrRequest(KEY, 1)).new_value == 1
    assert expire(rows) == 0


def test_operations_of_one_round_see_each_other(rows: MemoryRows):
    draft = rows.draft()
    for _ in range(3):
        response = writes.incr(draft, IncrRequest(KEY, 1), WHO, 7, Cost())
    assert response.new_value == 3
    writes.remove(draft, KEY, WHO, 8, Cost())
    assert writes.incr(draft, IncrRequest(KEY, 1), WHO, 9, Cost()).new_value == 1


def test_a_condition_that_holds_lets_a_value_be_set(rows: MemoryRows):
    rows.put(b"h", b"s", b"old")
    request = CheckAndSetRequest(
        b"h", b"s", CheckType.VALUE_MATCH_PREFIX, b"o", False, b"", b"new", 4000, return_check_value=True
    )
    response = run(rows, writes.check_and_set, request)
    assert (response.error, response.check_value_returned, response.check_value_exist) == (0, True, True)
    assert response.check_value == b"old"
    assert (data(rows), expire(rows)) == (b"new", 4000)


def test_another_row_can_be_set_than_the_one_that_is_looked_at(rows: MemoryRows):
    request = CheckAndSetRequest(b"h", b"s", CheckType.VALUE_NOT_EXIST, b"", True, b"other", b"new")
    assert run(rows, writes.check_and_set, request).error == 0
    assert (data(rows), data(rows, b"other")) == (None, b"new")


def test_a_condition_that_fails_changes_nothing(rows: MemoryRows):
    rows.put(b"h", b"s", b"old")
    request = CheckAndSetRequest(b"h", b"s", CheckType.VALUE_NOT_EXIST, b"", False, b"", b"new")
    response = run(rows, writes.check_and_set, request)
    assert (response.error, response.check_value_returned, response.check_value) == (RocksdbError.TRY_AGAIN, False, b"")
    assert data(rows) == b"old"


def test_an_absent_value_is_reported_as_absent(rows: MemoryRows):
    request = CheckAndSetRequest(b"h", b"s", CheckType.VALUE_EXIST, return_check_value=True)
    response = run(rows, writes.check_and_set, request)
    assert (response.check_value_returned, response.check_value_exist) == (True, False)


@pytest.mark.parametrize("check_type", [CheckType.VALUE_INT_LESS, 99])
def test_a_condition_without_sense_is_an_invalid_argument(rows: MemoryRows, check_type: int):
    rows.put(b"h", b"s", b"text")
    request = CheckAndSetRequest(b"h", b"s", check_type, b"1", set_value=b"new")
    assert run(rows, writes.check_and_set, request).error == RocksdbError.INVALID_ARGUMENT
    assert data(rows) == b"text"


def test_several_rows_change_if_a_condition_holds(rows: MemoryRows):
    rows.put(b"h", b"s", b"3")
    rows.put(b"h", b"gone", b"")
    request = CheckAndMutateRequest(
        b"h",
        b"s",
        CheckType.VALUE_INT_GREATER,
        b"2",
        [Mutate(MutateOperation.PUT, b"a", b"1", 5000), Mutate(MutateOperation.DELETE, b"gone")],
        return_check_value=True,
    )
    response = run(rows, writes.check_and_mutate, request)
    assert (response.error, response.check_value) == (0, b"3")
    assert (data(rows, b"a"), expire(rows, b"a"), data(rows, b"gone")) == (b"1", 5000, None)


@pytest.mark.parametrize("mutations", [[], [Mutate(5, b"a")]])
def test_mutations_without_sense_are_an_invalid_argument(rows: MemoryRows, mutations: list[Mutate]):
    request = CheckAndMutateRequest(b"h", b"s", CheckType.NO_CHECK, b"", mutations)
    assert run(rows, writes.check_and_mutate, request).error == RocksdbError.INVALID_ARGUMENT
    assert rows.rows == {}


def test_a_row_is_exchanged_only_while_it_is_what_was_seen(rows: MemoryRows):
    rows.put(b"h", b"s", b"seen")
    seen = rows.rows[KEY]
    draft = rows.draft()
    assert draft.exchange(KEY, seen, None)
    assert not draft.exchange(KEY, seen, None)
    writes.put(draft, UpdateRequest(KEY, b"newer"), WHO, 7, Cost())
    assert not draft.exchange(KEY, seen, None)


@pytest.mark.parametrize(("size", "units"), [(0, 1), (1, 1), (1024, 1), (4096, 1), (4097, 2), (8193, 3)])
def test_every_unit_that_is_begun_costs_one(size: int, units: int):
    assert capacity_units(size, 4096) == units
