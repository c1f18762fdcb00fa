"""Metadata in a SQLite file: one transaction a change."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiosqlite
import orjson

from metaserver.cluster.metadata import Backup, BackupPolicy, Change, Load, Metadata, Partition, Table
from metaserver.storage import StoreError
from shared.errors import StartupError
from shared.pegasus.wire.structures.base import Gpid, HostPort
from shared.pegasus.wire.structures.bulk_load import BulkLoadStatus
from shared.pegasus.wire.structures.layer2 import AppStatus
from shared.sqlite import GroupCommitWriter, Row, Statement, open_for_writing

MIGRATIONS = [
    """
    CREATE TABLE cluster (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        last_app_id INTEGER NOT NULL
    );
    INSERT INTO cluster VALUES (1, 0);
    CREATE TABLE app (
        app_id INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        status TEXT NOT NULL,
        max_replica_count INTEGER NOT NULL,
        envs TEXT NOT NULL,
        create_second INTEGER NOT NULL,
        drop_second INTEGER NOT NULL,
        expire_second INTEGER NOT NULL,
        atomic_idempotent INTEGER NOT NULL
    );
    CREATE TABLE partition (
        app_id INTEGER NOT NULL REFERENCES app (app_id) ON DELETE CASCADE,
        partition_index INTEGER NOT NULL,
        ballot INTEGER NOT NULL,
        primary_node TEXT NOT NULL,
        secondaries TEXT NOT NULL,
        last_drops TEXT NOT NULL,
        last_committed_decree INTEGER NOT NULL,
        PRIMARY KEY (app_id, partition_index)
    ) WITHOUT ROWID;
    """,
    """
    CREATE TABLE bulk_load (
        app_id INTEGER PRIMARY KEY REFERENCES app (app_id) ON DELETE CASCADE,
        cluster_name TEXT NOT NULL,
        provider TEXT NOT NULL,
        root TEXT NOT NULL,
        ingest_behind INTEGER NOT NULL,
        status TEXT NOT NULL,
        is_running INTEGER NOT NULL,
        rollbacks INTEGER NOT NULL,
        failure TEXT NOT NULL
    );
    """,
    """
    CREATE TABLE backup_policy (
        name TEXT PRIMARY KEY,
        provider TEXT NOT NULL,
        app_ids TEXT NOT NULL,
        interval_s INTEGER NOT NULL,
        history_count INTEGER NOT NULL,
        start_time TEXT NOT NULL,
        is_disabled INTEGER NOT NULL
    );
    CREATE TABLE backup (
        id INTEGER PRIMARY KEY,
        policy_name TEXT NOT NULL,
        provider TEXT NOT NULL,
        root TEXT NOT NULL,
        tables TEXT NOT NULL,
        start_ms INTEGER NOT NULL,
        end_ms INTEGER NOT NULL,
        is_failed INTEGER NOT NULL
    );
    """,
]

_PUT_APP = """
    INSERT INTO app VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (app_id) DO UPDATE SET
        name = excluded.name, status = excluded.status, max_replica_count = excluded.max_replica_count,
        envs = excluded.envs, create_second = excluded.create_second, drop_second = excluded.drop_second,
        expire_second = excluded.expire_second, atomic_idempotent = excluded.atomic_idempotent
