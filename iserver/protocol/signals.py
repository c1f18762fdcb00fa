"""What happens downstream: events, mutations, shown copies and external values (protocol §4 and §5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from iserver.configuration.compiled import Configuration
from iserver.errors import MalformedError, SessionGoneError, UnknownError
from iserver.evaluation.audiences import EventPath
from iserver.evaluation.definition import Definition
from iserver.fdl.values import InvalidValueError
from iserver.protocol.feature_requests import NewId, adopt_keys
from iserver.protocol.request_bodies import ExternalRequest, Mutate, ShowCached, SignalEvent, SignalRequest, kind
from iserver.sessions.finished import Event
from iserver.sessions.memo_record import MemoRecord
from iserver.sessions.registry import Sessions
from iserver.sessions.session import Session


@dataclass(slots=True)
class Effects:
    """What a signal did, for plugins and for the answer.

    Attributes:
        shown: Records that got a new impression.
        event: The event stored, with its record; the record is `None` for a session event.
        missing: Features for which an impression was not found.
    """

    shown: list[MemoRecord]
    event: tuple[MemoRecord | None, Event] | None = None
    missing: tuple[str, ...] = ()


def session_of(sessions: Sessions, definition: Definition, id_: Mapping[str, Any], now_ms: int) -> Session:
    """The active session that a signal addresses (§11.2, without creation).

    Raises:
        MalformedError: No key is given, or a key is not a string.
        SessionGoneError: There is none, or its keys conflict with the given ones.
    """
    keys: dict[str, str] = {}
    for name in definition.keys:
        value = id_.get(name)
        if value is None:
            continue
        if type(value) is not str:
            raise MalformedError(f"Expecting a string for {name}, found {kind(value)}")
        keys[name] = value
    if not keys:
        raise MalformedError(f"no session key is given: expected one of {', '.join(definition.keys)}")
    match = sessions.find(keys, definition.persistent_key, now_ms)
    if match.session is None or match.conflicts:
        raise SessionGoneError
    adopt_keys(sessions, match.session, keys)
    return match.session


def apply_signal(
    configuration: Configuration, session: Session, request: SignalRequest, *, now_ms: int, new_id: NewId
) -> Effects:
    """Carry out a signal: the mutation, then the impressions, then the event (§4).

    Whatever was carried out before an error stays. The session is touched when there was none.

    Raises:
        MalformedError: A value has the wrong type, or the field cannot be mutated.
        UnknownError: A name or an impression is not known.
    """
    effects = Effects([])
    if request.mutate is not None:
        _mutate(configuration.definition, session, request.mutate, now_ms)
    missing = []
    for shown in request.shown:
        record = _cached_record(configuration, session, shown)
        if record is None:
            missing.append(shown.feature)
        elif not record.shows(shown.new_impression_id):
            session.show(record, shown.new_impression_id, now_ms)
            effects.shown.append(record)
    effects.missing = tuple(missing)
    if request.event is not None:
        effects.event = _store_event(configuration.definition, session, request, request.event, now_ms, new_id)
    if missing and not request.ignore_missing_impression:
        raise UnknownError(f"impression not found: {', '.join(missing)}")
    session.touch(now_ms)
    return effects


def _mutate(definition: Definition, session: Session, mutate: Mutate, now_ms: int) -> None:
    if not definition.is_session_field(mutate.name):
        raise UnknownError(f"unknown session field '{mutate.name}'")
    read = definition.mutables.get(mutate.name)
    if read is None:
        raise MalformedError(f"'{mutate.name}' is not mutable")
    try:
        value = read(mutate.value)
    except InvalidValueError as error:
        raise MalformedError(str(error)) from error
    session.mutate(mutate.name, value, now_ms)


def _cached_record(configuration: Configuration, session: Session, shown: ShowCached) -> MemoRecord | None:
    if shown.feature not in configuration.features:
        return None
    return session.record_showing(shown.feature, shown.impression_id)


def _store_event(
    definition: Definition,
    session: Session,
    request: SignalRequest,
    event: SignalEvent,
    now_ms: int,
    new_id: NewId,
) -> tuple[MemoRecord | None, Event] | None:
    place = (_abstract_place if event.is_abstract else _place)(definition, session, event)
    if place is None:
        if request.ignore_missing_impression:
            return None
        raise UnknownError(f"{event.feature or event.event}: impression '{event.impression_id or ''}' not found")
    path, record = place
    try:
        fields = definition.read_event_fields(path, event.args)
    except InvalidValueError as error:
        raise MalformedError(f"{event.event}: {error}") from error
    impression_id = session.id if record is None else str(event.impression_id)
    stored = Event(path[1], now_ms, impression_id, new_id(), fields)
    session.happen(record, stored)
    return record, stored


EventTarget = tuple[EventPath, MemoRecord | None]
"""Which event it is, and the record it happened on: none for an event of the session."""


def _place(definition: Definition, session: Session, event: SignalEvent) -> EventTarget | None:
    """What an event happened on, `None` when the impression is not on record."""
    path = (event.feature, event.event)
    if event.feature is not None and definition.feature(event.feature) is None:
        raise UnknownError(f"unknown feature '{event.feature}'")
    if definition.event(path) is None:
        raise UnknownError(f"{event.feature or 'session'}: unknown event '{event.event}'")
    if event.feature is None:
        return path, None
    record = event.impression_id and session.record_showing(event.feature, event.impression_id)
    return (path, record) if record else None


def _abstract_place(definition: Definition, session: Session, event: SignalEvent) -> EventTarget | None:
    """The event that imports the abstract one, of the session or of the newest record with the impression."""
    if event.event not in definition.program.events:
        raise UnknownError(f"unknown abstract event '{event.event}'")
    impression_id = event.impression_id
    if impression_id is None or impression_id == session.id:
        events = definition.program.session.events.values()
        return next((((None, item.name), None) for item in events if event.event in item.imports), None)
    places = [
        ((feature.name, item.name), record)
        for feature in definition.program.features.values()
        for item in feature.events.values()
        if event.event in item.imports
        if not feature.abstract and (record := session.record_showing(feature.name, impression_id)) is not None
    ]
    return max(places, key=lambda place: place[1].number, default=None)


def apply_external(
    configuration: Configuration, session: Session, request: ExternalRequest, *, now_ms: int
) -> list[str]:
    """Store the values of outputs that the application computed itself (§5).

    Returns:
        Outputs that had another value already, which stays: the first value wins.

    Raises:
        UnknownError: The feature, the impression or the output is not known.
        MalformedError: A value has the wrong type; nothing was stored.
    """
    definition, feature = configuration.definition, request.feature
    if definition.feature(feature) is None:
        raise UnknownError(f"unknown feature '{feature}'")
    readers = {name: read for name in request.values if (read := definition.external_reader(feature, name)) is not None}
    if not readers:
        raise UnknownError(f"{feature}: '{', '.join(request.values)}' is not an external output")
    record = _external_record(session, request, list(readers))
    try:
        values = {name: read(request.values[name]) for name, read in readers.items()}
    except InvalidValueError as error:
        raise MalformedError(f"{feature}: {error}") from error
    ignored = []
    pending = record.pending
    for name, value in values.items():
        if name in pending:
            session.post_external(record, name, value)
        elif record.outputs.get(name) != value:
            ignored.append(name)
    session.touch(now_ms)
    return ignored


def _external_record(session: Session, request: ExternalRequest, outputs: list[str]) -> MemoRecord:
    if request.impression_id is not None:
        record = session.record_showing(request.feature, request.impression_id)
        if record is None:
            raise UnknownError(f"{request.feature}: impression '{request.impression_id}' not found")
        return record
    waiting = [
        record
        for record in session.records
        if record.feature == request.feature and any(output in record.pending for output in outputs)
    ]
    if len(waiting) != 1:
        raise UnknownError(f"{request.feature}: no impression is given, and {len(waiting)} records wait")
    return waiting[0]
