"""Queues of subscribers and their policies (§4.5)."""

from __future__ import annotations

from typing import Any

from gateway.engine.channels import Channels, ChannelSpec, QueuePolicy, Tick
from gateway.schema.record import Record
from gateway.streaming.outbox import Outbox, QueueLimits
from tests.gateway.conftest import START

CHANNELS = Channels([ChannelSpec("plain", "Row"), ChannelSpec("newest", "Row", keys=("a", "b"), conflatable=True)])


def tick(value: int, channel: str = "plain", key: str | None = None) -> Tick:
    feed = CHANNELS[channel].feed(key)
    assert feed is not None
    return Tick(feed, [Record("Row", {"v": value})], START, value)


class Watched:
    """An outbox and what it has called."""

    def __init__(self, policy: QueuePolicy = "disconnect", **limits: Any) -> None:
        self.woken = 0
        self.overflowed = 0
        self.box = Outbox(QueueLimits(policy=policy, **limits), self._wake, self._overflow)

    def _wake(self) -> None:
        self.woken += 1

    def _overflow(self) -> None:
        self.overflowed += 1


def test_frames_leave_in_order_and_the_writer_is_woken_once():
    watched = Watched()
    ticks = [tick(value) for value in range(3)]
    for each in ticks:
        watched.box.deliver(each)
    assert watched.woken == 1
    assert watched.box.take(10_000) == b"".join(each.frame for each in ticks)
    assert (len(watched.box), watched.box.bytes) == (0, 0)


def test_a_piece_is_at_least_one_frame_and_not_much_more_than_asked_for():
    watched = Watched()
    ticks = [tick(value) for value in range(3)]
    for each in ticks:
        watched.box.deliver(each)
    assert watched.box.take(1) == ticks[0].frame
    assert watched.box.take(len(ticks[1].frame) + 1) == ticks[1].frame + ticks[2].frame


def test_a_full_queue_disconnects_and_holds_nothing_any_more():
    for limits in ({"max_messages": 2}, {"max_bytes": 2 * len(tick(0).frame)}):
        watched = Watched("disconnect", **limits)
        for value in range(5):
            watched.box.deliver(tick(value))
        assert watched.overflowed == 1
        assert watched.box.is_closed
        assert len(watched.box) == 0


def test_the_oldest_can_be_dropped_instead():
    watched = Watched("drop_oldest", max_messages=2)
    for value in range(5):
        watched.box.deliver(tick(value))
    assert watched.box.take(10_000) == tick(3).frame + tick(4).frame
    assert watched.box.dropped == 3
    assert watched.overflowed == 0


def test_a_slow_reader_of_a_conflatable_channel_gets_the_newest_of_each_key():
    watched = Watched("conflate", max_messages=2)
    watched.box.is_stalled = True
    for value in range(10):
        watched.box.deliver(tick(value, "newest", "ab"[value % 2]))
    assert watched.box.take(10_000) == tick(8, "newest", "a").frame + tick(9, "newest", "b").frame
    assert watched.box.dropped == 8


def test_a_fast_reader_of_a_conflatable_channel_gets_everything():
    watched = Watched("conflate")
    for value in range(3):
        watched.box.deliver(tick(value, "newest", "a"))
    assert watched.box.take(10_000) == b"".join(tick(value, "newest", "a").frame for value in range(3))


def test_a_channel_that_is_not_conflatable_is_never_thinned_out():
    watched = Watched("conflate", max_messages=2)
    watched.box.is_stalled = True
    for value in range(3):
        watched.box.deliver(tick(value))
    assert watched.overflowed == 1
