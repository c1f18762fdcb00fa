"""One session and the changes that make it (protocol §11.1)."""

from __future__ import annotations

from pathlib import Path

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from iserver.evaluation.definition import Definition
from iserver.fdl import SourceFile, compile_program
from iserver.sessions.finalize import finish
from iserver.sessions.finished import Event
from iserver.sessions.session import Session

FDL = (Path(__file__).parents[3] / "iserver/example/shop.fdl").read_text()
DEFINITION = Definition(compile_program([SourceFile("shop.fdl", FDL)]))
DEFINITIONS = {DEFINITION.fingerprint: DEFINITION}
SOME = ["i1", "i2", "i3", "i4"]
IDS = st.sampled_from(SOME)


def begin(**fields):
    return Session.begin("s-1", DEFINITION, {"deviceId": "dev-1", **fields}, now_ms=1000)


def search(session, query="q", external=None, variants=()):
    outputs = {} if external else {"results": []}
    return session.remember("Search", DEFINITION, {"query": query, "page": 0}, outputs, {}, external or {}, variants)


def rebuilt(changes):
    """A session made of changes that have been on disk."""
    session = Session("s-1")
    for change in orjson.loads(orjson.dumps(list(changes))):
        session.apply(change, DEFINITIONS)
    return session


def state(session):
    """Everything that a session knows."""
    return {
        "finished": finish(session, 10**6),
        "describe": orjson.dumps(list(session.describe())),
        "open": [record.number for record in session.open_records],
        "assignments": dict(session.assignments),
        "forced": session.forced,
        "gates": session.open_gates,
        "active": list(session.active.items()),
        "flush": session.last_flush_ms,
        "counts": [session.count(path) for path in (("Search", "Click"), (None, "AddToCart"))],
        "end": session.end_ms,
        "no_log": session.no_log,
        "showing": {id_: getattr(session.record_showing("Search", id_), "number", None) for id_ in SOME},
    }


class AnySession(RuleBasedStateMachine):
    """Whatever happens to a session, its changes rebuild it, and so does its snapshot."""

    @initialize(user=st.none() | IDS)
    def start(self, user):
        self.session = begin(**({} if user is None else {"userId": user}))
        self.changes = self.session.take_changes()
        self.now_ms = 1000

    def record(self, number):
        return self.session.records[number % len(self.session.records)] if self.session.records else None

    @rule(ms=st.integers(0, 100))
    def touch(self, ms):
        self.now_ms += ms
        self.session.touch(self.now_ms)

    @rule(value=st.none() | IDS)
    def mutate(self, value):
        self.session.mutate("userId", value, self.now_ms)

    @rule(query=IDS, variant=IDS, external=st.booleans())
    def remember(self, query, variant, external):
        known = self.session.record_for(DEFINITION.memo_key("Search", {"query": query, "page": 0}))
        if known is None:
            search(self.session, query, {"results": "distance"} if external else None, [("e1", variant)])

    @rule(number=st.integers(0, 9), id_=IDS)
    def show(self, number, id_):
        record = self.record(number)
        if record is not None and not record.shows(id_):
            self.session.show(record, id_, self.now_ms)

    @rule(number=st.integers(0, 9), id_=IDS)
    def alias(self, number, id_):
        if record := self.record(number):
            self.session.alias(record, id_)

    @rule(number=st.integers(0, 9) | st.none(), id_=IDS)
    def happen(self, number, id_):
        record = None if number is None else self.record(number)
        name = "AddToCart" if record is None else "Click"
        self.session.happen(record, Event(name, self.now_ms, id_, "e", {"id": id_}))

    @rule(number=st.integers(0, 9))
    def post(self, number):
        record = self.record(number)
        if record is not None and record.pending:
            self.session.post_external(record, "results", [{"id": "a", "title": "A", "score": None}])

    @rule(number=st.integers(0, 9))
    def fill(self, number):
        if record := self.record(number):
            self.session.fill(record, {"ranker": str(number)})

    @rule(number=st.integers(0, 9))
    def close(self, number):
        if record := self.record(number):
            self.session.close([record])

    @rule(ms=st.integers(0, 100))
    def flush(self, ms):
        self.session.flush(self.now_ms + ms)

    @rule(experiment=IDS, variant=IDS, forced=st.booleans())
    def assign(self, experiment, variant, forced):
        self.session.assign({experiment: variant}, {experiment} if forced else ())

    @rule(name=IDS)
    def join(self, name):
        self.session.join([name])
        self.session.open_gate(name)

    @rule(no_log=st.booleans())
    def keep_out(self, no_log):
        self.session.keep_out_of_log(no_log)

    @rule(key=IDS)
    def adopt(self, key):
        if "arrivalId" not in self.session.fields:
            self.session.adopt({"arrivalId": key})

    @invariant()
    def can_be_rebuilt(self):
        self.changes += self.session.take_changes()
        expected = state(self.session)
        assert state(rebuilt(self.changes)) == expected
        assert state(rebuilt(self.session.describe())) == expected


