"""One visitor's session, and what can happen to it.

A session changes only by applying a *change* (`iserver.sessions.changes`). A journal stores
the changes (`take_changes`) and applies them again; nothing else is needed to rebuild it exactly. The methods below
decide nothing about visitors: they record what was decided.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from iserver.evaluation.definition import Definition
from iserver.evaluation.plans import Assignment
from iserver.fdl.model import JsonValue
from iserver.sessions.changes import Definitions, apply_change, describe, retract
from iserver.sessions.finished import Event
from iserver.sessions.memo_record import Change, MemoRecord
from iserver.sessions.state import SessionState


class Session(SessionState):
    """A session that notes how it changes."""

    __slots__ = ("_unsaved",)

    def __init__(self, session_id: str) -> None:
        """A session to which its changes are yet to be applied; `begin` makes a new one."""
        super().__init__(session_id)
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
        """Fix assignments until the session ends."""
        self._do({}, ["assign", dict(assignments), sorted(forced)])

    def open_gate(self, feature: str) -> None:
        """Fix a feature as on that its percentage let in (§10.2)."""
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
    ) -> MemoRecord:
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

    def show(self, record: MemoRecord, impression_id: str, now_ms: int) -> None:
        """Add an impression to a record, and make the record's variants active (§10.8)."""
        self._do({}, ["show", record.number, impression_id, now_ms])

    def alias(self, record: MemoRecord, impression_id: str) -> None:
        """Remember an id minted for a cache fill (§3.6)."""
        self._do({}, ["alias", record.number, impression_id])

    def happen(self, record: MemoRecord | None, event: Event) -> None:
        """Store an event of a record, or of the session."""
        number = None if record is None else record.number
        self._do(
            {},
            ["event", number, event.name, event.time_ms, event.impression_id, event.event_id, event.fields],
        )

    def amend(self, record: MemoRecord | None, event: Event, fields: Mapping[str, JsonValue]) -> None:
        """Set fields of the event that was stored last, of a record or of the session."""
        number = None if record is None else record.number
        self._do({}, ["amend", number, event.event_id, dict(fields)])

    def post_external(self, record: MemoRecord, output: str, value: JsonValue) -> None:
        """Store the value of an external output (§5)."""
        self._do({}, ["external", record.number, output, value])

    def fill(self, record: MemoRecord, plugin_outputs: Mapping[str, JsonValue]) -> None:
        """Store plugin outputs that changed after the record was created."""
        self._do({}, ["fill", record.number, dict(plugin_outputs)])

    def close(self, records: Iterable[MemoRecord]) -> None:
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
        apply_change(self, change, definitions)

    def retract(self, changes: Sequence[Change]) -> None:
        """Take back what changes recorded of the visitor, because they could not be stored."""
        retract(self, changes)

    def _do(self, definitions: Definitions, change: Change) -> None:
        apply_change(self, change, definitions)
        if self._unsaved is None:
            self._unsaved = [change]
        else:
            self._unsaved.append(change)

    def describe(self) -> Iterator[Change]:
        """Changes that build a session equal to this one: a snapshot of its state."""
        return describe(self)
