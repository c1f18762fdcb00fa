"""The log of running sessions: its size follows what they need, and nothing of them is lost (protocol §11.6)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from iserver.errors import NotStoredError
from iserver.evaluation.definition import Definition
from iserver.fdl import SourceFile, compile_program
from iserver.sessions.finished import Event
from iserver.sessions.session import Session
from iserver.storage.replay import Replay
from iserver.storage.session_log import BUSY_BYTES, SPARE_SEGMENTS, SessionLog
from tests.crashes import copy_as_it_is

FDL = (Path(__file__).parents[3] / "iserver/example/shop.fdl").read_text()
DEFINITION = Definition(compile_program([SourceFile("shop.fdl", FDL)]))
DEFINITIONS = {DEFINITION.fingerprint: DEFINITION}
SEGMENT_BYTES = 16 * 1024


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SessionLog]:
    log = SessionLog.open(tmp_path / "log", segment_bytes=SEGMENT_BYTES)
    log.start(())
    yield log
    await log.close()


def begin(number: int) -> Session:
    return Session.begin(f"s-{number}", DEFINITION, {"deviceId": f"dev-{number}"}, now_ms=1000)


def replayed(folder: Path) -> Replay:
    """What another process finds after a crash."""
    copy = folder.with_name("after-the-crash")
    copy_as_it_is(folder, copy)
    found = Replay(DEFINITIONS)
    SessionLog.open(copy, segment_bytes=SEGMENT_BYTES).replay(found)
    return found


async def cleaned(log: SessionLog) -> None:
    """Wait until the cleaner rests."""
    if log.cleaning is not None:
        await log.cleaning


async def test_a_log_of_sessions_that_come_and_go_stays_small(log, tmp_path):
    old = begin(0)
    await log.store([old])
    for number in range(1, 1000):
        session = begin(number)
        await log.store([session])
        await log.end(log.forget([session]))
    await cleaned(log)
    assert log.size_bytes <= (SPARE_SEGMENTS + 2) * SEGMENT_BYTES
    found = replayed(tmp_path / "log")
    assert list(found.sessions) == ["s-0"]
    assert not found.headless


async def test_a_log_is_at_most_about_twice_what_its_sessions_need(log, tmp_path):
    sessions = [begin(number) for number in range(200)]
    chosen = random.Random(7)
    for step in range(3000):
        session = chosen.choice(sessions)
        session.touch(2000 + step)
        session.mutate("userId", f"u-{step}", 2000 + step)
        await log.store([session])
    await cleaned(log)
    needed = sum(len(str(list(session.describe()))) for session in sessions)
    assert log.size_bytes < 2.5 * needed + (SPARE_SEGMENTS + 2) * SEGMENT_BYTES
    found = replayed(tmp_path / "log")
    assert {key: list(twin.describe()) for key, twin in found.sessions.items()} == {
        session.id: list(session.describe()) for session in sessions
    }


async def test_a_busy_session_is_stored_as_a_snapshot_now_and_then(log, tmp_path):
    session = begin(1)
    most = 0
    for step in range(4000):
        session.touch(2000 + step)
        stored = log.store([session])
        if step % 50 == 0:
            await stored
            most = max(most, session.journal_bytes)
    await stored
    assert BUSY_BYTES // 2 < most < 2 * BUSY_BYTES
    found = replayed(tmp_path / "log")
    assert list(found.sessions["s-1"].describe()) == list(session.describe())


async def test_sessions_that_are_stored_together_are_found_together_or_not_at_all(log, tmp_path):
    old, new = begin(1), begin(2)
    await log.store([old])
    old.retire(2000)
    await log.store([old, new])
    sessions = replayed(tmp_path / "log").sessions
    assert (sessions["s-1"].end_ms, list(sessions)) == (2000, ["s-1", "s-2"])


async def test_what_a_request_under_way_has_changed_is_in_a_snapshot_once(log, tmp_path):
    session = begin(1)
    await log.store([session])
    session.happen(None, Event("AddToCart", 2000, "s-1", "e-1", {"sku": "x"}))
    assert await log.move_to_newest_segment([session], session.journal_segment)
    await log.store([session])
    assert len(replayed(tmp_path / "log").sessions["s-1"].events) == 1


async def test_a_snapshot_that_cannot_be_stored_leaves_the_old_segment(log, tmp_path, monkeypatch):
    session = begin(1)
    await log.store([session])
    oldest = session.journal_segment
    session.touch(2000)

    def append(_payload, done):
        asyncio.get_running_loop().call_soon(done, OSError(28, "No space left on device"))
        return oldest

    with monkeypatch.context() as broken:
        broken.setattr(log.commit_log, "append", append)
        assert not await log.move_to_newest_segment([session], oldest)
        with pytest.raises(NotStoredError):
            await log.store([session])
    assert session.journal_segment == oldest
    await log.store([session])
    assert replayed(tmp_path / "log").sessions["s-1"].last_activity_ms == 2000


async def test_a_kill_at_any_moment_of_random_lives_loses_and_doubles_nothing(log, tmp_path):
    chosen = random.Random(11)
    running: dict[str, Session] = {}
    for step in range(1600):
        if len(running) < 30:
            session = begin(step)
            running[session.id] = session
            await log.store([session])
        session = chosen.choice(list(running.values()))
        session.happen(None, Event("AddToCart", step, session.id, f"e-{step}", {"sku": "x" * chosen.randrange(300)}))
        await log.store([session])
        if chosen.random() < 0.2:
            del running[session.id]
            await log.end(log.forget([session]))
        if step % 200 == 199:
            found = replayed(tmp_path / "log")
            assert found.sessions.keys() == running.keys()
            assert not found.headless
            for key, twin in found.sessions.items():
                assert list(twin.describe()) == list(running[key].describe())
