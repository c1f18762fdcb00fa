"""Loading a table from files (protocol §5.8)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from replicaserver.replication.replica import Configuration, Granted
from replicaserver.storage.engine import StoreError
from replicaserver.table.bulk_load import BulkLoad, LoadEffect
from shared.pegasus.client.connection import Call
from shared.pegasus.files.bulk_load import LoadInfo, LoadWriter, parse_info, parse_metadata
from shared.pegasus.wire.errors import ErrorCode, RocksdbError, RpcError
from shared.pegasus.wire.keys import encode_key, partition_of
from shared.pegasus.wire.structures.base import Gpid
from shared.pegasus.wire.structures.bulk_load import (
    BulkLoadRequest,
    BulkLoadResponse,
    BulkLoadStatus,
    IngestionRequest,
    IngestionResponse,
    IngestionStatus,
)
from shared.pegasus.wire.structures.rrdb import UpdateRequest
from tests.replicaserver.conftest import Clock, Served, eventually, start

S = BulkLoadStatus
ROWS = [(b"h%03d" % number, b"s", b"loaded %d" % number, 0) for number in range(200)]


# -- what a replica decides -------------------------------------------------------------------------


def downloaded() -> BulkLoad:
    load = BulkLoad()
    load.command(S.DOWNLOADING)
    load.downloaded()
    return load


def test_a_load_goes_through_its_states():
    load = BulkLoad()
    assert load.command(S.DOWNLOADING) == [LoadEffect.DOWNLOAD]
    assert load.command(S.DOWNLOADING) == []
    load.downloaded()
    assert load.command(S.DOWNLOADED) == []
    assert load.status is S.DOWNLOADED
    assert load.command(S.INGESTING) == [LoadEffect.INGEST]
    assert load.command(S.INGESTING) == []
    load.ingested(is_done=True)
    assert load.command(S.INGESTING) == []
    assert load.command(S.SUCCEED) == [LoadEffect.CLEAN_UP]
    assert load.command(S.SUCCEED) == []
    assert load.state().is_cleaned_up
    assert load.command(S.INVALID) == [LoadEffect.STOP, LoadEffect.CLEAN_UP]
    assert load == BulkLoad()


def test_nothing_is_added_before_everything_is_here():
    load = BulkLoad()
    load.command(S.DOWNLOADING)
    assert load.command(S.INGESTING) == []
    assert load.status is S.DOWNLOADING


@pytest.mark.parametrize("wanted", [S.DOWNLOADED, S.INGESTING])
def test_after_a_restart_the_files_are_looked_for_before_they_are_added(wanted: BulkLoadStatus):
    load = BulkLoad()
    assert load.command(wanted) == [LoadEffect.DOWNLOAD]
    assert load.command(wanted) == []
    load.downloaded()
    load.command(S.DOWNLOADED)
    assert load.status is S.DOWNLOADED
    assert load.command(S.INGESTING) == [LoadEffect.INGEST]


def test_a_load_that_was_added_before_a_restart_is_cleaned_up_after_it():
    load = BulkLoad()
    assert load.command(S.SUCCEED) == [LoadEffect.CLEAN_UP]
    assert load.command(S.SUCCEED) == []
    assert load.state().is_cleaned_up


def test_a_load_pauses_and_goes_on():
    load = BulkLoad()
    load.command(S.DOWNLOADING)
    assert load.command(S.PAUSING) == [LoadEffect.STOP]
    assert load.state().is_paused
    assert load.command(S.DOWNLOADING) == [LoadEffect.DOWNLOAD]


@pytest.mark.parametrize("wanted", [S.FAILED, S.CANCELED, S.INVALID])
def test_a_load_is_given_up(wanted: BulkLoadStatus):
    load = BulkLoad()
    load.command(S.DOWNLOADING)
    load.failed(ErrorCode.ERR_CORRUPTION)
    assert load.command(wanted) == [LoadEffect.STOP, LoadEffect.CLEAN_UP]
    assert load == BulkLoad()
    assert load.command(wanted) == []


def test_what_is_being_added_cannot_be_called_back():
    load = downloaded()
    load.command(S.INGESTING)
    assert load.command(S.CANCELED) == load.command(S.DOWNLOADING) == []
    assert load.ingestion is IngestionStatus.RUNNING


def test_a_load_that_failed_to_be_added_begins_again():
    load = downloaded()
    load.command(S.INGESTING)
    load.ingested(is_done=False)
    assert load.command(S.INGESTING) == load.command(S.SUCCEED) == []
    assert load.command(S.DOWNLOADING) == [LoadEffect.DOWNLOAD]


def test_a_load_that_succeeded_is_followed_by_another():
    load = downloaded()
    load.command(S.INGESTING)
    load.ingested(is_done=True)
    load.command(S.SUCCEED)
    assert load.command(S.DOWNLOADING) == [LoadEffect.DOWNLOAD]
    assert (load.progress, load.ingestion, load.state().is_cleaned_up) == (0, IngestionStatus.INVALID, False)
    load.downloaded()
    load.command(S.DOWNLOADED)
    assert load.command(S.INGESTING) == [LoadEffect.INGEST]


# -- files ------------------------------------------------------------------------------------------


def test_files_are_described_by_size_and_md5(tmp_path: Path):
    writer = LoadWriter(tmp_path, LoadInfo(2, "temp", 2), run_bytes=2000)
    assert writer.add(ROWS) == 200
    described = writer.finish()
    assert parse_info((tmp_path / "bulk_load_info").read_bytes()) == LoadInfo(2, "temp", 2)
    for index, metadata in enumerate(described):
        assert parse_metadata((tmp_path / str(index) / "bulk_load_metadata").read_bytes()) == metadata
        assert len(metadata.files) > 1
        assert metadata.file_total_size == sum(
            (tmp_path / str(index) / file.name).stat().st_size for file in metadata.files
        )


@pytest.mark.parametrize(
    "content",
    [
        b"nonsense",
        b"[]",
        b"{}",
        b'{"files":[5],"file_total_size":1}',
        b'{"files":[{"name":"a","size":"1","md5":""}],"file_total_size":1}',
        b'{"files":[{"name":"../a","size":1,"md5":""}],"file_total_size":1}',
        b'{"files":[{"name":"..","size":1,"md5":""}],"file_total_size":1}',
    ],
)
def test_a_damaged_description_is_refused(content: bytes):
    with pytest.raises(ValueError):
        parse_metadata(content)
    with pytest.raises(ValueError):
        parse_info(content)


# -- over RPC ---------------------------------------------------------------------------------------


def prepare(folder: Path, partitions: int = 1, rows: list[tuple[bytes, bytes, bytes, int]] = ROWS) -> Path:
    target = folder / "files" / "root" / "onebox" / "table2"
    writer = LoadWriter(target, LoadInfo(2, "table2", partitions))
    writer.add(rows)
    writer.finish()
    return target


async def command(served: Served, status: BulkLoadStatus, index: int = 0, **change: Any) -> BulkLoadResponse:
    partition = served.server.node.partitions.get((2, index))
    request = BulkLoadRequest(
        pid=Gpid(2, index),
        app_name="table2",
        remote_provider_name="local_service",
        cluster_name="onebox",
        ballot=partition.core.ballot if partition else 0,
        meta_bulk_load_status=status,
        query_bulk_load_metadata=True,
        remote_root_path="root",
    )
    for name, value in change.items():
        setattr(request, name, value)
    return await served.ask("RPC_BULK_LOAD", BulkLoadRequest, BulkLoadResponse, request)


async def until(
    served: Served, status: BulkLoadStatus, holds: Callable[[BulkLoadResponse], bool], index: int = 0
) -> BulkLoadResponse:
    """Repeat a command, as the metaserver does, until its answer is as expected."""
    return await eventually(lambda: command(served, status, index), holds)


def own(answer: BulkLoadResponse, served: Served) -> Any:
    assert answer.hp_group_bulk_load_state is not None
    return answer.hp_group_bulk_load_state[served.address]


async def load(served: Served, index: int = 0) -> None:
    """A whole load, as the metaserver conducts it."""
    await until(served, S.DOWNLOADING, lambda answer: answer.total_download_progress == 100, index)
    await until(served, S.DOWNLOADED, lambda answer: answer.primary_bulk_load_status == S.DOWNLOADED, index)
    await until(served, S.INGESTING, lambda answer: bool(answer.is_group_ingestion_finished), index)
    await until(served, S.SUCCEED, lambda answer: bool(answer.is_group_bulk_load_context_cleaned_up), index)


async def test_rows_of_files_become_rows_of_the_table(served: Served, tmp_path: Path):
    prepare(tmp_path, partitions=2)
    await served.table(partitions=2)
    for index in range(2):
        await load(served, index)
    for hash_key, sort_key, value, _ in ROWS:
        key = encode_key(hash_key, sort_key)
        assert (await served.call("get", key, index=partition_of(key, 2))).value == value
    assert not (served.server.node.folder(served.partition()) / "bulk_load").exists()
    assert await served.metric("bulk_load_successful_count") == 1
    assert await served.metric("bulk_load_download_file_bytes") > 1000
    put = await served.call("put", UpdateRequest(encode_key(b"after", b""), b""))
    assert (put.error, put.decree) == (0, 2)  # the load had the first


async def test_how_long_a_load_has_been_going_on_is_measured_until_it_is_over(served: Served, tmp_path: Path):
    prepare(tmp_path)
    await served.table()
    await until(served, S.DOWNLOADING, lambda answer: answer.total_download_progress == 100)

    async def measured() -> int:
        return await served.metric("bulk_load_max_duration_ms", "server")

    first = await eventually(measured, lambda ms: ms > 0)
    assert await eventually(measured, lambda ms: ms > first)
    assert await served.metric("bulk_load_ingestion_max_duration_ms", "server") == 0
    assert await served.metric("bulk_load_running_count", "server") == 1
    await until(served, S.INGESTING, lambda answer: bool(answer.is_group_ingestion_finished))
    await until(served, S.SUCCEED, lambda answer: bool(answer.is_group_bulk_load_context_cleaned_up))
    assert (await measured(), await served.metric("bulk_load_running_count", "server")) == (0, 0)


async def test_rows_of_files_win_over_rows_that_were_there(served: Served, tmp_path: Path):
    prepare(tmp_path)
    await served.table()
    key = encode_key(b"h000", b"s")
    await served.call("put", UpdateRequest(key, b"older"))
    await load(served)
    assert (await served.call("get", key)).value == b"loaded 0"


async def test_the_metaserver_is_told_what_is_there(served: Served, tmp_path: Path):
    prepare(tmp_path)
    await served.table()
    answer = await until(served, S.DOWNLOADING, lambda answer: answer.total_download_progress == 100)
    assert answer.metadata is not None
    assert [file.name for file in answer.metadata.files] == ["0.sst"]
    assert own(answer, served).download_status == ErrorCode.ERR_OK
    assert not answer.is_group_ingestion_finished


async def test_adding_can_be_asked_for_as_a_write(served: Served, tmp_path: Path):
    prepare(tmp_path)
    await served.table()
    ballot = served.partition().core.ballot
    request = IngestionRequest("table2", ballot=ballot, verify_before_ingest=True)

    async def ingest(index: int = 0) -> IngestionResponse:
        call = Call("RPC_RRDB_RRDB_BULK_LOAD", IngestionRequest, IngestionResponse)
        return await served.connection.call(call, request, 5.0, app_id=2, partition_index=index)

    with pytest.raises(RpcError, match="ERR_INVALID_STATE"):
        await ingest()
    with pytest.raises(RpcError, match="ERR_OBJECT_NOT_FOUND"):
        await ingest(index=7)
    await until(served, S.DOWNLOADING, lambda answer: answer.total_download_progress == 100)
    answer = await ingest()
    assert (answer.err, answer.rocksdb_error) == (ErrorCode.ERR_OK, RocksdbError.OK)
    assert (await served.call("get", encode_key(b"h001", b"s"))).value == b"loaded 1"


async def test_a_file_that_is_not_what_it_should_be_stops_the_load(served: Served, tmp_path: Path):
    target = prepare(tmp_path)
    content = bytearray((target / "0" / "0.sst").read_bytes())
    content[100] ^= 1
    (target / "0" / "0.sst").write_bytes(content)
    await served.table()
    answer = await until(served, S.DOWNLOADING, lambda answer: own(answer, served).download_status != ErrorCode.ERR_OK)
    assert own(answer, served).download_status == ErrorCode.ERR_CORRUPTION
    assert not (served.server.node.folder(served.partition()) / "bulk_load" / "0.sst").exists()
    assert await served.metric("bulk_load_failed_count") == 1


@pytest.mark.parametrize("change", [{"remote_provider_name": "nobody"}, {"remote_root_path": "nowhere"}])
async def test_files_that_are_not_there_stop_the_load(served: Served, tmp_path: Path, change: dict[str, str]):
    prepare(tmp_path)
    await served.table()
    await command(served, S.DOWNLOADING, **change)
    answer = await until(served, S.DOWNLOADING, lambda answer: own(answer, served).download_status != ErrorCode.ERR_OK)
    assert own(answer, served).download_status == ErrorCode.ERR_FILE_OPERATION_FAILED


async def test_a_damaged_description_stops_the_load(served: Served, tmp_path: Path):
    (prepare(tmp_path) / "0" / "bulk_load_metadata").write_bytes(b"{}")
    await served.table()
    answer = await until(served, S.DOWNLOADING, lambda answer: own(answer, served).download_status != ErrorCode.ERR_OK)
    assert own(answer, served).download_status == ErrorCode.ERR_CORRUPTION


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"ballot": 99}, ErrorCode.ERR_INVALID_STATE),
        ({"pid": Gpid(9, 9)}, ErrorCode.ERR_OBJECT_NOT_FOUND),
        ({"meta_bulk_load_status": 77}, ErrorCode.ERR_INVALID_PARAMETERS),
        ({"remote_root_path": "../outside"}, ErrorCode.ERR_INVALID_PARAMETERS),
        ({"cluster_name": ".."}, ErrorCode.ERR_INVALID_PARAMETERS),
        ({"cluster_name": "/etc"}, ErrorCode.ERR_INVALID_PARAMETERS),
        ({"app_name": "../x"}, ErrorCode.ERR_INVALID_PARAMETERS),
    ],
)
async def test_a_command_that_is_not_for_this_replica_is_refused(
    served: Served, change: dict[str, Any], error: ErrorCode
):
    await served.table()
    assert (await command(served, S.DOWNLOADING, **change)).err == error


class UnforeseenError(Exception):
    """Nothing that anybody expects here."""


def raise_unforeseen(*_arguments: Any, **_keywords: Any) -> None:
    raise UnforeseenError("not an OSError")


async def test_an_unforeseen_failure_of_the_provider_fails_the_load(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    prepare(tmp_path)
    await served.table()
    monkeypatch.setattr(LocalFileSystem, "open", raise_unforeseen)
    answer = await until(served, S.DOWNLOADING, lambda answer: own(answer, served).download_status != ErrorCode.ERR_OK)
    assert own(answer, served).download_status == ErrorCode.ERR_FILE_OPERATION_FAILED


async def test_an_unforeseen_failure_fails_the_fetching_and_not_for_good(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    prepare(tmp_path)
    await served.table()
    with monkeypatch.context() as broken:
        broken.setattr("replicaserver.jobs.bulk_loader.parse_metadata", raise_unforeseen)
        await until(served, S.DOWNLOADING, lambda answer: own(answer, served).download_status != ErrorCode.ERR_OK)
    await command(served, S.FAILED)
    await load(served)


async def test_an_unforeseen_failure_fails_the_adding_and_not_for_good(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    prepare(tmp_path)
    await served.table()
    await until(served, S.DOWNLOADING, lambda answer: answer.total_download_progress == 100)
    with monkeypatch.context() as broken:
        broken.setattr(served.partition().store, "ingest", raise_unforeseen)
        await until(served, S.INGESTING, lambda answer: own(answer, served).ingest_status == IngestionStatus.FAILED)
    assert (await served.call("put", UpdateRequest(encode_key(b"h", b""), b""))).error == 0
    await load(served)


async def test_only_so_many_replicas_fetch_at_a_time(flags: dict[str, str], tmp_path: Path, clock: Clock):
    flags["max_concurrent_bulk_load_downloading_count"] = "0"
    served = await start(tmp_path, clock, flags)
    try:
        await served.table()
        assert (await command(served, S.DOWNLOADING)).err == ErrorCode.ERR_BUSY
    finally:
        served.connection.close()
        await served.server.drain()


async def test_a_replica_that_has_fetched_lets_the_next_one_fetch(flags: dict[str, str], tmp_path: Path, clock: Clock):
    flags["max_concurrent_bulk_load_downloading_count"] = "1"
    served = await start(tmp_path, clock, flags)
    try:
        prepare(tmp_path, partitions=3)
        await served.table(partitions=3)
        for index in range(3):
            await until(served, S.DOWNLOADING, lambda answer: answer.total_download_progress == 100, index)
    finally:
        served.connection.close()
        await served.server.drain()


async def test_what_was_fetched_before_a_crash_is_not_fetched_again(
    served: Served, tmp_path: Path, clock: Clock, flags: dict[str, str]
):
    target = prepare(tmp_path)
    await served.table()
    await until(served, S.DOWNLOADING, lambda answer: answer.total_download_progress == 100)
    copy = tmp_path / "crashed"
    shutil.copytree(tmp_path / "replica", copy / "replica")
    (target / "0" / "0.sst").unlink()  # it could not be fetched again
    (copy / "files").symlink_to(tmp_path / "files")
    again = await start(copy, clock, flags)
    try:
        partition = again.partition()
        partition.step(Granted(Configuration(partition.core.ballot + 1, again.address)))
        await until(again, S.INGESTING, lambda answer: bool(answer.is_group_ingestion_finished))
        assert (await again.call("get", encode_key(b"h001", b"s"))).value == b"loaded 1"
        assert await again.metric("bulk_load_download_file_bytes") == 0
    finally:
        again.connection.close()
        await again.server.drain()


async def test_a_crash_while_files_are_added_leaves_the_replica_closed_to_writes_until_they_are(
    served: Served, tmp_path: Path, clock: Clock, flags: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    prepare(tmp_path)
    await served.table()
    await until(served, S.DOWNLOADING, lambda answer: answer.total_download_progress == 100)
    copy = tmp_path / "crashed"
    store = served.partition().store
    ingest = store.ingest

    def crash_after_adding(*arguments: Any, **keywords: Any) -> None:
        ingest(*arguments, **keywords)
        shutil.copytree(tmp_path / "replica", copy / "replica")

    monkeypatch.setattr(store, "ingest", crash_after_adding)
    await until(served, S.INGESTING, lambda answer: bool(answer.is_group_ingestion_finished))
    (copy / "files").symlink_to(tmp_path / "files")
    again = await start(copy, clock, flags)
    try:
        partition = again.partition()
        partition.step(Granted(Configuration(partition.core.ballot + 1, again.address)))
        put = UpdateRequest(encode_key(b"h000", b"s"), b"newer")
        assert await again.error("put", put) == ErrorCode.ERR_OPERATION_DISABLED
        await until(again, S.INGESTING, lambda answer: bool(answer.is_group_ingestion_finished))
        assert (await again.call("put", put)).error == 0
        await until(again, S.SUCCEED, lambda answer: bool(answer.is_group_bulk_load_context_cleaned_up))
        assert (await again.call("get", put.key)).value == b"newer"
    finally:
        again.connection.close()
        await again.server.drain()


async def test_a_load_that_a_crash_interrupted_can_be_given_up(served: Served):
    await served.table()
    await served.partition().note("ingesting", 5)
    served.partition().admission.is_ingesting = True
    await command(served, S.CANCELED)
    assert (await served.call("put", UpdateRequest(encode_key(b"h", b""), b""))).error == 0
    assert served.partition().store.noted("ingesting") == 0


async def test_files_that_cannot_be_added_fail_the_load_and_writes_go_on(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    prepare(tmp_path)
    await served.table()
    await until(served, S.DOWNLOADING, lambda answer: answer.total_download_progress == 100)

    def refuse(*_arguments: Any, **_keywords: Any) -> None:
        raise StoreError("Corruption: block checksum mismatch")

    monkeypatch.setattr(served.partition().store, "ingest", refuse)
    answer = await until(
        served, S.INGESTING, lambda answer: own(answer, served).ingest_status == IngestionStatus.FAILED
    )
    assert not answer.is_group_ingestion_finished
    assert (await served.call("put", UpdateRequest(encode_key(b"h", b""), b""))).error == 0


async def test_the_same_files_can_be_loaded_twice(served: Served, tmp_path: Path):
    prepare(tmp_path)
    await served.table()
    key = encode_key(b"h000", b"s")
    await load(served)
    await served.call("put", UpdateRequest(key, b"between"))
    await load(served)
    assert (await served.call("get", key)).value == b"loaded 0"
