"""The journal: every acknowledged change of every session, in one SQLite file (specification §11.6).

    changes      what happened to sessions that are not logged yet, one row a request
    finished     sessions that are over, waiting for the warehouse
    batches      ranges of `finished` that are being written to the warehouse under a fixed id
    definitions  the FDL that sessions and records were created under

A session moves from `changes` to `finished` in one transaction, and leaves `finished` only when its batch is
in the warehouse. A crash at any point repeats the same batch with the same rows, so that each session is
logged exactly once. A session with many rows in `changes` is rewritten as one snapshot, which bounds the file
by the state of the active sessions.
"""

from __future__ import annotations

import asyncio
import gc
import sqlite3
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path

import aiosqlite
import orjson
import structlog

from iserver.definitions import Definition
from iserver.fdl import SourceFile, compile_program
from iserver.finished import FinishedSession
from iserver.refusals import NotStoredError
from iserver.session import Session
from shared.database import GroupCommitWriter, Row, Statement, open_for_writing
from shared.errors import StartupError

log = structlog.get_logger("iserver.journal")

MIGRATIONS = [
    """
    CREATE TABLE changes (row INTEGER PRIMARY KEY, session TEXT NOT NULL, changes BLOB NOT NULL);
    CREATE TABLE finished (row INTEGER PRIMARY KEY AUTOINCREMENT, data BLOB NOT NULL);
    CREATE TABLE batches (id TEXT PRIMARY KEY, first_row INTEGER NOT NULL, last_row INTEGER NOT NULL);
    CREATE TABLE definitions (fingerprint TEXT PRIMARY KEY, sources BLOB NOT NULL);
    """
]

DELETE_CHANGES = "DELETE FROM changes WHERE row = ?"
INSERT_FINISHED = "INSERT INTO finished (data) VALUES (?)"

ROWS_AT_ONCE = (64, 16, 4, 1)
"""Rows of one INSERT: the fewer the statements, the less often the thread that writes and the loop want each other."""

GATHER_S = 0.001
"""How long a change may wait for company, in seconds, when the last group was larger."""

FEW_ROWS = 256
"""A session with more rows than this, and than its snapshot would have changes, is rewritten as one snapshot."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Finished sessions on their way to the warehouse.

    Attributes:
        id: Names the batch for ever: the warehouse recognises a repetition by it.
        first_row, last_row: Its rows in `finished`.
    """

    id: str
    first_row: int
    last_row: int


class _Group:
    """Changes that are stored together, and the futures of those who wait for them."""

    __slots__ = ("deleted", "rows", "waiting")

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.deleted: list[Row] = []
        self.waiting: list[asyncio.Future[None]] = []

    def end(self, error: BaseException | None) -> None:
        """Tell everybody who still waits."""
        for future in self.waiting:
            if future.cancelled():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

    def statements(self) -> list[Statement]:
        """Inserts first: a row may be written and replaced by a snapshot in the same group."""
        statements: list[Statement] = []
        start = 0
        for size in ROWS_AT_ONCE:
            while len(self.rows) - start >= size:
                values = [value for row in self.rows[start : start + size] for value in row]
                statements.append((_insert_changes(size), [values]))
                start += size
        if self.deleted:
            statements.append((DELETE_CHANGES, self.deleted))
        return statements


@cache
def _insert_changes(rows: int) -> str:
    return "INSERT INTO changes (row, session, changes) VALUES " + ", ".join(["(?, ?, ?)"] * rows)


