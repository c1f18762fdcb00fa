"""Metadata survives what may happen to the process."""

from __future__ import annotations

import dataclasses
import sqlite3

import pytest

from metaserver.cluster.metadata import Change, Metadata, Partition, Table
from metaserver.storage import StoreError
from metaserver.storage.sqlite import SqliteStore
from shared.errors import StartupError
from shared.pegasus.wire.structures.base import NO_NODE, Gpid, HostPort
from shared.pegasus.wire.structures.layer2 import AppStatus

A, B, C = HostPort("node1.example", 34801), HostPort("127.0.0.1", 34802), HostPort("c", 1)
TABLE = Table(
    3,
    "temp",
    AppStatus.DROPPED,
    3,
    (Partition(7, A, (B, C), (C, B), 99), Partition(2, NO_NODE, (), (A,))),
    {"business.info": "é\n\"'", "default_ttl": "1"},
    1,
    2,
    3,
    True,
)


@pytest.fixture
async def store(tmp_path):
    store = await SqliteStore.open(tmp_path / "meta.db")
    yield store
    await store.close()


async def test_an_empty_store_has_nothing(store):
    assert await store.load() == Metadata()


async def test_everything_about_a_table_is_kept(store):
    await store.commit(Change.of_table(TABLE))
    assert await store.load() == Metadata({3: TABLE}, 3)


async def test_what_is_stored_is_what_was_applied(store):
    metadata = Metadata()
    moved = Partition(8, B, (A,), (C,), 100)
    for change in (
        Change.of_table(TABLE),
        Change(partitions={Gpid(3, 1): moved}),
        Change.of_table(dataclasses.replace(TABLE, name="renamed", partitions=())),
        Change.of_table(dataclasses.replace(TABLE, app_id=9, name="other"), {Gpid(3, 0): moved}),
        Change(forgotten=frozenset({9})),
    ):
        await store.commit(change)
        metadata.apply(change)
        assert await store.load() == metadata
    assert metadata.last_app_id == 9
    assert metadata.tables[3].partitions == (moved, moved)


async def test_a_change_is_stored_wholly_or_not_at_all(store, tmp_path):
    await store.commit(Change.of_table(TABLE))
    impossible = dataclasses.replace(TABLE, app_id=4, create_second=1 << 70)
    with pytest.raises(StoreError):
        await store.commit(Change(tables={3: dataclasses.replace(TABLE, name="renamed"), 4: impossible}))
    assert await store.load() == Metadata({3: TABLE}, 3)


async def test_a_file_that_is_no_database_is_a_clear_start_up_error(tmp_path):
    (tmp_path / "meta.db").write_bytes(b"this is no database, and long enough to be seen as none" * 20)
    with pytest.raises(StartupError, match="cannot open the database"):
        await SqliteStore.open(tmp_path / "meta.db")


async def test_damage_within_the_file_is_a_clear_start_up_error(tmp_path):
    first = await SqliteStore.open(tmp_path / "meta.db")
    await first.commit(Change.of_table(TABLE))
    await first.close()
    with (tmp_path / "meta.db").open("r+b") as file:
        size = file.seek(0, 2)
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    for _ in range(2):
        with pytest.raises(StartupError, match=r"meta\.db is damaged: .*; restore it from a backup"):
            await SqliteStore.open(tmp_path / "meta.db")


async def test_a_file_of_a_newer_release_is_refused(tmp_path):
    with sqlite3.connect(tmp_path / "meta.db") as connection:
        connection.execute("PRAGMA user_version = 1000")
    connection.close()
    with pytest.raises(StartupError, match="written by a newer one"):
        await SqliteStore.open(tmp_path / "meta.db")
