"""Who may read and write, and who is refused how (protocol §9, §11.1)."""

from __future__ import annotations

import asyncio
import time

import pytest

from replicaserver.replication.replica import Forgotten, LeaseHeld, LeaseLost
from replicaserver.storage.engine import StoreError
from shared.pegasus.wire.errors import ErrorCode, RocksdbError
from shared.pegasus.wire.keys import encode_key, key_hash, partition_of
from shared.pegasus.wire.structures.command import Command
from shared.pegasus.wire.structures.metadata import DiskStatus
from shared.pegasus.wire.structures.rrdb import (
    BatchGetRequest,
    FullKey,
    GetScannerRequest,
    IncrRequest,
    KeyValue,
    MultiGetRequest,
    MultiPutRequest,
    UpdateRequest,
)
from shared.wal.files import SegmentFiles
from tests.descriptors import no_descriptors
from tests.replicaserver.conftest import Clock, Served

KEY = encode_key(b"hk", b"sk")
PUT = UpdateRequest(KEY, b"val")


async def test_a_partition_that_is_not_here_is_not_found(served: Served):
    assert await served.error("get", KEY) == ErrorCode.ERR_OBJECT_NOT_FOUND
    assert await served.error("put", PUT) == ErrorCode.ERR_OBJECT_NOT_FOUND
    assert await served.error("get_scanner", GetScannerRequest()) == ErrorCode.ERR_OBJECT_NOT_FOUND


async def test_a_replica_that_is_not_the_primary_serves_nobody(served: Served):
    await served.table()
    served.partition().step(Forgotten())
    assert await served.error("get", KEY) == ErrorCode.ERR_INVALID_STATE
    assert await served.error("put", PUT) == ErrorCode.ERR_INVALID_STATE
    assert await served.error("get", KEY, is_backup_request=True) == ErrorCode.ERR_INVALID_STATE


async def test_without_a_lease_nobody_is_served(served: Served):
    await served.table()
    served.partition().step(LeaseLost())
    assert await served.error("get", KEY) == ErrorCode.ERR_INVALID_STATE
    assert await served.error("put", PUT) == ErrorCode.ERR_INVALID_STATE
    served.partition().step(LeaseHeld())
    assert (await served.call("put", PUT)).error == 0


async def test_a_backup_request_is_answered_by_the_primary_too(served: Served):
    await served.table()
    await served.call("put", PUT)
    assert (await served.call("get", KEY, is_backup_request=True)).value == b"val"
    assert await served.metric("backup_requests") == 1


@pytest.mark.parametrize(
    ("text", "reads", "writes"),
    [("reconfig*all", True, True), ("reconfig*read", True, False), ("reconfig*write", False, True)],
)
async def test_denied_requests_send_clients_back_to_the_routing(served: Served, text: str, reads: bool, writes: bool):
    await served.table(envs={"replica.deny_client_request": text})
    for is_denied, name, value in ((reads, "get", KEY), (writes, "put", PUT)):
        if is_denied:
            assert await served.error(name, value) == ErrorCode.ERR_INVALID_STATE
        else:
            assert (await served.call(name, value)).error in (0, 1)
    await served.set_envs({})
    assert (await served.call("put", PUT)).error == 0


@pytest.mark.parametrize(
    ("text", "reads", "writes"),
    [("timeout*all", True, True), ("timeout*read", True, False), ("timeout*write", False, True)],
)
async def test_silently_denied_requests_get_no_answer(served: Served, text: str, reads: bool, writes: bool):
    await served.table(envs={"replica.deny_client_request": text})
    for is_denied, name, value in ((reads, "get", KEY), (writes, "put", PUT)):
        if is_denied:
            assert await served.error(name, value, timeout_s=0.05) == ErrorCode.ERR_TIMEOUT
        else:
            assert (await served.call(name, value)).error in (0, 1)


