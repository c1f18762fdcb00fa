"""The node's log of writes: what replicas write in one iteration of the event loop is synced once, for all of them.

A batch of writes of a replica is appended to the log as a record. When the log is synced, the changes go into the
replica's store, in memory, and then the batch is answered. The store's files follow later. A segment of the log is
released when every store that has changes in it has them in its files. Trimming sees to it that this happens: the log
stays bounded, and so does the time that a start takes after a crash, when the records are applied again.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import TypeVar

import structlog

from replicaserver.storage.engine import StallError, StoreError
from replicaserver.storage.log_records import Origin, Record, encode_caught_up, encode_record, number_of
from replicaserver.storage.recovery import OrphanedRecords, RecordReplay, batches_in_log, decode_from, origin_of
from replicaserver.storage.rocks import Changes, Notes, RocksStore
from shared.errors import StartupError
from shared.pegasus.wire.structures.base import Gpid
from shared.tasks import start_task
from shared.wal.log import CommitLog

log = structlog.get_logger("replicaserver.node_log")

LARGE_BYTES = 256 * 1024
"""A batch of more bytes is stored in a worker thread, so that the event loop serves on meanwhile."""
KEPT_SEGMENTS = 8
"""When stores hold more segments of the log than this, their files are made to catch up."""

T = TypeVar("T")
Done = Callable[[StoreError | None], None]


class ReplicaLog:
    """The writes of one replica, on their way through the node's log into its store.

    Args:
        node_log: The node's log.
        gpid: The partition.
        store: Where changes go when they are synced.

    Attributes:
        unpersisted_bytes: How much of the log has changes that may not be in the store's files.
        durable_decree: The last decree that is in the store's files for certain.
        is_stuck: Whether the store's files could not catch up when they were last asked to.
    """

    def __init__(self, node_log: NodeLog, gpid: Gpid, store: RocksStore) -> None:
        self.origin = origin_of(gpid, store)
        self.unpersisted_bytes = 0
        self._node_log = node_log
        self._store = store
        durable = store.durable()
        self._number = self._stored = self._persisted = self._spilled = durable.logged
        self._decree = self._decree_in_flight = self.durable_decree = durable.decree
        self.is_stuck = False
        self._oldest: int | None = None
        self._leaving: int | None = None
        self._in_flight: int | None = None
        self._persisting = asyncio.Lock()

    @property
    def holds(self) -> int | None:
        """The oldest segment of the log with changes that may not be in the store's files; None for none."""
        return min((held for held in (self._oldest, self._leaving) if held is not None), default=None)

    def before_sync(self, callback: Callable[[], None]) -> None:
        """Have a callback called once, when the log is about to sync: what it submits is part of that sync."""
        self._node_log.before_sync(callback)

    def submit(self, changes: Changes, notes: Notes, done: Done) -> None:
        """Store changes; one call at a time.

        Args:
            changes: Stored values by raw key, None for a removed row.
            notes: What the store shall know of its replica.
            done: Called on the loop when they are on the disk and can be read, or with what went wrong.
        """
        self._number += 1
        self._decree_in_flight = notes.get("decree", self._decree)
        record = encode_record(self.origin, self._number, notes, changes)
        size = len(record)

        def synced(error: OSError | None) -> None:
            if error is not None:
                self._end(StoreError(str(error)), done)
            elif size > LARGE_BYTES:
                self._apply_later(changes, notes, done)
            else:
                self._apply(changes, notes, done)

        self._in_flight = self._node_log.append(record, synced)
        self.unpersisted_bytes += size
        if self._oldest is None:
            self._oldest = self._in_flight

    def _apply(self, changes: Changes, notes: Notes, done: Done) -> None:
        try:
            self._store.apply(changes, notes, at_once=True)
        except StallError:
            self._apply_later(changes, notes, done)
        except StoreError as error:
            self._end(error, done)
        else:
            self._end(None, done)

    def _apply_later(self, changes: Changes, notes: Notes, done: Done) -> None:
        def apply() -> StoreError | None:
            try:
                self._store.apply(changes, notes)
            except StoreError as error:
                return error
            return None

        work = self._node_log.loop.run_in_executor(self._node_log.workers, apply)
        work.add_done_callback(lambda applied: self._end(applied.result(), done))

    def _end(self, error: StoreError | None, done: Done) -> None:
        self._in_flight = None
        if error is None:
            self._stored = self._number
            self._decree = self._decree_in_flight
        done(error)

    async def persist(self) -> None:
        """Have everything that was answered in the store's files.

        Raises:
            StoreError: It failed; the log keeps what it has.
        """
        async with self._persisting:
            if self._stored > self._persisted or self._oldest is not None:
                await self._persist(self._stored)

    async def spill(self) -> None:
        """Keep the records that the store's files lack outside of the log, which need not have them any more.

        Raises:
            OSError: They cannot be kept; the log keeps them.
        """
        async with self._persisting:
            oldest, covered = self._oldest, self._stored
            self._leaving, self._oldest = oldest, self._in_flight
            try:
                if oldest is not None and covered > max(self._persisted, self._spilled):
                    await self._node_log.spill(self.origin, oldest, covered)
                self._spilled = covered
            except OSError:
                self._oldest = oldest
                raise
            finally:
                self._leaving = None

    async def skip_failed(self) -> None:
        """Have everything that was answered in the store's files, so that no start takes back what failed.

        Raises:
            StoreError: The files do not take it, or a write is under way.
        """
        async with self._persisting:
            if self._in_flight is not None:
                raise StoreError("a write is under way")
            self._stored = self._number
            await self._persist(self._stored)

    async def _persist(self, covered: int) -> None:
        size, decree = self.unpersisted_bytes, self._decree
        self._leaving, self._oldest = self._oldest, self._in_flight
        try:
            await self._node_log.in_worker(self._store.persist, covered)
        except StoreError:
            self._oldest = self._leaving if self._leaving is not None else self._oldest
            raise
        finally:
            self._leaving = None
        self._persisted, self.durable_decree, self.is_stuck = covered, decree, False
        self.unpersisted_bytes -= size
        if self._spilled > 0 and covered >= self._spilled:
            await self._node_log.in_worker(self._node_log.orphans.delete, self.origin)

    async def close(self) -> None:
        """Let the store's files catch up, and the log let go of its records.

        Raises:
            StoreError: The files do not; the records are kept for the next start.
        """
        try:
            await self.persist()
        except StoreError:
            if await self._node_log.release(self):
                self._node_log.forget(self)
            raise
        self._node_log.append(encode_caught_up(self.origin, self._persisted), _ignore)
        self._node_log.forget(self)


