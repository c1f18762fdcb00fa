"""The parts of one running gateway, built from its channel file, as handlers use them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from gateway.auth import Access
from gateway.config.declared import Declared
from gateway.config.route_groups import RouteGroups, route_groups_of
from gateway.engine.channels import CONTROLS, Channels
from gateway.engine.engine import Engine
from gateway.engine.ids import IdCounter
from gateway.engine.lookup import LookupLimits
from gateway.schema.record import Record
from gateway.schema.validation import StructTypes
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
    groups = route_groups_of(declared)
    _note_providers(engine, groups)
    if CONTROLS in channels:
        engine.transform(CONTROLS, _mark_heartbeat)
    return Gateway(
        declared=declared,
        access=access,
        ids=ids,
        engine=engine,
        route_groups=groups,
        now=now,
        started=started,
        shut_down=shut_down,
    )


def _note_providers(engine: Engine, groups: RouteGroups) -> None:
    for spec in groups.send or ():
        channel = engine.channels[spec.name]
        channel.setters += [f"Send[{spec.name}]<{key}>" for key in spec.keys or ()]
        channel.setters.append(f"Send[{spec.name}]")
    for spec in groups.stage:
        engine.channels[spec.name].setters.append(f"Stage[{spec.name}]")
    for spec in groups.stream:
        engine.channels[spec.name].getters.append("Stream")
        if spec.sendable and not groups.send:
            engine.channels[spec.name].setters.append(f"Stream[{spec.name}]")
    if groups.controls:
        engine.channels[CONTROLS].getters.append("Controls")
        engine.channels[CONTROLS].setters.append("Controls")


def _mark_heartbeat(record: Record) -> Record:
    """The engine's own sign of life: a heartbeat that went through it reads ``ok`` (§2.7)."""
    if record.values.get("name") != "heartbeat" or record.values.get("status") == "ok":
        return record
    return Record(record.struct, {**record.values, "status": "ok"})