async def test_a_key_of_another_partition_is_refused_where_hashes_are_validated(served: Served):
    await served.table(partitions=4, envs={"replica.split.validate_partition_hash": "true"})
    own, other = partition_of(KEY, 4), (partition_of(KEY, 4) + 1) % 4
    header = {"partition_hash": key_hash(KEY)}
    assert (await served.call("put", PUT, index=own, **header)).error == 0
    assert (await served.call("get", KEY, index=own, **header)).value == b"val"
    for name, value in (("put", PUT), ("get", KEY)):
        code = await served.error(name, value, index=other, **header)
        assert code == ErrorCode.ERR_PARENT_PARTITION_MISUSED


async def test_rows_of_other_partitions_are_left_out_of_scans_where_hashes_are_validated(served: Served):
    await served.table(partitions=2)
    keys = sorted(encode_key(b"h%d" % n, b"") for n in range(10))
    for key in keys:
        await served.call("put", UpdateRequest(key, b""))
    own = [key for key in keys if partition_of(key, 2) == 0]

    async def scan(validate: bool | None) -> list[bytes]:
        request = GetScannerRequest(start_inclusive=True, validate_partition_hash=validate)
        return [kv.key for kv in (await served.call("get_scanner", request)).kvs]

    assert await scan(True) == keys
    await served.set_envs({"replica.split.validate_partition_hash": "true"})
    assert await scan(True) == await scan(None) == own
    assert await scan(False) == keys


async def test_a_write_that_is_too_large_is_refused(served: Served):
    await served.table()
    large = UpdateRequest(KEY, b"x" * (1 << 20))
    assert await served.error("put", large) == ErrorCode.ERR_INVALID_DATA
    assert await served.metric("write_size_exceed_threshold_requests") == 1
    assert (await served.call("put", UpdateRequest(KEY, b"x" * ((1 << 20) - 200)))).error == 0


async def test_a_write_that_is_far_too_large_is_refused_before_it_is_read(served: Served):
    await served.table()
    large = MultiPutRequest(b"h", [KeyValue(b"%d" % number, bytes(1000)) for number in range(10_000)])
    assert await served.error("multi_put", large) == ErrorCode.ERR_INVALID_DATA
    assert await served.metric("write_size_exceed_threshold_requests") == 1


async def test_a_write_of_too_many_rows_is_refused_before_it_is_read(served: Served):
    await served.table()
    rows = [KeyValue(b"%d" % number, b"v") for number in range(16_385)]
    assert await served.error("multi_put", MultiPutRequest(b"h", rows)) == ErrorCode.ERR_INVALID_DATA
    assert (await served.call("multi_put", MultiPutRequest(b"h", rows[1:]))).error == 0


async def test_a_nearly_full_disk_takes_no_writes_unless_it_must(served: Served):
    await served.table()
    served.partition().admission.disk_status = DiskStatus.SPACE_INSUFFICIENT
    assert await served.error("put", PUT) == ErrorCode.ERR_DISK_INSUFFICIENT
    assert (await served.call("get", KEY)).error == 1
    served.server.flags.update("reject_write_when_disk_insufficient", "false")
    assert (await served.call("put", PUT)).error == 0


async def test_while_files_are_added_writes_are_refused(served: Served):
    await served.table()
    served.partition().admission.is_ingesting = True
    assert await served.error("put", PUT) == ErrorCode.ERR_OPERATION_DISABLED
    assert await served.metric("bulk_load_ingestion_rejected_write_requests") == 1


@pytest.fixture
def two_members(flags: dict[str, str]) -> None:
    flags["mutation_2pc_min_replica_count"] = "2"


async def test_with_too_few_members_writes_are_refused(two_members: None, served: Served):
    await served.table()
    assert await served.error("put", PUT) == ErrorCode.ERR_NOT_ENOUGH_MEMBER
    assert (await served.call("get", KEY)).error == 1


