"""From a session that is over to what is logged of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from msgspec.structs import replace

from iserver.evaluation.audiences import EventPath, resolve_event
from iserver.evaluation.definition import Definition
from iserver.fdl.model import Elapsed, FieldDefinition, JsonValue
from iserver.sessions.finished import Event, FinishedRecord, FinishedSession, HistoryEntry
from iserver.sessions.session import Session

NEVER = -1
"""What an elapsed field says when the awaited thing did not happen."""


def finish(session: Session, end_ms: int) -> FinishedSession:
    """Everything that is logged of a session.

    Args:
        session: A session that no request will find any more.
        end_ms: When it expired or was retired.
    """
    plugin_names = session.definition.session_plugin_outputs
    finished = FinishedSession(
        session_id=session.id,
        definition=session.definition.fingerprint,
        persistent_key=session.persistent_id,
        start_ms=session.start_ms,
        last_activity_ms=session.last_activity_ms,
        end_ms=end_ms,
        user_agent=session.user_agent,
        entry_url=session.entry_url,
        args={name: value for name, value in session.fields.items() if name not in plugin_names},
        plugin_outputs={name: value for name, value in session.fields.items() if name in plugin_names},
        histories={name: _history(session, name, end_ms) for name in session.definition.mutables},
        variants=tuple(variant for experiment, variant in session.active.items() if experiment not in session.forced),
        audiences=session.audiences,
        events=tuple(session.events or ()),
        records=tuple(
            FinishedRecord(
                feature=record.feature,
                definition=record.definition.fingerprint,
                impressions=tuple(record.impressions),
                args=record.args,
                outputs=record.outputs,
                plugin_outputs=record.plugin_outputs,
                events=tuple(record.events or ()),
            )
            for record in session.records
            if record.impressions
        ),
    )
    definitions = {record.definition.fingerprint: record.definition for record in session.records}
    definitions[session.definition.fingerprint] = session.definition
    if not any(definition.measures for definition in definitions.values()):
        return finished
    return _Stopwatch(finished, definitions).measured()


def _history(session: Session, name: str, end_ms: int) -> tuple[HistoryEntry, ...]:
    entries = session.history(name)
    ends = [*(start_ms for start_ms, _ in entries), end_ms][1:]
    return tuple(
        HistoryEntry(start_ms, until_ms, value) for (start_ms, value), until_ms in zip(entries, ends, strict=True)
    )


@dataclass(frozen=True, slots=True)
class _Moment:
    """An impression (`event` is empty) or an event somewhere in the session."""

    time_ms: int
    feature: str | None
    event: str


class _Stopwatch:
    """Measures the elapsed fields of one finished session."""

    def __init__(self, session: FinishedSession, definitions: Mapping[str, Definition]) -> None:
        self._session = session
        self._definitions = definitions

    @cached_property
    def _moments(self) -> list[_Moment]:
        session = self._session
        moments = [_Moment(event.time_ms, None, event.name) for event in session.events]
        for record in session.records:
            moments += [_Moment(shown.time_ms, record.feature, "") for shown in record.impressions]
            moments += [_Moment(event.time_ms, record.feature, event.name) for event in record.events]
        return sorted(moments, key=lambda moment: moment.time_ms)

    def measured(self) -> FinishedSession:
        """The session with all its elapsed fields."""
        session = self._session
        return replace(
            session,
            events=self._events(session.definition, None, session.events),
            records=tuple(self._record(record) for record in session.records),
        )

    def _record(self, record: FinishedRecord) -> FinishedRecord:
        feature = self._definitions[record.definition].program.features[record.feature]
        last_event_ms = max((event.time_ms for event in record.events), default=None)

        def measure(elapsed: Elapsed) -> int:
            if elapsed.kind == "impression_end":
                return NEVER if last_event_ms is None else last_event_ms - record.first_ms
            return self._since(record.definition, elapsed, record.first_ms)

        return replace(
            record,
            outputs=_with_elapsed(feature.outputs, record.outputs, measure),
            events=self._events(record.definition, record.feature, record.events),
        )

    def _events(self, fingerprint: str, feature: str | None, events: Sequence[Event]) -> tuple[Event, ...]:
        return tuple(self._event(fingerprint, (feature, event.name), event) for event in events)

    def _event(self, fingerprint: str, path: EventPath, event: Event) -> Event:
        definition = self._definitions[fingerprint].event(path)
        if definition is None:
            return event
        fields = _with_elapsed(
            definition.fields,
            event.fields,
            lambda elapsed: self._since(fingerprint, elapsed, event.time_ms),
        )
        return event if fields is event.fields else replace(event, fields=fields)

    def _since(self, fingerprint: str, elapsed: Elapsed, time_ms: int) -> int:
        if elapsed.kind != "until":
            return self._session.last_activity_ms - time_ms
        program = self._definitions[fingerprint].program
        awaited: set[EventPath] = set()
        for name in elapsed.path:
            awaited.update([(name, "")] if name in program.features else resolve_event(program, name))
        return next(
            (
                moment.time_ms - time_ms
                for moment in self._moments
                if moment.time_ms > time_ms and (moment.feature, moment.event) in awaited
            ),
            NEVER,
        )


def _with_elapsed(
    fields: Iterable[FieldDefinition],
    values: Mapping[str, JsonValue],
    measure: Callable[[Elapsed], int],
) -> Mapping[str, JsonValue]:
    measured = {item.name: measure(item.elapsed) for item in fields if item.elapsed is not None}
    return {**values, **measured} if measured else values
