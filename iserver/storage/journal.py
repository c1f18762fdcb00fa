"""The journal: every acknowledged change of every session, on the disk.

Running sessions are in a commit log (`session_log`). What has become of them is in an SQLite file:

    finished     sessions that are over, waiting for the warehouse; a row has all that were finished together
    batches      ranges of `finished` that are being written to the warehouse under a fixed id
    definitions  the FDL that sessions and records were created under

A session is logged exactly once, whenever the server is killed, because of this order:

    1. Its row in `finished` is stored. From now on a replay drops the session, since its id is in `finished`.
    2. Its end is stored in the log. From now on a replay drops the session, since it has ended.
    3. A batch may take the row. The batch is stored before anything of it is written to the warehouse.
    4. The warehouse has the batch: the row and the batch leave SQLite, in one transaction.

A kill before 1 leaves a running session, which ends again. One between 1 and 2 makes the next start do 2. One between
3 and 4 repeats the same batch with the same rows, over the same files. Nothing leaves `finished` before the log knows
of the end, so a session is in at least one of the two places until it is in the warehouse. Where 2 fails, the row waits
and 2 is tried again with the next batch. Sessions that are not to be logged have no row, and just end.
"""

from __future__ import annotations

import asyncio
import gc
import sqlite3
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import orjson
import structlog

from iserver.errors import NotStoredError
from iserver.etl.interface import Batch
from iserver.evaluation.definition import Definition
from iserver.sessions.finished import FinishedSession, sessions_in
from iserver.sessions.session import Session
from iserver.storage.journal_database import JournalDatabase
from iserver.storage.replay import Replay, StoredDefinitions, encode_sources
from iserver.storage.session_log import SessionLog
from shared.errors import StartupError
from shared.wal.log import SEGMENT_BYTES
from shared.wal.recovery import has_log

log = structlog.get_logger("iserver.journal")

ROWS_AT_ONCE = 256


@dataclass(slots=True)
class _PendingEnd:
    """Sessions of a row of `finished` whose ends are not known to be in the log.

    Attributes:
        session_ids: Those that the log has something of.
        ended: Done when the log knows; `None` while the row itself is being stored.
    """

    session_ids: Sequence[str] = ()
    ended: asyncio.Future[None] | None = None


