"""The open streaming connections of a gateway, WebSocket and server-sent events alike."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.streaming.outbox import Outbox


@dataclass
class Connections:
    """The open connections, and what became of those that were closed.

    Attributes:
        outboxes: The queue of every open connection.
        heartbeats: The queues that are sent heartbeats.
        slow_closes: How many connections were ended because their queue was full.
        dropped: Messages that were dropped for connections that are closed by now.
    """

    outboxes: dict[Outbox, None] = field(default_factory=dict)
    heartbeats: dict[Outbox, None] = field(default_factory=dict)
    slow_closes: int = 0
    dropped: int = 0

    def add(self, outbox: Outbox) -> None:
        """Count a connection that was opened."""
        self.outboxes[outbox] = None

    def remove(self, outbox: Outbox) -> None:
        """Forget a connection that was closed."""
        self.heartbeats.pop(outbox, None)
        self.outboxes.pop(outbox, None)
        self.dropped += outbox.dropped

    def summary(self) -> dict[str, int]:
        """The counters, as statistics print them."""
        return {
            "connections": len(self.outboxes),
            "queued_messages": sum(len(outbox) for outbox in self.outboxes),
            "queued_bytes": sum(outbox.bytes for outbox in self.outboxes),
            "dropped": self.dropped + sum(outbox.dropped for outbox in self.outboxes),
            "slow_closes": self.slow_closes,
        }
