"""What waits or is remembered is bounded in bytes, and not only in number."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import pytest

from gateway.cluster.redis_bus import BATCH_BYTES, take_batch
from gateway.engine.channels import RecentTicks, Tick
from gateway.engine.lookup import LookupCache, LookupLimits
from gateway.engine.staging import Stage, StageFullError
from gateway.schema.record import Record
from gateway.storage import journal
from gateway.streaming.outbox import Outbox, QueueLimits
from gateway.streaming.resume import resume
from shared.errors import Problem
from tests.gateway.conftest import Serve
from tests.gateway.examples import DEMO_TYPES
from tests.gateway.joined import NOON, change, feed_of, gateway_of

MIB = 2**20


def record(number: int, size: int = MIB) -> Record:
    return Record("Row", {"id": str(number), "s": "x" * size})


def test_the_recent_ticks_of_all_feeds_share_a_bound_and_the_oldest_go_first():
    gateway = gateway_of()
    quotes, batches = feed_of(gateway, "quotes"), feed_of(gateway, "batches")
    for number in range(100):
        channel = "quotes" if number % 2 else "batches"
        gateway.engine.apply([change(gateway, channel, {"id": str(number), "note": "n" * MIB})])
    kept = sorted((tick for feed in (quotes, batches) for tick in feed.recent), key=lambda tick: tick.number)
    assert 50 <= len(kept) <= 64
    assert [tick.number for tick in kept] == list(range(101 - len(kept), 101))
    assert resume([quotes, batches], "1") is None
    assert len(resume([quotes, batches], "98") or ()) == 1


def test_what_is_forgotten_by_number_is_no_longer_counted():
    gateway = gateway_of()
    feed, recent = feed_of(gateway, "quotes"), RecentTicks(most_bytes=10**9)
    feed.recent = deque(maxlen=3)
    for number in range(10):
        recent.add(Tick(feed, [record(number, 100 * number)], NOON, number))
        assert len(feed.recent) == min(number + 1, 3)
        assert recent.size_bytes == sum(tick.size_bytes for tick in feed.recent)


def test_large_records_are_forgotten_by_lookup_as_soon_as_there_are_too_many_bytes():
    cache = LookupCache(LookupLimits(max_bytes=4 * MIB))
    for number in range(1, 21):
        cache.add([record(number)], "rows", 0.0)
    assert cache.size_bytes <= 4 * MIB
    assert cache.held_bytes <= 6 * MIB


def test_staging_areas_take_no_more_than_their_bound():
    ids = iter(map(str, range(10_000_000)))
    stage = Stage(lambda: next(ids), most_bytes=4 * MIB)
    for number in range(3):
        stage.add(record(number), None)
    with pytest.raises(StageFullError, match="4194304 are allowed: release or remove some"):
        stage.add(record(9), None)
    stage.remove(record(2), None)
    stage.add(record(9), None)
    assert len(stage.release(None)["0"]) == 3
    for number in range(3):
        stage.add(record(number), None)
    with pytest.raises(StageFullError):
        for _ in range(10_000):
            stage.add(None, None)
    with pytest.raises(StageFullError):  # a copy for every area
        stage.add(record(77, 10_000), [])
    stage.remove(None, [])
    stage.add(record(1), None)


async def test_a_full_stage_is_told_to_its_client(serve: Serve, monkeypatch: pytest.MonkeyPatch):
    gateway = await serve(DEMO_TYPES)
    gateway.gateway.engine.stages["example"] = Stage(gateway.gateway.ids.next, most_bytes=3000)
    assert (await gateway.http.post("/api/v1/stage/example", json={"y": "short"})).status == 200
    detail = await gateway.rejected("POST", "/stage/example", 400, json={"y": "x" * 3000})
    assert "3000 are allowed" in detail


def test_frames_that_are_conflated_count_as_well():
    gateway, closed = gateway_of(), []
    outbox = Outbox(QueueLimits(max_bytes=3 * MIB, policy="conflate"), lambda: None, lambda: closed.append(True))
    outbox.is_stalled = True
    for channel in ("quotes", "batches", "newest"):
        feed_of(gateway, channel).subscribers[outbox] = None
        object.__setattr__(feed_of(gateway, channel).channel.spec, "conflatable", True)
    for _ in range(3):
        for channel in ("quotes", "batches"):
            gateway.engine.apply([change(gateway, channel, {"note": "n" * MIB})])
    assert not closed
    gateway.engine.apply([change(gateway, "newest", {"note": "n" * MIB})])
    assert closed == [True]


def test_a_batch_for_the_bus_is_bounded_in_bytes_and_never_empty():
    outgoing = deque([(1, b"x" * 10 * MIB), (2, b"x" * MIB), (3, b"x" * MIB), (4, b"x" * 3 * MIB), (5, b"x")])
    sizes = []
    while outgoing:
        batch = take_batch(outgoing)
        sizes.append(sum(len(payload) for _, payload in batch))
    assert sizes == [10 * MIB, 2 * MIB, 3 * MIB + 1]
    assert max(sizes[1:]) <= BATCH_BYTES


async def test_while_the_disk_does_not_keep_up_a_sender_is_told(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    gateway = await serve(DEMO_TYPES, journal=tmp_path / "gateway.db")
    monkeypatch.setattr(journal, "MOST_WAITING_BYTES", 1_000_000)
    engine, feed = gateway.gateway.engine, gateway.gateway.engine.channels["example"].feeds[0]
    example = gateway.gateway.engine.types["Example"]
    pending = engine.submit([(feed, [example.take_one({"y": "y" * 600_000})])])  # as last value and as row
    with pytest.raises(Problem, match="the disk does not keep up") as told:
        engine.submit([(feed, [example.take_one({})])])
    assert told.value.status == 503
    assert pending is not None
    await pending
    await gateway.send("example", {})
