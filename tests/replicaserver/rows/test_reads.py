"""Reading the rows of one partition (protocol §11.3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicaserver.rows.reads import Reader
from replicaserver.rows.store import Usage
from shared.pegasus.wire.errors import RocksdbError
from shared.pegasus.wire.keys import encode_key
from shared.pegasus.wire.structures.rrdb import BatchGetRequest, FilterType, FullKey, KeyValue, MultiGetRequest
from tests.replicaserver.memory_rows import NOW, WHO, MemoryRows, limits, stored


@pytest.fixture
def rows() -> MemoryRows:
    made = MemoryRows()
    for number in range(10):
        made.put(b"h", b"s%d" % number, b"v%d" % number)
    made.put(b"g", b"s0", b"before")
    made.put(b"i", b"s0", b"after")
    return made


@pytest.fixture
def reader(rows: MemoryRows) -> Reader:
    return Reader(rows, WHO, 1)


def multi_get(reader: Reader, request: MultiGetRequest, **limit: int) -> tuple[int, list[bytes]]:
    response = reader.multi_get(request, NOW, limits(**limit), Usage())
    return response.error, [kv.key for kv in response.kvs]


def test_a_row_is_found_by_its_key(reader: Reader):
    response = reader.get(encode_key(b"h", b"s1"), NOW, Usage())
    assert (response.error, response.value) == (RocksdbError.OK, b"v1")
    assert (response.app_id, response.partition_index, response.server) == (2, 3, "127.0.0.1:34801")


def test_an_absent_row_is_not_found(reader: Reader):
    assert reader.get(encode_key(b"h", b"x"), NOW, Usage()).error == RocksdbError.NOT_FOUND


@pytest.mark.parametrize(("expire", "error"), [(NOW - 1, 1), (NOW, 1), (NOW + 1, 0), (0, 0)])
def test_a_row_is_gone_when_its_time_is_over(rows: MemoryRows, reader: Reader, expire: int, error: int):
    rows.put(b"t", b"", b"value", expire)
    usage = Usage()
    assert reader.get(encode_key(b"t", b""), NOW, usage).error == error
    assert usage.expired == error


def test_the_time_a_row_has_left(rows: MemoryRows, reader: Reader):
    rows.put(b"t", b"later", b"", NOW + 60)
    rows.put(b"t", b"over", b"", NOW)
    key = encode_key(b"t", b"later")
    assert reader.ttl(key, NOW, Usage()).ttl_seconds == 60
    assert reader.ttl(encode_key(b"h", b"s0"), NOW, Usage()).ttl_seconds == -1
    assert reader.ttl(encode_key(b"t", b"over"), NOW, Usage()).error == RocksdbError.NOT_FOUND
    assert reader.ttl(encode_key(b"t", b"never"), NOW, Usage()).error == RocksdbError.NOT_FOUND


def test_more_seconds_than_fit_are_the_most_that_fit(rows: MemoryRows, reader: Reader):
    rows.put(b"t", b"", b"", 2**32 - 1)
    assert reader.ttl(encode_key(b"t", b""), NOW, Usage()).ttl_seconds == 2**31 - 1


def test_what_a_read_has_touched_is_counted(reader: Reader):
    found, absent = Usage(), Usage()
    reader.get(encode_key(b"h", b"s1"), NOW, found)
    reader.get(encode_key(b"h", b"xx"), NOW, absent)
    assert found.bytes_ == len(encode_key(b"h", b"s1")) + len(b"v1")
    assert absent.bytes_ == len(encode_key(b"h", b"xx"))


def test_the_live_rows_of_a_hash_key_are_counted(rows: MemoryRows, reader: Reader):
    rows.put(b"h", b"old", b"", NOW)
    usage = Usage()
    assert reader.sortkey_count(b"h", NOW, limits(), usage).count == 10
    assert usage.expired == 1
    assert reader.sortkey_count(b"none", NOW, limits(), Usage()).count == 0


def test_a_count_that_takes_too_long_is_minus_one():
    rows = MemoryRows()
    for number in range(300):
        rows.put(b"h", b"%d" % number, b"")
    response = Reader(rows, WHO, 1).sortkey_count(b"h", NOW, limits(overdue=True), Usage())
    assert (response.error, response.count) == (RocksdbError.OK, -1)


def test_a_batch_leaves_absent_and_expired_rows_out(rows: MemoryRows, reader: Reader):
    rows.put(b"t", b"", b"old", NOW)
    request = BatchGetRequest([FullKey(b"i", b"s0"), FullKey(b"x", b""), FullKey(b"t", b""), FullKey(b"g", b"s0")])
    response = reader.batch_get(request, NOW, Usage())
    assert response.error == RocksdbError.OK
    assert [(data.hash_key, data.value) for data in response.data] == [(b"i", b"after"), (b"g", b"before")]


def test_an_empty_batch_is_an_invalid_argument_and_costs_nothing(reader: Reader):
    usage = Usage()
    assert reader.batch_get(BatchGetRequest(), NOW, usage).error == RocksdbError.INVALID_ARGUMENT
    assert usage.has_failed


def test_an_exclusive_start_leaves_the_empty_sort_key_out(rows: MemoryRows, reader: Reader):
    rows.put(b"e", b"", b"")
    rows.put(b"e", b"a", b"")
    assert multi_get(reader, MultiGetRequest(b"e", start_inclusive=False)) == (RocksdbError.OK, [b"a"])
    assert multi_get(reader, MultiGetRequest(b"e", start_inclusive=True)) == (RocksdbError.OK, [b"", b"a"])


def test_rows_asked_for_come_in_the_order_of_the_request(reader: Reader):
    request = MultiGetRequest(b"h", [b"s7", b"x", b"s2"], start_sortkey=b"s9")
    assert multi_get(reader, request) == (RocksdbError.OK, [b"s7", b"s2"])


def test_rows_asked_for_beyond_the_limit_are_left_out(reader: Reader):
    assert multi_get(reader, MultiGetRequest(b"h", [b"s7", b"s2", b"s1"], max_kv_count=2)) == (7, [b"s7", b"s2"])
    assert multi_get(reader, MultiGetRequest(b"h", [b"s7", b"s2", b"x"], max_kv_count=2)) == (0, [b"s7", b"s2"])


def test_without_sort_keys_all_rows_of_the_hash_key_come(reader: Reader):
    error, keys = multi_get(reader, MultiGetRequest(b"h"))
    assert error == RocksdbError.OK
    assert keys == [b"s%d" % number for number in range(10)]


@pytest.mark.parametrize(
    ("start_inclusive", "stop_inclusive", "first", "last"),
    [
        (True, True, b"s3", b"s6"),
        (False, True, b"s4", b"s6"),
        (True, False, b"s3", b"s5"),
        (False, False, b"s4", b"s5"),
    ],
)
def test_the_ends_of_a_range(reader: Reader, start_inclusive: bool, stop_inclusive: bool, first: bytes, last: bytes):
    request = MultiGetRequest(
        b"h",
        start_sortkey=b"s3",
        stop_sortkey=b"s6",
        start_inclusive=start_inclusive,
        stop_inclusive=stop_inclusive,
    )
    _, keys = multi_get(reader, request)
    assert (keys[0], keys[-1]) == (first, last)


def test_a_range_that_ends_before_it_begins_is_empty(reader: Reader):
    assert multi_get(reader, MultiGetRequest(b"h", start_sortkey=b"s6", stop_sortkey=b"s3")) == (0, [])
    assert multi_get(reader, MultiGetRequest(b"h", start_sortkey=b"s6", stop_sortkey=b"s6")) == (0, [])


def test_a_limit_leaves_the_answer_incomplete(reader: Reader):
    assert multi_get(reader, MultiGetRequest(b"h", max_kv_count=3)) == (RocksdbError.INCOMPLETE, [b"s0", b"s1", b"s2"])
    assert multi_get(reader, MultiGetRequest(b"h", max_kv_count=10))[0] == RocksdbError.OK
    assert multi_get(reader, MultiGetRequest(b"h", max_kv_size=8)) == (RocksdbError.INCOMPLETE, [b"s0", b"s1"])
    assert multi_get(reader, MultiGetRequest(b"h"), rows=4)[0] == RocksdbError.INCOMPLETE


def test_backwards_takes_the_last_rows_in_ascending_order(reader: Reader):
    error, keys = multi_get(reader, MultiGetRequest(b"h", max_kv_count=3, reverse=True))
    assert (error, keys) == (RocksdbError.INCOMPLETE, [b"s7", b"s8", b"s9"])


def test_a_filter_skips_and_counts(rows: MemoryRows, reader: Reader):
    rows.put(b"h", b"t0", b"")
    usage = Usage()
    request = MultiGetRequest(
        b"h", sort_key_filter_type=FilterType.MATCH_POSTFIX, sort_key_filter_pattern=b"0", no_value=True
    )
    response = reader.multi_get(request, NOW, limits(), usage)
    assert response.kvs == [KeyValue(b"s0", b""), KeyValue(b"t0", b"")]
    assert usage.filtered == 9


@given(st.binary(max_size=3), st.binary(max_size=3), st.booleans(), st.booleans(), st.booleans(), st.binary(max_size=2))
def test_a_prefix_filter_gives_what_filtering_everything_gives(
    start: bytes, stop: bytes, start_inclusive: bool, stop_inclusive: bool, reverse: bool, prefix: bytes
):
    rows = MemoryRows()
    for first in (b"", b"a", b"b", b"\xff"):
        for second in (b"", b"\0", b"a", b"\xff"):
            rows.put(b"h", first + second, b"v")
    request = MultiGetRequest(
        b"h",
        start_sortkey=start,
        stop_sortkey=stop,
        start_inclusive=start_inclusive,
        stop_inclusive=stop_inclusive,
        sort_key_filter_type=FilterType.MATCH_PREFIX,
        sort_key_filter_pattern=prefix,
        reverse=reverse,
    )
    expected = sorted(
        key[3:]
        for key in rows.rows
        if key[3:].startswith(prefix)
        and (key[3:] > start or (key[3:] == start and start_inclusive))
        and (not stop or key[3:] < stop or (key[3:] == stop and stop_inclusive))
    )
    assert multi_get(Reader(rows, WHO, 1), request) == (RocksdbError.OK, expected)


def test_an_expired_row_in_a_range_is_skipped(rows: MemoryRows, reader: Reader):
    rows.rows[encode_key(b"h", b"s5")] = stored(b"v5", NOW)
    _, keys = multi_get(reader, MultiGetRequest(b"h"))
    assert b"s5" not in keys


def test_a_range_read_that_takes_too_long_is_incomplete():
    rows = MemoryRows()
    for number in range(300):
        rows.put(b"h", b"%03d" % number, b"")
    response = Reader(rows, WHO, 1).multi_get(MultiGetRequest(b"h"), NOW, limits(overdue=True), Usage())
    assert response.error == RocksdbError.INCOMPLETE
    assert len(response.kvs) == 255
