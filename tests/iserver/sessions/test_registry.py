"""Finding and expiring sessions (protocol §11.2 and §11.3)."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iserver.evaluation.definition import Definition
from iserver.fdl import SourceFile, compile_program
from iserver.sessions.registry import Sessions
from iserver.sessions.session import Session

FDL = (Path(__file__).parents[3] / "iserver/example/shop.fdl").read_text()
DEFINITION = Definition(compile_program([SourceFile("shop.fdl", FDL)]))
MINUTE = 60_000


def sessions(**limits):
    return Sessions(timeout_ms=30 * MINUTE, **limits)


def add(store, device, now_ms=0, **keys):
    session = Session.begin(f"s-{device}-{now_ms}", DEFINITION, {"deviceId": device, **keys}, now_ms=now_ms)
    store.add(session)
    return session


def find(store, now_ms=0, **keys):
    return store.find(keys, "deviceId", now_ms)


@pytest.mark.parametrize(
    ("keys", "found", "conflicts"),
    [
        ({"deviceId": "d1"}, True, False),
        ({"arrivalId": "a1"}, True, False),
        ({"deviceId": "d1", "arrivalId": "a1"}, True, False),
        ({"deviceId": "d1", "arrivalId": "a2"}, True, True),
        ({"deviceId": "d2", "arrivalId": "a1"}, True, True),
        ({"deviceId": "d2"}, False, False),
        ({"arrivalId": "a2"}, False, False),
    ],
)
def test_any_key_finds_a_session_and_every_key_must_agree(keys, found, conflicts):
    store = sessions()
    session = add(store, "d1", arrivalId="a1")
    match = find(store, **keys)
    assert match.session is (session if found else None)
    assert match.conflicts is conflicts


def test_a_key_that_moved_on_is_not_lost_with_its_old_session():
    store = sessions()
    old = add(store, "d1", arrivalId="a1")
    new = add(store, "d2", arrivalId="a1")
    store.remove(old)
    assert find(store, arrivalId="a1").session is new


def test_a_session_that_is_over_is_absent_before_it_is_swept():
    store = sessions()
    add(store, "d1")
    assert find(store, 30 * MINUTE - 1, deviceId="d1").session is not None
    assert find(store, 30 * MINUTE, deviceId="d1").session is None


def test_a_new_session_of_a_device_displaces_the_one_that_is_over():
    store = sessions()
    old = add(store, "d1")
    new = Session.begin("s-2", DEFINITION, {"deviceId": "d1"}, now_ms=40 * MINUTE)
    assert store.add(new) is old
    assert list(store) == [new]


def test_only_what_is_due_is_looked_at():
    store = sessions()
    early, touched, late = add(store, "d1"), add(store, "d2"), add(store, "d3", now_ms=10 * MINUTE)
    touched.touch(20 * MINUTE)
    assert store.expire(30 * MINUTE, limit=100) == [early]
    assert not store.has_due(39 * MINUTE)
    assert store.expire(40 * MINUTE, limit=100) == [late]
    assert store.expire(50 * MINUTE, limit=100) == [touched]
    assert len(store) == 0


def test_a_crowd_expires_in_portions():
    store = sessions()
    for number in range(10):
        add(store, f"d{number}")
    portions = []
    while store.has_due(30 * MINUTE):
        portions.append(len(store.expire(30 * MINUTE, limit=4)))
    assert portions == [4, 4, 2]


def test_no_session_outlives_the_greatest_length():
    store = sessions(max_length_ms=45 * MINUTE)
    session = add(store, "d1")
    session.touch(40 * MINUTE)
    assert store.expiry_ms(session) == 45 * MINUTE
    assert store.expire(45 * MINUTE, limit=10) == [session]


def test_a_shorter_timeout_takes_effect_at_once():
    store = sessions()
    session = add(store, "d1")
    store.timeout_ms = MINUTE
    store.reschedule()
    assert store.expire(MINUTE, limit=10) == [session]


def test_a_shorter_timeout_is_applied_in_portions():
    store = sessions()
    for number in range(10):
        add(store, f"d{number}", now_ms=0 if number % 2 else 10 * MINUTE)
    store.timeout_ms = MINUTE
    store.reschedule()
    portions = []
    while store.has_due(2 * MINUTE):
        portions.append(len(store.expire(2 * MINUTE, limit=4)))
    assert len(portions) == 3
    assert sum(portions) == 5
    assert len(store.expire(11 * MINUTE, limit=10)) == 5


@given(st.lists(st.tuples(st.integers(0, 30 * MINUTE), st.integers(1, 45 * MINUTE)), min_size=1, max_size=8))
def test_every_session_expires_once_however_often_limits_change(changes):
    store = sessions()
    expired = []
    now_ms = 0
    for number, (pause_ms, timeout_ms) in enumerate(changes):
        now_ms += pause_ms
        add(store, f"d{number}", now_ms=now_ms)
        store.timeout_ms = timeout_ms
        store.reschedule()
        expired += store.expire(now_ms, limit=2)
    end_ms = 8 * 30 * MINUTE + 46 * MINUTE
    while store.has_due(end_ms):
        expired += store.expire(end_ms, limit=2)
    assert sorted(session.persistent_id for session in expired) == [f"d{number}" for number in range(len(changes))]
    assert len(store) == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 20 * MINUTE)), max_size=30))
def test_every_session_expires_exactly_at_its_time(visits):
    store = sessions()
    expired = {}
    now_ms = 0

    def sweep(until_ms):
        nonlocal now_ms
        while now_ms < until_ms:
            now_ms = min(until_ms, now_ms + 10_000)
            for session in store.expire(now_ms, limit=1000):
                assert session.id not in expired
                expired[session.id] = (now_ms, store.expiry_ms(session))

    begun = set()
    for device, pause_ms in visits:
        sweep(now_ms + pause_ms)
        session = find(store, now_ms, deviceId=f"d{device}").session
        if session is None:
            session = Session.begin(f"s-{len(begun)}", DEFINITION, {"deviceId": f"d{device}"}, now_ms=now_ms)
            displaced = store.add(session)
            if displaced is not None:
                expired[displaced.id] = (now_ms, store.expiry_ms(displaced))
            begun.add(session.id)
        session.touch(now_ms)
    sweep(now_ms + 31 * MINUTE)
    assert expired.keys() == begun
    assert all(0 <= swept_ms - expiry_ms <= 11_000 for swept_ms, expiry_ms in expired.values())