class NodeLog:
    """The log of a node: `replay`, `start`, then a `ReplicaLog` for every store, then `close`.

    Args:
        commit_log: Where records go; it is open.
        left: The records of stores that are not there.
        workers: Threads for what takes long.
    """

    def __init__(self, commit_log: CommitLog, left: OrphanedRecords, workers: Executor) -> None:
        self.workers = workers
        self.orphans = left
        self.loop = asyncio.get_running_loop()
        self._log = commit_log
        self._segment = 0
        self._replicas: set[ReplicaLog] = set()
        self._trimming: asyncio.Task[None] | None = None

    @property
    def size_bytes(self) -> int:
        """What the log takes on the disk."""
        return self._log.size_bytes

    def replay(self, stores: Mapping[Gpid, RocksStore]) -> dict[Gpid, str]:
        """Bring stores to where they were: everything that the log has is in their files afterwards. Blocks.

        Args:
            stores: Every store of the node that can be opened.

        Returns:
            The stores that cannot take back what the log has of them, each with the reason. Their records are kept for
            when they can; until then they must not be used.

        Raises:
            StartupError: A record cannot be read, or cannot be kept for a store that is not there.
        """
        catching_up = {origin_of(gpid, store): RecordReplay(store) for gpid, store in stores.items()}
        failed: dict[Origin, str] = {}

        def attempt(origin: Origin, work: Callable[[], object]) -> None:
            try:
                work()
            except StoreError as error:
                failed[origin] = str(error)
                del catching_up[origin]

        absent: dict[Origin, list[bytes]] = {}
        for origin, known in tuple(catching_up.items()):
            attempt(origin, partial(known.take_all, self.orphans.of(origin)))
        for record, payload in self._replayed():
            if record.origin in catching_up:
                attempt(record.origin, partial(catching_up[record.origin].take, record))
            elif record.is_caught_up:
                absent.pop(record.origin, None)
            elif record.origin not in failed:
                absent.setdefault(record.origin, []).append(payload)
        for origin, known in tuple(catching_up.items()):
            attempt(origin, partial(self._finish, origin, known))
        if failed:
            absent = {origin: payloads for origin, payloads in absent.items() if origin not in failed}
            for record, payload in self._replayed():
                if record.origin in failed and not record.is_caught_up:
                    absent.setdefault(record.origin, []).append(payload)
        self._keep_absent(absent)
        return {origin.gpid: reason for origin, reason in failed.items()}

    def _replayed(self) -> Iterator[tuple[Record, bytes]]:
        for segment, payload in self._log.replay():
            yield decode_from(f"segment {segment}", payload), payload

    def _keep_absent(self, absent: Mapping[Origin, Sequence[bytes]]) -> None:
        """Keep the records of stores that are not there, or cannot take them."""
        try:
            for origin, payloads in absent.items():
                log.warning("the log has writes of a replica that cannot take them now", gpid=str(origin.gpid))
                self.orphans.add(origin, payloads)
        except OSError as error:
            raise StartupError(f"cannot keep the writes of a replica that is not here: {error}") from error

    def recover(self, gpid: Gpid, store: RocksStore) -> None:
        """Bring a store that was opened later to where it was. Blocks.

        Raises:
            StartupError: A record cannot be read.
            StoreError: The store does not take it.
        """
        origin, catch_up = origin_of(gpid, store), RecordReplay(store)
        for record in self.orphans.of(origin):
            catch_up.take(record)
        self._finish(origin, catch_up)

    def _finish(self, origin: Origin, catch_up: RecordReplay) -> None:
        catch_up.finish()
        self.orphans.delete(origin)
        if catch_up.records:
            log.info("writes were taken back from the log", gpid=str(origin.gpid), records=catch_up.records)

    def start(self) -> None:
        """Begin to take writes; everything older has been replayed."""
        self._log.start()
        self._segment = self._log.segment
        self._log.release(self._segment)

    def of(self, gpid: Gpid, store: RocksStore) -> ReplicaLog:
        """The writes of a replica whose store is open."""
        replica = ReplicaLog(self, gpid, store)
        self._replicas.add(replica)
        return replica

    def forget(self, replica: ReplicaLog) -> None:
        """A replica is closed, and its store's files have everything."""
        self._replicas.discard(replica)

    def append(self, record: bytes, done: Callable[[OSError | None], None]) -> int:
        """Append a record, see `CommitLog.append`; the segment that it goes to."""
        segment = self._log.append(record, done)
        if segment != self._segment:
            self._segment = segment
            if self._trimming is None or self._trimming.done():
                self._trimming = start_task(self._trim(), name="log trimming")
        return segment

    def before_sync(self, callback: Callable[[], None]) -> None:
        """Have a callback called once, when the log is about to sync; see `CommitLog.before_sync`."""
        self._log.before_sync(callback)

    async def in_worker(self, work: Callable[..., T], *arguments: object) -> T:
        """Do what blocks."""
        return await self.loop.run_in_executor(self.workers, work, *arguments)

    async def _trim(self) -> None:
        """Release what nobody holds; when too much is held, let the stores that hold the oldest half catch up."""
        while self._segment - self._oldest_held() >= KEPT_SEGMENTS:
            until = self._segment - KEPT_SEGMENTS // 2
            holding = [one for one in self._replicas if one.holds is not None and one.holds < until]
            if not any([await self.release(replica) for replica in holding]):
                break
        self._log.release(self._oldest_held())

    async def release(self, replica: ReplicaLog) -> bool:
        """Have the log need nothing of a store: its files catch up or its records are spilled; whether it did."""
        gpid = str(replica.origin.gpid)
        try:
            await replica.persist()
        except StoreError as error:
            if not replica.is_stuck:  # it is tried again with every segment, and would be logged as often
                log.error("a replica's files do not catch up with the log", gpid=gpid, reason=str(error))
            replica.is_stuck = True
        else:
            return True
        try:
            await replica.spill()
        except OSError as error:
            log.error("the log cannot be trimmed", gpid=gpid, reason=str(error))
            return False
        return True

    async def spill(self, origin: Origin, oldest: int, number: int) -> None:
        """Keep the records of a store, up to a number, outside of the log.

        Raises:
            OSError: They cannot be read or kept.
        """
        await self.in_worker(self._spill, origin, oldest, number)

    def _spill(self, origin: Origin, oldest: int, number: int) -> None:
        payloads = []
        for payload in batches_in_log(self._log.folder, origin, oldest, self._segment):
            if number_of(payload) <= number:
                payloads.append(payload)
        if not payloads or number_of(payloads[-1]) != number:
            raise OSError(errno.EIO, f"the log does not show record {number} of {origin.gpid}")
        try:
            self.orphans.add(origin, payloads)
        except StartupError as error:
            raise OSError(errno.EIO, str(error)) from error
        log.warning("a replica's records are moved out of the log", gpid=str(origin.gpid), records=len(payloads))

    def _oldest_held(self) -> int:
        held = (replica.holds for replica in self._replicas)
        return min((segment for segment in held if segment is not None), default=self._segment)

    async def close(self) -> None:
        """Write what is waiting, and close the log."""
        if self._trimming is not None:
            await self._trimming
        await self._log.drained()
        self._log.release(self._oldest_held())
        await self._log.close()


def _ignore(_error: OSError | None) -> None:
    """Nobody waits for the record; without it a start has more to do."""
