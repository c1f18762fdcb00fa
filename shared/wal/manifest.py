"""Which segments a commit log has: without it, a deleted segment could not be told from one never written.

The file has two slots; a change goes into the one that is older, in place, so that a change needs no room on the disk,
and a loss of power while it is written leaves the other slot.

    slot   magic, number of the change, id of the log, oldest segment, newest segment, checksum
"""

from __future__ import annotations

import os
import secrets
import struct
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from zlib import crc32

_MAGIC = b"ENTMANI1"
_SLOT = struct.Struct("<8sQQQQI")
_CHECKSUM = struct.Struct("<I")
_SLOT_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Extent:
    """What a manifest says.

    Attributes:
        log_id: Random id of the log.
        oldest: All segments with lower numbers are released.
        newest: The last segment that has something acknowledged; 0 for none.
        change: Changes are numbered upwards.
    """

    log_id: int
    oldest: int = 1
    newest: int = 0
    change: int = 0


class Manifest:
    """The manifest of one log. Everything blocks; any thread may call.

    Attributes:
        extent: What it says now.
    """

    def __init__(self, path: Path, extent: Extent) -> None:
        """For `create` and `read` alone."""
        self._path = path
        self._lock = threading.Lock()
        self.extent = extent

    @classmethod
    def create(cls, path: Path, *, oldest: int = 1, newest: int = 0) -> Manifest:
        """Make the manifest of a log; on the disk when this returns.

        Raises:
            OSError: It cannot be written.
        """
        extent = Extent(secrets.randbits(63), oldest, newest)
        temporary = path.with_name(f"{path.name}.new")
        with temporary.open("wb") as file:
            file.write(_encode(extent).ljust(2 * _SLOT_BYTES, b"\0"))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
        return cls(path, extent)

    @classmethod
    def read(cls, path: Path) -> Manifest | None:
        """The manifest of a log; `None` when it is damaged.

        Raises:
            OSError: It cannot be read.
        """
        data = path.read_bytes()
        slots = [slot for start in (0, _SLOT_BYTES) if (slot := _decode(data[start : start + _SLOT_BYTES]))]
        return cls(path, max(slots, key=lambda slot: slot.change)) if slots else None

    def record(self, *, oldest: int | None = None, newest: int | None = None) -> None:
        """Change what it says; on the disk when this returns.

        Raises:
            OSError: The disk may have the old or the new.
        """
        with self._lock:
            now = self.extent
            extent = replace(now, oldest=oldest or now.oldest, newest=newest or now.newest, change=now.change + 1)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.pwrite(descriptor, _encode(extent), extent.change % 2 * _SLOT_BYTES)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            self.extent = extent


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _encode(extent: Extent) -> bytes:
    checked = _SLOT.pack(_MAGIC, extent.change, extent.log_id, extent.oldest, extent.newest, 0)[: -_CHECKSUM.size]
    return checked + _CHECKSUM.pack(crc32(checked))


def _decode(slot: bytes) -> Extent | None:
    if len(slot) < _SLOT.size:
        return None
    magic, change, log_id, oldest, newest, checksum = _SLOT.unpack_from(slot)
    if magic != _MAGIC or crc32(slot[: _SLOT.size - _CHECKSUM.size]) != checksum:
        return None
    return Extent(log_id, oldest, newest, change)
