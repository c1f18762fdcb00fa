"""What one request and one session may take: bounded, whatever is sent."""

from __future__ import annotations

import gc

import pytest

from iserver.evaluation.definition import Definition
from iserver.fdl import SourceFile, compile_program
from iserver.sessions.session import Session


def searches(count, prefix=""):
    return [{"name": "Search", "args": {"query": f"{prefix}{number}"}} for number in range(count)]


@pytest.mark.parametrize("form", ["reqs", "requests"])
async def test_a_request_for_thousands_of_features_is_refused_before_anything_is_done(iserver, form):
    wanted = searches(10_000) if form == "reqs" else {f"Feature{number}": {} for number in range(10_000)}
    answer = await iserver.post("features", {"args": {"deviceId": "dev-1"}, "impressionId": "i", form: wanted})
    assert answer.status == 400
    assert await answer.text() == "too many features: expected at most 1000 in a request, found 10000"
    assert len(iserver.engine.sessions) == 0


async def test_a_request_for_a_thousand_features_is_answered(iserver):
    assert len((await iserver.features(searches(1000)))["impressions"]) == 1000


async def grow_by_impressions(iserver, number):
    await iserver.features(searches(1000, f"{number}-"), impression=f"imp-{number}")


async def grow_by_cache_fills(iserver, number):
    for _ in range(2):
        await iserver.features(searches(1000), impression=None)


async def grow_by_events(iserver, number):
    await iserver.features({})
    assert await iserver.signal(event="AddToCart", args={"value": 1.0, "sku": "x" * 900_000}) == 200


async def grow_by_a_mutable(iserver, number):
    await iserver.features({}, args={"deviceId": "dev-1", "userId": f"{number}" + "x" * 900_000})


@pytest.mark.parametrize("grow", [grow_by_impressions, grow_by_cache_fills, grow_by_events, grow_by_a_mutable])
async def test_a_session_that_grows_without_end_is_ended_and_logged(iserver, grow):
    """Nothing is lost: each session goes to the warehouse, and the visitor goes on with another."""
    numbers = range(12)
    for number in numbers:
        await grow(iserver, number)
        assert max((session.size_bytes for session in iserver.engine.sessions), default=0) < 6 * 2**20
    await iserver.engine.retire_all()
    finished = iserver.finished()
    assert len(finished) > 1
    if grow is grow_by_impressions:
        shown = [shown.id for session in finished for record in session.records for shown in record.impressions]
        assert len(shown) == len(numbers) * 1000
    if grow is grow_by_events:
        assert sum(len(session.events) for session in finished) == len(numbers)


async def test_a_large_value_is_not_kept_after_its_session(iserver):
    await iserver.features([{"name": "Search", "args": {"query": "x" * 900_000}}])
    await iserver.features([{"name": "Search", "args": {"query": "x" * 900_000}}], impression="imp-2")
    await iserver.engine.retire_all()
    gc.collect()
    assert max((len(item) for item in gc.get_objects() if type(item) is bytes), default=0) < 900_000


FDL = """
type Node { name: String items: [[Int!]!] }
feature F { args { nodes: [Node!] = [] } }
"""


def test_the_size_of_a_session_counts_what_values_take_and_not_how_long_their_text_is():
    definition = Definition(compile_program([SourceFile("f.fdl", FDL)]))
    session = Session.begin("s", definition, {"deviceId": "d"}, now_ms=0)
    nodes = [{"name": None, "items": [[], []]} for _ in range(10_000)]
    session.remember("F", definition, {"nodes": nodes}, {}, {}, {}, ())
    assert session.size_bytes > 3_000_000


async def test_a_device_that_rotates_its_session_does_not_leave_them_in_memory(iserver):
    for number in range(50):
        await iserver.features({}, args={"deviceId": "rotating", "arrivalId": f"a-{number}"})
    await iserver.engine.sweep_all()
    gc.collect()
    sessions = [item for item in gc.get_objects() if type(item) is Session]
    assert sum(session.persistent_id == "rotating" for session in sessions) <= 2  # the log may hold on to one
