"""Rows in memory, and short names for what the tests of the core say again and again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from replicaserver.rows.reads import Limits
from replicaserver.rows.store import Responder
from replicaserver.rows.writes import Draft
from shared.pegasus.wire.keys import encode_key, encode_value

NOW = 1000
WHO = Responder(2, 3, "127.0.0.1:34801")


class MemoryRows:
    """The rows of a partition as a dict, in the order of a store."""

    def __init__(self, rows: Mapping[bytes, bytes] | None = None) -> None:
        self.rows = dict(rows or {})

    def get(self, key: bytes) -> bytes | None:
        return self.rows.get(key)

    def get_many(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        return [self.rows.get(key) for key in keys]

    def scan(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        inside = [key for key in sorted(self.rows, reverse=reverse) if start <= key and (not stop or key < stop)]
        return ((key, self.rows[key]) for key in inside)

    def put(self, hash_key: bytes, sort_key: bytes, data: bytes, expire: int = 0) -> None:
        self.rows[encode_key(hash_key, sort_key)] = stored(data, expire)

    def draft(self, default_ttl: int = 0) -> Draft:
        return Draft(self, 1, NOW, 77, default_ttl)

    def apply(self, draft: Draft) -> None:
        for key, value in draft.changes.items():
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value


def stored(data: bytes, expire: int = 0) -> bytes:
    return encode_value(1, data, expire, 77)


def limits(rows: int = 3000, size_bytes: int = 30 << 20, *, overdue: bool = False) -> Limits:
    return Limits(rows, size_bytes, lambda: overdue)