TestAnySession = AnySession.TestCase
TestAnySession.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)


def test_the_same_value_again_is_no_mutation():
    session = begin(userId="u-1")
    session.take_changes()
    session.mutate("userId", "u-1", 2000)
    assert not session.has_changes


def test_an_impression_belongs_to_the_newest_record_that_holds_it():
    session = begin()
    first, second = search(session, "a"), search(session, "b")
    session.show(first, "imp-1", 1000)
    assert session.record_showing("Search", "imp-1") is first
    session.show(second, "imp-1", 1000)
    assert session.record_showing("Search", "imp-1") is second
    assert session.record_showing("RatingBox", "imp-1") is None


def test_which_record_an_impression_belongs_to_does_not_depend_on_who_asked_before():
    """The index of impressions is built when it is first needed; what is replayed may need it later than what ran."""
    asked, not_asked = begin(), begin()
    for session in (asked, not_asked):
        first, second = search(session, "a"), search(session, "b")
        session.show(second, "imp-1", 1000)
        if session is asked:
            session.record_showing("Search", "imp-1")
        session.show(first, "imp-1", 1000)
    assert [session.record_showing("Search", "imp-1").number for session in (asked, not_asked)] == [1, 1]


@given(st.integers(1, 60))
def test_a_record_knows_its_impressions_however_many(count):
    session = begin()
    record = search(session)
    for number in range(count):
        session.show(record, f"imp-{number}", 1000)
        assert record.shows(f"imp-{number}")
        assert not record.shows(f"imp-{number + 1}")


def test_a_variant_is_active_once_its_record_was_shown():
    session = begin()
    record = search(session, variants=[("e1", "v1")])
    assert session.active == {}
    session.show(record, "imp-1", 1000)
    assert session.active == {"e1": "v1"}


def test_a_clock_that_is_set_back_does_not_shorten_a_session():
    session = begin()
    session.touch(5000)
    session.touch(4000)
    assert session.last_activity_ms == 5000


def test_flush_times_grow_even_when_the_clock_stands_still():
    session = begin()
    session.flush(1000)
    session.flush(1000)
    assert session.last_flush_ms == 1002


def test_a_flush_forgets_what_overrides_assigned_and_keeps_the_rest():
    session = begin()
    session.assign({"e1": "v1", "e2": "v2"}, forced={"e2"})
    search(session)
    session.flush(2000)
    assert dict(session.assignments) == {"e1": "v1"}
    assert session.open_records == []
    assert len(session.records) == 1


def test_requests_are_equal_when_their_numbers_are():
    keys = {DEFINITION.memo_key("Search", {"near": [zero, {"x": zero}]}) for zero in (0.0, -0.0)}
    assert len(keys) == 1
    assert DEFINITION.memo_key("Search", {"q": "-0.0"}) != DEFINITION.memo_key("Search", {"q": "0.0"})


def test_what_could_not_be_stored_is_taken_back():
    session = begin()
    kept, other = search(session, variants=(("exp-1", "a"),)), search(session, "other", variants=(("exp-2", "b"),))
    session.show(kept, "imp-1", 2000)
    session.mutate("userId", "u-1", 2000)
    session.happen(kept, Event("Click", 2000, "imp-1", "e-1", {"position": 1}))
    session.take_changes()
    before = state(session)
    session.show(other, "refused", 3000)
    for number in range(6):
        session.show(kept, f"refused-{number}", 3000)
    session.alias(kept, "refused alias")
    session.mutate("userId", "u-2", 3000)
    session.happen(kept, Event("Click", 3000, "imp-1", "e-2", {"position": 2}))
    session.happen(None, Event("AddToCart", 3000, session.id, "e-3", {"sku": "x"}))
    session.retract(session.take_changes())
    assert state(session) == before
    assert not kept.shows("refused-1")
    assert session.record_showing("Search", "refused-1") is None
    assert session.record_showing("Search", "refused alias") is None
