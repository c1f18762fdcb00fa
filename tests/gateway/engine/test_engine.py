"""The engine: many ticks at once are what they would be one by one (specification §2.5, §4.4)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from gateway.engine.channels import Channel, ChannelSpec, RecentTicks, Tick
from gateway.engine.engine import Engine
from gateway.schema.record import Record
from tests.gateway.conftest import START, Serve

TEXT = """
structs:
  Row: {fields: {k: int, v: int}}
channels:
  rows: {type: Row, send: true, state: {keyby: [k]}}
  derived: {type: Row, send: true}
  lists: {type: Row, send: true, list: true, state: {keyby: [k], alias: of_lists}}
"""


class Listener:
    """A subscriber that notes what it is handed."""

    def __init__(self) -> None:
        self.ticks: list[Tick] = []

    def deliver(self, tick: Tick) -> None:
        self.ticks.append(tick)


def read(engine: Engine, count: int) -> list[Record]:
    """Some records, of which each other one has the same key."""
    return engine.types["Row"].take([{"id": str(at), "k": at % 2, "v": at} for at in range(count)])


async def outcome(serve: Serve, *, at_once: bool, count: int) -> dict[str, object]:
    """All that can be seen of `count` ticks of one send."""
    gateway = await serve(TEXT + "recent: 5\n")
    engine = gateway.gateway.engine
    channel = engine.channels["rows"]
    feed, listener, awaited, observed = channel.feeds[0], Listener(), [], []
    feed.subscribers[listener] = None
    feed.waiters[awaited.append] = None
    channel.waiters[awaited.append] = None
    engine.observe(lambda ticks: observed.append([tick.number for tick in ticks]))
    records = read(engine, count)
    if at_once:
        engine.apply_each(feed, records)
    else:
        for record in records:
            engine.apply([(feed, [record])])
    return {
        "last": feed.encoded_last,
        "delivered": [(tick.number, tick.frame) for tick in listener.ticks],
        "awaited": awaited,
        "observed": observed,
        "recent": [tick.number for tick in feed.recent],
        "state": [record.encoded for record in engine.states["rows"][None].rows()],
        "found": [engine.lookup("Row", str(at)) for at in range(count)],
        "counted": (feed.ticks, engine.counters.ticks),
    }


@pytest.mark.parametrize("count", [1, 3, 12])
async def test_a_list_of_ticks_is_seen_as_one_tick_after_the_other(serve: Serve, count: int):
    assert await outcome(serve, at_once=True, count=count) == await outcome(serve, at_once=False, count=count)


async def test_what_a_handler_ticks_comes_between_the_ticks_of_a_list(serve: Serve):
    gateway = await serve(TEXT)
    engine, listener = gateway.gateway.engine, Listener()
    rows, derived = engine.channels["rows"], engine.channels["derived"]
    for channel in (rows, derived):
        channel.feeds[0].subscribers[listener] = None
    engine.on_tick(rows, "a module", lambda tick: engine.apply([(derived.feeds[0], tick.records)]))
    engine.apply_each(rows.feeds[0], read(engine, 2))
    assert [tick.feed.path for tick in listener.ticks] == ["rows", "derived", "rows", "derived"]


async def test_a_long_list_of_one_tick_is_found_by_lookup_once(serve: Serve):
    gateway = await serve(TEXT)
    sent = await gateway.send("lists", [{"k": at % 500} for at in range(1000)])
    engine = gateway.gateway.engine
    assert engine.lookups["Row"].items == 1000
    assert await gateway.get(f"/lookup/lists/{sent[-1]['id']}") == sent[-1:]
    assert await gateway.get("/last/lists") == sent
    assert await gateway.get("/state/of_lists") == sent[500:]
    assert engine.counters.ticks == 1


@pytest.mark.parametrize("counts", [(3,), (8,), (20,), (3, 3, 3), (5, 20, 1)])
def test_runs_of_ticks_are_remembered_as_one_by_one(counts: Sequence[int]):
    channels = [Channel(ChannelSpec("rows", "Row"), recent=8) for _ in range(2)]
    together, alone = RecentTicks(10_000), RecentTicks(10_000)
    number = 0
    for count in counts:
        runs = [
            [Tick(channel.feeds[0], [Record("Row", {"v": "x" * (at * 50)})], START, number + at) for at in range(count)]
            for channel in channels
        ]
        number += count
        together.add_run(channels[0].feeds[0], runs[0])
        for tick in runs[1]:
            alone.add(tick)
    assert [tick.number for tick in channels[0].feeds[0].recent] == [
        tick.number for tick in channels[1].feeds[0].recent
    ]
    assert together.size_bytes == alone.size_bytes == sum(tick.size_bytes for tick in channels[0].feeds[0].recent)
