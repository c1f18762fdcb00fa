"""What a pass over all rows changes: expired rows go, rules and a default TTL apply.

The original does this in RocksDB's compaction filter. The engine here takes none, so a pass reads the rows in
slices and exchanges those that need it, one by one, each only if nobody has written it meanwhile. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from replicaserver.table.compaction_rules import REMOVED, Operation, Subject, decide
from shared.pegasus.wire.keys import decode_key, is_expired, is_key, value_expire, with_expire

Exchange = tuple[bytes, bytes, bytes | None]
"""A raw key, the stored value that was seen, and the one that shall be there; None for no row."""


@dataclass(frozen=True, slots=True)
class Pass:
    """What a pass does.

    Attributes:
        data_version: The layout of stored values.
        now: Seconds since the epoch of §10.8.
        default_ttl: Seconds given to rows that do not expire; 0 leaves them.
        operations: The table's rules; empty in the regular sweep.
    """

    data_version: int
    now: int
    default_ttl: int = 0
    operations: Sequence[Operation] = ()

    def exchanges(self, rows: Iterable[tuple[bytes, bytes]]) -> list[Exchange]:
        """The rows of a slice that must change."""
        found: list[Exchange] = []
        for key, stored in rows:
            expire = value_expire(self.data_version, stored)
            if is_expired(expire, self.now):
                found.append((key, stored, None))
            elif self.default_ttl or self.operations:
                wanted = self._wanted(key, expire)
                if wanted == REMOVED:
                    found.append((key, stored, None))
                elif wanted != expire:
                    found.append((key, stored, with_expire(self.data_version, stored, wanted)))
        return found

    def _wanted(self, key: bytes, expire: int) -> int:
        """The expiry that a row shall have, or `REMOVED`."""
        if self.default_ttl and expire == 0:
            expire = self.now + self.default_ttl
        if not (self.operations and is_key(key)):
            return expire
        hash_key, sort_key = decode_key(key)
        wanted = decide(self.operations, Subject(hash_key, sort_key, expire), self.now)
        return wanted if wanted == REMOVED else max(0, wanted)
