"""The lookup cache: bounded, oldest first, whatever the ids look like (§2.6, §8.3)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.engine.lookup import LookupCache, LookupLimits
from gateway.schema.record import Record


def record(record_id: object, value: object = 0) -> Record:
    return Record("Row", {"id": record_id, "v": value})


def test_the_newest_record_of_an_id_is_found():
    cache = LookupCache(LookupLimits())
    for value in (1, 2):
        cache.add([record("7", value)], "rows", 0)
    assert cache.find("7", 0) == b'{"id":"7","v":2}'


def test_the_oldest_records_are_forgotten_first():
    cache = LookupCache(LookupLimits(max_items=5000))
    for number in range(1, 20_001):
        cache.add([record(str(number))], "rows", 0)
    assert cache.items == 5000
    assert cache.find("15000", 0) is None
    assert cache.find("15001", 0) == b'{"id":"15001","v":0}'
    assert cache.find("20000", 0) == b'{"id":"20000","v":0}'


def test_the_size_of_the_text_is_bounded_too():
    cache = LookupCache(LookupLimits(max_bytes=1000))
    for number in range(1, 101):
        cache.add([record(str(number), "x" * 80)], "rows", 0)
    assert cache.size_bytes <= 1000
    assert cache.find("100", 0) is not None
    assert cache.find("1", 0) is None


def test_old_records_are_not_found_any_more():
    cache = LookupCache(LookupLimits(ttl_s=60))
    cache.add([record("1")], "rows", 0)
    assert cache.find("1", 59) is not None
    assert cache.find("1", 61) is None
    assert cache.items == 0


def test_a_record_without_an_id_is_not_kept():
    cache = LookupCache(LookupLimits())
    cache.add([record(None)], "rows", 0)
    assert cache.items == 0


@pytest.mark.parametrize("record_id", ["7", "made up"])
def test_a_record_is_found_on_the_channels_where_it_ticked(record_id: str):
    cache = LookupCache(LookupLimits())
    for channel in ("a", "b"):
        cache.add([record(record_id, 1)], channel, 0)
    assert [cache.find(record_id, 0, frozenset(channel)) is not None for channel in "abc"] == [True, True, False]
    cache.add([record(record_id, 2)], "c", 0)
    assert [cache.find(record_id, 0, frozenset(channel)) for channel in "ab"] == [None, None]
    assert cache.find(record_id, 0, frozenset("ac")) == record(record_id, 2).encoded


def test_many_combinations_of_channels_cost_no_access_to_others():
    cache = LookupCache(LookupLimits())
    channels = [f"c{number}" for number in range(13)]
    for number in range(2**13 - 1):
        record_id = str(number + 1)
        for at, channel in enumerate(channels):
            if (number + 1) >> at & 1:
                cache.add([record(record_id)], channel, 0)
    ticked = {channel for at, channel in enumerate(channels) if 8_000 >> at & 1}
    found = {channel for channel in channels if cache.find("8000", 0, frozenset((channel,))) is not None}
    assert found
    assert found <= ticked


GENERATED = 1_795_233_321_154_754_275


@settings(max_examples=100, deadline=None)
@given(
    runs=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 40), st.sampled_from("ab")), max_size=12),
    own=st.sampled_from([None, "mine", str(GENERATED + 7)]),
    limit=st.integers(1, 60),
)
def test_runs_of_generated_ids_are_kept_as_one_by_one(runs: list[tuple[int, int, str]], own: str | None, limit: int):
    together, alone = LookupCache(LookupLimits(max_items=limit)), LookupCache(LookupLimits(max_items=limit))
    number = GENERATED
    known: set[str] = set()
    for skipped, count, channel in runs:
        numbers = [str(number + skipped + at) for at in range(count)]
        number += skipped + count
        ids = numbers if own is None else [*numbers, own]
        known.update(ids)
        records = [record(record_id, at) for at, record_id in enumerate(ids)]
        together.add(records, channel, 0)
        for each in records:
            alone.add([each], channel, 0)
            alone.find("nothing", 0)  # files it away at once
    for record_id in known:
        for channels in (None, frozenset("a"), frozenset("b")):
            assert together.find(record_id, 0, channels) == alone.find(record_id, 0, channels)
    assert (together.items, together.size_bytes) == (alone.items, alone.size_bytes)


IDS = st.one_of(
    st.integers(0, 50).map(str),
    st.sampled_from(["", "a", "007", "-1", "1.5", "٣", "9223372036854775808", "18446744073709551616"]),
)


@settings(max_examples=200, deadline=None)
@given(ids=st.lists(IDS, max_size=60), limit=st.integers(1, 20))
def test_it_finds_exactly_what_a_dictionary_of_the_newest_would(ids: list[str], limit: int):
    cache = LookupCache(LookupLimits(max_items=limit))
    added: list[tuple[str, int]] = []
    for number, record_id in enumerate(ids):
        cache.add([record(record_id, number)], "rows", 0)
        added.append((record_id, number))
    kept = dict(added[-limit:])
    for record_id in {*ids, "nope"}:
        expected = record(record_id, kept[record_id]).encoded if record_id in kept else None
        assert cache.find(record_id, 0) == expected
