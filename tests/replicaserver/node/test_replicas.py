"""What a node does without being asked (protocol §13.5)."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from replicaserver.replication.replica import LogFailed
from replicaserver.storage.engine import StoreError
from replicaserver.storage.folders import DataFolder
from replicaserver.storage.rocks import RocksStore
from shared.errors import StartupError
from shared.pegasus.wire.errors import ErrorCode
from shared.pegasus.wire.keys import encode_key
from shared.pegasus.wire.structures.base import Gpid
from shared.pegasus.wire.structures.metadata import DiskStatus
from shared.pegasus.wire.structures.rrdb import UpdateRequest
from tests.replicaserver.conftest import Clock, Served, start

PUT = UpdateRequest(encode_key(b"h", b""), b"v")


async def test_folders_that_nobody_needs_are_deleted_after_their_time(served: Served, clock: Clock):
    await served.table()
    reps = served.server.node.disks[0].path
    await served.server.node.remove(Gpid(2, 0))
    (reps / f"3.0.pegasus.{int(clock.unix_s)}.err").mkdir()
    clock.advance(86_399)
    await served.server.node.delete_orphaned_folders()
    assert len(list(reps.glob("*.pegasus.*"))) == 2
    clock.advance(1)
    await served.server.node.delete_orphaned_folders()
    assert [path.suffix for path in reps.glob("*.pegasus.*")] == [".err"]
    served.server.flags.update("gc_disk_error_replica_interval_seconds", "60")
    await served.server.node.delete_orphaned_folders()
    assert list(reps.glob("*.pegasus.*")) == []
    assert await served.metric("replica_removed_dirs", "server") == 2


async def test_a_disk_that_fills_up_takes_no_writes_until_there_is_room(
    served: Served, monkeypatch: pytest.MonkeyPatch
):
    await served.table()
    served.server.flags.update("disk_min_available_space_ratio", "10")
    with monkeypatch.context() as full:
        full.setattr(DataFolder, "measure", lambda _disk: (1000, 99))
        await served.server.node.check_disks()
        assert served.partition().admission.disk_status is DiskStatus.SPACE_INSUFFICIENT
        assert await served.error("put", PUT) == ErrorCode.ERR_DISK_INSUFFICIENT
        full.setattr(DataFolder, "measure", lambda _disk: (1000, 100))
        await served.server.node.check_disks()
    assert (await served.call("put", PUT)).error == 0


async def test_the_log_says_why_writes_stay_refused_when_there_is_room_again(
    served: Served, monkeypatch: pytest.MonkeyPatch
):
    await served.table()
    await served.call("put", PUT)
    partition = served.partition()

    def refuse(*_arguments: object) -> None:
        raise StoreError("IO error: No space left on device")

    with monkeypatch.context() as broken, capture_logs() as logs:
        broken.setattr(partition.store, "persist", refuse)
        partition.step(LogFailed())
        await served.server.node.check_disks()
        assert await served.error("put", PUT) == ErrorCode.ERR_DISK_IO_ERROR
    [warning] = [entry for entry in logs if "still takes no writes" in entry["event"]]
    assert (warning["gpid"], warning["reason"]) == ("2.0", "IO error: No space left on device")
    await served.server.node.check_disks()
    assert (await served.call("put", PUT)).error == 0


async def test_a_replica_that_cannot_take_back_its_writes_does_not_stop_the_others(
    served: Served, tmp_path: Path, clock: Clock, flags: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    await served.table(partitions=2)
    for index in range(2):
        await served.call("put", PUT, index=index)
    copy = tmp_path / "crashed"
    shutil.copytree(tmp_path / "replica", copy / "replica")
    persist = RocksStore.persist

    def fail_for_one(store: RocksStore, logged: int) -> None:
        if "2.1.pegasus" in str(store.path):
            raise StoreError("IO error: No space left on device")
        persist(store, logged)

    with monkeypatch.context() as broken:
        broken.setattr(RocksStore, "persist", fail_for_one)
        again = await start(copy, clock, flags)
        assert list(again.server.node.partitions) == [(2, 0)]
        assert (again.server.node.counts.failed, again.server.node.disks[0].orphaned("err")) == (1, {})
        again.connection.close()
        await again.server.drain()
    later = await start(copy, clock, flags)
    assert [later.partition(index=index).core.last_committed for index in range(2)] == [1, 1]
    later.connection.close()
    await later.server.drain()


@pytest.mark.parametrize("is_damaged", [False, True])
async def test_a_replica_that_cannot_be_opened_or_set_aside_is_one_line(
    served: Served,
    tmp_path: Path,
    clock: Clock,
    flags: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    is_damaged: bool,
):
    """A disk that has become read-only takes neither a folder nor a new name for one."""
    await served.table()
    copy = tmp_path / "crashed"
    shutil.copytree(tmp_path / "replica", copy / "replica")
    folder = copy / "replica" / "reps" / "2.0.pegasus"
    if is_damaged:
        (folder / ".app-info").write_text("{")

    def refuse(*_arguments: object, **_how: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("replicaserver.storage.folders.set_aside", refuse)
    monkeypatch.setattr("replicaserver.node.replicas.RocksStore", refuse)
    expected = f"cannot set aside {folder}, which" if is_damaged else f"cannot open {folder}: Read-only file system"
    with pytest.raises(StartupError, match=re.escape(expected)):
        await start(copy, clock, flags)


async def test_the_durable_decree_that_is_reported_is_in_files(served: Served):
    await served.table()
    await served.call("put", PUT)

    def decrees() -> tuple[int, int]:
        [info] = served.server.node.report()
        return info.last_committed_decree, info.last_durable_decree

    assert decrees() == (1, 0)
    await served.partition().log.persist()
    assert decrees() == (1, 1)


async def test_replicas_are_spread_over_the_disks(tmp_path: Path, clock: Clock, flags: dict[str, str]):
    flags["data_dirs"] = f"one:{tmp_path / 'one'},two:{tmp_path / 'two'}"
    served = await start(tmp_path, clock, flags)
    try:
        await served.table(partitions=4)
        assert [served.partition(index=index).disk_tag for index in range(4)] == ["one", "two", "one", "two"]
        assert {gpid.partition_index for gpid in served.server.node.disks[1].replicas()} == {1, 3}
        _, text = await served.http("/metrics?types=disk")
        assert '"id": "disk@one"' in text
        assert '"id": "disk@two"' in text
    finally:
        served.connection.close()
        await served.server.drain()


async def test_a_replica_that_comes_back_continues_its_counters(served: Served):
    await served.table()
    await served.call("put", PUT)
    await served.server.node.remove(Gpid(2, 0))
    await served.table()
    await served.call("put", PUT)
    assert await served.metric("put_requests") == 2
