"""A session that has ended, as the warehouse receives it.

Everything is decided here once and for all: histories are closed, elapsed fields are measured, and
every value has the type that its definition declares. The warehouse writer only arranges it in columns.

Times are epoch milliseconds in UTC. `definition` is the `Program.fingerprint` of the FDL program under
which a session or a record was created: its columns are those of that program, whatever came later (§9.4).

These are structs: they are built and encoded several times faster than dataclasses, and a million of them end at once.
They hold nothing but JSON values, so the garbage collector need not track them (`gc=False`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec


class Impression(msgspec.Struct, frozen=True, gc=False):
    """One showing of a feature to the visitor."""

    id: str
    time_ms: int


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event on an impression or on the session.

    Attributes:
        name: The FDL name of the event.
        time_ms: When the server received it.
        impression_id: The impression it happened on; for session events the session id.
        event_id: Unique, chosen by the server.
        fields: Values by FDL name: what the client sent, defaults, plugin fields and elapsed fields.
    """

    name: str
    time_ms: int
    impression_id: str
    event_id: str
    fields: Mapping[str, Any]


class HistoryEntry(msgspec.Struct, frozen=True, gc=False):
    """A value that a mutable field had from `start_ms` until `end_ms`."""

    start_ms: int
    end_ms: int
    value: Any


class FinishedRecord(msgspec.Struct, frozen=True, gc=False):
    """A memo record that was shown at least once: one row of its feature's table (§12.4).

    Attributes:
        feature: The FDL name of the feature.
        definition: Fingerprint of the FDL program.
        impressions: In the order in which they happened; never empty.
        args: Values by FDL name, defaults included; absent is null.
        outputs: Values by FDL name, elapsed outputs included; absent is null (an external value never posted).
        plugin_outputs: Values by FDL name.
        events: In the order in which they were received.
    """

    feature: str
    definition: str
    impressions: tuple[Impression, ...]
    args: Mapping[str, Any] = msgspec.field(default_factory=dict)
    outputs: Mapping[str, Any] = msgspec.field(default_factory=dict)
    plugin_outputs: Mapping[str, Any] = msgspec.field(default_factory=dict)
    events: tuple[Event, ...] = ()

    @property
    def first_ms(self) -> int:
        """Time of the first impression: the column `first_time`."""
        return self.impressions[0].time_ms

    @property
    def impression_count(self) -> int:
        """How often the feature was shown with these args."""
        return len(self.impressions)


class FinishedSession(msgspec.Struct, frozen=True, gc=False):
    """All that is logged of one visitor's session: one row of the session table and the rows of its records.

    Attributes:
        session_id: Unique, chosen by the server.
        definition: Fingerprint of the FDL program the session started under.
        persistent_key: The device; the key column of every table.
        start_ms: When the session was created.
        last_activity_ms: The last request that counted as activity.
        end_ms: When it expired or was retired; its partition is the UTC date and hour of this (§12.2).
        user_agent: Empty when unknown.
        entry_url: The page the session started on, if known.
        args: Keys and other args by FDL name, with their last values.
        plugin_outputs: Values of session plugin outputs by FDL name, with their last values.
        histories: Per mutable field its values in order; the last entry ends at `end_ms`.
        variants: Ids of the variants that were active, control variants included (§10), without those that a QA
            override chose.
        audiences: Ids of the audiences the visitor was found in.
        events: Session events in the order in which they were received.
        records: Memo records with at least one impression, in the order in which they were created.
    """

    session_id: str
    definition: str
    persistent_key: str
    start_ms: int
    last_activity_ms: int
    end_ms: int
    user_agent: str = ""
    entry_url: str | None = None
    args: Mapping[str, Any] = msgspec.field(default_factory=dict)
    plugin_outputs: Mapping[str, Any] = msgspec.field(default_factory=dict)
    histories: Mapping[str, tuple[HistoryEntry, ...]] = msgspec.field(default_factory=dict)
    variants: tuple[str, ...] = ()
    audiences: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()
    records: tuple[FinishedRecord, ...] = ()

    @property
    def length_ms(self) -> int:
        """From the start to the last activity: the column `session_length`."""
        return self.last_activity_ms - self.start_ms

    def to_json(self) -> bytes:
        """The form in which a finished session waits for the warehouse; `from_json` reads it."""
        return _ENCODER.encode(self)

    @classmethod
    def from_json(cls, data: bytes) -> FinishedSession:
        """Read what `to_json` wrote.

        Raises:
            ValueError: The text is not a finished session.
        """
        try:
            return _DECODER.decode(data)
        except msgspec.MsgspecError as error:
            raise ValueError(f"not a finished session: {error}") from error


def sessions_in(lines: bytes) -> list[FinishedSession]:
    """Read finished sessions, one a line.

    Raises:
        ValueError: A line is not a finished session.
    """
    try:
        return _DECODER.decode_lines(lines)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a finished session: {error}") from error


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(FinishedSession)
"""Builds the objects itself, an order of magnitude faster than calling their constructors."""