async def test_reads_beyond_the_limit_are_rejected(served: Served, clock: Clock):
    await served.table(envs={"replica.read_throttling": "1*reject*1"})  # 2 a second for the one partition
    for _ in range(2):
        await served.call("get", KEY)
    assert await served.error("get", KEY) == ErrorCode.ERR_BUSY
    assert await served.metric("throttling_rejected_read_requests") == 1
    clock.advance(1)
    assert (await served.call("get", KEY)).error == 1


async def test_writes_beyond_the_limit_are_delayed(served: Served):
    await served.table(envs={"replica.write_throttling": "1*delay*40"})
    began = time.monotonic()
    await asyncio.gather(*(served.call("put", PUT) for _ in range(3)))
    assert time.monotonic() - began >= 0.04
    assert await served.metric("throttling_delayed_write_requests") == 1


async def test_writes_can_be_limited_by_their_size(served: Served):
    await served.table(envs={"replica.write_throttling_by_size": "200*reject*1"})
    assert (await served.call("put", UpdateRequest(KEY, b"x" * 100))).error == 0
    assert await served.error("put", UpdateRequest(KEY, b"x" * 100)) == ErrorCode.ERR_BUSY
    assert await served.metric("throttling_rejected_write_requests") == 1


async def test_reads_can_be_limited_by_their_size(served: Served, clock: Clock):
    await served.table(envs={"replica.read_throttling_by_size": "100"})
    await served.call("put", UpdateRequest(KEY, b"x" * 500))
    await served.call("get", KEY)
    assert await served.error("get", KEY) == ErrorCode.ERR_BUSY
    clock.advance(10)
    assert (await served.call("get", KEY)).error == 0


async def test_backup_requests_beyond_their_limit_get_no_answer(served: Served):
    await served.table(envs={"replica.backup_request_throttling": "0*reject*1"})
    assert (await served.call("get", KEY, is_backup_request=True)).error == 1
    assert await served.error("get", KEY, is_backup_request=True, timeout_s=0.1) == ErrorCode.ERR_TIMEOUT
    assert (await served.call("get", KEY)).error == 1


async def test_a_default_ttl_is_given_to_writes(served: Served):
    await served.table(envs={"default_ttl": "60"})
    await served.call("put", PUT)
    assert (await served.call("ttl", KEY)).ttl_seconds == 60


async def test_slow_reads_are_counted_as_abnormal(served: Served):
    await served.table()
    assert await served.metric("abnormal_read_requests") == 0
    served.partition().slow_ns = 0
    await served.call("get", KEY)
    await served.call("multi_get", MultiGetRequest(b"hk"))
    assert await served.metric("abnormal_read_requests") == 2


async def test_what_was_done_is_counted(served: Served):
    await served.table()
    await served.call("put", PUT)
    await served.call("multi_put", MultiPutRequest(b"hk", [KeyValue(b"a", b"x" * 5000)]))
    await served.call("incr", IncrRequest(encode_key(b"n", b""), 1))
    await served.call("get", KEY)
    await served.call("get", encode_key(b"none", b""))
    await served.call("get_scanner", GetScannerRequest(start_inclusive=True))
    expected = {
        "put_requests": 1,
        "multi_put_requests": 1,
        "incr_requests": 1,
        "get_requests": 2,
        "scan_requests": 1,
        "committed_requests": 3,
        "put_bytes": len(KEY) + 3,
        "write_capacity_units": 1 + 2 + 1,
        "read_capacity_units": 1 + 1 + 1 + 2,
    }
    assert {name: await served.metric(name) for name in expected} == expected


async def test_a_replica_that_was_removed_is_gone(served: Served):
    await served.table()
    await served.call("put", PUT)
    folder = served.server.node.folder(served.partition())
    await served.server.node.remove(served.partition().gpid)
    assert await served.error("get", KEY) == ErrorCode.ERR_OBJECT_NOT_FOUND
    assert not folder.exists()
    assert [path.suffix for path in folder.parent.glob("2.*")] == [".gar"]
    assert await served.metric("moved_garbage_replicas", "server") == 1


