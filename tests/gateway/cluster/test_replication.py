"""What gateways tell each other: entries and snapshots."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cluster.replication import Entry, Follower, Gap, SnapshotLoader, pack, take_snapshot, unpack
from gateway.handlers.context import Gateway
from gateway.schema.record import Record
from tests.gateway.joined import NOON, Listener, change, everything, feed_of, gateway_of

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
QUOTES = st.fixed_dictionaries(
    {},
    optional={
        "symbol": TEXTS,
        "price": st.floats() | st.none(),
        "size": st.integers(-(2**70), 2**70) | st.none(),
        "note": TEXTS | st.none(),
        "seen": st.datetimes(),
        "gap": st.floats(-1e6, 1e6),
        "id": TEXTS | st.none(),
    },
)


def restored(number: int, source: Gateway) -> Gateway:
    target = gateway_of()
    restoring = SnapshotLoader(target.engine, NOON)
    for chunk in take_snapshot(source.engine, number).chunks():
        restoring.add(chunk)
    restoring.finish()
    return target


@given(QUOTES)
def test_a_tick_prints_the_same_bytes_on_every_gateway(value: dict[str, Any]):
    here, there = gateway_of(), gateway_of()
    feed, records = change(here, "quotes", value)
    [(other_feed, others)] = unpack(pack([(feed, records)]), there.engine.channels, there.engine.types)
    assert other_feed is feed_of(there, "quotes")
    assert [record.encoded for record in others] == [record.encoded for record in records]


def test_not_a_number_stays_one_although_it_prints_as_null():
    here, there = gateway_of(), gateway_of()
    feed, records = change(here, "quotes", {"price": float("inf"), "symbol": "DTE"})
    [(_, [record])] = unpack(pack([(feed, records)]), there.engine.channels, there.engine.types)
    assert record.price == float("inf")
    assert b'"price":null' in record.encoded


def test_ticks_of_a_channel_that_only_others_declare_are_left_out():
    other = gateway_of("structs: {S: {fields: {x: int}}}\nchannels: {secret: {type: S, send: true}}")
    here = gateway_of()
    assert unpack(pack([change(other, "secret", {"x": 1})]), here.engine.channels, here.engine.types) == []


def test_two_gateways_that_follow_the_same_entries_are_equal():
    here, there = gateway_of(), gateway_of()
    ours, theirs = Follower(here.engine, "here"), Follower(there.engine, "there")
    entries = []
    for number, symbol in enumerate(["a", "b", "a", "c"], start=1):
        follower, gateway = (ours, here) if number % 2 else (theirs, there)
        sequence, payload = follower.announce(
            [change(gateway, channel, {"symbol": symbol, "price": number}) for channel in ("quotes", "newest")]
        )
        entries.append(Entry(number, follower.origin, sequence, payload))
    listeners = [Listener(each, ["quotes", "newest"]) for each in (here, there)]
    for entry in entries:
        assert (ours.take(entry) is not None) == (entry.origin == "here")
        theirs.take(entry)
    assert everything(here) == everything(there)
    assert listeners[0].messages == listeners[1].messages
    assert len(listeners[0].messages) == 8


def test_an_entry_is_applied_once_however_often_it_comes():
    here = gateway_of()
    follower = Follower(here.engine, "here")
    sequence, payload = follower.announce([change(here, "quotes", {"symbol": "a"})])
    entry = Entry(1, "here", sequence, payload)
    follower.take(entry)
    follower.take(entry)
    assert feed_of(here, "quotes").ticks == 1


def test_a_record_of_a_module_with_bytes_that_are_no_text_is_packed_as_it_prints():
    here, there = gateway_of(), gateway_of()
    feed = feed_of(here, "quotes")
    record = Record("Quote", {"symbol": "a", "note": b"\xff", "price": None})
    [(_, [other])] = unpack(pack([(feed, [record])]), there.engine.channels, there.engine.types)
    assert other.encoded == record.encoded


def test_a_group_that_cannot_be_packed_takes_no_number():
    here = gateway_of()
    follower = Follower(here.engine, "here")
    with pytest.raises(TypeError):
        follower.announce([(feed_of(here, "quotes"), None)])  # type: ignore[list-item]
    sequence, _ = follower.announce([change(here, "quotes", {"symbol": "a"})])
    assert sequence == 1


def test_a_missing_entry_is_noticed_before_anything_is_applied():
    here = gateway_of()
    follower = Follower(here.engine, "here")
    with pytest.raises(Gap, match="continues with entry 2, but 1 has not been seen"):
        follower.take(Entry(2, "there", 1, pack([change(here, "quotes", {"symbol": "a"})])))
    assert feed_of(here, "quotes").ticks == 0


def test_a_snapshot_restores_last_values_and_states():
    here = gateway_of()
    for symbol in ("b", "a", "c"):
        here.engine.apply([change(here, "quotes", {"symbol": symbol, "price": 1.5})])
    here.engine.apply([change(here, "batches", {"symbol": "x"}, {"symbol": "y"})])
    here.engine.apply([change(here, "venues", {"symbol": "z"}, key="new york")])
    there = restored(5, here)
    assert everything(there) == everything(here)
    lost = feed_of(here, "quotes").last
    assert lost is not None
    assert there.engine.lookup("Quote", lost.records[0].id) == lost.records[0].encoded


def test_a_restored_state_evicts_the_row_that_the_original_evicts():
    here = gateway_of()
    for symbol in ("a", "b", "a"):  # b is the one updated longest ago
        here.engine.apply([change(here, "newest", {"symbol": symbol})])
    there = restored(3, here)
    follower, sequence = Follower(there.engine, "there", applied=3), [change(here, "newest", {"symbol": "c"})]
    here.engine.apply(sequence)
    follower.take(Entry(4, "here", 1, pack(sequence)))
    assert everything(there) == everything(here)


def test_a_large_snapshot_comes_in_several_pieces():
    here = gateway_of()
    for number in range(50):
        here.engine.apply([change(here, "quotes", {"symbol": str(number), "note": "n" * 10_000})])
    assert len(list(take_snapshot(here.engine, 50).chunks())) > 1
    assert everything(restored(50, here)) == everything(here)
