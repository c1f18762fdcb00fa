"""A request for features, from its arguments to the memo records that answer it (§3.2 and §10).

`find_or_create_session` comes first. A `FeatureEvaluation` then takes the requested features through the phases of §10
in two steps, `look_up` and `evaluate`. Plugins run between the two, on the features that `misses` names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from iserver.configuration.compiled import Configuration
from iserver.errors import MalformedError, SessionGoneError
from iserver.evaluation.audiences import Context
from iserver.evaluation.definition import Definition, MemoKey
from iserver.evaluation.plans import FeaturePlan, Visitor
from iserver.fdl.model import JsonValue
from iserver.fdl.values import InvalidValueError
from iserver.protocol.request_bodies import FeaturesRequest
from iserver.sessions.memo_record import MemoRecord
from iserver.sessions.registry import Sessions
from iserver.sessions.session import Session
from shared.http.text import header_text

NewId = Callable[[], str]

OFF = "OFF"
UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class Origin:
    """What an HTTP request says besides its body; used where the body says nothing (§2, §3.5).

    Attributes:
        headers: The request's headers; looking up a name ignores its case.
    """

    headers: Mapping[str, str]

    @property
    def user_agent(self) -> str:
        """The client, empty when unknown."""
        return self._text("User-Agent") or ""

    @property
    def referer(self) -> str | None:
        """The page the request came from."""
        return self._text("Referer")

    def keys(self, names: Sequence[str]) -> dict[str, str]:
        """Keys that clients repeat as headers for load balancers; `null` stands for an unset key."""
        found = ((name, self._text(f"X-Causal-{name}")) for name in names)
        return {name: value for name, value in found if value is not None and value != "null"}

    def _text(self, name: str) -> str | None:
        value = self.headers.get(name)
        return None if value is None else header_text(value)


class SessionLookup(msgspec.Struct, frozen=True):
    """The session of a request.

    Attributes:
        session: The session found or created.
        is_new: Whether it was created.
        retired: Sessions that ended because of it.
    """

    session: Session
    is_new: bool = False
    retired: tuple[Session, ...] = ()


def find_or_create_session(
    sessions: Sessions,
    configuration: Configuration,
    args: Mapping[str, Any],
    origin: Origin,
    *,
    now_ms: int,
    new_id: NewId,
) -> SessionLookup:
    """Find the session of a features request, or create it (§3.2, §11.2).

    A session whose keys conflict with the given ones is retired: it belongs to another visitor.

    Raises:
        MalformedError: No key is given, an arg has the wrong type, or a new session lacks a required arg.
        SessionGoneError: The keys given belong to no active session and cannot start one.
    """
    definition = configuration.definition
    keys = _keys(definition, args)
    if not keys:
        args = {**args, **origin.keys(definition.keys)}
    try:
        given = definition.read_given_session_args(args)
    except InvalidValueError as error:
        raise MalformedError(str(error)) from error
    keys = keys or _keys(definition, given)
    if not keys:
        raise MalformedError(f"no session key is given: expected '{definition.persistent_key}' in 'args'")
    match = sessions.find(keys, definition.persistent_key, now_ms)
    if match.session is not None and not match.conflicts:
        _continue_session(sessions, match.session, definition, keys, given, now_ms)
        return SessionLookup(match.session)
    if definition.persistent_key not in keys:
        raise SessionGoneError
    session = _begin(definition, args, origin, now_ms, new_id)
    retired = []
    if match.session is not None:
        match.session.retire(now_ms)
        sessions.remove(match.session)
        retired.append(match.session)
    displaced = sessions.add(session)
    if displaced is not None:
        retired.append(displaced)
    return SessionLookup(session, is_new=True, retired=tuple(retired))


def _keys(definition: Definition, args: Mapping[str, Any]) -> dict[str, str]:
    """The keys among args, unchecked; null stands for an unset key."""
    return {name: args[name] for name in definition.keys if args.get(name) is not None}


def _continue_session(
    sessions: Sessions,
    session: Session,
    definition: Definition,
    keys: Mapping[str, str],
    given: Mapping[str, JsonValue],
    now_ms: int,
) -> None:
    session.touch(now_ms)
    adopt_keys(sessions, session, keys)
    for name in definition.mutables:
        if name in given:
            session.mutate(name, given[name], now_ms)


def adopt_keys(sessions: Sessions, session: Session, keys: Mapping[str, str]) -> None:
    """Take over the keys that a session did not have yet (§11.2)."""
    if not keys.keys() <= session.fields.keys():
        adopted = {name: value for name, value in keys.items() if name not in session.fields}
        session.adopt(adopted)
        sessions.index_keys(session)


def _begin(definition: Definition, args: Mapping[str, Any], origin: Origin, now_ms: int, new_id: NewId) -> Session:
    try:
        fields = definition.read_session_args(args)
    except InvalidValueError as error:
        raise MalformedError(str(error)) from error
    defaults = {name: value for name, value in definition.plugin_defaults.items() if value is not None}
    user_agent, entry_url = args.get("userAgent"), args.get("entryUrl")
    return Session.begin(
        new_id(),
        definition,
        {**fields, **defaults},
        now_ms=now_ms,
        user_agent=user_agent if isinstance(user_agent, str) else origin.user_agent,
        entry_url=entry_url if isinstance(entry_url, str) else origin.referer,
    )


def visitor_of(session: Session, configuration: Configuration, now_ms: int) -> Visitor:
    """What evaluation may know of the visitor of a session."""
    split_value = session.fields.get(configuration.definition.split_key)
    persistent_id = session.persistent_id
    return Visitor(
        Context(session.fields, session),
        persistent_id if split_value is None else str(split_value),
        now_ms,
        session.assignments,
        session.open_gates,
        configuration.devices.get(persistent_id),
    )


class RequestedFeature(msgspec.Struct):
    """One requested feature on its way through §10.

    Attributes:
        name: The requested name.
        literal: `"OFF"` or `"UNKNOWN"` when that is the answer.
        error: Why the feature cannot be answered.
        args: Checked args.
        memo_key: By which records with these args are found.
        plan: How to evaluate it.
        record: What answers it.
        plugin_outputs: Values that plugins filled in.
        alias: The id minted for a cache fill.
        result: How it was answered, in one word (§15).
    """

    name: str
    literal: str | None = None
    error: str | None = None
    args: Mapping[str, JsonValue] = msgspec.field(default_factory=dict)
    memo_key: MemoKey = ("", "")
    plan: FeaturePlan | None = None
    record: MemoRecord | None = None
    plugin_outputs: Mapping[str, JsonValue] = msgspec.field(default_factory=dict)
    alias: str | None = None
    result: str = "on"


class FeatureEvaluation:
    """One request for features within a session.

    Attributes:
        session: The session.
        request: What is requested.
        features: The requested features, in order.
        shown: Records that got a new impression, for plugins.
        assigned: Variant ids by experiment id assigned by this request, for plugins.
        is_registered: Whether the visitor's device is registered for QA.
    """

    def __init__(
        self,
        configuration: Configuration,
        session: Session,
        request: FeaturesRequest,
        *,
        now_ms: int,
        new_id: NewId,
    ) -> None:
        self.configuration = configuration
        self.session = session
        self.request = request
        self.features: Sequence[RequestedFeature] = ()
        self.shown: list[MemoRecord] = []
        self.assigned: Mapping[str, str] = {}
        self._now_ms = now_ms
        self._new_id = new_id
        self._known_visitor: Visitor | None = None
        self.is_registered = session.persistent_id in configuration.devices

    @property
    def _visitor(self) -> Visitor:
        """The visitor as evaluation sees him; most requests are answered from the memo without."""
        if self._known_visitor is None:
            self._known_visitor = visitor_of(self.session, self.configuration, self._now_ms)
        return self._known_visitor

    def look_up(self) -> None:
        """Check args, gates and the memo of every requested feature (phases 0 to 3)."""
        self.features = [self._look_up(name, args) for name, args in self.request.wanted]

    @property
    def misses(self) -> list[RequestedFeature]:
        """Features whose outputs must be computed; plugins may set `plugin_outputs` and `error`."""
        return [
            feature
            for feature in self.features
            if feature.record is None and feature.literal is None and feature.error is None
        ]

    def evaluate(self) -> None:
        """Compute and record what is not memoized (phases 5 to 8)."""
        for feature in self.features:
            if feature.literal is not None or feature.error is not None:
                continue
            record = feature.record or self._memoized(feature.name, feature.memo_key) or self._compute(feature)
            feature.record = record
            impression_id = self.request.impression_id
            if impression_id is None:
                feature.alias = self._new_id()
                self.session.alias(record, feature.alias)
            elif not record.shows(impression_id):
                self.session.show(record, impression_id, self._now_ms)
                self.shown.append(record)
        self._store_findings()

    def flags(self) -> dict[str, bool]:
        """Whether each feature is on, judged by what is known of the session alone (§3.7)."""
        visitor = visitor_of(self.session, self.configuration, self._now_ms)
        return {name: plan.is_on(visitor) for name, plan in self.configuration.features.items()}

    def _look_up(self, name: str, given: Mapping[str, Any]) -> RequestedFeature:
        plan = self.configuration.features.get(name)
        if plan is None:
            return RequestedFeature(name, literal=UNKNOWN, result="unknown")
        try:
            args, memo_key = self.configuration.definition.read_feature_args(name, given)
        except InvalidValueError as error:
            return RequestedFeature(name, error=f"{name}: {error}", plan=plan, result="error")
        if self.is_registered or not plan.gate.is_always_on:
            self._visitor.context.feature = {**args, **plan.plugin_defaults}
            if not plan.is_on(self._visitor):
                return RequestedFeature(name, literal=OFF, result="off")
        record = self._memoized(name, memo_key)
        return RequestedFeature(
            name, None, None, args, memo_key, plan, record, result="on" if record is None else "memo"
        )

    def _memoized(self, name: str, memo_key: MemoKey) -> MemoRecord | None:
        definition = self.configuration.definition
        record = self.session.record_for(memo_key)
        if record is None or record.definition.fingerprint == definition.fingerprint:
            return record
        if record.definition.feature(name) == definition.feature(name):
            return record
        self.session.close([record])  # the FDL has changed since (§9.4)
        return None

    def _compute(self, feature: RequestedFeature) -> MemoRecord:
        assert feature.plan is not None
        self._visitor.context.feature = {**feature.args, **feature.plan.plugin_defaults, **feature.plugin_outputs}
        outcome, variants = feature.plan.evaluate(self._visitor)
        plugin_outputs = outcome.plugin_outputs
        if feature.plugin_outputs:
            plugin_outputs = {**plugin_outputs, **feature.plugin_outputs}
        record = self.session.remember(
            feature.name,
            self.configuration.definition,
            feature.args,
            outcome.outputs,
            plugin_outputs,
            outcome.external,
            variants,
        )
        limit = self.configuration.settings.max_memo_records
        if self.session.open_record_count > limit:
            self.session.close([self.session.oldest_open_record])
        return record

    def _store_findings(self) -> None:
        visitor, session = self._known_visitor, self.session
        if visitor is None:
            return
        if visitor.assigned or not visitor.forced <= session.forced:
            session.assign(visitor.assigned, visitor.forced)
            self.assigned = visitor.assigned
        if visitor.context.found:
            session.join(visitor.context.found)
        for feature in visitor.opened:
            if feature not in session.open_gates:
                session.open_gate(feature)
