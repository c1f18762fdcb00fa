"""The records of the node's log: one for every batch of writes of a replica, one for every time its store caught up.

    head    format, partition, identity of the store, number of the record, number of notes and of changes
    note    length of the name, name, value
    change  length of the key, length of the stored value (`_REMOVED` for none), key, value

A record says what shall be there, not how it came to be: applying it twice, or all from some record on to the last
again, ends in the same rows. Pure: bytes in, bytes out.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from shared.pegasus.wire.structures.base import Gpid

__all__ = [
    "Origin",
    "Record",
    "RecordError",
    "decode_record",
    "encode_caught_up",
    "encode_record",
    "is_batch_of",
    "number_of",
]

_FORMAT = 1
_HEAD = struct.Struct("<BiiQQII")
_NOTE = struct.Struct("<B")
_VALUE = struct.Struct("<q")
_CHANGE = struct.Struct("<II")
_REMOVED = 0xFFFF_FFFF
_CAUGHT_UP = 0xFFFF_FFFF

_write_change, _read_change = _CHANGE.pack, _CHANGE.unpack_from


class RecordError(ValueError):
    """The bytes are no record of this format."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose records they are.

    Attributes:
        gpid: The partition.
        identity: Which of the stores that the partition has had; a new one has a new identity.
    """

    gpid: Gpid
    identity: int


@dataclass(frozen=True, slots=True)
class Record:
    """One record.

    Attributes:
        origin: Whose it is.
        number: Records of a store are numbered upwards.
        notes: What the store shall know of its replica, by name.
        changes: Stored values by raw key, None for a removed row.
        is_caught_up: Nothing up to and with this number is needed any more; there are no notes and no changes.
    """

    origin: Origin
    number: int
    notes: Mapping[str, int]
    changes: Mapping[bytes, bytes | None]
    is_caught_up: bool = False


def encode_record(
    origin: Origin, number: int, notes: Mapping[str, int], changes: Mapping[bytes, bytes | None]
) -> bytes:
    """The bytes of a batch of writes."""
    gpid = origin.gpid
    parts = [_HEAD.pack(_FORMAT, gpid.app_id, gpid.partition_index, origin.identity, number, len(notes), len(changes))]
    for name, value in notes.items():
        raw = name.encode()
        parts += (_NOTE.pack(len(raw)), raw, _VALUE.pack(value))
    for key, stored in changes.items():
        if stored is None:
            parts += (_write_change(len(key), _REMOVED), key)
        else:
            parts += (_write_change(len(key), len(stored)), key, stored)
    return b"".join(parts)


def encode_caught_up(origin: Origin, number: int) -> bytes:
    """The bytes that say that a store has in its files everything up to a number."""
    gpid = origin.gpid
    return _HEAD.pack(_FORMAT, gpid.app_id, gpid.partition_index, origin.identity, number, _CAUGHT_UP, 0)


def is_batch_of(origin: Origin, data: bytes) -> bool:
    """Whether the bytes of a record are a batch of writes of a store; reads their beginning alone."""
    if len(data) < _HEAD.size:
        return False
    format_, app_id, index, identity, _, note_count, _ = _HEAD.unpack_from(data)
    own = (_FORMAT, *origin.gpid, origin.identity)
    return (format_, app_id, index, identity) == own and note_count != _CAUGHT_UP


def number_of(data: bytes) -> int:
    """The number of a record, from its bytes."""
    number: int = _HEAD.unpack_from(data)[4]
    return number


def decode_record(data: bytes) -> Record:
    """A record from its bytes.

    Raises:
        RecordError: They are none.
    """
    try:
        format_, app_id, index, identity, number, note_count, change_count = _HEAD.unpack_from(data)
        if format_ != _FORMAT:
            raise RecordError(f"a record of format {format_}, expected {_FORMAT}")
        origin = Origin(Gpid(app_id, index), identity)
        if note_count == _CAUGHT_UP:
            return Record(origin, number, {}, {}, is_caught_up=True)
        notes, position = _read_notes(data, _HEAD.size, note_count)
        changes, position = _read_changes(data, position, change_count)
    except (struct.error, UnicodeDecodeError) as error:
        raise RecordError(f"a record of {len(data)} bytes ends too early") from error
    if position != len(data):
        raise RecordError(f"a record of {len(data)} bytes, expected {position}")
    return Record(origin, number, notes, changes)


def _read_notes(data: bytes, position: int, count: int) -> tuple[dict[str, int], int]:
    notes = {}
    for _ in range(count):
        (length,) = _NOTE.unpack_from(data, position)
        end = position + 1 + length
        notes[data[position + 1 : end].decode()] = _VALUE.unpack_from(data, end)[0]
        position = end + _VALUE.size
    return notes, position


def _read_changes(data: bytes, position: int, count: int) -> tuple[dict[bytes, bytes | None], int]:
    changes: dict[bytes, bytes | None] = {}
    for _ in range(count):
        key_size, size = _read_change(data, position)
        start = position + _CHANGE.size
        end = start + key_size
        if size == _REMOVED:
            changes[data[start:end]] = None
            position = end
        else:
            position = end + size
            changes[data[start:end]] = data[end:position]
    return changes, position
