"""Metadata in a SQLite file: one transaction a change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiosqlite
import orjson

from metaserver.metadata import Change, Load, Metadata, Partition, Table
from shared.database import GroupCommitWriter, Row, Statement, open_for_writing
from shared.pegasus.structures.base import Gpid, HostPort
from shared.pegasus.structures.bulk_load import BulkLoadStatus
from shared.pegasus.structures.layer2 import AppStatus

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
        return Metadata(tables, last_app_id, loads)

    async def commit(self, change: Change) -> None:
        await self._writer.submit(_statements(change))

    async def close(self) -> None:
        await self._writer.close()
        await self._connection.close()


def _statements(change: Change) -> list[Statement]:
    tables = change.tables.values()
    new_rows = [_row(gpid, partition) for table in tables for gpid, partition in table]
    changed_rows = [_row(gpid, partition) for gpid, partition in change.partitions.items()]
    ids = [[app_id] for app_id in change.forgotten]
    ended = [[app_id] for app_id, load in change.loads.items() if load is None]
    statements: list[Statement] = [
        (_PUT_APP, [_app_row(table) for table in tables]),
        (_ADD_PARTITION, new_rows),
        (_PUT_PARTITION, changed_rows),
        (_RAISE_LAST_APP_ID, [[max(change.tables, default=0)]]),
        (_PUT_LOAD, [_load_row(load) for load in change.loads.values() if load is not None]),
        (_FORGET_LOAD, [*ended, *ids]),
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
