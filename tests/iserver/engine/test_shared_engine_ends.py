"""Several iservers with the same sessions: each session ends once, and is in the warehouse once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from iserver.errors import NotStoredError
from iserver.storage.redis.finished_queue import RedisFinishedQueue
from tests.iserver.conftest import Clock
from tests.iserver.cutting_proxy import CuttingProxy
from tests.iserver.several import Together, flush, logged, show
from tests.redis_server import RedisServer


async def test_a_batch_that_was_written_and_not_closed_is_repeated_under_its_id(
    join: Together, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    a, b = await join("a"), await join("b")
    await show(a, "imp-1")
    clock.advance(minutes=31)
    await a.engine.sweep_all()

    async def fail(*_: object) -> int:
        raise NotStoredError("a died here")

    with monkeypatch.context() as patch:
        patch.setattr(RedisFinishedQueue, "close_batch", fail)
        with pytest.raises(NotStoredError, match="a died here"):
            await a.components.run_etl()
    await show(b, "imp-2", "dev-2")
    clock.advance(minutes=31)
    await b.engine.sweep_all()
    assert await b.components.run_etl() == 2
    facts = logged(tmp_path / "warehouse")
    assert {"imp-1", "imp-2"} <= set(facts)
    assert set(facts.values()) == {1}


async def test_all_that_is_over_is_looked_at_while_some_of_it_goes(join: Together, clock: Clock):
    a, b = await join("a"), await join("b")
    for number in range(600):  # all at the same moment
        await show(a, f"imp-{number}", f"dev-{number}")
    assert b.components.shared is not None
    store = b.components.shared.sessions
    first, place = await store.take_due(None, after=None)
    assert place is not None
    for session in first:
        session.retire(clock())
        b.engine.sessions.remove(session)
    await store.finish(first, {})
    second, place = await store.take_due(None, after=place)
    third, end = await store.take_due(None, after=place)
    assert end is None
    assert {s.persistent_id for s in (*first, *second, *third)} == {f"dev-{number}" for number in range(600)}


async def test_what_is_not_over_yet_is_left_to_its_owner(join: Together, clock: Clock):
    a, b = await join("a"), await join("b")
    await show(a, "imp-1", "dev-1")
    clock.advance(minutes=10)
    await show(a, "imp-2", "dev-2")
    assert b.components.shared is not None
    taken, place = await b.components.shared.sessions.take_due(clock() + 25 * 60_000, after=None)
    assert [session.persistent_id for session in taken] == ["dev-1"]
    assert place is None


async def test_one_server_at_a_time_writes_the_warehouse(join: Together, clock: Clock, redis: RedisServer):
    a, b = await join("a"), await join("b")
    await show(b, "imp-1")
    clock.advance(minutes=31)
    await b.engine.sweep_all()
    assert a.components.shared is not None
    writer = RedisFinishedQueue(a.components.shared.sessions, redis.url)
    assert await writer.hold()
    assert await b.components.run_etl() == 0
    await writer.release()
    assert await b.components.run_etl() == 1


async def test_a_server_with_an_older_copy_does_not_end_the_session(join: Together, clock: Clock, tmp_path: Path):
    a, b = await join("a"), await join("b")
    session = (await show(a, "imp-1"))["session"]["sessionId"]
    clock.advance(minutes=20)
    assert (await show(b, "imp-2"))["session"]["sessionId"] == session
    clock.advance(minutes=20)  # by the copy of a it is over
    await a.engine.sweep_all()
    assert a.finished() == []
    assert (await show(b, "imp-3"))["session"]["sessionId"] == session
    await flush(a)
    facts = logged(tmp_path / "warehouse")
    assert {name for name in facts if name.startswith("imp")} == {"imp-1", "imp-2", "imp-3"}
    assert set(facts.values()) == {1}


async def test_a_session_whose_beginning_went_unanswered_does_not_begin_again_after_it_ended(
    proxy: CuttingProxy, join: Together, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    a, b = await join("a", sessions=proxy.url), await join("b")
    monkeypatch.setattr("iserver.storage.redis.client.RETRY_S", 1.0)
    proxy.cuts = 1
    body = {"args": {"deviceId": "dev-1"}, "impressionId": "imp-1", "requests": {"RatingBox": {"product": "p1"}}}
    asking = asyncio.create_task(a.post("features", body))
    await proxy.lost.wait()
    await flush(b)  # ends it, before a asks again
    assert (await asking).status == 503
    await flush(b)
    facts = logged(tmp_path / "warehouse")
    assert "imp-1" in facts
    assert set(facts.values()) == {1}