async def test_a_disk_that_fails_fails_the_writes_until_it_has_room_and_no_read(served: Served, monkeypatch):
    await served.table()
    await served.call("put", PUT)
    refused = UpdateRequest(KEY, b"refused")

    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(SegmentFiles, "write", full)
        assert await served.error("put", refused) == ErrorCode.ERR_DISK_IO_ERROR
        assert await served.error("incr", IncrRequest(KEY, 1)) == ErrorCode.ERR_DISK_IO_ERROR
        assert (await served.call("get", KEY)).value == b"val"
        await served.server.node.check_disks()
        assert await served.error("put", refused) == ErrorCode.ERR_DISK_IO_ERROR
    await served.server.node.check_disks()
    put = await served.call("put", UpdateRequest(KEY, b"again"))
    assert (put.error, put.decree) == (0, 2)
    assert (await served.call("get", KEY)).value == b"again"


async def test_a_store_that_fails_fails_the_writes_and_no_read(served: Served, monkeypatch):
    await served.table()
    await served.call("put", PUT)

    def full(*_arguments: object, **_how: object) -> None:
        raise StoreError("IO error: No space left on device")

    for name in ("apply", "persist"):
        monkeypatch.setattr(served.partition().store, name, full)
    assert await served.error("put", UpdateRequest(KEY, b"refused")) == ErrorCode.ERR_DISK_IO_ERROR
    await served.server.node.check_disks()
    assert await served.error("put", PUT) == ErrorCode.ERR_DISK_IO_ERROR
    assert (await served.call("get", KEY)).value == b"val"


async def test_what_cannot_be_read_is_said_in_the_response_and_costs_nothing(served: Served, monkeypatch):
    await served.table()
    await served.call("put", PUT)

    def damaged(*_where: object, **_how: object) -> None:
        raise StoreError("Corruption: block checksum mismatch")

    store = served.partition().store
    for name in ("get", "get_many", "scan"):
        monkeypatch.setattr(store, name, damaged)
    before = await served.metric("read_capacity_units")
    for name, value in (
        ("get", KEY),
        ("ttl", KEY),
        ("multi_get", MultiGetRequest(b"hk")),
        ("multi_get", MultiGetRequest(b"hk", [b"sk"])),
        ("batch_get", BatchGetRequest([FullKey(b"hk", b"sk")])),
        ("sortkey_count", b"hk"),
        ("get_scanner", GetScannerRequest(start_inclusive=True)),
    ):
        answer = await served.call(name, value)
        assert answer.error == RocksdbError.CORRUPTION, name
        assert (answer.app_id, answer.partition_index, answer.server) == (2, 0, str(served.address)), name
    assert await served.metric("read_capacity_units") == before
    assert await served.error("incr", IncrRequest(KEY, 1)) == ErrorCode.ERR_RDB_CORRUPTION
    monkeypatch.undo()
    assert (await served.call("get", KEY)).value == PUT.value


async def test_writes_go_on_when_there_are_descriptors_again(served: Served):
    await served.table()
    await served.call("put", PUT)
    flush = Command("replica.flush", [])
    with no_descriptors():
        assert "Too many open files" in await served.ask("RPC_CLI_CLI_CALL", Command, str, flush)
        assert await served.error("put", UpdateRequest(KEY, b"refused")) == ErrorCode.ERR_DISK_IO_ERROR
    assert await served.error("put", UpdateRequest(KEY, b"refused")) == ErrorCode.ERR_DISK_IO_ERROR
    await served.server.node.check_disks()
    assert (await served.call("get", KEY)).value == PUT.value
    assert (await served.call("put", UpdateRequest(KEY, b"later"))).error == 0
    assert await served.ask("RPC_CLI_CLI_CALL", Command, str, flush) == "1 replicas flushed"
    assert (await served.call("get", KEY)).value == b"later"
