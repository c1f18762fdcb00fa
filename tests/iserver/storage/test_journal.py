"""The journal: what was stored is there after a crash, and finished sessions leave it once (protocol §11.6)."""

from __future__ import annotations

import asyncio
import errno
import shutil
import sqlite3
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import orjson
import pytest

from iserver.errors import NotStoredError
from iserver.etl.interface import Batch
from iserver.evaluation.definition import Definition
from iserver.fdl import FdlError, SourceFile, compile_program
from iserver.sessions.finalize import finish
from iserver.sessions.session import Session
from iserver.storage.journal import Journal
from iserver.storage.journal_database import MIGRATIONS
from shared.errors import StartupError
from shared.wal.log import Done
from tests.crashes import copy_as_it_is

FDL = (Path(__file__).parents[3] / "iserver/example/shop.fdl").read_text()
DEFINITION = Definition(compile_program([SourceFile("shop.fdl", FDL)]))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[Journal]:
    journal = await Journal.open(path)
    await journal.load()
    await journal.store_definition(DEFINITION)
    yield journal
    await journal.close()


def begin(device: str = "dev-1") -> Session:
    session = Session.begin(f"s-{device}", DEFINITION, {"deviceId": device}, now_ms=1000)
    record = session.remember("RatingBox", DEFINITION, {"product": "p"}, {"tone": "CASUAL"}, {}, {}, ())
    session.show(record, "imp-1", 1000)
    return session


def crashed(path: Path) -> Path:
    """A copy of the files as they are on disk now, which is what another process finds after a crash."""
    copy = path.with_name("after-the-crash") / path.name
    copy_as_it_is(path.with_suffix(""), copy.with_suffix(""))
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


def waiting(path: Path) -> list[str]:
    """Ids of the sessions that wait for the warehouse."""
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT ids FROM finished ORDER BY row").fetchall()
    return [session_id for (ids,) in rows for session_id in orjson.loads(ids)]


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


async def test_without_a_journal_only_finished_sessions_are_kept(path):
    journal = await Journal.open(path, keeps_changes=False)
    await journal.load()
    session, running = begin("over"), begin("running")
    await journal.store(session, running)
    await journal.finish([session], {session.id: finish(session, 9000).to_json()})
    assert await after_a_crash(path) == []
    assert waiting(path) == ["s-over"]
    await journal.close()


async def test_a_finished_session_is_no_running_one(journal, path):
    session = begin()
    await journal.store(session)
    await journal.finish([session], {session.id: finish(session, 9000).to_json()})
    assert await after_a_crash(path) == []
    assert (waiting(path), journal.waiting) == (["s-dev-1"], 1)


async def test_a_session_that_is_not_to_be_logged_just_goes(journal, path):
    session = begin()
    await journal.store(session)
    await journal.finish([session], {})
    await ends(journal)
    assert await after_a_crash(path) == []
    assert waiting(path) == []


async def ends(journal: Journal) -> None:
    """Wait until the log has the ends of all that was finished."""
    await journal.session_log.end(())


async def finished(journal: Journal, *devices: str) -> None:
    for device in devices:
        session = begin(device)
        await journal.finish([session], {session.id: finish(session, 9000).to_json()})


async def test_an_interrupted_batch_is_repeated_with_the_same_id_and_the_same_sessions(journal, path):
    await finished(journal, "a", "b")
    batch = await journal.next_batch("batch-1", 100)
    sessions = list(journal.read_batch(batch))
    await finished(journal, "c")
    other = await Journal.open(crashed(path))
    await other.load()
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


async def killed_before_its_end_is_in_the_log(journal: Journal, path: Path) -> Path:
    """What is on the disk when a server is killed between the row in `finished` and the end in the log."""
    session = begin()
    await journal.store(session)
    with broken(journal):
        await journal.finish([session], {session.id: finish(session, 9000).to_json()})
        with pytest.raises(NotStoredError):
            await journal.next_batch("batch-1", 100)
    return crashed(path)


@contextmanager
def broken(journal: Journal) -> Iterator[None]:
    """The log cannot be written."""

    commit_log = journal.session_log.commit_log
    error = OSError(errno.ENOSPC, "No space left on device")

    def append(_payload: bytes, done: Done) -> int:
        asyncio.get_running_loop().call_soon(done, error)
        return commit_log.segment

    commit_log.append = append
    yield
    del commit_log.append


