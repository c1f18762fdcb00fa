"""What is known of one visitor's session. It only holds and finds; it changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from iserver.evaluation.audiences import EventPath
from iserver.evaluation.definition import Definition, MemoKey
from iserver.evaluation.plans import Assignment
from iserver.fdl.model import JsonValue
from iserver.sessions.finished import Event
from iserver.sessions.memo_record import MemoRecord

NOTHING: Mapping[str, str] = {}
NOBODY: frozenset[str] = frozenset()


@lru_cache(4096)
def shared(items: tuple[Assignment, ...]) -> Mapping[str, str]:
    """A mapping of these items; the same object for all sessions with the same. Never modify it."""
    return dict(items)


@dataclass(slots=True, eq=False, repr=False)
class SessionState:
    """All activity of one visitor until a period of inactivity.

    Attributes:
        id: Chosen by the server.
        definition: The FDL program it started under.
        start_ms, last_activity_ms: Epoch milliseconds.
        end_ms: Set when the session is retired before it expires.
        user_agent, entry_url: Fixed at creation (§3.5).
        fields: Keys, args and plugin outputs by name, only those that are set.
        assignments: Variant id by experiment id, fixed until the session ends.
        forced: Experiments whose variant a QA override chose: this session is no evidence about them.
        open_gates: Features whose percentage let the session in.
        active: Active variants: id by experiment id, in the order of activation.
        audiences: Ids, in the order in which the visitor was found in them.
        events: Session events.
        records: Every memo record, closed ones included.
        last_flush_ms: The time that SSE and `features` send to registered clients (§8).
        no_log: Whether it is excluded from the warehouse.
        memo: The records that answer requests, by what they answer.
        histories: Every value that mutable fields had, of those that changed.
        by_impression: Records by impression, once that has been looked up.
        counts: How often each event happened.
        size: How many changes a snapshot of it takes, about.
        size_bytes: How much memory it takes, about.
        due_s: The slot of the timing wheel that has it; set by `Sessions`.
        journal_segment: The oldest part of the journal that has something of it, 0 for none; set by the journal.
        journal_bytes: How much the journal has of it, about; set by the journal.
    """

    id: str
    definition: Definition = field(init=False)
    fields: dict[str, JsonValue] = field(init=False)
    start_ms: int = field(default=0, init=False)
    last_activity_ms: int = field(default=0, init=False)
    last_flush_ms: int = field(default=0, init=False)
    end_ms: int | None = field(default=None, init=False)
    user_agent: str = field(default="", init=False)
    entry_url: str | None = field(default=None, init=False)
    assignments: Mapping[str, str] = field(default_factory=lambda: NOTHING, init=False)
    forced: frozenset[str] = field(default=NOBODY, init=False)
    open_gates: frozenset[str] = field(default=NOBODY, init=False)
    active: Mapping[str, str] = field(default_factory=lambda: NOTHING, init=False)
    audiences: tuple[str, ...] = field(default=(), init=False)
    events: list[Event] | None = field(default=None, init=False)
    records: list[MemoRecord] = field(default_factory=list, init=False)
    no_log: bool = field(default=False, init=False)
    size: int = field(default=0, init=False)
    size_bytes: int = field(default=0, init=False)
    due_s: int = field(default=0, init=False)
    journal_segment: int = field(default=0, init=False)
    journal_bytes: int = field(default=0, init=False)
    memo: dict[MemoKey, MemoRecord] = field(default_factory=dict, init=False)
    histories: dict[str, list[tuple[int, JsonValue]]] | None = field(default=None, init=False)
    by_impression: dict[tuple[str, str], MemoRecord] | None = field(default=None, init=False)
    counts: dict[EventPath, int] | None = field(default=None, init=False)

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
        if self.histories is not None and name in self.histories:
            return self.histories[name]
        return [(self.start_ms, self.fields[name])] if name in self.fields else []

    def record_for(self, memo_key: MemoKey) -> MemoRecord | None:
        """The record that answers a request (§10.3), `None` when outputs must be computed."""
        return self.memo.get(memo_key)

    @property
    def open_records(self) -> list[MemoRecord]:
        """Records that answer requests, oldest first."""
        return list(self.memo.values())

    @property
    def open_record_count(self) -> int:
        """How many records answer requests."""
        return len(self.memo)

    @property
    def oldest_open_record(self) -> MemoRecord:
        """The first of `open_records`; there must be one."""
        return next(iter(self.memo.values()))

    def record_showing(self, feature: str, impression_id: str) -> MemoRecord | None:
        """The newest record of a feature that holds an impression, by a real id or a cache-fill id (§4.1).

        It is the record that was created last, in whatever order the impression was added to several of them.
        """
        if self.by_impression is None:
            self.by_impression = {}
            for record in self.records:
                for impression in record.impressions:
                    self.by_impression[record.key(impression.id)] = record
                for alias in record.aliases or ():
                    self.by_impression[record.key(alias)] = record
        return self.by_impression.get((feature, impression_id))

    def index_impression(self, record: MemoRecord, impression_id: str) -> None:
        """Let `record_showing` find what was just added to a record."""
        if self.by_impression is None:
            return
        key = record.key(impression_id)
        known = self.by_impression.get(key)
        if known is None or known.number < record.number:
            self.by_impression[key] = record

    def count(self, path: EventPath) -> int:
        """How often an event happened in this session."""
        return 0 if self.counts is None else self.counts.get(path, 0)

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