"""
_ADD_PARTITION = "INSERT OR IGNORE INTO partition VALUES (?, ?, ?, ?, ?, ?, ?)"
_PUT_PARTITION = "INSERT OR REPLACE INTO partition VALUES (?, ?, ?, ?, ?, ?, ?)"
_RAISE_LAST_APP_ID = "UPDATE cluster SET last_app_id = max(last_app_id, ?)"
_PUT_LOAD = "INSERT OR REPLACE INTO bulk_load VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_FORGET_LOAD = "DELETE FROM bulk_load WHERE app_id = ?"
_PUT_POLICY = "INSERT OR REPLACE INTO backup_policy VALUES (?, ?, ?, ?, ?, ?, ?)"
_PUT_BACKUP = "INSERT OR REPLACE INTO backup VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_FORGET_BACKUP = "DELETE FROM backup WHERE id = ?"
_FORGET_PARTITIONS = "DELETE FROM partition WHERE app_id = ?"
_FORGET_APP = "DELETE FROM app WHERE app_id = ?"


class SqliteStore:
    """A `MetadataStore` in one file; `open` makes it."""

    def __init__(self, connection: aiosqlite.Connection, writer: GroupCommitWriter) -> None:
        self._connection = connection
        self._writer = writer

    @classmethod
    async def open(cls, path: Path) -> SqliteStore:
        """Open the file, or make it.

        Raises:
            StartupError: The file cannot be used.
        """
        connection, writer = await open_for_writing(path, MIGRATIONS)
        return cls(connection, writer)

    async def load(self) -> Metadata:
        try:
            return await self._load()
        except (sqlite3.Error, ValueError) as error:
            await self.close()  # a connection that is left open keeps the process from ending
            raise StartupError(f"cannot read the metadata: {error}; put metaserver.db back from a copy") from error

    async def _load(self) -> Metadata:
        async with self._connection.execute("SELECT last_app_id FROM cluster") as rows:
            ((last_app_id,),) = await rows.fetchall()
        partitions: dict[int, list[Partition]] = {}
        async with self._connection.execute("SELECT * FROM partition ORDER BY app_id, partition_index") as rows:
            async for app_id, _, *columns in rows:
                partitions.setdefault(app_id, []).append(_partition(*columns))
        tables = {}
        async with self._connection.execute("SELECT * FROM app") as rows:
            async for row in rows:
                tables[row[0]] = _table(row, partitions.get(row[0], []))
        async with self._connection.execute("SELECT * FROM bulk_load") as rows:
            loads = {row[0]: _load(row) async for row in rows}
        async with self._connection.execute("SELECT * FROM backup_policy") as rows:
            policies = {row[0]: _policy(row) async for row in rows}
        async with self._connection.execute("SELECT * FROM backup") as rows:
            backups = {row[0]: _backup(row) async for row in rows}
        return Metadata(tables, last_app_id, loads, policies, backups)

    async def commit(self, change: Change) -> None:
        try:
            await self._writer.submit(_statements(change))
        except (sqlite3.Error, OverflowError) as error:
            raise StoreError(str(error)) from error

    async def close(self) -> None:
        await self._writer.close()
        await self._connection.close()


def _statements(change: Change) -> list[Statement]:
    tables = change.tables.values()
    new_rows = [_row(gpid, partition) for table in tables for gpid, partition in table]
    changed_rows = [_row(gpid, partition) for gpid, partition in change.partitions.items()]
    ids = [[app_id] for app_id in change.forgotten]
    ended = [[app_id] for app_id, load in change.loads.items() if load is None]
    deleted = [[backup_id] for backup_id, backup in change.backups.items() if backup is None]
    statements: list[Statement] = [
        (_PUT_APP, [_app_row(table) for table in tables]),
        (_ADD_PARTITION, new_rows),
        (_PUT_PARTITION, changed_rows),
        (_RAISE_LAST_APP_ID, [[max(change.tables, default=0)]]),
        (_PUT_LOAD, [_load_row(load) for load in change.loads.values() if load is not None]),
        (_FORGET_LOAD, [*ended, *ids]),
        (_PUT_POLICY, [_policy_row(policy) for policy in change.policies.values()]),
        (_PUT_BACKUP, [_backup_row(backup) for backup in change.backups.values() if backup is not None]),
        (_FORGET_BACKUP, deleted),
        (_FORGET_PARTITIONS, ids),
        (_FORGET_APP, ids),
    ]
    return [(sql, rows) for sql, rows in statements if rows]


def _app_row(table: Table) -> Row:
    return (
        table.app_id,
        table.name,
        table.status.name,
        table.max_replica_count,
        orjson.dumps(dict(table.envs)).decode(),
        table.create_second,
        table.drop_second,
        table.expire_second,
        int(table.atomic_idempotent),
    )


def _table(row: Sequence[Any], partitions: list[Partition]) -> Table:
    app_id, name, status, count, envs, created, dropped, expires, idempotent = row
    return Table(
        app_id=app_id,
        name=name,
        status=AppStatus[status],
        max_replica_count=count,
        partitions=tuple(partitions),
        envs=orjson.loads(envs),
        create_second=created,
        drop_second=dropped,
        expire_second=expires,
        atomic_idempotent=bool(idempotent),
    )


def _load_row(load: Load) -> Row:
    return (
        load.app_id,
        load.cluster_name,
        load.provider,
        load.root,
        int(load.ingest_behind),
        load.status.name,
        int(load.is_running),
        load.rollbacks,
        load.failure,
    )


def _load(row: Sequence[Any]) -> Load:
    app_id, cluster, provider, root, behind, status, running, rollbacks, failure = row
    return Load(
        app_id, cluster, provider, root, bool(behind), BulkLoadStatus[status], bool(running), rollbacks, failure
    )


def _policy_row(policy: BackupPolicy) -> Row:
    ids = orjson.dumps(sorted(policy.app_ids)).decode()
    return (
        policy.name,
        policy.provider,
        ids,
        policy.interval_s,
        policy.history_count,
        policy.start_time,
        int(policy.is_disabled),
    )


def _policy(row: Sequence[Any]) -> BackupPolicy:
    name, provider, ids, interval_s, history_count, start_time, disabled = row
    return BackupPolicy(
        name, provider, frozenset(orjson.loads(ids)), interval_s, history_count, start_time, bool(disabled)
    )


def _backup_row(backup: Backup) -> Row:
    tables = orjson.dumps({str(app_id): name for app_id, name in backup.tables.items()}).decode()
    return (
        backup.id,
        backup.policy_name,
        backup.provider,
        backup.root,
        tables,
        backup.start_ms,
        backup.end_ms,
        int(backup.is_failed),
    )


def _backup(row: Sequence[Any]) -> Backup:
    backup_id, policy_name, provider, root, tables, start_ms, end_ms, failed = row
    named = {int(app_id): name for app_id, name in orjson.loads(tables).items()}
    return Backup(backup_id, policy_name, provider, root, named, start_ms, end_ms, bool(failed))


def _row(gpid: Gpid, partition: Partition) -> Row:
    return (
        gpid.app_id,
        gpid.partition_index,
        partition.ballot,
        str(partition.primary) if partition.primary else "",
        " ".join(map(str, partition.secondaries)),
        " ".join(map(str, partition.last_drops)),
        partition.last_committed_decree,
    )


def _partition(ballot: int, primary: str, secondaries: str, last_drops: str, decree: int) -> Partition:
    return Partition(
        ballot=ballot,
        primary=HostPort.parse(primary) if primary else Partition().primary,
        secondaries=tuple(map(HostPort.parse, secondaries.split())),
        last_drops=tuple(map(HostPort.parse, last_drops.split())),
        last_committed_decree=decree,
    )
