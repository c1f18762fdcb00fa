"""One running gateway: its parts, wired, for handlers and modules to use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gateway.access import Access
from gateway.channel_file import Declared
from gateway.channels import CONTROLS, Channels
from gateway.engine import Engine
from gateway.ids import IdCounter
from gateway.lookup import LookupLimits
from gateway.mounts import Mounts, mounts_of
from gateway.outbox import Outbox, QueueLimits
from gateway.pipeline import Pipeline
from gateway.records import Record
from gateway.sessions import StreamRules
from gateway.struct_types import StructTypes


@dataclass
class StreamStats:
    """What has become of the subscribers.

    Attributes:
        connections: The outboxes of all open connections.
        slow_closes: How many were ended because their queue was full.
        dropped: Messages that were dropped for connections that are closed by now.
    """

    connections: dict[Outbox, None] = field(default_factory=dict)
    slow_closes: int = 0
    dropped: int = 0

    def summary(self) -> dict[str, int]:
        """The numbers, as statistics print them."""
        return {
            "connections": len(self.connections),
            "queued_messages": sum(len(outbox) for outbox in self.connections),
            "queued_bytes": sum(outbox.bytes for outbox in self.connections),
            "dropped": self.dropped + sum(outbox.dropped for outbox in self.connections),
            "slow_closes": self.slow_closes,
        }


@dataclass
class Gateway:
    """The parts of a running gateway.

    Attributes:
        declared: The channel file.
        access: Who may do what.
        ids: The id counter.
        engine: Channels, states, lookup and staging.
        pipeline: The way in for ticks.
        mounts: Which routes exist.
        heartbeats: The outboxes that are sent heartbeats.
        stream_stats: What has become of the subscribers.
        now: The current time, aware UTC.
        started: When it was started.
        shut_down: Ends the process cleanly.
        failure: Why this gateway had to stop, or None: then its process ends with an error.
    """

    declared: Declared
    access: Access
    ids: IdCounter
    engine: Engine
    pipeline: Pipeline
    mounts: Mounts
    now: Callable[[], datetime]
    started: datetime
    shut_down: Callable[[], None]
    heartbeats: dict[Outbox, None] = field(default_factory=dict)
    stream_stats: StreamStats = field(default_factory=StreamStats)
    failure: str | None = None

    def fail(self, reason: str) -> None:
        """Stop, as this gateway cannot go on; whoever watches the process learns that it did not mean to."""
        self.failure = reason
        self.shut_down()

    def not_ready(self) -> list[str]:
        """Why it cannot take ticks now; empty when it can: on a bus only while the bus answers."""
        away = self.pipeline.bus is not None and not self.pipeline.bus.is_ready
        return ["the bus does not answer"] if away else []

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
            "stream": self.stream_stats.summary(),
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


def build_gateway(
    declared: Declared,
    access: Access,
    *,
    now: Callable[[], datetime],
    epoch_ns: int,
    shut_down: Callable[[], None],
) -> Gateway:
    """Build the parts of a gateway from its channel file.

    Raises:
        ValueError: A struct contradicts itself; the message names it.
    """
    started = now()
    options = declared.options
    ids = IdCounter(epoch_ns)
    types = StructTypes(
        declared.structs,
        declared.enums,
        next_id=ids.next,
        now=now,
        started=started,
        max_body=options.server.max_body,
    )
    channels = Channels(declared.channels, recent=options.recent)
    for channel in channels:
        if channel.spec.key_enum is not None:
            for name, value in types.enums[channel.spec.key_enum].members.items():
                if isinstance(value, str) and name in (channel.spec.keys or ()):
                    channel.also_call(name, value)
    engine = Engine(
        channels,
        types,
        next_id=ids.next,
        now=now,
        lookup_limits=LookupLimits(options.lookup.max_items, options.lookup.max_bytes, options.lookup.ttl),
    )
    mounts = mounts_of(declared)
    _note_providers(engine, mounts)
    if CONTROLS in channels:
        engine.transform(CONTROLS, _mark_heartbeat)
    return Gateway(
        declared=declared,
        access=access,
        ids=ids,
        engine=engine,
        pipeline=Pipeline(engine),
        mounts=mounts,
        now=now,
        started=started,
        shut_down=shut_down,
    )


def _note_providers(engine: Engine, mounts: Mounts) -> None:
    for spec in mounts.send or ():
        channel = engine.channels[spec.name]
        channel.setters += [f"Send[{spec.name}]<{key}>" for key in spec.keys or ()]
        channel.setters.append(f"Send[{spec.name}]")
    for spec in mounts.stage:
        engine.channels[spec.name].setters.append(f"Stage[{spec.name}]")
    for spec in mounts.stream:
        engine.channels[spec.name].getters.append("Stream")
        if spec.sendable and not mounts.send:
            engine.channels[spec.name].setters.append(f"Stream[{spec.name}]")
    if mounts.controls:
        engine.channels[CONTROLS].getters.append("Controls")
        engine.channels[CONTROLS].setters.append("Controls")


def _mark_heartbeat(record: Record) -> Record:
    """The engine's own sign of life: a heartbeat that went through it reads ``ok`` (§2.7)."""
    if record.values.get("name") != "heartbeat" or record.values.get("status") == "ok":
        return record
    return Record(record.struct, {**record.values, "status": "ok"})
