"""Replication between gateways: entries of ticks, and snapshots.

All gateways of a bus apply the same numbered entries in the same order, so their channels and states are equal. This
module encodes and applies entries and snapshots; `gateway.cluster.redis_bus` transports them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeAlias

import msgpack
import structlog
from pydantic_core import PydanticSerializationError, ValidationError, to_json

from gateway.engine.channels import Channels, Feed
from gateway.engine.engine import Change, Engine
from gateway.schema.record import Record
from gateway.schema.validation import StructTypes

log = structlog.get_logger("gateway.bus")
Written: TypeAlias = tuple[bytes, bytes | None]
CHUNK_BYTES: Final = 256 * 1024


class Gap(Exception):  # noqa: N818 - an observation about the bus, to be acted upon
    """Entries are missing between what was applied and what came next."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One group of simultaneous ticks on the bus.

    Attributes:
        number: Its place in the one order, from 1, without gaps.
        origin: The gateway that published it.
        sequence: Its number among the groups of that gateway, from 1.
        payload: What `pack` made.
    """

    number: int
    origin: str
    sequence: int
    payload: bytes


def pack(changes: Sequence[Change]) -> bytes:
    """A group of simultaneous ticks as bytes."""
    group = [(feed.channel.name, feed.key, [write_record(record) for record in records]) for feed, records in changes]
    packed: bytes = msgpack.packb(group)
    return packed


def unpack(payload: bytes, channels: Channels, types: StructTypes) -> list[Change]:
    """The ticks of a group; those of channels that are not declared here are skipped."""
    changes: list[Change] = []
    for name, key, written in msgpack.unpackb(payload):
        feed = _feed(channels, name, key)
        if feed is None:
            log.warning("a tick of a channel that is not declared here", channel=name, key=key)
            continue
        changes.append((feed, [read_record(types, feed.channel.spec.struct, item) for item in written]))
    return changes


def write_record(record: Record) -> Written:
    """A record's encoding and, where it loses information (NaN prints as null), one that does not."""
    encoded = record.encoded
    if b"null" not in encoded:
        return encoded, None
    try:
        complete = to_json(
            record.values, inf_nan_mode="constants", timedelta_mode="float", bytes_mode="utf8", serialize_unknown=True
        )
    except PydanticSerializationError:  # bytes of a module that are no text: they print with replacement characters
        return encoded, None
    return encoded, None if complete == encoded else complete


def read_record(types: StructTypes, struct: str, written: Sequence[bytes | None]) -> Record:
    """The record that `write_record` has written; it prints the same bytes here as there."""
    encoded, complete = written
    assert encoded is not None
    try:
        return Record(struct, types[struct].restore(b"[" + (complete or encoded) + b"]")[0].values, encoded)
    except ValidationError:  # an imported model that does not accept what it has made itself
        return Record(struct, json.loads(encoded), encoded)


def _feed(channels: Channels, name: str, key: str | None) -> Feed | None:
    channel = channels.get(name)
    return None if channel is None else channel.feed(key)


@dataclass
class Follower:
    """Applies the entries of the bus to this gateway's engine, each exactly once and in order.

    Attributes:
        engine: The engine.
        origin: The name of this gateway on the bus.
        applied: The number of the last entry that was applied.
        own_bytes: What our groups take that have not come back yet.
    """

    engine: Engine
    origin: str
    applied: int = 0
    own_bytes: int = 0
    _sequence: int = 0
    _own: dict[int, tuple[Sequence[Change], int]] = field(default_factory=dict)

    def announce(self, changes: Sequence[Change]) -> tuple[int, bytes]:
        """Number a group of our own, and pack it; it is not applied before it comes back with the others'."""
        payload = pack(changes)  # before it has a number: those of a batch are without gaps
        self._sequence += 1
        self._own[self._sequence] = changes, len(payload)
        self.own_bytes += len(payload)
        return self._sequence, payload

    def take(self, entry: Entry) -> int | None:
        """Apply an entry.

        Returns:
            The sequence of the group when it is one of ours, else None.

        Raises:
            Gap: Entries before this one are missing; nothing was applied.
        """
        if entry.number <= self.applied:
            return None
        if entry.number != self.applied + 1:
            raise Gap(f"the bus continues with entry {entry.number}, but {self.applied + 1} has not been seen")
        ours = self._own.pop(entry.sequence, None) if entry.origin == self.origin else None
        if ours is not None:
            changes, size = ours
            self.own_bytes -= size
        else:
            changes = unpack(entry.payload, self.engine.channels, self.engine.types)
        self.applied = entry.number
        if changes:
            self.engine.apply(changes)
        return entry.sequence if entry.origin == self.origin else None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Last values and states as they were after one entry.

    Records never change, so it costs a list of references to take one, and it can be written at leisure.

    Attributes:
        number: The entry after which it was taken.
        lasts: Channel, key and records of every feed that has ticked.
        rows: Alias, key and records of every state, those updated longest ago first.
    """

    number: int
    lasts: list[tuple[str, str | None, Sequence[Record]]]
    rows: list[tuple[str, str | None, list[Record]]]

    def chunks(self) -> Iterator[bytes]:
        """The snapshot in pieces of moderate size."""
        items: list[Any] = []
        size = 0
        for kind, name, key, record in self._records():
            written = write_record(record)
            items.append((kind, name, key, written))
            size += len(written[0])
            if size >= CHUNK_BYTES:
                yield msgpack.packb(items)
                items, size = [], 0
        yield msgpack.packb(items)

    def _records(self) -> Iterator[tuple[str, str, str | None, Record]]:
        for channel, key, records in self.lasts:
            for record in records:
                yield "last", channel, key, record
        for alias, key, rows in self.rows:
            for record in rows:
                yield "row", alias, key, record


def take_snapshot(engine: Engine, number: int) -> Snapshot:
    """Last values and states as they are now, after entry `number`."""
    return Snapshot(
        number,
        [
            (channel.name, feed.key, feed.last.records)
            for channel in engine.channels
            for feed in channel.feeds
            if feed.last is not None
        ],
        [
            (alias, key, state.oldest_first())
            for alias, states in engine.states.items()
            for key, state in states.items()
        ],
    )


class SnapshotLoader:
    """Puts a snapshot into an engine that has not ticked yet, piece by piece."""

    def __init__(self, engine: Engine, at: datetime) -> None:
        self._engine = engine
        self._at = at
        self._lasts: dict[Feed, list[Record]] = {}

    def add(self, chunk: bytes) -> None:
        """Take a piece, in the order in which they were made."""
        engine = self._engine
        for kind, name, key, written in msgpack.unpackb(chunk):
            if kind == "last":
                feed = _feed(engine.channels, name, key)
                if feed is not None:
                    record = read_record(engine.types, feed.channel.spec.struct, written)
                    self._lasts.setdefault(feed, []).append(record)
                    engine.add_to_lookup(feed.channel, [record], self._at)
            elif name in engine.states and key in engine.states[name]:
                channel = engine.state_channels[name]
                record = read_record(engine.types, channel.spec.struct, written)
                engine.restore_state(name, key, record)
                engine.add_to_lookup(channel, [record], self._at)

    def finish(self) -> None:
        """Set the last values, now that they are complete."""
        for feed, records in self._lasts.items():
            self._engine.restore_last(feed, records, self._at)