class Journal:
    """The journal of one server; open it with `Journal.open`."""

    def __init__(
        self, path: Path, connection: aiosqlite.Connection, writer: GroupCommitWriter, *, keeps_changes: bool
    ) -> None:
        self.path = path
        self._connection = connection
        self._writer = writer
        self._keeps_changes = keeps_changes
        self._rows = count(1)
        self._unsound: set[str] = set()
        self._group: _Group | None = None
        self._gathering: asyncio.TimerHandle | None = None
        self._expected = 1
        self._committing = 0
        self._definitions: dict[str, Definition] = {}
        self.waiting = 0

    @classmethod
    async def open(cls, path: Path, *, keeps_changes: bool = True) -> Journal:
        """Open or create the journal file.

        Args:
            path: The SQLite file.
            keeps_changes: Whether active sessions are stored at all; finished ones always are.

        Raises:
            StartupError: The file cannot be used.
        """
        connection, writer = await open_for_writing(path, MIGRATIONS)
        journal = cls(path, connection, writer, keeps_changes=keeps_changes)
        async with connection.execute("SELECT count(*) FROM finished") as cursor:
            row = await cursor.fetchone()
        journal.waiting = row[0] if row else 0
        return journal

    async def close(self) -> None:
        """Store what is waiting, then close the file."""
        self._commit()
        await self._writer.close()
        await self._connection.close()

    # --- definitions ------------------------------------------------------------------------------

    async def keep_definition(self, definition: Definition) -> None:
        """Store the FDL sources of a definition before the first session uses it."""
        if definition.fingerprint not in self._definitions:
            sources = [[source.name, source.text] for source in definition.program.sources]
            await self._writer.write(
                "INSERT OR IGNORE INTO definitions (fingerprint, sources) VALUES (?, ?)",
                [(definition.fingerprint, orjson.dumps(sources))],
            )
            self._definitions[definition.fingerprint] = definition

    @property
    def definitions(self) -> Mapping[str, Definition]:
        """Every definition that sessions in the journal may refer to, by fingerprint."""
        return self._definitions

    # --- running sessions -------------------------------------------------------------------------

    async def load(self) -> list[Session]:
        """Rebuild every session that is not logged yet, in the order in which they were first stored.

        Raises:
            StartupError: The file does not hold what a journal holds.
        """
        gc.disable()  # what is loaded stays; looking through it again and again would take most of the time
        try:
            sessions = await asyncio.to_thread(self._load)
        except (LookupError, TypeError, ValueError, sqlite3.Error) as error:
            raise StartupError(f"cannot replay the journal {self.path}: {type(error).__name__}: {error}") from error
        finally:
            gc.enable()
        if sessions:
            log.info("sessions replayed", sessions=len(sessions))
        return sessions

    def _load(self) -> list[Session]:
        with closing(sqlite3.connect(self.path)) as connection:
            for fingerprint, sources in connection.execute("SELECT fingerprint, sources FROM definitions"):
                files = [SourceFile(name, text) for name, text in orjson.loads(sources)]
                self._definitions[fingerprint] = Definition(compile_program(files))
            sessions: dict[str, Session] = {}
            outputs: dict[bytes, object] = {}
            last_row = 0
            rows = connection.execute("SELECT row, session, changes FROM changes ORDER BY row")
            for last_row, session_id, changes in rows:
                session = sessions.get(session_id)
                if session is None:
                    session = sessions[session_id] = Session(session_id)
                for change in orjson.loads(changes):
                    if change[0] == "record":  # most records have the outputs of many others
                        change[4] = outputs.setdefault(orjson.dumps(change[4]), change[4])
                    session.apply(change, self._definitions)
                session.journal_rows.append(last_row)
        self._rows = count(last_row + 1)
        return list(sessions.values())

    def store(self, *sessions: Session) -> Awaitable[None]:
        """Store the changes of sessions, together, in the order of the calls.

        The changes are taken when this is called; await the result before acknowledging them.

        Raises:
            NotStoredError: They could not be stored. The next call for these sessions stores them whole.
        """
        if not self._keeps_changes:
            for session in sessions:
                session.take_changes()
            return _nothing()
        if self._group is None:
            self._group = _Group()
        for session in sessions:
            self._add_changes(session, self._group)
        stored = asyncio.get_running_loop().create_future()
        self._group.waiting.append(stored)
        if not self._committing:
            self._gather(self._group)
        return self._stored(stored, sessions)

    def _gather(self, group: _Group) -> None:
        """Commit when as many wait as the last time, or a moment later: a commit costs more than many rows."""
        if len(group.waiting) >= self._expected:
            self._commit()
        elif self._gathering is None:
            self._gathering = asyncio.get_running_loop().call_later(GATHER_S, self._commit)

    def _commit(self) -> None:
        """Send the open group on its way."""
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        group, self._group = self._group, None
        if group is None:
            return
        self._expected = len(group.waiting)
        self._committing += 1
        commit = self._writer.submit(group.statements())
        commit.add_done_callback(lambda commit: self._committed(commit, group))

    def _committed(self, commit: asyncio.Future[None], group: _Group) -> None:
        self._committing -= 1
        group.end(commit.exception())
        if self._group is not None and not self._committing:
            self._gather(self._group)

    async def _stored(self, stored: asyncio.Future[None], sessions: Sequence[Session]) -> None:
        try:
            await stored
        except sqlite3.Error as error:
            self._unsound.update(session.id for session in sessions)
            raise NotStoredError(f"cannot store changes: {error}") from error
        if self._unsound and any(session.id in self._unsound for session in sessions):
            raise NotStoredError("cannot store changes: an earlier change of the session is not stored")

    def _add_changes(self, session: Session, group: _Group) -> None:
        changes = session.take_changes()
        rows = session.journal_rows
        if len(rows) >= max(FEW_ROWS, session.size) or session.id in self._unsound:
            self._unsound.discard(session.id)
            group.deleted += [(row,) for row in rows]
            changes = list(session.describe())
            rows.clear()
        if not changes:
            return
        row = next(self._rows)
        rows.append(row)
        group.rows.append((row, session.id, orjson.dumps(changes)))

    # --- finished sessions ------------------------------------------------------------------------

    async def finish(self, sessions: Sequence[Session], finished: Sequence[FinishedSession]) -> None:
        """Move sessions from the running to the finished, in one transaction.

        Args:
            sessions: Sessions that are over.
            finished: What is to be logged of them; those that are not to be logged are left out.

        Raises:
            NotStoredError: They could not be stored; they are as they were.
        """
        self._commit()  # what is stored already comes first
        statements: list[Statement] = [
            (INSERT_FINISHED, [(item.to_json(),) for item in finished]),
            (DELETE_CHANGES, [(row,) for session in sessions for row in session.journal_rows]),
        ]
        try:
            await self._writer.submit([(sql, rows) for sql, rows in statements if rows])
        except sqlite3.Error as error:
            raise NotStoredError(f"cannot store finished sessions: {error}") from error
        self.waiting += len(finished)
        self._unsound.difference_update(session.id for session in sessions)

    async def next_batch(self, new_id: str, limit: int) -> Batch | None:
        """The batch to write to the warehouse: one that was interrupted, else a new one.

        Args:
            new_id: Id for a new batch.
            limit: The most sessions in a new batch.

        Returns:
            The batch, stored before this returns; `None` when no session is waiting.
        """
        async with self._connection.execute("SELECT id, first_row, last_row FROM batches") as cursor:
            interrupted = await cursor.fetchone()
        if interrupted is not None:
            return Batch(*interrupted)
        query = "SELECT min(row), max(row) FROM (SELECT row FROM finished ORDER BY row LIMIT ?)"
        async with self._connection.execute(query, (limit,)) as cursor:
            row = await cursor.fetchone()
        if row is None or row[0] is None:
            return None
        batch = Batch(new_id, row[0], row[1])
        await self._writer.write(
            "INSERT INTO batches (id, first_row, last_row) VALUES (?, ?, ?)",
            [(batch.id, batch.first_row, batch.last_row)],
        )
        return batch

    def read_batch(self, batch: Batch) -> Iterator[FinishedSession]:
        """The sessions of a batch, one at a time. Blocks: call it in a thread."""
        return map(FinishedSession.from_json, self.read_batch_json(batch))

    def read_batch_json(self, batch: Batch) -> Iterator[bytes]:
        """The sessions of a batch as `FinishedSession.to_json` wrote them. Blocks: call it in a thread."""
        connection = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            rows: Iterable[tuple[bytes]] = connection.execute(
                "SELECT data FROM finished WHERE row BETWEEN ? AND ? ORDER BY row",
                (batch.first_row, batch.last_row),
            )
            for (data,) in rows:
                yield data
        finally:
            connection.close()

    async def close_batch(self, batch: Batch) -> int:
        """Forget the sessions of a batch: they are in the warehouse.

        Returns:
            How many they were.
        """
        rows = (batch.first_row, batch.last_row)
        async with self._connection.execute("SELECT count(*) FROM finished WHERE row BETWEEN ? AND ?", rows) as cursor:
            found = await cursor.fetchone()
        await self._writer.submit(
            [
                ("DELETE FROM finished WHERE row BETWEEN ? AND ?", [rows]),
                ("DELETE FROM batches WHERE id = ?", [(batch.id,)]),
            ]
        )
        sessions = int(found[0]) if found else 0
        self.waiting -= sessions
        return sessions


async def _nothing() -> None:
    """The awaitable of a store that has nothing to do."""
