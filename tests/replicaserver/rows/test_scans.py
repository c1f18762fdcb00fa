"""Scanners over one partition (protocol §11.3)."""

from __future__ import annotations

import pytest

from replicaserver.rows.reads import Limits, Reader
from replicaserver.rows.scans import FINISHED, IDLE_S, Page, Scans
from replicaserver.rows.store import Usage
from shared.pegasus.wire.errors import RocksdbError
from shared.pegasus.wire.keys import encode_key, partition_of
from shared.pegasus.wire.structures.rrdb import FilterType, GetScannerRequest
from tests.replicaserver.memory_rows import NOW, WHO, MemoryRows, limits

FIRST_ID = 1000


@pytest.fixture
def rows() -> MemoryRows:
    made = MemoryRows()
    for number in range(10):
        made.put(b"h%d" % number, b"s", b"v%d" % number)
    return made


@pytest.fixture
def scans(rows: MemoryRows) -> Scans:
    return Scans(Reader(rows, WHO, 1), 1, FIRST_ID)


def begin(scans: Scans, request: GetScannerRequest, limit: Limits | None = None, now_s: float = 0.0) -> Page:
    return scans.open(request, NOW, now_s, limit or limits(), Usage())


def go_on(scans: Scans, context_id: int, now_s: float = 0.0) -> Page:
    return scans.go_on(context_id, NOW, now_s, limits(), Usage())


def everything(scans: Scans, request: GetScannerRequest, limit: Limits | None = None) -> list[bytes]:
    page = begin(scans, request, limit)
    keys = [key for key, _ in page.rows]
    while page.context_id >= 0:
        page = go_on(scans, page.context_id)
        keys += [key for key, _ in page.rows]
    return keys


ALL = GetScannerRequest(start_inclusive=True)


def test_one_page_holds_everything_when_it_is_large_enough(scans: Scans):
    page = begin(scans, ALL)
    assert page.error == RocksdbError.OK
    assert page.rows[0] == (encode_key(b"h0", b"s"), b"v0")
    assert (len(page.rows), page.context_id, page.count, page.expires) == (10, FINISHED, None, None)


@pytest.mark.parametrize("batch_size", [1, 3, 5, 9, 10, 11])
def test_pages_of_any_size_give_every_row_once(rows: MemoryRows, scans: Scans, batch_size: int):
    request = GetScannerRequest(start_inclusive=True, batch_size=batch_size)
    assert everything(scans, request) == sorted(rows.rows)
    assert len(scans) == 0


def test_a_page_is_no_larger_than_the_server_allows(scans: Scans):
    page = begin(scans, GetScannerRequest(start_inclusive=True, batch_size=100), limits(rows=4))
    assert (len(page.rows), page.context_id) == (4, FIRST_ID)


def test_a_page_ends_when_it_is_large_in_bytes_or_takes_too_long():
    many = MemoryRows()
    for number in range(600):
        many.put(b"h%03d" % number, b"", b"x" * 100)
    scans = Scans(Reader(many, WHO, 1), 1, FIRST_ID)
    assert len(begin(scans, ALL, limits(size_bytes=1000)).rows) == 250
    assert len(begin(scans, ALL, limits(overdue=True)).rows) == 250
    assert everything(scans, ALL, limits(size_bytes=1000)) == sorted(many.rows)


def test_a_context_is_valid_once(scans: Scans):
    first = begin(scans, GetScannerRequest(start_inclusive=True, batch_size=3))
    second = go_on(scans, first.context_id)
    assert second.context_id != first.context_id
    assert go_on(scans, first.context_id).error == RocksdbError.NOT_FOUND


def test_an_unknown_context_is_not_found(scans: Scans):
    assert go_on(scans, 5).error == RocksdbError.NOT_FOUND


def test_a_closed_context_is_not_found(scans: Scans):
    page = begin(scans, GetScannerRequest(start_inclusive=True, batch_size=3))
    scans.close(page.context_id)
    assert go_on(scans, page.context_id).error == RocksdbError.NOT_FOUND


