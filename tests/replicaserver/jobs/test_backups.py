"""Backing a replica up to a file provider, and making a table from a backup (protocol §12.6)."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from replicaserver.jobs import transfers
from replicaserver.replication.replica import Assign, Configuration, Granted
from replicaserver.storage import folders
from replicaserver.storage.engine import StoreSettings
from replicaserver.storage.folders import FolderError
from replicaserver.storage.rocks import RocksStore
from shared.pegasus.client.connection import Call
from shared.pegasus.files.providers import FileProvider
from shared.pegasus.wire.errors import ErrorCode
from shared.pegasus.wire.keys import encode_key
from shared.pegasus.wire.structures.backup import BackupClearRequest, BackupRequest, BackupResponse, PolicyInfo
from shared.pegasus.wire.structures.base import Gpid
from shared.pegasus.wire.structures.layer2 import AppInfo
from shared.pegasus.wire.structures.rrdb import UpdateRequest
from tests.replicaserver.conftest import Served, eventually

KEY = encode_key(b"h", b"s")
FOLDER = "backup/daily/77/table2_2/0"


def request(**change: object) -> BackupRequest:
    made = BackupRequest(Gpid(2, 0), PolicyInfo("daily", "local_service"), "table2", 77)
    for name, value in change.items():
        setattr(made, name, value)
    return made


async def ask(served: Served, asked: BackupRequest) -> BackupResponse:
    return await served.ask("RPC_COLD_BACKUP", BackupRequest, BackupResponse, asked)


async def back_up(served: Served, asked: BackupRequest | None = None) -> BackupResponse:
    """Ask until the backup has ended, as the metaserver does."""
    return await eventually(
        lambda: ask(served, asked or request()),
        lambda answer: answer.progress == 1000 or answer.err != ErrorCode.ERR_OK,
    )


def envs(**change: str) -> dict[str, str]:
    return {
        "restore.block_service_provider": "local_service",
        "restore.cluster_name": "onebox",
        "restore.policy_name": "daily",
        "restore.app_name": "table2",
        "restore.app_id": "2",
        "restore.backup_id": "77",
        **{f"restore.{name}": value for name, value in change.items()},
    }


async def test_a_backup_is_what_was_committed_when_it_began(served: Served, tmp_path: Path):
    await served.table()
    await served.call("put", UpdateRequest(KEY, b"val"))
    answer = await back_up(served)
    assert (answer.err, answer.progress, answer.backup_id, answer.policy_name) == (ErrorCode.ERR_OK, 1000, 77, "daily")
    folder = tmp_path / "files" / FOLDER
    described = json.loads((folder / "backup_metadata").read_text())
    assert described["checkpoint_total_size"] == answer.checkpoint_total_size > 0
    assert {file["name"] for file in described["files"]} == {path.name for path in folder.iterdir()} - {
        "backup_metadata"
    }
    assert not list(served.server.node.folder(served.partition()).glob("backup.*"))
    assert await served.metric("backup_successful_count") == 1


async def test_how_long_a_backup_took_and_its_largest_file_are_measured(served: Served, tmp_path: Path):
    await served.table()
    await served.call("put", UpdateRequest(KEY, b"val"))
    await back_up(served)
    sent = [path.stat().st_size for path in (tmp_path / "files" / FOLDER).iterdir() if path.name != "backup_metadata"]
    assert await served.metric("backup_file_upload_max_bytes") == max(sent)
    assert await eventually(lambda: served.metric("backup_max_duration_ms"), lambda elapsed: elapsed > 0)


async def test_a_table_made_from_a_backup_has_its_rows(served: Served):
    await served.table()
    for _ in range(3):  # several ballots and decrees
        partition = served.partition()
        partition.step(Granted(Configuration(partition.core.ballot + 1, served.address)))
        await served.call("put", UpdateRequest(KEY, b"val"))
    await back_up(served)
    await served.call("put", UpdateRequest(KEY, b"later"))

    partition = await served.server.node.create(Gpid(5, 0), served.app(5, 1, envs()))
    assert (partition.core.ballot, partition.store.durable().ballot) == (0, 0)
    assert partition.step(Assign(Configuration())) != []
    partition.step(Granted(Configuration(1, served.address)))
    assert (await served.call("get", KEY, app_id=5)).value == b"val"
    assert (await served.call("put", UpdateRequest(KEY, b"new"), app_id=5)).error == 0


async def test_a_restored_replica_counts_as_one_when_it_has_forgotten_the_other_table(
    served: Served, monkeypatch: pytest.MonkeyPatch, store_settings: StoreSettings
):
    await served.table()
    await served.call("put", UpdateRequest(KEY, b"val"))
    await back_up(served)
    crashed: list[Path] = []

    def crash(replica: Path, _app: AppInfo) -> None:
        crashed.append(replica)
        raise OSError("killed before the folder was described")

    with monkeypatch.context() as dying:
        dying.setattr(folders, "save_description", crash)
        with pytest.raises(OSError, match="killed"):
            await served.server.node.create(Gpid(5, 0), served.app(5, 1, envs()))
    left = RocksStore(folders.engine_folder(crashed[0]), store_settings)
    assert (left.durable().ballot, left.get(KEY) is None) == (0, False)
    left.close()
    partition = await served.server.node.create(Gpid(5, 0), served.app(5, 1, envs()))
    assert partition.step(Assign(Configuration())) != []


async def test_a_backup_elsewhere_is_found_where_it_was_put(served: Served):
    await served.table()
    await served.call("put", UpdateRequest(KEY, b"val"))
    await back_up(served, request(backup_path="elsewhere/deep"))
    partition = await served.server.node.create(Gpid(5, 0), served.app(5, 1, envs(restore_path="elsewhere/deep")))
    assert partition.store.get(KEY) is not None


async def test_a_missing_backup_makes_no_replica_unless_it_may_be_left_out(served: Served):
    with pytest.raises(FolderError, match="cannot be restored"):
        await served.server.node.create(Gpid(5, 0), served.app(5, 1, envs()))
    assert (5, 0) not in served.server.node.partitions
    app = served.app(5, 1, envs(skip_bad_partition="true"))
    partition = await served.server.node.create(Gpid(5, 0), app)
    assert list(partition.store.scan(b"", b"")) == []


@pytest.mark.parametrize("damage", ["bytes", "description", "provider"])
async def test_a_damaged_backup_makes_no_replica(served: Served, tmp_path: Path, damage: str):
    await served.table()
    await back_up(served)
    folder = tmp_path / "files" / FOLDER
    wanted = envs()
    if damage == "bytes":
        next(folder.glob("MANIFEST*")).write_bytes(b"damaged")
    elif damage == "description":
        (folder / "backup_metadata").write_text("{}")
    else:
        wanted["restore.block_service_provider"] = "nobody"
    with pytest.raises(FolderError, match="cannot be restored"):
        await served.server.node.create(Gpid(5, 0), served.app(5, 1, wanted))


@pytest.mark.parametrize(
    ("change", "error"),
    [({"pid": Gpid(9, 9)}, ErrorCode.ERR_OBJECT_NOT_FOUND), ({"pid": Gpid(2, 1)}, ErrorCode.ERR_INVALID_STATE)],
)
async def test_only_primaries_are_backed_up(served: Served, change: dict[str, object], error: ErrorCode):
    await served.server.node.create(Gpid(2, 1), served.app())
    assert (await ask(served, request(**change))).err == error


@pytest.mark.parametrize(
    "change",
    [
        {"backup_path": "../outside"},
        {"backup_path": "a/../../outside"},
        {"policy": PolicyInfo("../../outside", "local_service")},
        {"policy": PolicyInfo("a/b", "local_service")},
        {"app_name": "../../../outside/x"},
    ],
)
async def test_a_backup_that_would_leave_the_providers_folder_is_refused(
    served: Served, tmp_path: Path, change: dict[str, object]
):
    await served.table()
    assert (await ask(served, request(**change))).err == ErrorCode.ERR_INVALID_PARAMETERS
    assert not list(tmp_path.glob("**/outside"))


@pytest.mark.parametrize(
    "change",
    [
        {"restore_path": "../outside"},
        {"policy_name": ".."},
        {"app_name": "../table2"},
        {"backup_id": "../77"},
    ],
)
async def test_a_table_is_not_made_from_what_is_outside_of_the_providers_folder(served: Served, change: dict[str, str]):
    with pytest.raises(FolderError, match=r"5\.0 cannot be restored"):
        await served.server.node.create(Gpid(5, 0), served.app(5, 1, envs(**change)))


@pytest.mark.parametrize(
    "content",
    [
        b"5",
        b"{}",
        b'{"files":{}}',
        b'{"files":[5]}',
        b'{"files":[{"name":"a"}]}',
        b'{"files":[{"name":"","md5":""}]}',
        b'{"files":[{"name":"../CURRENT","md5":""}]}',
        b'{"files":[{"name":"..","md5":""}]}',
    ],
)
async def test_a_damaged_description_of_a_backup_makes_no_replica(served: Served, tmp_path: Path, content: bytes):
    await served.table()
    await back_up(served)
    (tmp_path / "files" / FOLDER / "backup_metadata").write_bytes(content)
    with pytest.raises(FolderError, match=r"5\.0 cannot be restored"):
        await served.server.node.create(Gpid(5, 0), served.app(5, 1, envs()))


async def test_a_provider_that_is_unknown_fails_the_backup(served: Served):
    await served.table()
    answer = await back_up(served, request(policy=PolicyInfo("daily", "nobody")))
    assert answer.err == ErrorCode.ERR_FILE_OPERATION_FAILED
    assert await served.metric("backup_failed_count") == 1


async def test_a_provider_that_cannot_be_written_fails_the_backup(served: Served, tmp_path: Path):
    await served.table()
    (tmp_path / "files").write_text("a file where a folder should be")
    assert (await back_up(served)).err == ErrorCode.ERR_FILE_OPERATION_FAILED


async def test_a_backup_that_was_cleared_can_be_made_again(served: Served, tmp_path: Path):
    await served.table()
    await back_up(served)
    await served.call("put", UpdateRequest(KEY, b"val"))
    clear = Call("RPC_CLEAR_COLD_BACKUP", BackupClearRequest, bytes)
    served.connection.tell(clear, BackupClearRequest(Gpid(2, 0), "daily"))

    async def ask_again() -> int:
        await ask(served, request())
        return await served.metric("backup_started_count")

    await eventually(ask_again, lambda started: started == 2)
    assert (await back_up(served)).progress == 1000


async def test_a_provider_that_hangs_fails_its_backup_and_holds_up_no_other(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    await served.table()
    await served.call("put", UpdateRequest(KEY, b"val"))
    answers = threading.Event()
    with monkeypatch.context() as hanging:
        hanging.setattr(transfers, "STALL_S", 0.05)
        hanging.setattr(FileProvider, "upload", lambda *_arguments: answers.wait(60))
        policies = [PolicyInfo(name, "local_service") for name in ("one", "two", "three")]
        for policy in policies:
            answer = await back_up(served, request(policy=policy))
            assert answer.err == ErrorCode.ERR_FILE_OPERATION_FAILED
    answers.set()
    assert (await back_up(served)).progress == 1000