async def test_a_session_that_was_finished_when_the_server_was_killed_is_shipped_once(journal, path):
    found = await killed_before_its_end_is_in_the_log(journal, path)
    other = await Journal.open(found)
    assert await other.load() == []
    batch = await other.next_batch("batch-1", 100)
    assert await other.close_batch(batch) == 1
    another = crashed(found)
    await other.close()
    last = await Journal.open(another)
    assert await last.load() == []
    assert await last.next_batch("batch-2", 100) is None
    await last.close()


async def test_a_row_is_in_no_batch_until_the_log_knows_that_its_sessions_are_over(journal, path):
    await killed_before_its_end_is_in_the_log(journal, path)
    batch = await journal.next_batch("batch-1", 100)
    assert [session.session_id for session in journal.read_batch(batch)] == ["s-dev-1"]
    await journal.close_batch(batch)
    assert await after_a_crash(path) == []
    assert waiting(crashed(path)) == []


async def test_nothing_is_stored_of_a_session_that_is_over(journal, path):
    session = begin()
    await journal.store(session)
    await journal.finish([session], {session.id: finish(session, 9000).to_json()})
    session.retire(9000)
    await journal.store(session)
    assert await after_a_crash(path) == []


async def test_a_change_that_cannot_be_stored_is_not_acknowledged_and_is_stored_later(journal, path):
    session = begin()
    await journal.store(session)
    session.mutate("userId", "u-1", 2000)
    with broken(journal), pytest.raises(NotStoredError, match="cannot store changes: No space left on device"):
        await journal.store(session)
    session.touch(3000)
    await journal.store(session)
    (found,) = await after_a_crash(path)
    assert list(found.describe()) == list(session.describe())


async def test_what_an_earlier_release_has_kept_is_taken_over_once(path):
    running, over = begin("old"), begin("over")
    definition = (DEFINITION.fingerprint, orjson.dumps([["shop.fdl", FDL]]))
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"{MIGRATIONS[0]}; PRAGMA user_version=1")
        connection.execute("INSERT INTO definitions VALUES (?, ?)", definition)
        for changes in (running.take_changes(), [["touch", 3000]]):
            row = (running.id, orjson.dumps(changes))
            connection.execute("INSERT INTO changes (session, changes) VALUES (?, ?)", row)
        connection.execute("INSERT INTO finished VALUES (7, ?)", (finish(over, 9000).to_json(),))
        connection.commit()
    journal = await Journal.open(path)
    (found,) = await journal.load()
    batch = await journal.next_batch("batch-1", 100)
    assert (found.id, found.last_activity_ms) == ("s-old", 3000)
    assert (waiting(path), batch) == (["s-over"], Batch("batch-1", 7, 7))
    await journal.finish([found], {})
    await ends(journal)
    assert await after_a_crash(path) == []
    await journal.close()


async def test_sessions_come_back_under_the_fdl_they_began_with(journal, path):
    await journal.store(begin("old"))
    newer = Definition(compile_program([SourceFile("new.fdl", FDL + "feature Another {}")]))
    await journal.store_definition(newer)
    await journal.store(Session.begin("s-new", newer, {"deviceId": "new"}, now_ms=1000))
    old, new = await after_a_crash(path)
    assert "Another" not in old.definition.program.features
    assert "Another" in new.definition.program.features


async def test_sessions_come_back_whose_fdl_is_not_accepted_any_more(journal, path):
    fdl = FDL + "enum Level { LOW HIGH }\nevent Alarm { level: Level = LOW }\n"
    accepted_before = Definition(compile_program([SourceFile("before.fdl", fdl)], is_stored=True))
    with pytest.raises(FdlError, match="cannot have a default"):
        compile_program(accepted_before.program.sources)
    await journal.store_definition(accepted_before)
    await journal.store(Session.begin("s-before", accepted_before, {"deviceId": "d"}, now_ms=1000))
    (found,) = await after_a_crash(path)
    (level,) = found.definition.program.events["Alarm"].fields
    assert (found.id, level.default) == ("s-before", "LOW")


