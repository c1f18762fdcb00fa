"""How a session changes: each kind of change, and the changes that rebuild a session (§11.6).

A change is a small list of JSON values that begins with its kind. What is stored of a session is its changes, so a
kind and its values keep their meaning from release to release.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias

from msgspec.structs import replace

from iserver.evaluation.definition import Definition
from iserver.evaluation.plans import Assignment
from iserver.fdl.model import JsonValue
from iserver.sessions.finished import Event, Impression
from iserver.sessions.memo_record import Change, MemoRecord, event_change
from iserver.sessions.state import SessionState, shared

Definitions: TypeAlias = Mapping[str, Definition]

SESSION_BYTES, RECORD_BYTES, SHOW_BYTES, EVENT_BYTES = 2000, 800, 250, 400
"""What each takes in memory besides the values that came from clients, about."""


def apply_change(session: SessionState, change: Change, definitions: Definitions) -> None:
    """Change a session.

    Raises:
        KeyError: The kind is not known, or a definition that the change refers to is not given.
    """
    _APPLY[change[0]](session, definitions, *change[1:])


def retract(session: SessionState, changes: Sequence[Change]) -> None:
    """Take back what changes recorded of the visitor, because they could not be stored.

    Impressions, events, aliases, posted values and mutations go. What was decided stays, as it would be decided again:
    assignments, gates, audiences, memo records (without an impression they are not logged).
    """
    for kind, *values in changes:
        if kind in _RETRACT:
            _RETRACT[kind](session, *values)
    if any(change[0] == "show" for change in changes):
        session.by_impression = None
        session.active = shared(tuple(_activated(session).items()))


def _activated(session: SessionState) -> dict[str, str]:
    """The variants that impressions have activated, in the order of these."""
    shown = [(item.time_ms, record) for record in session.records if record.variants for item in record.impressions]
    active: dict[str, str] = {}
    for _, record in sorted(shown, key=lambda pair: pair[0]):
        active.update(record.variants)
    return active


def describe(session: SessionState) -> Iterator[Change]:
    """Changes that build a session equal to this one: a snapshot of its state."""
    initial = dict(session.fields)
    for name, entries in (session.histories or {}).items():
        started_with = entries[0][1] if entries[0][0] == session.start_ms else None
        initial[name] = started_with
    initial = {name: value for name, value in initial.items() if value is not None}
    yield ["start", session.definition.fingerprint, session.start_ms, session.user_agent, session.entry_url, initial]
    for name, entries in (session.histories or {}).items():
        for start_ms, value in entries[1 if name in initial else 0 :]:
            yield ["mutate", name, value, start_ms]
    yield ["touch", session.last_activity_ms]
    if session.last_flush_ms != session.start_ms:
        yield ["flush", session.last_flush_ms]
    yield ["assign", session.assignments, sorted(session.forced)]
    for feature in sorted(session.open_gates):
        yield ["gate", feature]
    yield ["join", session.audiences]
    for event in session.events or ():
        yield event_change(None, event)
    for record in session.records:
        yield from record.describe()
    yield ["activate", list(session.active.items())]
    yield ["no_log", session.no_log]
    if session.end_ms is not None:
        yield ["retire", session.end_ms]


def index_keys(session: SessionState, changes: Sequence[Change]) -> list[tuple[str, str]]:
    """The session keys that changes gave to a session, by name: those that begin to lead to it."""
    given: dict[str, object] = {}
    for change in changes:
        if change[0] in ("start", "adopt"):
            given.update(change[-1])
    pairs = ((name, given.get(name)) for name in session.definition.keys[1:])
    return [(name, str(value)) for name, value in pairs if value is not None]


def size_of(value: object) -> int:
    """What a JSON value takes in memory, about: up to thirty times its text."""
    if isinstance(value, str):
        return 60 + len(value)
    if isinstance(value, Mapping):
        return 240 + sum([size_of(item) for item in value.values()])
    if isinstance(value, list):
        return 60 + sum([8 + size_of(item) for item in value])
    return 32


SHORT = 256


@lru_cache(1024)
def _same(text: str) -> str:
    """The same object for equal texts: many visitors have the same user agent."""
    return text


def _start(
    session: SessionState,
    definitions: Definitions,
    fingerprint: str,
    now_ms: int,
    user_agent: str,
    entry_url: str | None,
    fields: dict[str, JsonValue],
) -> None:
    session.definition = definitions[fingerprint]
    session.start_ms = session.last_activity_ms = session.last_flush_ms = now_ms
    session.user_agent = _same(user_agent) if len(user_agent) <= SHORT else user_agent
    session.entry_url = entry_url
    session.fields = dict(fields)
    session.size_bytes += SESSION_BYTES + len(user_agent) + len(entry_url or "") + size_of(session.fields)


def _touch(session: SessionState, _: Definitions, now_ms: int) -> None:
    if now_ms > session.last_activity_ms:  # a wall clock may be set back
        session.last_activity_ms = now_ms


def _adopt(session: SessionState, _: Definitions, fields: Mapping[str, JsonValue]) -> None:
    session.fields.update(fields)
    session.size_bytes += size_of(fields)


def _mutate(session: SessionState, _: Definitions, name: str, value: JsonValue, now_ms: int) -> None:
    if session.histories is None:
        session.histories = {}
    if name not in session.histories:
        session.histories[name] = session.history(name)
    session.histories[name].append((now_ms, value))
    session.size_bytes += SHOW_BYTES + size_of(value)
    if value is None:
        session.fields.pop(name, None)
    else:
        session.fields[name] = value


def _assign(session: SessionState, _: Definitions, assignments: Mapping[str, str], forced: Sequence[str]) -> None:
    session.assignments = shared((*session.assignments.items(), *assignments.items()))
    if forced:
        session.forced = session.forced | frozenset(forced)


def _gate(session: SessionState, _: Definitions, feature: str) -> None:
    session.open_gates = session.open_gates | {feature}


def _join(session: SessionState, _: Definitions, audiences: Sequence[str]) -> None:
    session.audiences = (*session.audiences, *audiences)


def _activate(session: SessionState, _: Definitions, variants: Iterable[Assignment]) -> None:
    session.active = shared(tuple((experiment, variant) for experiment, variant in variants))


def _record(
    session: SessionState,
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
    record = MemoRecord(len(session.records), feature, definition, args, outputs, plugin_outputs, external, pairs)
    session.records.append(record)
    memo_key = definition.memo_key(feature, args)
    session.memo[memo_key] = record
    session.size += 1
    session.size_bytes += RECORD_BYTES + len(memo_key[1]) + size_of(args)


def _show(session: SessionState, _: Definitions, number: int, impression_id: str, now_ms: int) -> None:
    record = session.records[number]
    record.add(Impression(impression_id, now_ms))
    session.size += 1
    session.size_bytes += SHOW_BYTES + len(impression_id)
    session.index_impression(record, impression_id)
    for experiment, variant in record.variants:
        if session.active.get(experiment) != variant:
            session.active = shared((*session.active.items(), (experiment, variant)))


def _alias(session: SessionState, _: Definitions, number: int, impression_id: str) -> None:
    record = session.records[number]
    if record.aliases is None:
        record.aliases = []
    record.aliases.append(impression_id)
    session.size += 1
    session.size_bytes += SHOW_BYTES + len(impression_id)
    session.index_impression(record, impression_id)


def _event(
    session: SessionState,
    _: Definitions,
    number: int | None,
    name: str,
    time_ms: int,
    impression_id: str,
    event_id: str,
    fields: Mapping[str, JsonValue],
) -> None:
    event = Event(name, time_ms, impression_id, event_id, fields)
    owner: SessionState | MemoRecord = session if number is None else session.records[number]
    if owner.events is None:
        owner.events = []
    owner.events.append(event)
    session.size += 1
    session.size_bytes += EVENT_BYTES + size_of(fields)
    if session.counts is None:
        session.counts = {}
    path = (None if number is None else session.records[number].feature, name)
    session.counts[path] = session.counts.get(path, 0) + 1


def _amend(
    session: SessionState, _: Definitions, number: int | None, event_id: str, fields: Mapping[str, JsonValue]
) -> None:
    events = (session if number is None else session.records[number]).events or []
    for position in reversed(range(len(events))):
        if events[position].event_id == event_id:
            events[position] = replace(events[position], fields={**events[position].fields, **fields})
            session.size_bytes += size_of(fields)
            break


def _external(session: SessionState, _: Definitions, number: int, output: str, value: JsonValue) -> None:
    record = session.records[number]
    session.size_bytes += size_of(value)
    known = {**record.outputs, output: value}
    feature = record.definition.program.features[record.feature]
    record.outputs = {item.name: known[item.name] for item in feature.outputs if item.name in known}
    record.members = None


def _fill(session: SessionState, _: Definitions, number: int, plugin_outputs: Mapping[str, JsonValue]) -> None:
    record = session.records[number]
    record.plugin_outputs = {**record.plugin_outputs, **plugin_outputs}
    session.size_bytes += size_of(plugin_outputs)
    record.members = None


def _close(session: SessionState, _: Definitions, numbers: Iterable[int]) -> None:
    for number in numbers:
        _answer_no_more(session, session.records[number])


def _flush(session: SessionState, _: Definitions, now_ms: int) -> None:
    for record in list(session.memo.values()):
        _answer_no_more(session, record)
    session.assignments = shared(tuple(item for item in session.assignments.items() if item[0] not in session.forced))
    session.last_flush_ms = now_ms


def _answer_no_more(session: SessionState, record: MemoRecord) -> None:
    if record.is_open:
        record.is_open = False
        del session.memo[record.definition.memo_key(record.feature, record.args)]


def _no_log(session: SessionState, _: Definitions, no_log: bool) -> None:
    session.no_log = no_log


def _retire(session: SessionState, _: Definitions, end_ms: int) -> None:
    session.end_ms = end_ms


_APPLY: Mapping[str, Callable[..., None]] = {
    "start": _start,
    "touch": _touch,
    "adopt": _adopt,
    "mutate": _mutate,
    "assign": _assign,
    "gate": _gate,
    "join": _join,
    "activate": _activate,
    "record": _record,
    "show": _show,
    "alias": _alias,
    "event": _event,
    "amend": _amend,
    "external": _external,
    "fill": _fill,
    "close": _close,
    "flush": _flush,
    "no_log": _no_log,
    "retire": _retire,
}


def _unshow(session: SessionState, number: int, impression_id: str, _now_ms: int) -> None:
    session.records[number].remove(impression_id)
    session.size -= 1


def _unalias(session: SessionState, number: int, impression_id: str) -> None:
    aliases = session.records[number].aliases
    if aliases and impression_id in aliases:
        aliases.remove(impression_id)
        session.size -= 1
        session.by_impression = None


def _unhappen(
    session: SessionState, number: int | None, name: str, _time_ms: int, _impression_id: str, event_id: str, *_: object
) -> None:
    owner: SessionState | MemoRecord = session if number is None else session.records[number]
    left = [event for event in owner.events or () if event.event_id != event_id]
    if len(left) == len(owner.events or ()):
        return
    owner.events = left
    session.size -= 1
    path = (None if number is None else session.records[number].feature, name)
    if session.counts is not None and path in session.counts:
        session.counts[path] -= 1


def _unmutate(session: SessionState, name: str, value: JsonValue, now_ms: int) -> None:
    entries = (session.histories or {}).get(name, [])
    if (now_ms, value) not in entries:
        return
    entries.remove((now_ms, value))
    if entries and entries[-1][1] is not None:
        session.fields[name] = entries[-1][1]
    else:
        session.fields.pop(name, None)
    if not entries and session.histories is not None:
        del session.histories[name]


def _unpost(session: SessionState, number: int, output: str, _value: JsonValue) -> None:
    record = session.records[number]
    record.outputs = {name: value for name, value in record.outputs.items() if name != output}
    record.members = None


_RETRACT: Mapping[str, Callable[..., None]] = {
    "show": _unshow,
    "alias": _unalias,
    "event": _unhappen,
    "mutate": _unmutate,
    "external": _unpost,
}

KINDS = tuple(_APPLY)
"""Every kind of change."""
