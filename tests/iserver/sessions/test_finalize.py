"""What is logged of a session that is over (protocol §11.4, §11.5)."""

from __future__ import annotations

import pytest

from iserver.evaluation.definition import Definition
from iserver.fdl import SourceFile, compile_program
from iserver.sessions.finalize import finish
from iserver.sessions.finished import Event, HistoryEntry
from iserver.sessions.session import Session

FDL = """
session {
    args { userId: ID @mutable }
    plugin { tier: String! = "basic" @mutable }
    event Buy { price: Float! toEnd: Int! @elapsed(kind: "session_end") }
}
feature Box {
    args { size: Int = 1 }
    output {
        label: String! = "plain"
        dwell: Int! @elapsed(kind: "session_end")
        used: Int! @elapsed(kind: "impression_end")
    }
    event Click { depth: Int! = 0 }
}
"""
DEFINITION = Definition(compile_program([SourceFile("test.fdl", FDL)]))


def begin(**fields):
    return Session.begin("s-1", DEFINITION, {"deviceId": "dev-1", "tier": "basic", **fields}, now_ms=1000)


def box(session, size=1):
    return session.remember("Box", DEFINITION, {"size": size}, {"label": "plain"}, {}, {}, ())


def test_args_and_plugin_outputs_are_told_apart():
    finished = finish(begin(userId="u-1"), 9000)
    assert finished.args == {"deviceId": "dev-1", "userId": "u-1"}
    assert finished.plugin_outputs == {"tier": "basic"}
    assert (finished.start_ms, finished.last_activity_ms, finished.end_ms) == (1000, 1000, 9000)


def test_the_last_value_of_a_mutable_field_lasts_until_the_end():
    session = begin()
    session.mutate("userId", "u-1", 2000)
    session.mutate("userId", "u-2", 3000)
    histories = finish(session, 9000).histories
    assert histories["userId"] == (HistoryEntry(2000, 3000, "u-1"), HistoryEntry(3000, 9000, "u-2"))
    assert histories["tier"] == (HistoryEntry(1000, 9000, "basic"),)


def test_a_variant_that_a_qa_override_chose_is_not_logged_whatever_comes_later():
    session = begin()
    session.assign({"e1": "v1", "e2": "v2"}, forced={"e2"})
    shown = session.remember("Box", DEFINITION, {}, {}, {}, {}, [("e1", "v1"), ("e2", "v2")])
    session.show(shown, "imp-1", 1000)
    assert finish(session, 9000).variants == ("v1",)
    session.flush(2000)
    assert finish(session, 9000).variants == ("v1",)


def test_only_records_that_were_shown_are_logged():
    session = begin()
    shown, filled = box(session, 1), box(session, 2)
    session.show(shown, "imp-1", 1000)
    session.alias(filled, "fill-1")
    assert [record.args for record in finish(session, 9000).records] == [{"size": 1}]


def test_elapsed_outputs_are_measured_at_the_end():
    session = begin()
    record = box(session)
    session.show(record, "imp-1", 2000)
    session.happen(record, Event("Click", 2500, "imp-1", "e-1", {"depth": 1}))
    session.happen(record, Event("Click", 2700, "imp-1", "e-2", {"depth": 2}))
    session.touch(5000)
    outputs = finish(session, 9000).records[0].outputs
    assert outputs == {"label": "plain", "dwell": 3000, "used": 700}


def test_what_never_happened_took_minus_one():
    session = begin()
    session.show(box(session), "imp-1", 2000)
    assert finish(session, 9000).records[0].outputs["used"] == -1


def test_elapsed_fields_of_events_are_measured_too():
    session = begin()
    session.happen(None, Event("Buy", 2000, "s-1", "e-1", {"price": 1.5}))
    session.touch(3500)
    assert finish(session, 9000).events[0].fields == {"price": 1.5, "toEnd": 1500}


UNTIL = """
event Revenue {{ value: Float! }}
session {{ event Leave {{ page: String }} }}
feature Box {{
    event Click {{ depth: Int! = 0 wait: Int! @elapsed(kind: "until", path: [{path}]) }}
    event Buy {{ import Revenue }}
}}
feature Other {{}}
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [('"Other"', 1500), ('"Box.Buy"', 3000), ('"Revenue"', 3000), ('"Other" "Box.Buy"', 1500), ('"Box.Click"', -1)],
)
def test_waiting_ends_with_the_first_later_match(path, expected):
    definition = Definition(compile_program([SourceFile("until.fdl", UNTIL.format(path=path))]))
    session = Session.begin("s-1", definition, {"deviceId": "dev-1"}, now_ms=0)
    record = session.remember("Box", definition, {}, {}, {}, {}, ())
    other = session.remember("Other", definition, {}, {}, {}, {}, ())
    session.show(other, "imp-0", 500)
    session.show(record, "imp-1", 1000)
    session.happen(record, Event("Click", 2000, "imp-1", "e-1", {"depth": 1}))
    session.show(other, "imp-2", 3500)
    session.happen(record, Event("Buy", 5000, "imp-1", "e-2", {"value": 1.0}))
    assert finish(session, 9000).records[0].events[0].fields["wait"] == expected
