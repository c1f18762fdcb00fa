"""The SQLite file of a journal: finished sessions that wait for the warehouse, batches of them, and definitions.

Its methods say what is stored; in which order, and why, is decided in `journal`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import aiosqlite
import orjson

from iserver.errors import NotStoredError
from iserver.etl.interface import Batch
from shared.sqlite import GroupCommitWriter, open_for_writing

MIGRATIONS = [
    """
    CREATE TABLE changes (row INTEGER PRIMARY KEY, session TEXT NOT NULL, changes BLOB NOT NULL);
    CREATE TABLE finished (row INTEGER PRIMARY KEY AUTOINCREMENT, data BLOB NOT NULL);
    CREATE TABLE batches (id TEXT PRIMARY KEY, first_row INTEGER NOT NULL, last_row INTEGER NOT NULL);
    CREATE TABLE definitions (fingerprint TEXT PRIMARY KEY, sources BLOB NOT NULL);
    """,
    """
    ALTER TABLE finished RENAME TO single;
    CREATE TABLE finished (row INTEGER PRIMARY KEY, sessions INTEGER NOT NULL, ids BLOB NOT NULL, data BLOB NOT NULL);
    INSERT INTO finished SELECT row, 1, json_array(json_extract(CAST(data AS TEXT), '$.session_id')), data FROM single;
    DROP TABLE single;
    """,
    "CREATE TABLE log (id INTEGER NOT NULL)",
    "ALTER TABLE log ADD COLUMN finished_row INTEGER NOT NULL DEFAULT 0",
]
"""`changes` is where running sessions were before the log; a start moves what is still there. `log` has the id
of the log that belongs to the file, so that neither is missing unnoticed, and the last row of `finished`. The log has
that row too, so that a file that has lost its last changes (its `-wal`) is noticed."""


class JournalDatabase:
    """The SQLite file of one journal; open it with `JournalDatabase.open`.

    Attributes:
        path: The file.
        waiting: How many finished sessions wait for the warehouse.
        last_row: The last row of `finished` that was ever used.
        log_id: The log that belongs to the file; `None` for a new file.
    """

    def __init__(self, path: Path, connection: aiosqlite.Connection, writer: GroupCommitWriter) -> None:
        self.path = path
        self.waiting = 0
        self.last_row = 0
        self.log_id: int | None = None
        self._connection = connection
        self._writer = writer

    @classmethod
    async def open(cls, path: Path) -> JournalDatabase:
        """Open or create the file.

        Raises:
            StartupError: It cannot be used.
        """
        database = cls(path, *await open_for_writing(path, MIGRATIONS))
        try:
            await database._read_state()
        except BaseException:
            await database.close()
            raise
        return database

    async def _read_state(self) -> None:
        query = "SELECT sum(sessions), max(row), (SELECT max(last_row) FROM batches) FROM finished"
        async with self._connection.execute(query) as cursor:
            waiting, last_row, last_in_batch = await cursor.fetchone() or (0, 0, 0)
        self.waiting = waiting or 0
        self.last_row = max(last_row or 0, last_in_batch or 0)
        async with self._connection.execute("SELECT id, finished_row FROM log") as cursor:
            known = await cursor.fetchone()
        if known is not None:
            self.log_id, self.last_row = known[0], max(self.last_row, known[1])

    async def close(self) -> None:
        """Store what is pending, then close the file."""
        await self._writer.close()
        await self._connection.close()

    async def set_log(self, log_id: int) -> None:
        """Store which log belongs to the file."""
        insert = "INSERT INTO log (id, finished_row) VALUES (?, ?)"
        await self._writer.submit([("DELETE FROM log", [()]), (insert, [(log_id, self.last_row)])])
        self.log_id = log_id

    # --- definitions ------------------------------------------------------------------------------

    async def add_definition(self, fingerprint: str, sources: bytes) -> None:
        """Store the sources of a definition, unless they are there.

        Raises:
            NotStoredError: They are not stored.
        """
        insert = "INSERT OR IGNORE INTO definitions (fingerprint, sources) VALUES (?, ?)"
        with self._naming_the_file():
            await self._writer.write(insert, [(fingerprint, sources)])

    async def delete_definitions(self, fingerprints: Iterable[str]) -> None:
        """Delete definitions.

        Raises:
            NotStoredError: They are still there.
        """
        with self._naming_the_file():
            await self._writer.write(
                "DELETE FROM definitions WHERE fingerprint = ?", [(fingerprint,) for fingerprint in fingerprints]
            )

    def read_definitions(self) -> list[tuple[str, bytes]]:
        """Fingerprints and sources. Blocks: call it in a thread."""
        return list(self._read("SELECT fingerprint, sources FROM definitions"))

    # --- running sessions of an earlier release ---------------------------------------------------

    def read_changes(self) -> Iterator[tuple[str, bytes]]:
        """Session ids and changes that are not in a log yet, in order. Blocks: call it in a thread."""
        return self._read("SELECT session, changes FROM changes ORDER BY row")

    async def delete_changes(self) -> None:
        """Delete them: they are in the log now."""
        await self._writer.write("DELETE FROM changes", [()])

    # --- finished sessions ------------------------------------------------------------------------

    def read_finished_ids(self) -> Iterator[tuple[int, list[str]]]:
        """Rows of `finished` and the ids of their sessions. Blocks: call it in a thread."""
        return ((row, orjson.loads(ids)) for row, ids in self._read("SELECT row, ids FROM finished"))

    async def add_finished(self, row: int, sessions: Mapping[str, bytes]) -> None:
        """Store finished sessions as one row.

        Raises:
            NotStoredError: They are not stored.
        """
        values = (row, len(sessions), orjson.dumps(list(sessions)), b"\n".join(sessions.values()))
        with self._naming_the_file():
            await self._writer.submit(
                [
                    ("INSERT INTO finished (row, sessions, ids, data) VALUES (?, ?, ?, ?)", [values]),
                    ("UPDATE log SET finished_row = ?", [(row,)]),
                ]
            )
        self.waiting += len(sessions)

    async def interrupted_batch(self) -> Batch | None:
        """A batch that was begun and not closed.

        Raises:
            NotStoredError: The file cannot be used.
        """
        with self._naming_the_file():
            async with self._connection.execute("SELECT id, first_row, last_row FROM batches") as cursor:
                found = await cursor.fetchone()
        return None if found is None else Batch(*found)

    async def new_batch(self, new_id: str, limit: int, *, before_row: int) -> Batch | None:
        """Begin a batch; `None` when no row is there.

        Args:
            new_id: Its id.
            limit: The most sessions, unless one row has more.
            before_row: Rows from here on must wait.

        Raises:
            NotStoredError: The file cannot be used.
        """
        first = last = sessions = 0
        query = "SELECT row, sessions FROM finished WHERE row < ? ORDER BY row"
        with self._naming_the_file():
            async with self._connection.execute(query, (before_row,)) as cursor:
                async for row, count in cursor:
                    sessions += count
                    if first and sessions > limit:
                        break
                    first, last = first or row, row
            if not first:
                return None
            insert = "INSERT INTO batches (id, first_row, last_row) VALUES (?, ?, ?)"
            await self._writer.write(insert, [(new_id, first, last)])
        return Batch(new_id, first, last)

    def read_batch_lines(self, batch: Batch) -> Iterator[bytes]:
        """The sessions of a batch, some at a time, one a line. Blocks: call it in a thread.

        Raises:
            NotStoredError: The file cannot be used.
        """
        query = "SELECT data FROM finished WHERE row BETWEEN ? AND ? ORDER BY row"
        with self._naming_the_file():
            for (data,) in self._read(query, (batch.first_row, batch.last_row)):
                yield data

    async def close_batch(self, batch: Batch) -> int:
        """Delete a batch and its sessions: they are in the warehouse.

        Returns:
            How many sessions there were.

        Raises:
            NotStoredError: The file cannot be used.
        """
        rows = (batch.first_row, batch.last_row)
        query = "SELECT sum(sessions) FROM finished WHERE row BETWEEN ? AND ?"
        with self._naming_the_file():
            async with self._connection.execute(query, rows) as cursor:
                found = await cursor.fetchone()
            await self._writer.submit(
                [
                    ("DELETE FROM finished WHERE row BETWEEN ? AND ?", [rows]),
                    ("DELETE FROM batches WHERE id = ?", [(batch.id,)]),
                ]
            )
        sessions = int(found[0] or 0) if found else 0
        self.waiting -= sessions
        return sessions

    def _read(self, query: str, values: Sequence[int] = ()) -> Iterator[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            yield from connection.execute(query, values)

    @contextmanager
    def _naming_the_file(self) -> Iterator[None]:
        """Name the file in errors of SQLite: a full disk, a deleted folder."""
        try:
            yield
        except sqlite3.Error as error:
            raise NotStoredError(f"cannot use {self.path}: {error}") from error
