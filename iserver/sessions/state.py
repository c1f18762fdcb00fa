"""What is known of one visitor's session. It only holds and finds; it changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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

    __slots__ = (
        "active",
        "assignments",
        "audiences",
        "by_impression",
        "counts",
        "definition",
        "due_s",
        "end_ms",
        "entry_url",
        "events",
        "fields",
        "forced",
        "histories",
        "id",
        "journal_bytes",
        "journal_segment",
        "last_activity_ms",
        "last_flush_ms",
        "memo",
        "no_log",
        "open_gates",
        "records",
        "size",
        "size_bytes",
        "start_ms",
        "user_agent",
    )

    definition: Definition
    fields: dict[str, JsonValue]

    def __init__(self, session_id: str) -> None:
        """A session of which nothing is known but its id."""
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
        self.records: list[MemoRecord] = []
        self.no_log = False
        self.size = 0
        self.size_bytes = 0
        self.due_s = 0
        self.journal_segment = 0
        self.journal_bytes = 0
        self.memo: dict[MemoKey, MemoRecord] = {}
        self.histories: dict[str, list[tuple[int, JsonValue]]] | None = None
        self.by_impression: dict[tuple[str, str], MemoRecord] | None = None
        self.counts: dict[EventPath, int] | None = None

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