def test_an_idle_context_is_forgotten(scans: Scans):
    request = GetScannerRequest(start_inclusive=True, batch_size=3)
    old, young = begin(scans, request, now_s=0.0), begin(scans, request, now_s=10.0)
    assert go_on(scans, old.context_id, now_s=IDLE_S).error == RocksdbError.NOT_FOUND
    assert go_on(scans, young.context_id, now_s=IDLE_S).error == RocksdbError.OK


@pytest.mark.parametrize(
    ("start_inclusive", "stop_inclusive", "expected"),
    [(True, True, [3, 4, 5]), (False, True, [4, 5]), (True, False, [3, 4]), (False, False, [4])],
)
def test_the_ends_of_a_scan(scans: Scans, start_inclusive: bool, stop_inclusive: bool, expected: list[int]):
    request = GetScannerRequest(encode_key(b"h3", b"s"), encode_key(b"h5", b"s"), start_inclusive, stop_inclusive)
    assert everything(scans, request) == [encode_key(b"h%d" % number, b"s") for number in expected]


def test_a_scan_that_ends_before_it_begins_is_empty(scans: Scans):
    page = begin(scans, GetScannerRequest(b"\0\2h5", b"\0\2h3", True, True))
    assert (page.error, page.rows, page.context_id) == (RocksdbError.OK, [], FINISHED)


def test_rows_that_expired_or_do_not_match_are_skipped_and_counted(rows: MemoryRows, scans: Scans):
    rows.put(b"h3", b"s", b"old", NOW)
    request = GetScannerRequest(
        start_inclusive=True,
        hash_key_filter_type=FilterType.MATCH_PREFIX,
        hash_key_filter_pattern=b"h",
        sort_key_filter_type=FilterType.MATCH_ANYWHERE,
        sort_key_filter_pattern=b"z",
    )
    rows.put(b"h4", b"xzx", b"", NOW + 5)
    usage = Usage()
    page = scans.open(request, NOW, 0.0, limits(), usage)
    assert [key for key, _ in page.rows] == [encode_key(b"h4", b"xzx")]
    assert (usage.rows, usage.expired, usage.filtered) == (11, 1, 9)


def test_expired_rows_use_up_a_page(rows: MemoryRows, scans: Scans):
    for number in range(3):
        rows.put(b"h%d" % number, b"s", b"old", NOW)
    page = begin(scans, GetScannerRequest(start_inclusive=True, batch_size=3))
    assert (page.rows, page.context_id) == ([], FIRST_ID)


def test_values_can_be_left_out_and_expiries_asked_for(rows: MemoryRows, scans: Scans):
    rows.put(b"h0", b"s", b"v", NOW + 5)
    page = begin(scans, GetScannerRequest(start_inclusive=True, batch_size=2, no_value=True, return_expire_ts=True))
    assert page.rows == [(encode_key(b"h0", b"s"), b""), (encode_key(b"h1", b"s"), b"")]
    assert page.expires == [NOW + 5, 0]


def test_only_the_count_can_be_asked_for(scans: Scans):
    page = begin(scans, GetScannerRequest(start_inclusive=True, batch_size=4, only_return_count=True))
    assert (page.rows, page.count) == ([], 4)
    assert go_on(scans, page.context_id).count == 4


def test_rows_of_other_partitions_can_be_left_out(rows: MemoryRows, scans: Scans):
    page = scans.open(ALL, NOW, 0.0, limits(), Usage(), partition_count=8)
    own = [key for key in sorted(rows.rows) if partition_of(key, 8) == WHO.partition_index]
    assert [key for key, _ in page.rows] == own
    assert 0 < len(own) < 10


def test_open_scanners_hold_a_limited_number_of_bytes(scans: Scans):
    request = GetScannerRequest(start_inclusive=True, batch_size=1, hash_key_filter_pattern=b"x" * 200_000)
    opened = [begin(scans, request).context_id for _ in range(50)]
    assert len(scans) == 20
    assert go_on(scans, opened[29]).error == RocksdbError.NOT_FOUND
    assert go_on(scans, opened[30]).error == RocksdbError.OK
    for context_id in opened:
        scans.close(context_id)
    small = GetScannerRequest(start_inclusive=True, batch_size=1)
    assert len({begin(scans, small).context_id for _ in range(5000)}) == len(scans) - 1 == 5000
