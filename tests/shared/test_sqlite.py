"""What is written is durable, in order, and fails only for whom it must."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from shared.errors import StartupError
from shared.sqlite import GroupCommitWriter, open_database, open_for_writing

MIGRATIONS = ["CREATE TABLE visit (id INTEGER PRIMARY KEY, page TEXT NOT NULL)"]
INSERT = "INSERT INTO visit (id, page) VALUES (?, ?)"


@pytest.fixture
async def writer(tmp_path: Path) -> AsyncIterator[GroupCommitWriter]:
    path = tmp_path / "visits.db"
    connection = await open_database(path, MIGRATIONS)
    writer = GroupCommitWriter(path)
    await writer.start()
    yield writer
    await writer.close()
    await connection.close()


def stored(tmp_path: Path) -> list[tuple[int, str]]:
    with sqlite3.connect(tmp_path / "visits.db") as other:
        return other.execute("SELECT id, page FROM visit ORDER BY id").fetchall()


async def test_a_new_database_is_migrated_from_nothing_and_an_old_one_from_where_it_is(tmp_path: Path):
    path = tmp_path / "deep" / "down" / "visits.db"
    await (await open_database(path, MIGRATIONS)).close()
    connection = await open_database(path, [*MIGRATIONS, "ALTER TABLE visit ADD COLUMN seconds REAL"])
    await connection.execute("INSERT INTO visit VALUES (1, 'home', 2.5)")
    async with connection.execute("PRAGMA journal_mode") as cursor:
        assert await cursor.fetchone() == ("wal",)
    await connection.close()


async def test_a_migration_that_fails_leaves_the_version_before_it(tmp_path: Path):
    path = tmp_path / "visits.db"
    await (await open_database(path, MIGRATIONS)).close()
    with pytest.raises(StartupError, match="no such table: visitor"):
        await open_database(path, [*MIGRATIONS, "ALTER TABLE visitor ADD COLUMN seconds REAL"])
    await (await open_database(path, MIGRATIONS)).close()


async def test_a_database_of_a_newer_release_is_refused(tmp_path: Path):
    path = tmp_path / "visits.db"
    await (await open_database(path, [*MIGRATIONS, "CREATE TABLE more (x)"])).close()
    with pytest.raises(StartupError, match="schema version 2, this release knows 1"):
        await open_database(path, MIGRATIONS)


async def test_a_file_that_is_no_database_is_a_startup_error(tmp_path: Path):
    path = tmp_path / "visits.db"
    path.write_bytes(b"not a database, but long enough to look at" * 40)
    with pytest.raises(StartupError, match=r"cannot open the database .*visits\.db: file is not a database"):
        await open_database(path, MIGRATIONS)


async def test_a_folder_that_cannot_be_made_is_a_startup_error(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(StartupError, match="cannot open the database"):
        await open_database(tmp_path / "file" / "visits.db", MIGRATIONS)


async def test_a_write_that_returned_is_seen_by_others(writer: GroupCommitWriter, tmp_path: Path):
    await writer.write(INSERT, [(1, "home"), (2, "shop")])
    assert stored(tmp_path) == [(1, "home"), (2, "shop")]


async def test_many_writers_share_few_transactions(writer: GroupCommitWriter, tmp_path: Path):
    await asyncio.gather(*(writer.write(INSERT, [(number, "home")]) for number in range(500)))
    assert len(stored(tmp_path)) == 500
    assert writer.commits < 50


async def test_one_bad_write_fails_alone(writer: GroupCommitWriter, tmp_path: Path):
    outcomes = await asyncio.gather(
        writer.write(INSERT, [(1, "home")]),
        writer.write(INSERT, [(2, "shop"), (1, "again")]),
        writer.write(INSERT, [(2**70, "too large for a column")]),
        writer.write(INSERT, [(3, "cart")]),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [type(None), sqlite3.IntegrityError, OverflowError, type(None)]
    assert stored(tmp_path) == [(1, "home"), (3, "cart")]


async def test_statements_submitted_together_are_applied_together(writer: GroupCommitWriter, tmp_path: Path):
    await writer.write(INSERT, [(1, "home")])
    with pytest.raises(sqlite3.IntegrityError):
        await writer.submit([("DELETE FROM visit WHERE id = ?", [(1,)]), (INSERT, [(2, None)])])
    assert stored(tmp_path) == [(1, "home")]


async def test_later_writes_see_the_effect_of_earlier_ones(writer: GroupCommitWriter, tmp_path: Path):
    writes = [writer.submit([(INSERT, [(number % 2, "home")]), ("DELETE FROM visit", [()])]) for number in range(9)]
    await asyncio.gather(*writes)
    assert stored(tmp_path) == []


async def test_a_caller_that_gave_up_does_not_disturb_the_others(writer: GroupCommitWriter, tmp_path: Path):
    given_up = writer.submit([(INSERT, [(1, "home")])])
    kept = writer.submit([(INSERT, [(2, "shop")])])
    given_up.cancel()
    await kept
    assert (2, "shop") in stored(tmp_path)


async def test_a_file_has_one_writer_at_a_time(writer: GroupCommitWriter, tmp_path: Path):
    path = tmp_path / "visits.db"
    with pytest.raises(StartupError, match=r"visits\.db is in use by another process"):
        await GroupCommitWriter(path).start()
    await writer.close()
    second = GroupCommitWriter(path)
    await second.start()
    await second.close()


async def test_close_stores_what_is_waiting_and_then_refuses(writer: GroupCommitWriter, tmp_path: Path):
    waiting = writer.submit([(INSERT, [(1, "home")])])
    await writer.close()
    assert waiting.done()
    assert stored(tmp_path) == [(1, "home")]
    with pytest.raises(RuntimeError, match="not running"):
        writer.submit([(INSERT, [(2, "shop")])])


async def test_a_value_that_cannot_be_bound_at_all_fails_its_own_write_and_no_later_one(
    writer: GroupCommitWriter, tmp_path: Path
):
    class Hostile:
        def __conform__(self, _protocol: object) -> object:
            raise KeyError("no such adapter")

    with pytest.raises((KeyError, sqlite3.Error)):
        await writer.write(INSERT, [(1, Hostile())])
    await writer.write(INSERT, [(2, "home")])
    assert stored(tmp_path) == [(2, "home")]


async def test_a_bug_in_one_write_is_raised_there_and_does_not_end_the_writer(
    writer: GroupCommitWriter, tmp_path: Path
):
    with pytest.raises(TypeError):
        await writer.submit([(INSERT, None)])  # type: ignore[list-item]
    await writer.write(INSERT, [(2, "home")])
    assert stored(tmp_path) == [(2, "home")]


async def test_a_rollback_that_fails_does_not_end_the_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Broken(sqlite3.Connection):
        is_broken = False

        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            if Broken.is_broken and sql == "ROLLBACK":
                raise sqlite3.OperationalError("disk I/O error")
            return super().execute(sql, *values)

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Broken))
    connection, writer = await open_for_writing(tmp_path / "visits.db", MIGRATIONS)
    Broken.is_broken = True
    for _ in range(2):
        with pytest.raises(sqlite3.Error):
            await writer.write("INSERT INTO nowhere VALUES (?)", [(1,)])
    Broken.is_broken = False
    await writer.write(INSERT, [(1, "stored")])
    assert stored(tmp_path) == [(1, "stored")]
    await writer.close()
    await connection.close()
