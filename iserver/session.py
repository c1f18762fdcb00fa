"""One visitor's session: its state, and the changes that make it (specification §11.1).

A session changes only by applying a *change*, a small list of JSON values that begins with its kind. Whoever
wants the session to survive stores the changes (`take_changes`) and applies them again; nothing else is
needed to rebuild it exactly. The methods below decide nothing about visitors: they record what was decided.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias

from msgspec.structs import replace

from iserver.audiences import EventPath
from iserver.definitions import Definition, MemoKey
from iserver.evaluation import Assignment
from iserver.fdl.model import JsonValue
from iserver.finished import Event, Impression
from iserver.record import Change, Record, event_change

Definitions: TypeAlias = Mapping[str, Definition]


class Session:
    """All activity of one visitor until a period of inactivity.

    Attributes:
        id: Chosen by the server.
        definition: The FDL program it started under.
        start_ms, last_activity_ms: Epoch milliseconds.
        end_ms: Set when the session is retired before it expires.
        user_agent, entry_url: Fixed at creation (§3.5).
        fields: Keys, args and plugin outputs by name, only those that are set.
        assignments: Variant id by experiment id, kept until the session ends.
        forced: Experiments whose assignment a QA override made.
        open_gates: Features whose percentage let the session in.
        active: Active variants: id by experiment id, in the order of activation.
        audiences: Ids, in the order in which the visitor was found in them.
        events: Session events.
        records: Every memo record, closed ones included.
        last_flush_ms: The time that SSE and `features` tell registered clients (§8).
        no_log: Whether it is kept out of the warehouse.
        size: How many changes a snapshot of it takes, about.
        journal_segment: The oldest part of the journal that has something of it, 0 for none; kept by the journal.
        journal_bytes: How much the journal has of it, about; kept by the journal.
    """

    __slots__ = (
        "_by_impression",
        "_counts",
        "_histories",
        "_memo",
        "_unsaved",
        "active",
        "assignments",
        "audiences",
        "definition",
        "end_ms",
        "entry_url",
        "events",
        "fields",
        "forced",
        "id",
        "journal_bytes",
        "journal_segment",
        "last_activity_ms",
        "last_flush_ms",
        "no_log",
        "open_gates",
        "records",
        "size",
        "start_ms",
        "user_agent",
    )

    definition: Definition
    fields: dict[str, JsonValue]

    def __init__(self, session_id: str) -> None:
        """A session to which its changes are yet to be applied; `begin` makes a new one."""
        self.id = session_id
        self.start_ms = 0
        self.last_activity_ms = 0
        self.last_flush_ms = 0
        self.end_ms: int | None = None
        self.user_agent = ""
        self.entry_url: str | None = None
        self.assignments: Mapping[str, str] = NOTHING
        self.forced: frozenset[str] = NOBODY
        self.open_gates: frozenset[str] = NOBODY
        self.active: Mapping[str, str] = NOTHING
        self.audiences: tuple[str, ...] = ()
        self.events: list[Event] | None = None
        self.records: list[Record] = []
        self.no_log = False
        self.size = 0
        self.journal_segment = 0
        self.journal_bytes = 0
        self._memo: dict[MemoKey, Record] = {}
        self._histories: dict[str, list[tuple[int, JsonValue]]] | None = None
        self._by_impression: dict[tuple[str, str], Record] | None = None
        self._counts: dict[EventPath, int] | None = None
        self._unsaved: list[Change] | None = None

    @classmethod
    def begin(
        cls,
        session_id: str,
        definition: Definition,
        fields: Mapping[str, JsonValue],
        *,
        now_ms: int,
        user_agent: str = "",
        entry_url: str | None = None,
    ) -> Session:
        """A new session."""
        session = cls(session_id)
        session._do(
            {definition.fingerprint: definition},
            ["start", definition.fingerprint, now_ms, user_agent, entry_url, dict(fields)],
        )
        return session

    # --- what it knows ----------------------------------------------------------------------------

    @property
    def persistent_id(self) -> str:
        """Value of the persistent key."""
        return str(self.fields[self.definition.persistent_key])

    @property
    def keys(self) -> dict[str, str]:
        """The keys that are set, by name."""
        return {name: str(self.fields[name]) for name in self.definition.keys if name in self.fields}

    def history(self, name: str) -> list[tuple[int, JsonValue]]:
        """Every value a mutable field had, with the time it got it (§11.4)."""
        if self._histories is not None and name in self._histories:
            return self._histories[name]
        return [(self.start_ms, self.fields[name])] if name in self.fields else []

    def record_for(self, memo_key: MemoKey) -> Record | None:
        """The record that answers a request (§10.3), `None` when outputs must be computed."""
        return self._memo.get(memo_key)

    @property
    def open_records(self) -> list[Record]:
        """Records that answer requests, oldest first."""
        return list(self._memo.values())

    @property
    def open_record_count(self) -> int:
        """How many records answer requests."""
        return len(self._memo)

    @property
    def oldest_open_record(self) -> Record:
        """The first of `open_records`; there must be one."""
        return next(iter(self._memo.values()))

    def record_showing(self, feature: str, impression_id: str) -> Record | None:
        """The most recent record of a feature that holds an impression, by a real id or a cache-fill id (§4.1)."""
        if self._by_impression is None:
            self._by_impression = {}
            for record in self.records:
                for impression in record.impressions:
                    self._by_impression[record.key(impression.id)] = record
                for alias in record.aliases or ():
                    self._by_impression[record.key(alias)] = record
        return self._by_impression.get((feature, impression_id))

    def count(self, path: EventPath) -> int:
        """How often an event happened in this session."""
        return 0 if self._counts is None else self._counts.get(path, 0)

    def occurrences(self, path: EventPath) -> Iterable[Mapping[str, JsonValue]]:
        """The fields of each time an event happened."""
        feature, name = path
        if feature is None:
            return [event.fields for event in self.events or () if event.name == name]
        return [
            event.fields
            for record in self.records
            if record.feature == feature
            for event in record.events or ()
            if event.name == name
        ]

    # --- what happens to it -----------------------------------------------------------------------

    def touch(self, now_ms: int) -> None:
        """Note activity, which postpones expiry (§11.3)."""
        self._do({}, ["touch", now_ms])

    def adopt(self, fields: Mapping[str, JsonValue]) -> None:
        """Take over keys, args or plugin outputs that had no value yet."""
        self._do({}, ["adopt", dict(fields)])

    def mutate(self, name: str, value: JsonValue, now_ms: int) -> None:
        """Give a mutable field another value; the same value again is no change (§11.4)."""
        if self.fields.get(name) != value:
            self._do({}, ["mutate", name, value, now_ms])

    def assign(self, assignments: Mapping[str, str], forced: Iterable[str] = ()) -> None:
        """Keep assignments until the session ends."""
        self._do({}, ["assign", dict(assignments), sorted(forced)])

    def open_gate(self, feature: str) -> None:
        """Keep a feature on that its percentage let in (§10.2)."""
        self._do({}, ["gate", feature])

    def join(self, audiences: Iterable[str]) -> None:
        """Note audiences the visitor was found in."""
        joined = [audience for audience in audiences if audience not in self.audiences]
        if joined:
            self._do({}, ["join", joined])

    def remember(
        self,
        feature: str,
        definition: Definition,
        args: Mapping[str, JsonValue],
        outputs: Mapping[str, JsonValue],
        plugin_outputs: Mapping[str, JsonValue],
        external: Mapping[str, str],
        variants: Sequence[Assignment],
    ) -> Record:
        """Create a memo record."""
        change = [
            "record",
            feature,
            definition.fingerprint,
            args,
            outputs,
            plugin_outputs,
            external,
            variants,
        ]
        self._do({definition.fingerprint: definition}, change)
        return self.records[-1]

    def show(self, record: Record, impression_id: str, now_ms: int) -> None:
        """Add an impression to a record, and make the record's variants active (§10.8)."""
        self._do({}, ["show", record.number, impression_id, now_ms])

    def alias(self, record: Record, impression_id: str) -> None:
        """Remember an id minted for a cache fill (§3.6)."""
        self._do({}, ["alias", record.number, impression_id])

    def happen(self, record: Record | None, event: Event) -> None:
        """Store an event of a record, or of the session."""
        number = None if record is None else record.number
        self._do(
            {},
            ["event", number, event.name, event.time_ms, event.impression_id, event.event_id, event.fields],
        )

    def amend(self, record: Record | None, event: Event, fields: Mapping[str, JsonValue]) -> None:
        """Set fields of the event that was stored last, of a record or of the session."""
        number = None if record is None else record.number
        self._do({}, ["amend", number, event.event_id, dict(fields)])

    def post_external(self, record: Record, output: str, value: JsonValue) -> None:
        """Store the value of an external output (§5)."""
        self._do({}, ["external", record.number, output, value])

    def fill(self, record: Record, plugin_outputs: Mapping[str, JsonValue]) -> None:
        """Store plugin outputs that changed after the record was created."""
        self._do({}, ["fill", record.number, dict(plugin_outputs)])

    def close(self, records: Iterable[Record]) -> None:
        """Answer no further request from these records; they stay in the log."""
        numbers = [record.number for record in records]
        if numbers:
            self._do({}, ["close", numbers])

    def flush(self, now_ms: int) -> None:
        """Forget every memoized output and what QA overrides assigned (§8)."""
        self._do({}, ["flush", max(now_ms, self.last_flush_ms + 1)])

    def keep_out_of_log(self, no_log: bool) -> None:
        """Mark the session as not loggable, or as loggable again (§1)."""
        if no_log != self.no_log:
            self._do({}, ["no_log", no_log])

    def retire(self, end_ms: int) -> None:
        """End the session before it expires."""
        self._do({}, ["retire", end_ms])

    # --- changes ----------------------------------------------------------------------------------

    @property
    def has_changes(self) -> bool:
        """Whether there are changes to take."""
        return bool(self._unsaved)

    def take_changes(self) -> list[Change]:
        """The changes since this was last called."""
        changes, self._unsaved = self._unsaved, None
        return changes or []

    def apply(self, change: Change, definitions: Definitions) -> None:
        """Apply a change that was taken from this session earlier, perhaps by another process.

        Raises:
            KeyError: A definition that the change refers to is not given.
        """
        _APPLY[change[0]](self, definitions, *change[1:])

    def _do(self, definitions: Definitions, change: Change) -> None:
        _APPLY[change[0]](self, definitions, *change[1:])
        if self._unsaved is None:
            self._unsaved = [change]
        else:
            self._unsaved.append(change)

    def describe(self) -> Iterator[Change]:
        """Changes that build a session equal to this one: a snapshot of its state."""
        initial = dict(self.fields)
        for name, entries in (self._histories or {}).items():
            started_with = entries[0][1] if entries[0][0] == self.start_ms else None
            initial[name] = started_with
        initial = {name: value for name, value in initial.items() if value is not None}
        yield ["start", self.definition.fingerprint, self.start_ms, self.user_agent, self.entry_url, initial]
        for name, entries in (self._histories or {}).items():
            for start_ms, value in entries[1 if name in initial else 0 :]:
                yield ["mutate", name, value, start_ms]
        yield ["touch", self.last_activity_ms]
        if self.last_flush_ms != self.start_ms:
            yield ["flush", self.last_flush_ms]
        yield ["assign", self.assignments, sorted(self.forced)]
        for feature in sorted(self.open_gates):
            yield ["gate", feature]
        yield ["join", self.audiences]
        for event in self.events or ():
            yield event_change(None, event)
        for record in self.records:
            yield from record.describe()
        yield ["activate", list(self.active.items())]
        yield ["no_log", self.no_log]
        if self.end_ms is not None:
            yield ["retire", self.end_ms]

    def _apply_start(
        self,
        definitions: Definitions,
        fingerprint: str,
        now_ms: int,
        user_agent: str,
        entry_url: str | None,
        fields: dict[str, JsonValue],
    ) -> None:
        self.definition = definitions[fingerprint]
        self.start_ms = self.last_activity_ms = self.last_flush_ms = now_ms
        self.user_agent = sys.intern(user_agent)
        self.entry_url = entry_url
        self.fields = dict(fields)

    def _apply_touch(self, _: Definitions, now_ms: int) -> None:
        if now_ms > self.last_activity_ms:  # a wall clock may be set back
            self.last_activity_ms = now_ms

    def _apply_adopt(self, _: Definitions, fields: Mapping[str, JsonValue]) -> None:
        self.fields.update(fields)

    def _apply_mutate(self, _: Definitions, name: str, value: JsonValue, now_ms: int) -> None:
        if self._histories is None:
            self._histories = {}
        if name not in self._histories:
            self._histories[name] = self.history(name)
        self._histories[name].append((now_ms, value))
        if value is None:
            self.fields.pop(name, None)
        else:
            self.fields[name] = value

    def _apply_assign(self, _: Definitions, assignments: Mapping[str, str], forced: Sequence[str]) -> None:
        self.assignments = shared((*self.assignments.items(), *assignments.items()))
        if forced:
            self.forced = self.forced | frozenset(forced)

    def _apply_gate(self, _: Definitions, feature: str) -> None:
        self.open_gates = self.open_gates | {feature}

    def _apply_join(self, _: Definitions, audiences: Sequence[str]) -> None:
        self.audiences = (*self.audiences, *audiences)

    def _apply_activate(self, _: Definitions, variants: Iterable[Assignment]) -> None:
        self.active = shared(tuple((experiment, variant) for experiment, variant in variants))

    def _apply_record(
        self,
        definitions: Definitions,
        feature: str,
        fingerprint: str,
        args: Mapping[str, JsonValue],
        outputs: Mapping[str, JsonValue],
        plugin_outputs: Mapping[str, JsonValue],
        external: Mapping[str, str],
        variants: Sequence[Sequence[str]],
    ) -> None:
        definition = definitions[fingerprint]
        pairs = tuple([(experiment, variant) for experiment, variant in variants])
        record = Record(len(self.records), feature, definition, args, outputs, plugin_outputs, external, pairs)
        self.records.append(record)
        self.size += 1
        self._memo[definition.memo_key(feature, args)] = record

    def _apply_show(self, _: Definitions, number: int, impression_id: str, now_ms: int) -> None:
        record = self.records[number]
        record.add(Impression(impression_id, now_ms))
        self.size += 1
        if self._by_impression is not None:
            self._by_impression[record.key(impression_id)] = record
        for experiment, variant in record.variants:
            if self.active.get(experiment) != variant:
                self.active = shared((*self.active.items(), (experiment, variant)))

    def _apply_alias(self, _: Definitions, number: int, impression_id: str) -> None:
        record = self.records[number]
        if record.aliases is None:
            record.aliases = []
        record.aliases.append(impression_id)
        self.size += 1
        if self._by_impression is not None:
            self._by_impression[record.key(impression_id)] = record

    def _apply_event(
        self,
        _: Definitions,
        number: int | None,
        name: str,
        time_ms: int,
        impression_id: str,
        event_id: str,
        fields: Mapping[str, JsonValue],
    ) -> None:
        event = Event(name, time_ms, impression_id, event_id, fields)
        owner: Session | Record = self if number is None else self.records[number]
        if owner.events is None:
            owner.events = []
        owner.events.append(event)
        self.size += 1
        if self._counts is None:
            self._counts = {}
        path = (None if number is None else self.records[number].feature, name)
        self._counts[path] = self._counts.get(path, 0) + 1

    def _apply_amend(self, _: Definitions, number: int | None, event_id: str, fields: Mapping[str, JsonValue]) -> None:
        events = (self if number is None else self.records[number]).events or []
        for position in reversed(range(len(events))):
            if events[position].event_id == event_id:
                events[position] = replace(events[position], fields={**events[position].fields, **fields})
                break

    def _apply_external(self, _: Definitions, number: int, output: str, value: JsonValue) -> None:
        record = self.records[number]
        known = {**record.outputs, output: value}
        feature = record.definition.program.features[record.feature]
        record.outputs = {item.name: known[item.name] for item in feature.outputs if item.name in known}
        record.members = None

    def _apply_fill(self, _: Definitions, number: int, plugin_outputs: Mapping[str, JsonValue]) -> None:
        record = self.records[number]
        record.plugin_outputs = {**record.plugin_outputs, **plugin_outputs}
        record.members = None

    def _apply_close(self, _: Definitions, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._close(self.records[number])

    def _apply_flush(self, _: Definitions, now_ms: int) -> None:
        for record in list(self._memo.values()):
            self._close(record)
        self.assignments = shared(tuple(item for item in self.assignments.items() if item[0] not in self.forced))
        self.forced = NOBODY
        self.last_flush_ms = now_ms

    def _close(self, record: Record) -> None:
        if record.is_open:
            record.is_open = False
            del self._memo[record.definition.memo_key(record.feature, record.args)]

    def _apply_no_log(self, _: Definitions, no_log: bool) -> None:
        self.no_log = no_log

    def _apply_retire(self, _: Definitions, end_ms: int) -> None:
        self.end_ms = end_ms


NOTHING: Mapping[str, str] = {}
NOBODY: frozenset[str] = frozenset()


@lru_cache(4096)
def shared(items: tuple[Assignment, ...]) -> Mapping[str, str]:
    """A mapping of these items; the same object for all sessions with the same. Never modify it."""
    return dict(items)


_APPLY = {
    name.removeprefix("_apply_"): function for name, function in vars(Session).items() if name.startswith("_apply_")
}
