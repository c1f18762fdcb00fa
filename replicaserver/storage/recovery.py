"""Stores catch up with the node's log when they are opened: what their files may not have is applied again.

Records outlive what they belong to. A store has an identity that its records repeat, so those of a store that the
partition had before do it no harm. Records of a store that is not there - its disk is not, or it cannot be opened -
are put into a file of their own before the log lets go of them, and wait there for the store to come back.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from zlib import crc32

import structlog

from replicaserver.storage.folders import sync_folder, write_durably
from replicaserver.storage.log_records import Origin, Record, RecordError, decode_record, is_batch_of
from replicaserver.storage.rocks import RocksStore
from shared.errors import StartupError
from shared.pegasus.wire.structures.base import Gpid
from shared.wal.recovery import header_of, segment_path
from shared.wal.segments import SegmentReader

log = structlog.get_logger("replicaserver.node_log")

BATCH_ROWS = 10_000

_HEAD = struct.Struct("<II")
_LENGTH = struct.Struct("<I")


def origin_of(gpid: Gpid, store: RocksStore) -> Origin:
    """What the records of a store say where they come from."""
    return Origin(gpid, store.identity)


def decode_from(place: object, payload: bytes) -> Record:
    """A record that must be one.

    Raises:
        StartupError: It is none, although its checksum is right: somebody else has written it.
    """
    try:
        return decode_record(payload)
    except RecordError as error:
        raise StartupError(f"the log of writes, {place}: {error}") from error


def batches_in_log(folder: Path, origin: Origin, first: int, last: int) -> Iterator[bytes]:
    """The batches of a store in segments of a log that is being written. Blocks.

    Raises:
        OSError: A segment cannot be read.
    """
    for number in range(first, last + 1):
        path = segment_path(folder, number)
        header = header_of(path)
        if header is not None:  # numbers are skipped when writing fails
            yield from (
                payload for payload in SegmentReader(header.name, path.read_bytes()) if is_batch_of(origin, payload)
            )


class RecordReplay:
    """Applies records to a store, in the order of their numbers; those that it has already are skipped.

    Attributes:
        records: How many were applied.
    """

    def __init__(self, store: RocksStore) -> None:
        self.records = 0
        self._store = store
        self._number = store.durable().logged
        self._changes: dict[bytes, bytes | None] = {}
        self._notes: dict[str, int] = {}

    def take(self, record: Record) -> None:
        """Apply a record.

        Raises:
            StoreError: The store does not take it.
        """
        if record.number <= self._number or record.is_caught_up:
            return
        self._number = record.number
        self._changes.update(record.changes)
        self._notes.update(record.notes)
        self.records += 1
        if len(self._changes) >= BATCH_ROWS:
            self._apply()

    def take_all(self, records: Iterable[Record]) -> None:
        """Apply records, see `take`."""
        for record in records:
            self.take(record)

    def finish(self) -> None:
        """Have everything that was applied in the store's files.

        Raises:
            StoreError: They do not take it.
        """
        if self.records:
            self._apply()
            self._store.persist(self._number)

    def _apply(self) -> None:
        self._store.apply(self._changes, self._notes)
        self._changes, self._notes = {}, {}


class OrphanedRecords:
    """Records of stores that are not there, a file for each store.

    Args:
        folder: Where the files are; made when there is one.
        accepts_loss: Go on without what is damaged.
    """

    def __init__(self, folder: Path, *, accepts_loss: bool = False) -> None:
        self._folder = folder
        self._accepts_loss = accepts_loss

    def of(self, origin: Origin) -> Iterator[Record]:
        """The records that a store has left, in their order.

        Raises:
            StartupError: They cannot be read.
        """
        for payload in self._payloads(origin):
            yield decode_from(self._file(origin), payload)

    def add(self, origin: Origin, payloads: Sequence[bytes]) -> None:
        """Keep records; on the disk when this returns. Those that are kept already are not kept twice.

        Raises:
            OSError: They are not kept.
            StartupError: Those that are kept already cannot be read.
        """
        kept = list(self._payloads(origin))
        last = decode_record(kept[-1]).number if kept else 0
        kept += [payload for payload in payloads if decode_record(payload).number > last]
        self._folder.mkdir(parents=True, exist_ok=True)
        sync_folder(self._folder.parent)
        write_durably(
            self._file(origin), b"".join(_HEAD.pack(len(payload), crc32(payload)) + payload for payload in kept)
        )

    def delete(self, origin: Origin) -> None:
        """Forget the records of a store."""
        self._file(origin).unlink(missing_ok=True)

    def delete_older(self, before_s: float, present: Collection[Gpid] = ()) -> None:
        """Forget what has been left for too long.

        Args:
            before_s: Unix seconds.
            present: Partitions whose folder is here: their records are needed when their store can be opened again.
        """
        if self._folder.is_dir():
            for file in self._folder.iterdir():
                is_present = file.name.rpartition(".")[0] in map(str, present)
                if file.stat().st_mtime < before_s and not is_present:
                    file.unlink()

    def _file(self, origin: Origin) -> Path:
        return self._folder / f"{origin.gpid}.{origin.identity:016x}"

    def _payloads(self, origin: Origin) -> Iterator[bytes]:
        file = self._file(origin)
        if not file.exists():
            return
        data, position = file.read_bytes(), 0
        if (unchecked := _without_checksums(origin, data)) is not None:
            yield from unchecked
            return
        while position < len(data):
            start = position + _HEAD.size
            length, checksum = _HEAD.unpack_from(data.ljust(start, b"\0"), position)
            payload = data[start : start + length]
            if len(payload) < length or crc32(payload) != checksum:
                self._lose(file, position)
                return
            yield payload
            position = start + length

    def _lose(self, file: Path, position: int) -> None:
        what = f"{file} is damaged at byte {position}, and acknowledged writes of that replica are lost"
        if not self._accepts_loss:
            raise StartupError(f"{what}: restore the file, or give --accept-loss to go on without them")
        log.error("acknowledged writes are lost, and that was accepted", reason=what)


def _without_checksums(origin: Origin, data: bytes) -> list[bytes] | None:
    """The payloads of a file as earlier releases wrote it: lengths alone stand between them; `None` if it is not one.

    The bytes behind a length tell the two apart: there stands a record of the store, or a checksum.
    """
    payloads, position = [], 0
    while position < len(data):
        start = position + _LENGTH.size
        payload = data[start : start + _LENGTH.unpack_from(data.ljust(start, b"\0"), position)[0]]
        if not is_batch_of(origin, payload):
            return None
        payloads.append(payload)
        position = start + len(payload)
    return payloads
