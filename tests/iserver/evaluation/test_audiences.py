"""Rules of audiences (protocol §9.3, §10.6)."""

from __future__ import annotations

import pytest

from iserver.document import Node, read_rule
from iserver.document.model import Audience
from iserver.evaluation.audiences import Context, RuleError, compile_audiences, resolve_event
from iserver.fdl import SourceFile, compile_program
from iserver.sessions.finished import Event
from iserver.sessions.session import Session

FDL = """
event Revenue { value: Float! }
session { args { country: String tags: [String!] age: Int } event Visit { import Revenue page: String } }
feature Box { args { size: Int } event Click { depth: Int! } event Buy { import Revenue } }
"""
PROGRAM = compile_program([SourceFile("test.fdl", FDL)])


def holds(rule, *, happened=(), **session):
    predicate = compile_audiences([Audience("a", "a", read_rule(Node("rule", rule)))], PROGRAM)["a"]
    state = Session("s")
    for name, fields in happened:
        state.apply(["event", None, name, 0, "s", "e", fields], {})
    return predicate(Context(session, state, {"size": 3}))


@pytest.mark.parametrize(
    ("op", "value", "found", "expected"),
    [
        ("eq", "de", "de", True),
        ("eq", "de", "at", False),
        ("eq", "de", None, False),
        ("eq", 1, True, False),
        ("eq", 1, 1.0, True),
        ("ne", "de", None, True),
        ("ne", "de", "de", False),
        ("lt", 18, 17, True),
        ("lt", 18, None, False),
        ("lt", 18, "17", False),
        ("lt", "b", "a", True),
        ("gte", 18, 18, True),
        ("lte", 18, True, False),
        ("in", ["de", "at"], "at", True),
        ("in", ["de", "at"], None, False),
        ("nin", ["de", "at"], None, True),
        ("nin", ["de", "at"], "de", False),
        ("exists", None, "", True),
        ("exists", None, None, False),
        ("missing", None, None, True),
        ("startsWith", "d", "de", True),
        ("startsWith", "d", 5, False),
        ("contains", "e", "de", True),
        ("contains", "x", ["x", "y"], True),
        ("contains", "z", ["x", "y"], False),
        ("matches", "^d.$", "de", True),
        ("matches", "^d.$", None, False),
    ],
)
def test_comparisons(op, value, found, expected):
    rule = {"field": "session.country", "op": op, "value": value}
    assert holds(rule, **({} if found is None else {"country": found})) is expected


def test_a_careless_pattern_and_a_long_value_are_answered():
    rule = {"field": "session.country", "op": "matches", "value": "^(a+)+$"}
    assert holds(rule, country="a" * 100_000)
    assert not holds(rule, country="a" * 100_000 + "!")


def test_rules_combine():
    german = {"field": "session.country", "op": "eq", "value": "de"}
    large = {"field": "feature.size", "op": "gte", "value": 3}
    assert holds({"all": [german, large]}, country="de")
    assert not holds({"all": [german, large]}, country="at")
    assert holds({"any": [german, large]}, country="at")
    assert holds({"not": german}, country="at")


@pytest.mark.parametrize(("count", "times", "expected"), [(1, 0, False), (1, 1, True), (3, 2, False), (3, 3, True)])
def test_events_are_counted(count, times, expected):
    happened = [("Visit", {"value": 1.0})] * times
    assert holds({"event": "Visit", "count": count}, happened=happened) is expected


def test_events_can_be_chosen_by_their_fields():
    rule = {
        "event": "Visit",
        "op": "eq",
        "count": 1,
        "where": {"field": "event.value", "op": "gt", "value": 5},
    }
    assert holds(rule, happened=[("Visit", {"value": 1.0}), ("Visit", {"value": 9.0})])


def test_an_abstract_event_means_all_that_import_it():
    assert resolve_event(PROGRAM, "Revenue") == ((None, "Visit"), ("Box", "Buy"))
    assert resolve_event(PROGRAM, "Box.Click") == (("Box", "Click"),)
    assert resolve_event(PROGRAM, "session.Visit") == ((None, "Visit"),)
    assert resolve_event(PROGRAM, "Nothing") == resolve_event(PROGRAM, "Box.Nothing") == ()


def test_every_audience_found_true_is_noted_once():
    definitions = {
        "adult": {"field": "session.age", "op": "gte", "value": 18},
        "german adult": {"all": [{"audience": "adult"}, {"field": "session.country", "op": "eq", "value": "de"}]},
    }
    audiences = [Audience(name, name, read_rule(Node("", rule))) for name, rule in definitions.items()]
    predicates = compile_audiences(audiences, PROGRAM)
    context = Context({"age": 30, "country": "at"}, Session("s"))
    assert not predicates["german adult"](context)
    assert list(context.found) == ["adult"]


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ({"audience": "nobody"}, "there is no audience 'nobody'"),
        ({"audience": "a"}, "audiences in a circle: a → a"),
        ({"field": "session.nothing", "op": "exists"}, "no session has an arg or plugin output 'nothing'"),
        ({"field": "feature.nothing", "op": "exists"}, "no feature has an arg or plugin output 'nothing'"),
        ({"field": "country", "op": "exists"}, "expected session.NAME or feature.NAME"),
        ({"field": "event.value", "op": "exists"}, "expected session.NAME or feature.NAME"),
        ({"event": "Nothing"}, "there is no event 'Nothing'"),
    ],
)
def test_a_rule_that_cannot_work_is_refused(rule, text):
    with pytest.raises(RuleError) as caught:
        holds(rule)
    assert text in str(caught.value)


def test_events_of_features_are_counted_apart_from_those_of_the_session():
    session = Session("s")
    session.apply(["event", None, "Visit", 0, "s", "e", {}], {})
    assert (session.count((None, "Visit")), session.count(("Box", "Visit"))) == (1, 0)
    assert list(session.occurrences((None, "Visit"))) == [{}]
    assert session.events == [Event("Visit", 0, "s", "e", {})]