def stored_definitions(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [name for (name,) in connection.execute("SELECT fingerprint FROM definitions")]


async def test_definitions_that_nothing_refers_to_are_deleted_and_never_compiled(path, monkeypatch):
    journal = await Journal.open(path)
    await journal.load()
    for number in range(20):
        pushed = Definition(compile_program([SourceFile("pushed.fdl", FDL + f"feature Pushed{number} {{}}")]))
        await journal.store_definition(pushed)
        if number == 7:
            await journal.store(Session.begin("s-7", pushed, {"deviceId": "d"}, now_ms=1000))
    await journal.close()
    assert len(stored_definitions(path)) == 20
    compiled = []

    def count(files, **options):
        compiled.append(files)
        return compile_program(files, **options)

    monkeypatch.setattr("iserver.storage.replay.compile_program", count)
    journal = await Journal.open(path)
    (found,) = await journal.load()
    assert "Pushed7" in found.definition.program.features
    assert len(compiled) == 1
    assert stored_definitions(path) == [found.definition.fingerprint] == list(journal.definitions)
    await journal.close()


async def test_definitions_are_not_deleted_while_finished_sessions_wait(journal, path):
    session = begin()
    await journal.store(session)
    await journal.finish([session], {session.id: finish(session, 9000).to_json()})
    await ends(journal)
    again = await Journal.open(crashed(path))
    assert await again.load() == []
    assert again.definitions[DEFINITION.fingerprint].fingerprint == DEFINITION.fingerprint
    await again.close()


# --- missing and damaged files --------------------------------------------------------------------


async def a_stopped_journal(path: Path) -> None:
    """A journal with a running session and a finished one, in several segments."""
    journal = await Journal.open(path, segment_bytes=4096)
    await journal.load()
    await journal.store_definition(DEFINITION)
    running = [begin(f"dev-{number}") for number in range(20)]
    for session in running:
        await journal.store(session)
        session.mutate("userId", "u-1", 2000)
        await journal.store(session)
    await finished(journal, "over")
    await journal.close()


async def test_a_journal_without_its_log_does_not_start(path):
    await a_stopped_journal(path)
    shutil.rmtree(path.with_suffix(""))
    for _ in range(2):
        with pytest.raises(StartupError, match="journal is missing, and with it the sessions that were running"):
            await Journal.open(path)
    journal = await Journal.open(path, accepts_loss=True)
    assert (await journal.load(), journal.waiting) == ([], 1)
    await journal.close()
    await (await Journal.open(path)).close()


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"")], ids=["missing", "empty"])
async def test_a_log_without_its_sqlite_file_does_not_start(path, damage):
    await a_stopped_journal(path)
    damage(path)
    for _ in range(2):
        with pytest.raises(StartupError, match=r"journal\.sqlite is missing, and with it the finished sessions"):
            await Journal.open(path)
    journal = await Journal.open(path, accepts_loss=True)
    assert await journal.load() == []  # nobody knows the FDL that they began with
    await journal.close()
    again = await Journal.open(path)
    assert await again.load() == []
    await again.close()


@pytest.mark.parametrize(
    "damage", [Path.unlink, lambda wal: wal.write_bytes(wal.read_bytes()[:3000])], ids=["missing", "cut off"]
)
async def test_a_sqlite_file_that_has_lost_its_last_changes_does_not_start(journal, path, damage):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for device in ("b", "c"):
        session = begin(device)
        await journal.store(session)
        await journal.finish([session], {session.id: finish(session, 9000).to_json()})
    await ends(journal)
    copy = crashed(path)
    damage(copy.with_name(f"{copy.name}-wal"))
    other = await Journal.open(copy)
    with pytest.raises(StartupError, match=r"journal\.sqlite has lost its last changes, among them 2 rows of finished"):
        await other.load()
    await other.close()
    other = await Journal.open(copy, accepts_loss=True)
    assert await other.load() == []
    await finished(other, "d")
    assert waiting(copy) == ["s-d"]
    await other.close()
    await (await Journal.open(copy)).close()


