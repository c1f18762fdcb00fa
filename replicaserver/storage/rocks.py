"""The rows of one replica in one RocksDB.

Rows live in the default column family, exactly as the original keeps them, so that its SST files can be ingested and
ours read elsewhere. What the replica must know of itself - data version, ballot, decree, when it was compacted - lives
in a second column family and changes in the same write as the rows it belongs to: after a crash either both are
there or neither.

Rows that are applied are in memory until they are flushed; the node's log has them until then, see
`replicaserver.storage.node_log`. Everything here may be called from any thread; `apply` one call at a time.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, filterfalse, islice, takewhile
from pathlib import Path
from typing import Any, TypeVar, cast

import structlog
from rocksdict import (
    AccessType,
    BottommostLevelCompaction,
    Checkpoint,
    ColumnFamily,
    CompactOptions,
    IngestExternalFileOptions,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteOptions,
)

from replicaserver.storage import statistics
from replicaserver.storage.differences import differences
from replicaserver.storage.engine import StoreError, StoreSettings, engine_options, guarded, write_options
from replicaserver.table.compaction import DEEPEST, Order

log = structlog.get_logger("replicaserver.rocks")

META_FAMILY = "pegasus_meta_cf"
LOGGED = "logged"
TRIED_FILES, TRIED_BYTES = 32, 1 << 20
DATA_VERSION = 1
"""The layout of values in new stores."""

T = TypeVar("T")
Row = tuple[bytes, bytes]
Changes = Mapping[bytes, bytes | None]
Notes = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Durable:
    """What a store knows of its replica.

    Attributes:
        data_version: The layout of its values.
        ballot: The configuration under which it was last written.
        decree: The last decree whose changes are in it.
        compacted_s: When a manual compaction last finished, unix seconds; 0 never.
        logged: The number of the last record of the log whose changes are in the store's files for certain.
    """

    data_version: int
    ballot: int
    decree: int
    compacted_s: int
    logged: int = 0


class RocksStore:
    """One open RocksDB with the rows of one replica; see `replicaserver.rows.store.Rows`.

    Whatever reads rows raises `StoreError` where they cannot be read, as in a damaged file; a `scan` does so midway.
    """

    def __init__(self, path: Path, settings: StoreSettings) -> None:
        """Open a store, or make it where there is none.

        Raises:
            StoreError: It cannot be opened: damaged, locked by another process, the disk is full, …
        """
        self.path = path
        self.settings = settings
        self._carried: tuple[Changes, Notes] | None = None
        self._open()
        self._synced = WriteOptions()
        self._synced.sync = True
        self._in_memory, self._in_memory_at_once = write_options(at_once=False), write_options(at_once=True)
        self.identity = self._identify()

    def _open(self) -> None:
        self._db: Rdict = self._opened(AccessType.read_write())
        self._meta: Rdict = guarded(self._db.get_column_family, META_FAMILY)
        self._meta_handle: ColumnFamily | None = guarded(self._db.get_column_family_handle, META_FAMILY)
        self._get: Callable[[bytes], bytes | None] = self._db.get

    def _opened(self, access: AccessType) -> Rdict:
        families = {META_FAMILY: engine_options(self.settings)}
        return guarded(Rdict, str(self.path), engine_options(self.settings), families, access)

    # -- rows -------------------------------------------------------------------------------------

    def get(self, key: bytes) -> bytes | None:
        """The stored value of a raw key, None when there is none."""
        try:  # not `guarded`, which would cost a tenth of it
            return self._get(key)
        except Exception as error:  # the binding raises bare Exceptions with RocksDB's own text
            raise StoreError(str(error)) from error

    def get_many(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """The stored values of raw keys, in their order."""
        return cast(Sequence[bytes | None], guarded(self._db.get, cast(Any, keys)))

    def scan(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """The rows from `start` (inclusive) to `stop` (exclusive, empty for no end), forwards or backwards."""
        options = ReadOptions()
        if stop:
            options.set_iterate_upper_bound(stop)
        last: deque[Row] = deque(maxlen=1)
        if reverse:
            rows: Any = guarded(self._db.items, True, read_opt=options)
        else:
            rows = guarded(self._db.items, from_key=start or None, read_opt=options)
        noted: Iterator[Row] = filterfalse(last.append, rows)  # which notes the last row and lets all of them pass
        if reverse:  # the binding takes a lower bound for an upper one, so the start is checked here
            noted = takewhile(lambda row: row[0] >= start, noted)
        return chain(noted, self._ended(options, start, last, reverse=reverse))

    def _ended(self, options: ReadOptions, start: bytes, last: Sequence[Row], *, reverse: bool) -> Iterator[Row]:
        """No rows; an error if a scan has ended for damage: the binding's iterators then end as they do at the end."""
        if reverse and last and last[0][0] < start:
            return
        rows = guarded(self._db.iter, options)
        if last:
            rows.seek(last[0][0])
            step = rows.prev if reverse else rows.next
        else:
            rows.seek_to_last() if reverse else rows.seek(start)
        while last and rows.valid():
            step()
        guarded(rows.status)
        yield from ()

    def read(self, start: bytes, count: int, size_bytes: int = 1 << 62) -> list[Row]:
        """The first rows from `start` on.

        Args:
            start: The raw key to begin at.
            count: How many rows at most.
            size_bytes: Keys and values after which no further row is read.

        Raises:
            StoreError: They cannot be read, or the store is closed.
        """

        def read() -> list[Row]:
            rows, size = [], 0
            for key, stored in islice(self.scan(start, b""), count):
                rows.append((key, stored))
                size += len(key) + len(stored)
                if size >= size_bytes:
                    break
            return rows

        return guarded(read)

    def apply(self, changes: Changes, notes: Notes, *, at_once: bool = False) -> None:
        """Store changes in memory, all or none; they are lost in a crash unless `persist` comes first.

        Args:
            changes: Stored values by raw key, None for a removed row.
            notes: What the store shall know of its replica.
            at_once: Do not wait for the engine's own work, which may take long.

        Raises:
            StallError: They cannot be stored at once.
            StoreError: They are not stored.
        """
        batch = self._batch(changes, notes)
        guarded(self._db.write, batch, self._in_memory_at_once if at_once else self._in_memory)

    def write(self, changes: Changes, notes: Notes) -> None:
        """Store changes, all or none; they are on disk when this returns.

        Raises:
            StoreError: They are not stored.
        """
        guarded(self._db.write, self._batch(changes, notes), self._synced)

    def _batch(self, changes: Changes, notes: Notes) -> WriteBatch:
        batch = WriteBatch(raw_mode=True)
        put, remove = batch.put, batch.delete
        for key, stored in changes.items():
            if stored is None:
                remove(key)
            else:
                put(key, stored)
        for name, value in notes.items():
            put(name.encode(), b"%d" % value, self._meta_handle)
        return batch

    # -- what it knows of its replica ---------------------------------------------------------------

    def durable(self) -> Durable:
        """What the store knows of its replica."""
        return Durable(
            data_version=self._noted("data_version") or 0,
            ballot=self._noted("ballot") or 0,
            decree=self._noted("decree") or 0,
            compacted_s=self._noted("compacted_s") or 0,
            logged=self.noted(LOGGED),
        )

    def _identify(self) -> int:
        """The number by which the log knows this store, drawn when it is made."""
        identity = self._noted("identity")
        if identity is None:
            identity = secrets.randbits(62)
            notes = {"identity": identity}
            if self._noted("data_version") is None:
                notes["data_version"] = DATA_VERSION
            self.write({}, notes)
        return identity

    def _noted(self, name: str) -> int | None:
        text = self._meta.get(name.encode())
        return None if text is None else int(text)

    def noted(self, name: str) -> int:
        """A number that was noted; 0 when there is none."""
        return self._noted(name) or 0

    # -- long operations; each blocks its thread -------------------------------------------------------

    def compact(self, order: Order) -> None:
        """Compact everything (protocol §9.3).

        Raises:
            StoreError: It failed, or the store was closed meanwhile.
        """
        options = CompactOptions()
        options.set_exclusive_manual_compaction(False)
        if order.target_level != DEEPEST:
            options.set_change_level(True)
            deepest = self.settings.levels - (2 if self.settings.allow_ingest_behind else 1)
            options.set_target_level(min(order.target_level, deepest))
        kind = BottommostLevelCompaction.force() if order.is_forced else BottommostLevelCompaction.skip()
        options.set_bottommost_level_compaction(kind)
        guarded(self._db.compact_range, None, None, options)

    def ingest(self, files: Sequence[Path], *, behind: bool = False) -> None:
        """Add the rows of SST files; they win over rows that are there, unless they are ingested behind.

        The files are copied or linked, and stay where they are.

        Raises:
            StoreError: A file is damaged, or not sorted; nothing is added.
        """
        options = IngestExternalFileOptions()
        options.set_move_files(False)
        options.set_ingest_behind(behind)
        guarded(self._db.ingest_external_file, [str(file) for file in files], options)

    def checkpoint(self, folder: Path) -> None:
        """Make a copy of the store as it is now in a new folder; files are linked where they can be.

        Raises:
            StoreError: It failed; the folder is gone again.
        """
        self.flush()  # else the checkpoint does it, and the binding lets no other thread run meanwhile
        try:
            guarded(lambda: Checkpoint(self._db).create_checkpoint(str(folder)))
        except StoreError:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def flush(self) -> None:
        """Write memtables to SST files.

        Raises:
            StoreError: It failed.
        """
        guarded(self._db.flush)
        guarded(self._meta.flush)

    def persist(self, logged: int) -> None:
        """Have everything that was applied in files, and note which record of the log was the last of it.

        The note is written last and by itself: rows and notes that are applied meanwhile may be in files too, but
        what is noted never runs ahead of them.

        Raises:
            StoreError: It failed; what is noted is what was.
        """
        self.flush()
        self.write({}, {LOGGED: logged})

    def try_files(self) -> None:
        """See whether the disk takes files: as many as RocksDB opens at a time, and one of them with content.

        Raises:
            StoreError: It does not.
        """
        try:
            with contextlib.ExitStack() as opened:
                for _ in range(TRIED_FILES):
                    file = opened.enter_context(tempfile.TemporaryFile(dir=self.path, buffering=0))
                file.write(bytes(TRIED_BYTES))
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreError(f"no file can be written in {self.path}: {error.strerror}") from error

    def note_unwritten(self) -> None:
        """Note which rows are in memory alone, before `reopen`; nothing may be written until then. Blocks.

        Raises:
            StoreError: The files, or what is in memory, cannot be read.
        """
        if self._carried is not None:  # it was closed, and could not be opened again
            return
        files = self._opened(AccessType.read_only(False))
        try:
            changes = dict(differences(self.scan(b"", b""), cast(Any, guarded(files.items))))
        finally:
            files.close()
        self._carried = changes, {name.decode(): int(value) for name, value in cast(Any, guarded(self._meta.items))}

    def reopen(self) -> None:
        """Open the store again after RocksDB has given up to write, which is final while it is open.

        Rows that were in memory alone are in memory again. Iterators must be gone.

        Raises:
            StoreError: It cannot be opened now, and is closed until it can.
        """
        if self._carried is None:
            raise StoreError("it is not noted which rows are in memory alone")
        self.close()
        self._open()
        self.apply(*self._carried)
        self._carried = None

    def set_options(self, options: Mapping[str, str]) -> None:
        """Change options of RocksDB that may change while it is open.

        Raises:
            StoreError: It does not know one of them.
        """
        guarded(self._db.set_options, dict(options))

    def interrupt(self) -> None:
        """End flushes and compactions early, because the store is about to be closed."""
        guarded(self._db.cancel_all_background, False)

    def close(self) -> None:
        """Close the store; iterators must be gone.

        It is closed whatever RocksDB says, which is logged: that it cannot write, or was closed already.
        """
        self._meta_handle = None
        for part in (self._meta, self._db):
            try:
                guarded(part.close)
            except StoreError as error:
                log.warning("RocksDB complains about being closed", path=str(self.path), reason=str(error))

    # -- measures -----------------------------------------------------------------------------------

    def measure(self, name: str) -> int:
        """An integer property of RocksDB, such as ``estimate-num-keys``; 0 where it has none."""
        return guarded(self._db.property_int_value, f"rocksdb.{name}") or 0

    def statistics(self) -> statistics.Reading:
        """What RocksDB has counted since the store was opened; takes it a fifth of a millisecond.

        Raises:
            StoreError: The store is closed.
        """
        counted = guarded(self._db.property_value, "rocksdb.options-statistics") or ""
        family = guarded(self._db.property_value, "rocksdb.cfstats-no-file-histogram") or ""
        return statistics.read(counted, family)

    def files(self) -> int:
        """The number of SST files with rows."""
        text = guarded(self._db.property_value, "rocksdb.levelstats") or ""
        return sum(int(line.split()[1]) for line in text.splitlines()[2:] if line.split())
