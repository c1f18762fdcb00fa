"""Resuming a stream: the ticks that a client missed, the same for WebSocket and server-sent events (§11.11)."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.engine.channels import Feed, Tick


def resume(feeds: Sequence[Feed], after: str) -> list[Tick] | None:
    """The remembered ticks of some feeds that came after the one that `after` names, in order; None when it is unknown.

    It is the id of a record, or better the `Tick.event_id` that was sent with a tick: that is one tick, where several
    may carry records of one id. Of an id, the newest tick of each feed counts, and of those the oldest: a tick may be
    sent twice, but none is skipped.
    """
    record_id, _, number = after.rpartition("@")
    ticks = [tick for feed in feeds for tick in feed.recent]
    exact = int(number) if number.isascii() and number.isdecimal() and len(number) < 20 else -1
    known = [tick.number for tick in ticks if tick.number == exact and tick.has_id(record_id)]
    for wanted in () if known else (after, record_id):
        newest = {tick.feed: tick.number for tick in ticks if tick.has_id(wanted)}
        if newest:
            known = list(newest.values())
            break
    if not known:
        return None
    return sorted((tick for tick in ticks if tick.number > min(known)), key=lambda tick: tick.number)
