"""What the rrdb operations need of a store: rows in order of their raw keys. `replicaserver.storage` provides it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.pegasus.wire.errors import RocksdbError


class UnreadableError(Exception):
    """Rows cannot be read; the text is the engine's."""

    @property
    def code(self) -> RocksdbError:
        """What a response says of it (§10.9)."""
        return RocksdbError.CORRUPTION if str(self).startswith("Corruption") else RocksdbError.IO_ERROR


class Lookup(Protocol):
    """Stored values by raw key."""

    def get(self, key: bytes) -> bytes | None:
        """The stored value of a raw key, None when there is none."""


class Rows(Lookup, Protocol):
    """The stored rows of one partition, headers and expired rows included (protocol §10.8)."""

    def get_many(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """The stored values of raw keys, in their order."""

    def scan(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """The rows from `start` (inclusive) to `stop` (exclusive, empty for no end), forwards or backwards."""


@dataclass(frozen=True, slots=True)
class Responder:
    """What every response repeats: whose row it is, and who answered."""

    app_id: int
    partition_index: int
    server: str


@dataclass(slots=True)
class Usage:
    """What an operation has touched, for metrics and capacity units (§11.4).

    Attributes:
        bytes_: Keys and values, in bytes.
        rows: Rows read.
        expired: Rows skipped because their time was over.
        filtered: Rows skipped because a filter did not match.
        has_failed: It was no reading: such an operation costs nothing.
    """

    bytes_: int = 0
    rows: int = 0
    expired: int = 0
    filtered: int = 0
    has_failed: bool = False
