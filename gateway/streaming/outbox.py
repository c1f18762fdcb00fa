"""The send queue of one subscriber: a bounded queue of encoded frames (§4.5).

Every connection has its own, so a client that stops reading delays neither the others nor the producer. A policy
decides what happens when it is full: end the connection, drop the oldest, or keep only the newest of each feed.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from gateway.engine.channels import Feed, QueuePolicy, Tick

_NOT_IN_AN_ID: Final = re.compile("[\r\n\0\ud800-\udfff]")  # surrogates are no text: a module may tick them
"""Characters that end the line of an event's id, or have browsers ignore it."""


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """Limits of a send queue, and the policy beyond them."""

    max_messages: int = 10_000
    max_bytes: int = 32 * 2**20
    policy: QueuePolicy = "disconnect"


class MessageFormat(Enum):
    """How ticks are written: as WebSocket frames, or as server-sent events."""

    FRAME = "frame"
    EVENT = "event"


class Outbox:
    """The queue of one connection; a `gateway.engine.channels.Subscriber`.

    Args:
        limits: Its bounds.
        wake: Called when the queue becomes non-empty; must not block.
        overflow: Called once, when the policy is to disconnect and the queue is full.
        form: What is queued.
    """

    __slots__ = (
        "_limits",
        "_newest",
        "_overflow",
        "_waiting",
        "_wake",
        "bytes",
        "dropped",
        "form",
        "is_closed",
        "is_scheduled",
        "is_stalled",
    )  # fmt: skip

    def __init__(
        self,
        limits: QueueLimits,
        wake: Callable[[], None],
        overflow: Callable[[], None],
        form: MessageFormat = MessageFormat.FRAME,
    ) -> None:
        self._limits = limits
        self._wake = wake
        self._overflow = overflow
        self.form = form
        self._waiting: deque[bytes] = deque()
        self._newest: dict[Feed, bytes] = {}
        self.bytes = 0
        self.dropped = 0
        self.is_scheduled = False
        self.is_closed = False
        self.is_stalled = False

    def __len__(self) -> int:
        return len(self._waiting) + len(self._newest)

    def deliver(self, tick: Tick) -> None:
        """Queue a tick."""
        if self.is_closed:
            return
        frame = tick.frame if self.form is MessageFormat.FRAME else event_of(tick)
        if self.is_stalled and tick.feed.channel.spec.conflatable and self._policy(tick) == "conflate":
            self._conflate(tick.feed, frame)
            return
        self._waiting.append(frame)
        self.bytes += len(frame)
        if self.bytes > self._limits.max_bytes or len(self._waiting) > self._limits.max_messages:
            self._make_room(self._policy(tick))
        if not self.is_scheduled:
            self.is_scheduled = True
            self._wake()

    def push(self, frame: bytes) -> None:
        """Queue a frame that is no tick: a heartbeat, an acknowledgement."""
        if self.is_closed:
            return
        self._waiting.append(frame)
        self.bytes += len(frame)
        if self.bytes > self._limits.max_bytes or len(self._waiting) > self._limits.max_messages:
            self._make_room(self._limits.policy)
        if not self.is_scheduled:
            self.is_scheduled = True
            self._wake()

    def take(self, most_bytes: int) -> bytes:
        """The oldest frames, joined: at least one if any waits, then as many as fit."""
        waiting = self._waiting
        if self.bytes <= most_bytes:
            joined = b"".join([*waiting, *self._newest.values()])
            waiting.clear()
            self._newest.clear()
            self.bytes = 0
            return joined
        taken: list[bytes] = []
        size = 0
        while (waiting or self._newest) and size < most_bytes:
            frame = waiting.popleft() if waiting else self._newest.pop(next(iter(self._newest)))
            taken.append(frame)
            size += len(frame)
        self.bytes -= size
        return b"".join(taken)

    def close(self) -> None:
        """Drop all frames and accept no more."""
        self.is_closed = True
        self._waiting.clear()
        self._newest.clear()
        self.bytes = 0

    def _policy(self, tick: Tick) -> QueuePolicy:
        return tick.feed.channel.spec.policy or self._limits.policy

    def _conflate(self, feed: Feed, frame: bytes) -> None:
        before = self._newest.pop(feed, None)
        if before is not None:
            self.bytes -= len(before)
            self.dropped += 1
        self._newest[feed] = frame
        self.bytes += len(frame)
        if self.bytes > self._limits.max_bytes:
            self._make_room("disconnect")

    def _make_room(self, policy: QueuePolicy) -> None:
        if policy != "drop_oldest":
            self.close()
            self._overflow()
            return
        limits, waiting = self._limits, self._waiting
        while len(waiting) > 1 and (self.bytes > limits.max_bytes or len(waiting) > limits.max_messages):
            self.bytes -= len(waiting.popleft())
            self.dropped += 1


def event_of(tick: Tick) -> bytes:
    """A tick as a server-sent event whose id lets the client resume behind it."""
    event_id = tick.event_id
    if event_id is not None and not _NOT_IN_AN_ID.search(event_id):
        return b"id: " + event_id.encode() + b"\ndata: " + tick.message + b"\n\n"
    return b"data: " + tick.message + b"\n\n"