class Journal:
    """The journal of one server; open it with `Journal.open`, then `load` it."""

    def __init__(
        self, database: JournalDatabase, session_log: SessionLog, *, keeps_changes: bool, accepts_loss: bool
    ) -> None:
        self._database = database
        self.session_log = session_log
        self._keeps_changes = keeps_changes
        self._accepts_loss = accepts_loss
        self._definitions = StoredDefinitions()
        self._last_row = database.last_row
        self._pending: dict[int, _PendingEnd] = {}

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        keeps_changes: bool = True,
        segment_bytes: int = SEGMENT_BYTES,
        accepts_loss: bool = False,
    ) -> Journal:
        """Open or create the journal.

        Args:
            path: The SQLite file. The log is in a folder beside it, of the same name without the suffix.
            keeps_changes: Whether running sessions are stored at all; finished ones always are.
            segment_bytes: Size of the log's files.
            accepts_loss: Go on without what is missing or damaged.

        Raises:
            StartupError: The files cannot be used, or one is missing or damaged and that is not accepted.
        """
        folder = path.with_suffix("")
        if _is_missing(path, folder):
            lose(path, "the finished sessions that waited for the warehouse", accepts_loss=accepts_loss)
        async with AsyncExitStack() as opened:
            database = await JournalDatabase.open(path)
            opened.push_async_callback(database.close)
            session_log = await asyncio.to_thread(
                SessionLog.open, folder, segment_bytes=segment_bytes, accepts_loss=accepts_loss
            )
            opened.push_async_callback(session_log.close)
            if database.log_id != session_log.id:
                if database.log_id is not None:
                    lose(folder, "the sessions that were running", accepts_loss=accepts_loss)
                await database.set_log(session_log.id)
            opened.pop_all()
        return cls(database, session_log, keeps_changes=keeps_changes, accepts_loss=accepts_loss)

    @property
    def path(self) -> Path:
        """The SQLite file."""
        return self._database.path

    @property
    def waiting(self) -> int:
        """How many finished sessions wait for the warehouse."""
        return self._database.waiting

    async def close(self) -> None:
        """Store what is waiting, then close the files."""
        await self.session_log.close()
        await self._database.close()

    @property
    def is_writable(self) -> bool:
        """Whether changes can be stored, as far as is known."""
        return self.session_log.is_writable

    async def probe(self) -> None:
        """While changes cannot be stored, find out whether they can be again.

        Raises:
            NotStoredError: They cannot.
        """
        if not self.is_writable:
            await self.session_log.end(())

    # --- definitions ------------------------------------------------------------------------------

    async def store_definition(self, definition: Definition) -> None:
        """Store the FDL sources of a definition before the first session uses it.

        Raises:
            NotStoredError: It is not stored.
        """
        if definition.fingerprint not in self._definitions:
            await self._database.add_definition(definition.fingerprint, encode_sources(definition))
            self._definitions.add(definition)

    async def _prune_definitions(self) -> None:
        """Delete the definitions that nothing in the log refers to, unless finished sessions wait, which may."""
        unused = self._definitions.unused
        if self.waiting or not unused:
            return
        try:
            await self._database.delete_definitions(unused)
        except NotStoredError as error:
            log.warning("cannot delete unused definitions", reason=str(error))
            return
        self._definitions.forget_unused()

    @property
    def definitions(self) -> Mapping[str, Definition]:
        """Every definition that sessions in the journal may refer to, by fingerprint."""
        return self._definitions

    # --- running sessions -------------------------------------------------------------------------

    async def load(self) -> list[Session]:
        """Rebuild every session that is not finished, in the order in which they were first stored.

        Raises:
            StartupError: The journal does not hold what a journal holds.
        """
        gc.disable()  # what is loaded stays; looking through it again and again would take most of the time
        try:
            sessions, running, has_loss = await asyncio.to_thread(self._load)
        except (LookupError, TypeError, ValueError, sqlite3.Error) as error:
            raise StartupError(f"cannot replay the journal {self.path}: {type(error).__name__}: {error}") from error
        finally:
            gc.enable()
        self.session_log.start(sessions)
        for row, session_ids in running.items():
            self._pending[row] = _PendingEnd(session_ids, self.session_log.end(session_ids))
        if has_loss:
            try:
                await self.session_log.rewrite()  # the next start finds what this one has made of it
            except NotStoredError as error:
                raise StartupError(f"cannot write the journal {self.path}: {error}") from error
        if self._keeps_changes:
            await self._move_changes([session for session in sessions if not session.journal_segment])
        await self._prune_definitions()
        if sessions:
            log.info("sessions replayed", sessions=len(sessions))
        return sessions

    def _load(self) -> tuple[list[Session], dict[int, list[str]], bool]:
        """Running sessions; per row of `finished` those that the log has as running; whether changes are lost."""
        for fingerprint, sources in self._database.read_definitions():
            self._definitions.add_sources(fingerprint, sources)
        replayed = Replay(self._definitions, accepts_loss=self._accepts_loss)
        for session_id, changes in self._database.read_changes():
            replayed.add(session_id, orjson.loads(changes), 0, 0)
        self.session_log.replay(replayed)
        self._check_rows(replayed.finished_row)
        running = {
            row: ids
            for row, session_ids in self._database.read_finished_ids()
            if (ids := [session_id for session_id in session_ids if replayed.drop(session_id)])
        }
        if replayed.headless:
            log.warning("sessions ended as the server did, and have no end in the log", sessions=len(replayed.headless))
        if replayed.has_loss:
            lost = sorted(replayed.damaged | replayed.headless)
            log.error("running sessions were rebuilt without what is lost", damaged=len(lost), first=lost[:10])
        return list(replayed.sessions.values()), running, replayed.has_loss

    def _check_rows(self, logged_row: int) -> None:
        """Make sure that the file has every row that the log has seen."""
        if logged_row <= self._last_row:
            return
        what = f"has lost its last changes, among them {logged_row - self._last_row} rows of finished sessions"
        if not self._accepts_loss:
            raise StartupError(
                f"{self.path} {what}: restore it with its -wal file, or give --accept-loss to go on without them"
            )
        log.error("acknowledged changes are lost, and that was accepted", file=str(self.path), reason=what)
        self._last_row = logged_row

    async def _move_changes(self, sessions: Sequence[Session]) -> None:
        """Migrate what an earlier release has stored in the table `changes`."""
        for start in range(0, len(sessions), ROWS_AT_ONCE):
            try:
                await self.session_log.store_whole(sessions[start : start + ROWS_AT_ONCE])
            except NotStoredError as error:
                raise StartupError(f"cannot write the journal {self.path}: {error}") from error
        if sessions:
            await self._database.delete_changes()

    def store(self, *sessions: Session) -> Awaitable[None]:
        """Store the changes of sessions, together, in the order of the calls.

        The changes are taken when this is called; await the result before acknowledging them. It is a future, so that
        a caller without a task may add a callback instead.

        Raises:
            NotStoredError: They could not be stored. The next call for these sessions stores them whole.
        """
        if self._keeps_changes:
            return self.session_log.store(sessions)
        for session in sessions:
            session.take_changes()
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    # --- finished sessions ------------------------------------------------------------------------

    async def finish(self, sessions: Sequence[Session], finished: Mapping[str, bytes]) -> None:
        """Move sessions from the running to the finished.

        Args:
            sessions: Sessions that are over.
            finished: What is to be logged of them, by session id, as `FinishedSession.to_json` writes it; those that
                are not to be logged are missing.

        Raises:
            NotStoredError: They could not be stored; they are as they were.
        """
        self._last_row = row = self._last_row + 1
        rejected = {session.id for session in sessions if self.session_log.is_rejected(session)}
        finished = {session_id: line for session_id, line in finished.items() if session_id not in rejected}
        if finished:
            self._pending[row] = _PendingEnd()
            try:
                await self._database.add_finished(row, finished)
            except NotStoredError:
                del self._pending[row]
                raise
        known = self.session_log.forget(sessions)
        if not known:
            self._pending.pop(row, None)
            return
        ended = self.session_log.end(known, row if finished else 0)
        if finished:
            self._pending[row] = _PendingEnd(known, ended)
            ended.add_done_callback(lambda ended: self._forget_pending(row, ended))

    def _forget_pending(self, row: int, ended: asyncio.Future[None]) -> None:
        if not ended.cancelled() and ended.exception() is None:
            self._pending.pop(row, None)

    async def next_batch(self, new_id: str, limit: int) -> Batch | None:
        """The batch to write to the warehouse: one that was interrupted, else a new one.

        Args:
            new_id: Id for a new batch.
            limit: The most sessions in a new batch, unless more were finished together.

        Returns:
            The batch, stored before this returns; `None` when no session is waiting.

        Raises:
            NotStoredError: The log does not take the ends of the sessions, so their rows must wait; or the SQLite file
                cannot be used.
        """
        interrupted = await self._database.interrupted_batch()
        if interrupted is not None:
            return interrupted
        before_row = await self._first_row_to_wait()
        return await self._database.new_batch(new_id, limit, before_row=before_row)

    async def _first_row_to_wait(self) -> int:
        """Rows before this one are known to be safe from a replay; ends that the log has not taken are tried again."""
        for row, pending in list(self._pending.items()):
            if pending.ended is None:
                continue  # its row is only just being stored
            if pending.ended.done() and pending.ended.exception() is not None:
                pending.ended = self.session_log.end(pending.session_ids, row)
            await asyncio.shield(pending.ended)
            self._forget_pending(row, pending.ended)
        return min(self._pending, default=self._last_row + 1)

    def read_batch(self, batch: Batch) -> Iterator[FinishedSession]:
        """The sessions of a batch. Blocks: call it in a thread."""
        return chain.from_iterable(map(sessions_in, self.read_batch_lines(batch)))

    def read_batch_lines(self, batch: Batch) -> Iterator[bytes]:
        """The sessions of a batch, some at a time, one a line. Blocks: call it in a thread.

        Raises:
            NotStoredError: The SQLite file cannot be used.
        """
        return self._database.read_batch_lines(batch)

    async def close_batch(self, batch: Batch) -> int:
        """Forget the sessions of a batch: they are in the warehouse.

        Returns:
            How many they were.

        Raises:
            NotStoredError: The SQLite file cannot be used.
        """
        return await self._database.close_batch(batch)


def _is_missing(path: Path, log_folder: Path) -> bool:
    """Whether the SQLite file is gone, and its log is there."""
    return has_log(log_folder) and not (path.exists() and path.stat().st_size)


def lose(path: Path, what: str, *, accepts_loss: bool) -> None:
    """Accept that a file is missing.

    Raises:
        StartupError: It is not accepted.
    """
    if not accepts_loss:
        raise StartupError(
            f"{path} is missing, and with it {what}: restore it, or give --accept-loss to go on without them"
        )
    log.error("a file is missing, and that was accepted", file=str(path), lost=what)
