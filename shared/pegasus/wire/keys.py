"""How a row of a table is laid out: keys, values, expiry, and the partition that owns it (protocol §10.7, §10.8).

Everything here is bytes in and bytes out. Times are seconds since `EPOCH` unless a name says otherwise,
because that is what travels on the wire and lies on disk; 0 means "never".
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

import anycrc

EPOCH = 1_451_606_400
"""2016-01-01T00:00:00Z in unix seconds; every expiry counts from here."""

MAX_HASH_KEY = 0xFFFE
"""The longest hash key in bytes: its length is an unsigned 16-bit number, and 0xFFFF is not used."""

DATA_VERSIONS = (0, 1, 2)
HEADER_SIZES = {0: 4, 1: 12, 2: 13}
"""Bytes before the data of a stored value, by data version."""

_V0 = struct.Struct(">I")
_V1 = struct.Struct(">IQ")
_V2 = struct.Struct(">BIQ")
_V2_MARK = 0x82
_LENGTH = struct.Struct(">H")

pack_v1 = _V1.pack
"""Header of data version 1 from (expire, timetag); for code that writes a value a microsecond."""


crc64: Callable[[bytes], int] = anycrc.Model("CRC64-NVME").calc
"""The CRC-64 that spreads keys over partitions: reflected 0x9a6c9329ac4bc9b5, all ones in and out (§10.7)."""


def encode_key(hash_key: bytes, sort_key: bytes) -> bytes:
    """The raw key of a row: hash-key length, hash key, sort key.

    Raises:
        ValueError: The hash key is longer than `MAX_HASH_KEY`.
    """
    if len(hash_key) > MAX_HASH_KEY:
        raise ValueError(f"a hash key has at most {MAX_HASH_KEY} bytes, found {len(hash_key)}")
    return _LENGTH.pack(len(hash_key)) + hash_key + sort_key


def decode_key(raw: bytes) -> tuple[bytes, bytes]:
    """The hash key and the sort key of a raw key.

    Raises:
        ValueError: The raw key is shorter than its own length prefix says.
    """
    if len(raw) < 2:
        raise ValueError(f"a raw key has at least 2 bytes, found {len(raw)}")
    end = 2 + _LENGTH.unpack_from(raw)[0]
    if len(raw) < end:
        raise ValueError(f"a raw key promises a hash key of {end - 2} bytes and has {len(raw) - 2}")
    return raw[2:end], raw[end:]


def is_key(raw: bytes) -> bool:
    """Whether bytes are a raw key: as long as their own length prefix says, at least."""
    return len(raw) >= 2 and len(raw) - 2 >= raw[0] << 8 | raw[1]


def next_prefix(prefix: bytes) -> bytes:
    """The smallest key after every key that starts with `prefix`; empty when there is none.

    The last byte that is not 0xFF is incremented, and what follows it is cut off.
    """
    end = len(prefix)
    while end and prefix[end - 1] == 0xFF:
        end -= 1
    if not end:
        return b""
    return prefix[: end - 1] + bytes((prefix[end - 1] + 1,))


def hash_key_range(hash_key: bytes) -> tuple[bytes, bytes]:
    """First raw key (inclusive) and end (exclusive) of all rows of a hash key."""
    first = encode_key(hash_key, b"")
    return first, next_prefix(first)


def key_hash(raw: bytes) -> int:
    """The partition hash of a raw key: of its hash key, or of its sort key when the hash key is empty.

    Raises:
        ValueError: The raw key is shorter than its own length prefix says.
    """
    hash_key, sort_key = decode_key(raw)
    return crc64(hash_key or sort_key)


def partition_of(raw: bytes, partition_count: int) -> int:
    """The index of the partition that owns a raw key."""
    return key_hash(raw) % partition_count


class StoredValue(NamedTuple):
    """What lies on disk under a raw key.

    Attributes:
        expire: Seconds since `EPOCH` at which the row is gone; 0 never.
        timetag: Microseconds since 1970, cluster and deletion mark (`make_timetag`); 0 in data version 0.
        data: What the client stored.
    """

    expire: int
    timetag: int
    data: bytes


def make_timetag(timestamp_us: int, cluster_id: int = 0, deleted: bool = False) -> int:
    """When and where a value was written: ``µs << 8 | cluster_id << 1 | deleted``."""
    return (timestamp_us << 8 | cluster_id << 1 | deleted) & 0xFFFF_FFFF_FFFF_FFFF


def encode_value(version: int, data: bytes, expire: int = 0, timetag: int = 0) -> bytes:
    """A value as it is stored under a data version (§10.8)."""
    if version == 1:
        return _V1.pack(expire, timetag) + data
    if version == 0:
        return _V0.pack(expire) + data
    if version == 2:
        return _V2.pack(_V2_MARK, expire, timetag) + data
    raise ValueError(f"data version {version} is not one of {DATA_VERSIONS}")


def decode_value(version: int, stored: bytes) -> StoredValue:
    """The parts of a stored value.

    Raises:
        ValueError: The value is too short for its data version, or the version is unknown.
    """
    if version not in HEADER_SIZES:
        raise ValueError(f"data version {version} is not one of {DATA_VERSIONS}")
    size = HEADER_SIZES[version]
    if len(stored) < size:
        raise ValueError(f"a value of data version {version} has at least {size} bytes, found {len(stored)}")
    if version == 1:
        expire, timetag = _V1.unpack_from(stored)
    elif version == 0:
        (expire,), timetag = _V0.unpack_from(stored), 0
    else:
        _, expire, timetag = _V2.unpack_from(stored)
    return StoredValue(expire, timetag, stored[size:])


def value_expire(version: int, stored: bytes) -> int:
    """The expiry of a stored value, without copying its data."""
    start = 1 if version == 2 else 0
    return int.from_bytes(stored[start : start + 4], "big")


def with_expire(version: int, stored: bytes, expire: int) -> bytes:
    """A stored value with another expiry and everything else kept."""
    start = 1 if version == 2 else 0
    return stored[:start] + _V0.pack(expire) + stored[start + 4 :]


def is_expired(expire: int, now: int) -> bool:
    """Whether a row is gone at `now` (seconds since `EPOCH`)."""
    return 0 < expire <= now


def since_epoch(unix_s: float) -> int:
    """Unix seconds as seconds since `EPOCH`."""
    return int(unix_s) - EPOCH


def to_unix(expire: int) -> int:
    """Seconds since `EPOCH` as unix seconds."""
    return expire + EPOCH
