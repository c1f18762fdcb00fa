"""The changes of running sessions, in a commit log.

A payload is a JSON array: the id of a session and its changes, the id of another one and its changes, and so on for all
that must be stored together. Changes that begin with `start` replace all earlier ones; `null` in
place of changes means that the session is over. The empty id has the number of rows of finished sessions.

Every session remembers the oldest segment that has something of it. When the log has grown to twice what the running
sessions need, a cleaner takes the sessions of the oldest segment, a few at a time, stores each as one snapshot, and
releases the segment once all of them are on the disk. So segments go in the order in which they came, and a session
that is over is never found again without the `null` that ended it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from iserver.errors import NotStoredError
from iserver.sessions.memo_record import Change
from iserver.sessions.session import Session
from iserver.storage.replay import Replay
from shared.tasks import Supervisor
from shared.wal.log import SEGMENT_BYTES, CommitLog

OVER = -1
"""The `journal_segment` of a session that is over: nothing of it is stored any more."""

SPARE_SEGMENTS = 4
"""The log may have so many segments besides twice what the running sessions need."""

BUSY_BYTES = 64 * 1024
"""A session that has taken more than this, and twice its last snapshot, is stored as one snapshot."""

SESSIONS_AT_ONCE, BYTES_AT_ONCE = 64, 128 * 1024
"""What the cleaner rewrites in one go; requests wait about a millisecond for it."""

REST_S = 0.002
"""What the cleaner leaves to others after each go, in seconds."""


class SessionLog:
    """Stores the changes of sessions; `open`, `replay` and `start` it first."""

    def __init__(self, commit_log: CommitLog, segment_bytes: int) -> None:
        self.commit_log = commit_log
        self._segment_bytes = segment_bytes
        self._by_oldest_segment: dict[int, set[Session]] = {}
        self._needed_bytes = 0
        self._unsound: set[Session] = set()
        self._rejected: set[Session] = set()
        self._busy_bytes: dict[Session, int] = {}
        self._last_segment = 0
        self._tasks = Supervisor()
        self.cleaning: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    def open(cls, folder: Path, *, segment_bytes: int = SEGMENT_BYTES, accepts_loss: bool = False) -> SessionLog:
        """Open or create the log in a folder of its own.

        Raises:
            StartupError: The folder cannot be used, or something is lost and that is not accepted.
        """
        return cls(CommitLog.open(folder, segment_bytes=segment_bytes, accepts_loss=accepts_loss), segment_bytes)

    @property
    def id(self) -> int:
        """Random id of the log."""
        return self.commit_log.id

    @property
    def size_bytes(self) -> int:
        """What it takes on the disk."""
        return self.commit_log.size_bytes

    async def close(self) -> None:
        """Store what is waiting, then close."""
        await self._tasks.stop()
        await self.commit_log.close()

    # --- starting ---------------------------------------------------------------------------------

    def replay(self, replayed: Replay) -> None:
        """Rebuild every session that is not over. Blocks.

        Raises:
            StartupError: The log has lost something, and that is not accepted.
            LookupError, TypeError, ValueError: It does not hold what such a log holds.
        """
        for segment, payload in self.commit_log.replay(replayed.cut):
            parts = orjson.loads(payload)
            size = 2 * len(payload) // max(1, len(parts))
            for session_id, changes in zip(parts[::2], parts[1::2], strict=True):
                if session_id:
                    replayed.add(session_id, changes, segment, size)
                else:
                    replayed.finished_row = max(replayed.finished_row, changes)

    def start(self, sessions: Iterable[Session]) -> None:
        """Begin to store; to be called on the running loop.

        Args:
            sessions: What `replay` has found, without those that turned out to be over.
        """
        self._loop = asyncio.get_running_loop()
        for session in sessions:
            if session.journal_segment:
                self._by_oldest_segment.setdefault(session.journal_segment, set()).add(session)
                self._needed_bytes += session.journal_bytes
        self.commit_log.start()
        self._last_segment = self.commit_log.segment
        self._release()

    # --- storing ----------------------------------------------------------------------------------

    def store(self, sessions: Sequence[Session]) -> asyncio.Future[None]:
        """Store the changes of sessions, all or none; they are taken now.

        Returns:
            Done when they are on the disk. Its error is `NotStoredError`: then the sessions have taken back what the
            changes recorded of their visitors, and the next call for them stores snapshots.
        """
        assert self._loop is not None, "the log is not started"
        stored: asyncio.Future[None] = self._loop.create_future()
        parts: list[Any] = []
        whole: list[Session] = []
        taken: list[tuple[Session, list[Change]]] = []
        for session in sessions:
            changes = session.take_changes()
            if session.journal_segment == OVER or (session in self._rejected and session.end_ms is not None):
                continue
            taken.append((session, changes))
            if session.journal_bytes > BUSY_BYTES or self._unsound:
                changes = self._compact(session, changes, whole)
            if changes:
                parts += (session.id, changes)
        payload = orjson.dumps(parts)
        segment = self.commit_log.append(payload, partial(self._stored, stored, taken))
        self._account(sessions, whole, segment, len(payload))
        if segment != self._last_segment:
            self._rolled(segment)
        return stored

    def store_whole(self, sessions: Sequence[Session]) -> asyncio.Future[None]:
        """Store sessions of which nothing is in the log yet; otherwise as `store`."""
        self._unsound.update(sessions)
        return self.store(sessions)

    def end(self, session_ids: Sequence[str], finished_row: int = 0) -> asyncio.Future[None]:
        """Store that sessions are over.

        Args:
            session_ids: The sessions.
            finished_row: The row that has what is to be known of them; 0 for none.

        Returns:
            As `store`.
        """
        assert self._loop is not None, "the log is not started"
        ended: asyncio.Future[None] = self._loop.create_future()
        parts: list[Any] = [part for session_id in session_ids for part in (session_id, None)]
        if finished_row:
            parts += ("", finished_row)
        self.commit_log.append(orjson.dumps(parts), partial(self._stored, ended, ()))
        return ended

    def forget(self, sessions: Iterable[Session]) -> list[str]:
        """Store nothing of sessions any more: what is to be known of them is safe elsewhere.

        Returns:
            Ids of those that the log has something of, for `end`.
        """
        known = []
        for session in sessions:
            if session.journal_segment > 0:
                known.append(session.id)
                self._by_oldest_segment[session.journal_segment].discard(session)
                self._needed_bytes -= session.journal_bytes
            session.journal_segment = OVER
            self._unsound.discard(session)
            self._rejected.discard(session)
            self._busy_bytes.pop(session, None)
        return known

    def _compact(self, session: Session, changes: list[Change], whole: list[Session]) -> list[Change]:
        """A snapshot in place of changes when that is due."""
        if session in self._unsound:
            self._unsound.discard(session)
        elif session.journal_bytes <= self._busy_bytes.get(session, BUSY_BYTES):
            return changes
        whole.append(session)
        return list(session.describe())

    def _account(self, sessions: Sequence[Session], whole: Sequence[Session], segment: int, payload_bytes: int) -> None:
        size = payload_bytes // max(1, len(sessions))
        for session in sessions:
            if session.journal_segment == OVER:
                continue
            if not session.journal_segment:
                session.journal_segment = segment
                self._by_oldest_segment.setdefault(segment, set()).add(session)
            self._needed_bytes += size
            session.journal_bytes += size
        for session in whole:
            self._rewritten(session, size)

    def _rewritten(self, session: Session, size: int) -> None:
        """What came before a snapshot of a session is not needed any more, once the snapshot is on the disk."""
        self._needed_bytes += size - session.journal_bytes
        session.journal_bytes = size
        if size > BUSY_BYTES // 2:
            self._busy_bytes[session] = 2 * size

    def _stored(
        self, stored: asyncio.Future[None], taken: Sequence[tuple[Session, list[Change]]], error: OSError | None
    ) -> None:
        if error is not None:
            for session, changes in taken:
                self._reject(session, changes)
        elif self._rejected:
            self._rejected.difference_update(session for session, _ in taken)
        if stored.done():
            return
        if error is None:
            stored.set_result(None)
        else:
            stored.set_exception(NotStoredError(f"cannot store changes: {error.strerror or error}"))
            stored.exception()  # the caller may be gone; that is nothing to log

    def _reject(self, session: Session, changes: list[Change]) -> None:
        session.retract(changes)
        if session.journal_segment != OVER:
            self._unsound.add(session)
            if changes and changes[0][0] == "start":
                self._rejected.add(session)

    def is_rejected(self, session: Session) -> bool:
        """Whether nothing of a session was ever stored, because every request for it was answered with an error."""
        return session in self._rejected

    @property
    def is_writable(self) -> bool:
        """Whether the last attempt to store something succeeded, and its file is still there."""
        return self.commit_log.is_writable

    # --- cleaning ---------------------------------------------------------------------------------

    def _rolled(self, segment: int) -> None:
        """A new segment was begun: delete what is not needed, and clean when there is too much."""
        self._last_segment = segment
        self._release()
        if self._is_too_large and (self.cleaning is None or self.cleaning.done()):
            assert self._loop is not None
            self.cleaning = self._tasks.once("session log cleaning", self._clean)

    @property
    def _is_too_large(self) -> bool:
        return self.commit_log.size_bytes > 2 * self._needed_bytes + SPARE_SEGMENTS * self._segment_bytes

    def _release(self) -> None:
        empty = [segment for segment, sessions in self._by_oldest_segment.items() if not sessions]
        for segment in empty:
            del self._by_oldest_segment[segment]
        self.commit_log.release(min(self._by_oldest_segment, default=self.commit_log.segment))

    async def rewrite(self) -> None:
        """Store every session as a snapshot, and delete all older segments.

        Raises:
            NotStoredError: The old segments stay.
        """
        for oldest in sorted(self._by_oldest_segment):
            while oldest < self.commit_log.segment and (batch := self._batch(oldest)):
                if not await self.move_to_newest_segment(batch, oldest):
                    raise NotStoredError("cannot store changes")
        self._release()
        await self.commit_log.released()

    async def _clean(self) -> None:
        while self._is_too_large and self._by_oldest_segment:
            oldest = min(self._by_oldest_segment)
            if oldest == self.commit_log.segment:
                break
            batch = self._batch(oldest)
            if batch and not await self.move_to_newest_segment(batch, oldest):
                break
            self._release()
            await asyncio.sleep(REST_S)

    def _batch(self, segment: int) -> list[Session]:
        """A few sessions whose oldest segment this is."""
        batch = []
        size = 0
        for session in islice(self._by_oldest_segment[segment], SESSIONS_AT_ONCE):
            batch.append(session)
            size += session.journal_bytes
            if size > BYTES_AT_ONCE:
                break
        return batch

    async def move_to_newest_segment(self, batch: Sequence[Session], oldest: int) -> bool:
        """Store snapshots of sessions; they belong to the segment of these once they are on the disk."""
        assert self._loop is not None
        moved: asyncio.Future[None] = self._loop.create_future()
        for session in batch:
            session.take_changes()  # of a request that is not at its end yet; the snapshot has them
        parts = [part for session in batch for part in (session.id, list(session.describe()))]
        payload = orjson.dumps(parts)
        segment = self.commit_log.append(payload, partial(self._stored, moved, [(session, []) for session in batch]))
        for session in batch:
            self._rewritten(session, len(payload) // len(batch))
        try:
            await moved
        except NotStoredError:
            return False  # the log has the reason; the old segment stays
        for session in batch:
            if session.journal_segment == oldest:
                self._by_oldest_segment[oldest].discard(session)
                session.journal_segment = segment
                self._by_oldest_segment.setdefault(segment, set()).add(session)
        return True
