"""The parts of one running gateway, as handlers use them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gateway.auth import Access
from gateway.config.declared import Declared
from gateway.config.route_groups import RouteGroups
from gateway.engine.engine import Engine
from gateway.engine.ids import IdCounter
from gateway.engine.lookup import LookupLimits
from gateway.streaming.connections import Connections
from gateway.streaming.outbox import QueueLimits
from gateway.streaming.session import StreamRules


@dataclass
class Gateway:
    """The parts of a running gateway.

    Attributes:
        declared: The channel file.
        access: Who may do what.
        ids: The id counter.
        engine: Channels, states, lookup and staging.
        route_groups: Which routes exist.
        connections: The open streams.
        now: The current time, aware UTC.
        started: When it was started.
        shut_down: Ends the process cleanly.
        failure: Why this gateway had to stop, or None: then its process ends with an error.
    """

    declared: Declared
    access: Access
    ids: IdCounter
    engine: Engine
    route_groups: RouteGroups
    now: Callable[[], datetime]
    started: datetime
    shut_down: Callable[[], None]
    connections: Connections = field(default_factory=Connections)
    failure: str | None = None

    def fail(self, reason: str) -> None:
        """Stop the process because this gateway cannot continue; it then ends with an error."""
        self.failure = reason
        self.shut_down()

    def not_ready(self) -> list[str]:
        """Why it cannot take ticks now; empty when it can: on a bus only while the bus answers."""
        away = self.engine.bus is not None and not self.engine.bus.is_ready
        return ["the bus does not answer"] if away else []

    def reload(self, declared: Declared, access: Access) -> None:
        """Continue with a changed channel file that needs no restart.

        Args:
            declared: The file as it is now.
            access: Its keys.
        """
        self.declared = declared
        self.access.replace(access)
        lookup = declared.options.lookup
        for cache in self.engine.lookups.values():
            cache.limit(LookupLimits(lookup.max_items, lookup.max_bytes, lookup.ttl))

    @property
    def queue_limits(self) -> QueueLimits:
        """How much may wait for one subscriber."""
        queue = self.declared.options.stream.queue
        return QueueLimits(queue.max_messages, queue.max_bytes, queue.policy)

    @property
    def stream_rules(self) -> StreamRules:
        """What the stream allows."""
        options = self.declared.options
        include = options.stream.include
        return StreamRules(
            is_readonly=options.stream.readonly or options.server.send_readonly,
            include=None if include is None else frozenset(include),
        )

    def summary(self, may_read: Callable[[str], bool]) -> dict[str, Any]:
        """The gateway's own counters (§8.5).

        Args:
            may_read: Whether a channel may be named.
        """
        engine = self.engine
        channels = [channel for channel in engine.channels if may_read(channel.name)]
        structs = {channel.spec.struct for channel in channels}
        return {
            "channels": {
                feed.path: {
                    "ticks": feed.ticks,
                    "last": None if feed.last is None else feed.last.at,
                    "subscribers": len(feed.subscribers),
                    "waiting": len(feed.waiters),
                }
                for channel in channels
                for feed in channel.feeds
            },
            "ticks": engine.counters.ticks,
            "stream": self.connections.summary(),
            "lookup": {
                name: {"items": cache.items, "bytes": cache.size_bytes}
                for name, cache in engine.lookups.items()
                if name in structs
            },
            "states": {
                alias: {
                    "rows": sum(len(state) for state in rows.values()),
                    "bytes": sum(state.size_bytes for state in rows.values()),
                }
                for alias, rows in engine.states.items()
                if may_read(engine.state_channels[alias].name)
            },
            "handler_errors": engine.counters.handler_errors,
            "derived_dropped": engine.counters.derived_dropped,
            "state_rejected": engine.counters.state_rejected,
            "entries_skipped": engine.counters.entries_skipped,
        }
