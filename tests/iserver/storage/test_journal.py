"""The journal: what was stored is there after a crash, and finished sessions leave it once (specification §11.6)."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from iserver.definitions import Definition
from iserver.fdl import SourceFile, compile_program
from iserver.finishing import finish
from iserver.refusals import NotStoredError
from iserver.session import Session
from iserver.storage.journal import Journal
from shared.errors import StartupError

FDL = (Path(__file__).parents[3] / "iserver/example/shop.fdl").read_text()
DEFINITION = Definition(compile_program([SourceFile("shop.fdl", FDL)]))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[Journal]:
    journal = await Journal.open(path)
    await journal.load()
    await journal.keep_definition(DEFINITION)
    yield journal
    await journal.close()


def begin(device: str = "dev-1") -> Session:
    session = Session.begin(f"s-{device}", DEFINITION, {"deviceId": device}, now_ms=1000)
    record = session.remember("RatingBox", DEFINITION, {"product": "p"}, {"tone": "CASUAL"}, {}, {}, ())
    session.show(record, "imp-1", 1000)
    return session


def crashed(path: Path) -> Path:
    """A copy of the file as it is on disk now, which is what another process finds after a crash."""
    copy = path.with_name("after-the-crash") / path.name
    copy.parent.mkdir(exist_ok=True)
    for suffix in ("", "-wal"):
        shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
    return copy


async def after_a_crash(path: Path) -> list[Session]:
    """The sessions that another process finds after a crash."""
    other = await Journal.open(crashed(path))
    try:
        return await other.load()
    finally:
        await other.close()


def rows(path: Path, table: str) -> int:
    with sqlite3.connect(path) as connection:
        (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(count)


async def test_stored_sessions_are_found_again(journal, path):
    session = begin()
    await journal.store(session)
    session.mutate("userId", "u-1", 2000)
    session.touch(3000)
    await journal.store(session)
    (found,) = await after_a_crash(path)
    assert finish(found, 9000) == finish(session, 9000)


async def test_changes_are_stored_in_the_order_of_the_calls(journal, path):
    session = begin()
    pending = []
    for number in range(40):
        session.mutate("userId", f"u-{number}", 2000 + number)
        pending.append(journal.store(session))
    for stored in reversed(pending):
        await stored
    (found,) = await after_a_crash(path)
    assert found.history("userId") == session.history("userId")


async def test_a_busy_session_takes_a_bounded_number_of_rows(journal, path, monkeypatch):
    monkeypatch.setattr("iserver.storage.journal.FEW_ROWS", 16)
    session = begin()
    for number in range(80):
        session.touch(2000 + number)
        await journal.store(session)
        assert rows(path, "changes") <= 16
    (found,) = await after_a_crash(path)
    assert list(found.describe()) == list(session.describe())


async def test_without_a_journal_only_finished_sessions_are_kept(path):
    journal = await Journal.open(path, keeps_changes=False)
    session = begin()
    await journal.store(session)
    assert rows(path, "changes") == 0
    await journal.finish([session], [finish(session, 9000)])
    assert rows(path, "finished") == 1
    await journal.close()


async def test_a_finished_session_is_no_running_one(journal, path):
    session = begin()
    await journal.store(session)
    await journal.finish([session], [finish(session, 9000)])
    assert await after_a_crash(path) == []
    assert (rows(path, "changes"), rows(path, "finished"), journal.waiting) == (0, 1, 1)


async def test_a_session_that_is_not_to_be_logged_just_goes(journal, path):
    session = begin()
    await journal.store(session)
    await journal.finish([session], [])
    assert (rows(path, "changes"), rows(path, "finished")) == (0, 0)


async def finished(journal: Journal, *devices: str) -> None:
    for device in devices:
        session = begin(device)
        await journal.finish([session], [finish(session, 9000)])


async def test_an_interrupted_batch_is_repeated_with_the_same_id_and_the_same_sessions(journal, path):
    await finished(journal, "a", "b")
    batch = await journal.next_batch("batch-1", 100)
    sessions = list(journal.read_batch(batch))
    await finished(journal, "c")
    other = await Journal.open(crashed(path))
    again = await other.next_batch("batch-2", 100)
    assert again == batch
    assert list(other.read_batch(again)) == sessions
    assert await other.close_batch(again) == 2
    following = await other.next_batch("batch-2", 100)
    assert [session.persistent_key for session in other.read_batch(following)] == ["c"]
    assert following.id == "batch-2"
    await other.close()


async def test_batches_are_bounded_and_come_in_order(journal):
    await finished(journal, "a", "b", "c")
    seen = []
    while (batch := await journal.next_batch(f"batch-{len(seen)}", 2)) is not None:
        seen.append([session.persistent_key for session in journal.read_batch(batch)])
        await journal.close_batch(batch)
    assert seen == [["a", "b"], ["c"]]
    assert journal.waiting == 0


async def test_a_change_that_cannot_be_stored_is_not_acknowledged_and_is_stored_later(journal, path):
    session = begin()
    await journal.store(session)
    await journal._writer.write("ALTER TABLE changes RENAME TO away", [()])
    session.mutate("userId", "u-1", 2000)
    with pytest.raises(NotStoredError, match="cannot store changes"):
        await journal.store(session)
    await journal._writer.write("ALTER TABLE away RENAME TO changes", [()])
    session.touch(3000)
    await journal.store(session)
    (found,) = await after_a_crash(path)
    assert list(found.describe()) == list(session.describe())


async def test_sessions_come_back_under_the_fdl_they_began_with(journal, path):
    await journal.store(begin("old"))
    newer = Definition(compile_program([SourceFile("new.fdl", FDL + "feature Another {}")]))
    await journal.keep_definition(newer)
    await journal.store(Session.begin("s-new", newer, {"deviceId": "new"}, now_ms=1000))
    old, new = await after_a_crash(path)
    assert "Another" not in old.definition.program.features
    assert "Another" in new.definition.program.features


@pytest.mark.parametrize("changes", [b"nonsense", b'[["touch"]]', b'[["show", 7, "imp-1", 1]]', b'[["unheard of"]]'])
async def test_a_journal_that_cannot_be_replayed_says_so_in_one_line(journal, path, changes):
    await journal._writer.write("INSERT INTO changes (row, session, changes) VALUES (1, 's', ?)", [(changes,)])
    with pytest.raises(StartupError, match="cannot replay the journal") as caught:
        await after_a_crash(path)
    assert "\n" not in str(caught.value)
