"""What a metaserver knows for good: tables, and who holds each of their partitions.

Plain values that are never changed in place. Every decision of the core is a `Change`; the daemon first
makes it durable and only then applies it, so what anyone can see is always on the disk. Nothing here
knows how it is stored, what time it is, or which servers are alive.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from shared.pegasus.files.paths import PathError
from shared.pegasus.wire.errors import ErrorCode
from shared.pegasus.wire.structures.base import NO_NODE, Gpid, HostPort
from shared.pegasus.wire.structures.bulk_load import BulkLoadStatus
from shared.pegasus.wire.structures.layer2 import AppStatus

APP_TYPE = "pegasus"
MAX_LAST_DROPS = 8


class Rejected(Exception):  # noqa: N818 - an answer, not a failure of the program
    """A request that the core declines.

    Attributes:
        code: The error's name.
        hint: Further words for the answers that have room for them.
    """

    def __init__(self, code: str, hint: str = "") -> None:
        super().__init__(f"{code}: {hint}" if hint else str(code))
        self.code = code
        self.hint = hint


@contextlib.contextmanager
def rejected_paths() -> Iterator[None]:
    """Decline a request with a member that would lead out of a file provider's folder.

    Raises:
        Rejected: ERR_INVALID_PARAMETERS, with the member's name.
    """
    try:
        yield
    except PathError as error:
        raise Rejected(ErrorCode.ERR_INVALID_PARAMETERS, str(error)) from error


@dataclass(frozen=True, slots=True)
class Partition:
    """The configuration of one partition.

    Attributes:
        ballot: Grows by one with every change of the members.
        primary: The node that takes writes, or `NO_NODE`.
        secondaries: The nodes that hold a complete copy beside it.
        last_drops: Nodes that were members, the latest last.
        last_committed_decree: The highest committed decree that a configuration change reported.
    """

    ballot: int = 0
    primary: HostPort = NO_NODE
    secondaries: tuple[HostPort, ...] = ()
    last_drops: tuple[HostPort, ...] = ()
    last_committed_decree: int = 0

    def members(self) -> tuple[HostPort, ...]:
        """Primary and secondaries."""
        return (self.primary, *self.secondaries) if self.primary else self.secondaries

    def without(self, node: HostPort) -> Partition:
        """The next configuration, in which `node` is no member but remembered as dropped."""
        return replace(
            self,
            ballot=self.ballot + 1,
            primary=NO_NODE if self.primary == node else self.primary,
            secondaries=tuple(other for other in self.secondaries if other != node),
            last_drops=(*(other for other in self.last_drops if other != node), node)[-MAX_LAST_DROPS:],
        )

    def vacated(self) -> Partition:
        """The next configuration, in which nobody holds the partition: it is as good as new, nothing was written."""
        return replace(self, ballot=self.ballot + 1, primary=NO_NODE)

    def with_primary(self, node: HostPort) -> Partition:
        """The next configuration, in which `node` is the primary."""
        return replace(
            self,
            ballot=self.ballot + 1,
            primary=node,
            secondaries=tuple(other for other in self.secondaries if other != node),
            last_drops=tuple(other for other in self.last_drops if other != node),
        )

    def with_secondary(self, node: HostPort) -> Partition:
        """The next configuration, in which `node` is a secondary."""
        return replace(
            self,
            ballot=self.ballot + 1,
            primary=NO_NODE if self.primary == node else self.primary,
            secondaries=(*(other for other in self.secondaries if other != node), node),
            last_drops=tuple(other for other in self.last_drops if other != node),
        )


@dataclass(frozen=True, slots=True)
class Table:
    """One table, called an app on the wire.

    Attributes:
        app_id: Never reused.
        partitions: By index.
        envs: Validated settings of the table (§9).
        create_second: Unix seconds, as the other times; 0 = unset.
        expire_second: When a dropped table is gone for good.
    """

    app_id: int
    name: str
    status: AppStatus
    max_replica_count: int
    partitions: tuple[Partition, ...]
    envs: Mapping[str, str] = field(default_factory=dict)
    create_second: int = 0
    drop_second: int = 0
    expire_second: int = 0
    atomic_idempotent: bool = False

    @property
    def partition_count(self) -> int:
        """Number of partitions."""
        return len(self.partitions)

    def is_served(self) -> bool:
        """Whether replica servers shall hold its partitions open."""
        return self.status in (AppStatus.AVAILABLE, AppStatus.CREATING, AppStatus.RECALLING)

    def __iter__(self) -> Iterator[tuple[Gpid, Partition]]:
        """Its partitions with their names."""
        return ((Gpid(self.app_id, index), partition) for index, partition in enumerate(self.partitions))


@dataclass(frozen=True, slots=True)
class Load:
    """The bulk load of a table, under way or ended (§5.8).

    Attributes:
        provider: Name of the file provider.
        root: Folder below it.
        is_running: Whether partitions still have something to do for it.
        rollbacks: How often it went back to downloading.
        failure: The last error that made it do so.
    """

    app_id: int
    cluster_name: str
    provider: str
    root: str
    ingest_behind: bool
    status: BulkLoadStatus
    is_running: bool = True
    rollbacks: int = 0
    failure: str = ""


@dataclass(frozen=True, slots=True)
class BackupPolicy:
    """When which tables are backed up, and where to (§1).

    Attributes:
        provider: Name of the file provider.
        start_time: Local time of day, hh:mm.
        history_count: How many backups are kept.
    """

    name: str
    provider: str
    app_ids: frozenset[int]
    interval_s: int
    history_count: int
    start_time: str
    is_disabled: bool = False


@dataclass(frozen=True, slots=True)
class Backup:
    """One backup, under way or ended.

    Attributes:
        id: Milliseconds since 1970, made unique.
        policy_name: Empty for a backup that an operator asked for.
        root: Folder below the provider; empty for the default.
        tables: Names of the tables by id.
        end_ms: 0 while it is under way.
    """

    id: int
    policy_name: str
    provider: str
    root: str
    tables: Mapping[int, str]
    start_ms: int
    end_ms: int = 0
    is_failed: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """What one transaction makes different.

    Attributes:
        tables: New or changed tables. A new one brings its partitions; of a known one they are ignored.
        partitions: Changed partitions of known tables.
        forgotten: Tables that are gone for good.
        loads: Bulk loads that began or changed, by table; None for one that is forgotten.
        policies: Backup policies that are new or changed, by name.
        backups: Backups that began or changed, by id; None for one that is deleted.
    """

    tables: Mapping[int, Table] = field(default_factory=dict)
    partitions: Mapping[Gpid, Partition] = field(default_factory=dict)
    forgotten: frozenset[int] = frozenset()
    loads: Mapping[int, Load | None] = field(default_factory=dict)
    policies: Mapping[str, BackupPolicy] = field(default_factory=dict)
    backups: Mapping[int, Backup | None] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any((self.tables, self.partitions, self.forgotten, self.loads, self.policies, self.backups))

    def then(self, later: Change) -> Change:
        """This change and one that was decided after it, as one."""
        return Change(
            {**self.tables, **later.tables},
            {**self.partitions, **later.partitions},
            self.forgotten | later.forgotten,
            {**self.loads, **later.loads},
            {**self.policies, **later.policies},
            {**self.backups, **later.backups},
        )

    @classmethod
    def of_table(cls, table: Table, partitions: Mapping[Gpid, Partition] | None = None) -> Change:
        """A change of one table."""
        return cls(tables={table.app_id: table}, partitions=partitions or {})


@dataclass
class Metadata:
    """All tables.

    Attributes:
        last_app_id: The highest id that was ever given to a table.
        loads: Bulk loads by table, the last of each.
        policies: Backup policies by name.
        backups: Backups by id.
    """

    tables: dict[int, Table] = field(default_factory=dict)
    last_app_id: int = 0
    loads: dict[int, Load] = field(default_factory=dict)
    policies: dict[str, BackupPolicy] = field(default_factory=dict)
    backups: dict[int, Backup] = field(default_factory=dict)

    def copy(self) -> Metadata:
        """Another one with the same values, which can be changed alone."""
        return Metadata(dict(self.tables), self.last_app_id, dict(self.loads), dict(self.policies), dict(self.backups))

    def apply(self, change: Change) -> None:
        """Make a durable change visible."""
        for app_id, table in change.tables.items():
            known = self.tables.get(app_id)
            self.tables[app_id] = table if known is None else replace(table, partitions=known.partitions)
            self.last_app_id = max(self.last_app_id, app_id)
        by_table: dict[int, dict[int, Partition]] = {}
        for (app_id, index), partition in change.partitions.items():
            by_table.setdefault(app_id, {})[index] = partition
        for app_id, changed in by_table.items():
            table = self.tables[app_id]
            merged = tuple(changed.get(index, old) for index, old in enumerate(table.partitions))
            self.tables[app_id] = replace(table, partitions=merged)
        _merge(self.loads, change.loads)
        _merge(self.policies, change.policies)
        _merge(self.backups, change.backups)
        for app_id in change.forgotten:
            del self.tables[app_id]
            self.loads.pop(app_id, None)

    def named(self, name: str) -> Table | None:
        """The table that has this name now; dropped ones have none."""
        for table in self.tables.values():
            if table.name == name and table.status != AppStatus.DROPPED:
                return table
        return None

    def partition(self, gpid: Gpid) -> tuple[Table, Partition] | None:
        """A partition and its table."""
        table = self.tables.get(gpid.app_id)
        if table is None or not 0 <= gpid.partition_index < table.partition_count:
            return None
        return table, table.partitions[gpid.partition_index]

    def is_loading(self, app_id: int) -> bool:
        """Whether a bulk load of a table is under way."""
        load = self.loads.get(app_id)
        return load is not None and load.is_running

    def available(self) -> list[Table]:
        """The tables that are in service, by id."""
        return [table for _, table in sorted(self.tables.items()) if table.status == AppStatus.AVAILABLE]

    def served(self) -> Iterable[Table]:
        """The tables whose partitions shall be held open."""
        return (table for table in self.tables.values() if table.is_served())


K = TypeVar("K")
V = TypeVar("V")


def _merge(known: dict[K, V], changed: Mapping[K, V | None]) -> None:
    """Put what is new or changed, and drop what is None."""
    for key, value in changed.items():
        if value is None:
            known.pop(key, None)
        else:
            known[key] = value