async def test_rows_are_numbered_on_after_all_of_them_were_written_to_the_warehouse(path):
    for number in range(3):
        journal = await Journal.open(path)
        await journal.load()
        await journal.store_definition(DEFINITION)
        session = begin(f"{number}")
        await journal.store(session)
        await journal.finish([session], {session.id: finish(session, 9000).to_json()})
        batch = await journal.next_batch(f"batch-{number}", 10)
        assert batch.first_row == number + 1
        assert await journal.close_batch(batch) == 1
        await journal.close()


async def test_a_damaged_sqlite_file_does_not_start(path):
    await a_stopped_journal(path)
    data = bytearray(path.read_bytes())
    data[4096:8192] = bytes(4096)
    path.write_bytes(data)
    with pytest.raises(StartupError, match=r"journal\.sqlite is damaged: "):
        await Journal.open(path)


async def test_a_log_that_has_lost_a_segment_does_not_start_and_goes_on_when_that_is_accepted(path):
    await a_stopped_journal(path)
    files = sorted(path.with_suffix("").glob("*.log"))
    files[1].unlink()
    journal = await Journal.open(path)
    with pytest.raises(StartupError, match=f"{files[1].name} is missing, and acknowledged writes in it are lost"):
        await journal.load()
    await journal.close()
    journal = await Journal.open(path, accepts_loss=True)
    kept = await journal.load()
    assert 0 < len(kept) < 20
    for session in kept:
        session.touch(5000)
        await journal.store(session)
    found = {session.id: session for session in await after_a_crash(path)}  # without accepting a loss again
    assert len(found) == len(kept)
    assert all(list(found[session.id].describe()) == list(session.describe()) for session in kept)
    await journal.close()


async def test_changes_behind_a_loss_are_left_out_because_what_they_refer_to_may_be_lost(path):
    journal = await Journal.open(path)
    await journal.load()
    await journal.store_definition(DEFINITION)
    session = begin()
    await journal.store(session)
    lost = session.remember("RatingBox", DEFINITION, {"product": "lost"}, {"tone": "CASUAL"}, {}, {}, ())
    await journal.store(session)
    (segment,) = path.with_suffix("").glob("*.log")
    place = segment.read_bytes().index(b'"product":"lost"')
    session.show(lost, "imp-2", 3000)
    other = begin("other")
    await journal.store(session, other)
    await journal.close()
    data = bytearray(segment.read_bytes())
    data[place] ^= 1
    segment.write_bytes(data)
    journal = await Journal.open(path, accepts_loss=True)
    first, second = await journal.load()
    assert [record.args for record in first.records] == [{"product": "p"}]
    assert [impression.id for impression in first.records[0].impressions] == ["imp-1"]
    assert list(second.describe()) == list(other.describe())
    await journal.close()


@pytest.mark.parametrize(
    "payload",
    [
        b"nonsense",
        b'["s"]',
        b'["s", []]',
        b'["s", [["start", "no such definition", 1, "", null, {}]]]',
        b'["s-dev-1", [["touch"]]]',
        b'["s-dev-1", [["show", 7, "imp-1", 1]]]',
        b'["s-dev-1", [["unheard of"]]]',
    ],
)
async def test_a_journal_that_cannot_be_replayed_says_so_in_one_line(journal, path, payload):
    await journal.store(begin())
    journal.session_log.commit_log.append(payload, lambda error: None)
    await journal.session_log.end(())
    with pytest.raises(StartupError, match="cannot replay the journal") as caught:
        await after_a_crash(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("end", ["closed", "killed"])
async def test_a_journal_of_an_earlier_release_is_taken_over(tmp_path, end):
    with zipfile.ZipFile(Path(__file__).parent / "first_format_journals.zip") as archive:
        archive.extractall(tmp_path)
    path = tmp_path / end / "journal.sqlite"
    kept = [f"s-dev-{number}" for number in range(12) if number not in (3, 7)]
    for _ in range(2):
        journal = await Journal.open(path)
        sessions = await journal.load()
        assert [session.id for session in sessions] == kept
        assert [session.history("userId")[-1][1] for session in sessions] == [f"u-{name[6:]}" for name in kept]
        assert (waiting(path), journal.waiting) == (["s-dev-3", "s-dev-7"], 2)
        sessions[0].touch(5000)
        await journal.store(sessions[0])
        await journal.close()
