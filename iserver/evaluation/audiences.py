"""Who belongs to an audience (protocol §9.3 and §10.6).

A rule is compiled once to a predicate, which later sees nothing but the `Context` it is given. A field that
is absent or null makes every comparison false, except `missing`, `ne` and `nin`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from iserver.document.model import AllOf, AnyOf, Audience, Compare, Happened, InAudience, Not, Rule
from iserver.document.patterns import PatternWork, compile_pattern
from iserver.fdl.model import JsonValue, Program

NOTHING: Mapping[str, JsonValue] = {}

EventPath: TypeAlias = "tuple[str | None, str]"
"""A feature and one of its events; `None` stands for the session."""


class History(Protocol):
    """The events of a session so far."""

    def count(self, path: EventPath) -> int:
        """How often the event happened in this session."""

    def occurrences(self, path: EventPath) -> Iterable[Mapping[str, JsonValue]]:
        """The fields of each time it happened."""


@dataclass(slots=True)
class Context:
    """What a rule can see.

    Attributes:
        session: Keys, args and plugin outputs of the session.
        history: Events of the session.
        feature: Args and plugin outputs of the feature that is being evaluated.
        event: Fields of one event, inside `where`.
        found: Receives the id of every audience found true, in the order of finding.
        work: What patterns have done for this request.
    """

    session: Mapping[str, JsonValue]
    history: History
    feature: Mapping[str, JsonValue] = field(default_factory=dict)
    event: Mapping[str, JsonValue] = field(default_factory=dict)
    found: dict[str, None] = field(default_factory=dict)
    work: PatternWork = field(default_factory=PatternWork)

    def of_event(self, fields: Mapping[str, JsonValue]) -> Context:
        """What a rule inside `where` can see of an event."""
        return Context(self.session, self.history, self.feature, fields, self.found, self.work)


Predicate: TypeAlias = Callable[[Context], bool]


class RuleError(ValueError):
    """A rule refers to something that does not exist, or can never work."""


MAX_AUDIENCE_HEIGHT = 8
"""With rules of bounded depth, it bounds how deep predicates call each other while a request waits."""


def compile_audiences(audiences: Sequence[Audience], program: Program) -> dict[str, Predicate]:
    """Compile audiences that may refer to each other.

    Args:
        audiences: All audiences of the configuration; their ids are unique.
        program: Where the names of fields and events come from.

    Returns:
        One predicate by audience id. A predicate that holds notes the audience in `Context.found`.

    Raises:
        RuleError: A reference leads nowhere or in a circle; the message begins with the audience's id.
    """
    known = {audience.id: audience for audience in audiences}
    compiled: dict[str, Predicate] = {}
    heights: dict[str, int] = {}
    under_way: dict[str, int] = {}  # how high the audiences are that each refers to, as far as is known

    def compile_one(audience_id: str) -> None:
        if audience_id not in known:
            raise RuleError(f"there is no audience '{audience_id}'")
        if audience_id in under_way:
            raise RuleError("audiences in a circle: " + " → ".join([*under_way, audience_id]))
        under_way[audience_id] = 0
        if len(under_way) <= MAX_AUDIENCE_HEIGHT:
            predicate = _Compiler(program, member_of).rule(known[audience_id].definition)
            compiled[audience_id] = _noting(audience_id, predicate)
        heights[audience_id] = under_way.pop(audience_id) + 1
        if len(under_way) >= MAX_AUDIENCE_HEIGHT or heights[audience_id] > MAX_AUDIENCE_HEIGHT:
            raise RuleError(f"audiences refer to each other more than {MAX_AUDIENCE_HEIGHT} deep")

    def member_of(audience_id: str) -> Predicate:
        if audience_id not in compiled:
            compile_one(audience_id)
        if under_way:
            last = next(reversed(under_way))
            under_way[last] = max(under_way[last], heights[audience_id])
        return compiled[audience_id]

    for audience in audiences:
        try:
            member_of(audience.id)
        except RuleError as error:
            raise RuleError(f"audience '{audience.id}': {error}") from error
    return compiled


def resolve_event(program: Program, name: str) -> tuple[EventPath, ...]:
    """Every event that a name in a rule or an `until` path means.

    `Feature.Event` is an event of a feature, `Event` one of the session; the name of an abstract event means
    every event that imports it.

    Returns:
        The events, empty when the name means nothing.
    """
    feature_name, dot, event_name = name.rpartition(".")
    if dot:
        feature = program.features.get(feature_name)
        if feature is not None and event_name in feature.events:
            return ((feature_name, event_name),)
        return ((None, event_name),) if feature_name == "session" and event_name in program.session.events else ()
    found: list[EventPath] = []
    owners = [(None, program.session.events), *((item.name, item.events) for item in program.features.values())]
    for owner, events in owners:
        for event in events.values():
            is_session_event = owner is None and event.name == name
            if is_session_event or (name in program.events and (name in event.imports or event.name == name)):
                found.append((owner, event.name))
    return tuple(found)


def _noting(audience_id: str, predicate: Predicate) -> Predicate:
    def holds(context: Context) -> bool:
        if predicate(context):
            context.found[audience_id] = None
            return True
        return False

    return holds


class _Compiler:
    def __init__(self, program: Program, member_of: Callable[[str], Predicate]) -> None:
        self._program = program
        self._member_of = member_of

    def rule(self, rule: Rule, *, in_event: bool = False) -> Predicate:
        match rule:
            case AllOf(rules):
                every = [self.rule(item, in_event=in_event) for item in rules]
                return lambda context: all(predicate(context) for predicate in every)
            case AnyOf(rules):
                some = [self.rule(item, in_event=in_event) for item in rules]
                return lambda context: any(predicate(context) for predicate in some)
            case Not(inner):
                holds = self.rule(inner, in_event=in_event)
                return lambda context: not holds(context)
            case InAudience(audience_id):
                return self._member_of(audience_id)
            case Compare():
                return self._comparison(rule, in_event)
            case Happened():
                return self._happened(rule)

    def _comparison(self, rule: Compare, in_event: bool) -> Predicate:
        scope, _, path = rule.field.partition(".")
        name, *members = path.split(".")
        if scope not in ("session", "feature") and not (scope == "event" and in_event):
            raise RuleError(f"'{rule.field}' is not a field: expected session.NAME or feature.NAME")
        self._check_name(scope, name, rule.field)
        read_scope = operator.attrgetter(scope)

        def read(context: Context) -> JsonValue:
            value: JsonValue = read_scope(context).get(name)
            for member in members:
                value = value.get(member) if isinstance(value, dict) else None
            return value

        if rule.op == "matches":
            return _matching(str(rule.value), read)
        test = _test(rule)
        return lambda context: test(read(context))

    def _check_name(self, scope: str, name: str, shown: str) -> None:
        session = self._program.session
        known: Iterable[str]
        if scope == "session":
            known = [item.name for item in (*session.keys, *session.args, *session.plugin_outputs)]
        elif scope == "feature":
            known = {
                item.name
                for feature in self._program.features.values()
                for item in (*feature.args, *feature.plugin_outputs)
            }
        else:
            return  # which event it is about depends on the rule around it
        if name not in known:
            raise RuleError(f"'{shown}': no {scope} has an arg or plugin output '{name}'")

    def _happened(self, rule: Happened) -> Predicate:
        paths = resolve_event(self._program, rule.event)
        if not paths:
            raise RuleError(f"there is no event '{rule.event}'")
        compare, count = _ORDER[rule.op], rule.count
        if rule.where is None:
            return lambda context: compare(sum(context.history.count(path) for path in paths), count)
        matches = self.rule(rule.where, in_event=True)

        def holds(context: Context) -> bool:
            happened = sum(
                matches(context.of_event(fields)) for path in paths for fields in context.history.occurrences(path)
            )
            return compare(happened, count)

        return holds


_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
}


def _matching(regex: str, read: Callable[[Context], JsonValue]) -> Predicate:
    pattern = compile_pattern(regex)

    def holds(context: Context) -> bool:
        value = read(context)
        return isinstance(value, str) and context.work.is_in(pattern, value)

    return holds


def _test(rule: Compare) -> Callable[[JsonValue], bool]:
    wanted: Any = rule.value
    match rule.op:
        case "eq":
            return lambda value: value is not None and same(value, wanted)
        case "ne":
            return lambda value: value is None or not same(value, wanted)
        case "in":
            return lambda value: value is not None and any(same(value, item) for item in wanted)
        case "nin":
            return lambda value: value is None or not any(same(value, item) for item in wanted)
        case "exists":
            return lambda value: value is not None
        case "missing":
            return lambda value: value is None
        case "startsWith":
            return lambda value: isinstance(value, str) and value.startswith(wanted)
        case "contains":
            return lambda value: _contains(value, wanted)
    compare = _ORDER[rule.op]
    return lambda value: _comparable(value, wanted) and compare(value, wanted)


def same(left: JsonValue, right: JsonValue) -> bool:
    """Equality of JSON values: numbers by value, and a boolean is no number."""
    return left == right and isinstance(left, bool) == isinstance(right, bool)


def _comparable(left: JsonValue, right: JsonValue) -> bool:
    if isinstance(left, str):
        return isinstance(right, str)
    numbers = (int, float)
    return type(left) in numbers and type(right) in numbers


def _contains(value: JsonValue, wanted: JsonValue) -> bool:
    if isinstance(value, str):
        return isinstance(wanted, str) and wanted in value
    return isinstance(value, list) and any(same(item, wanted) for item in value)
