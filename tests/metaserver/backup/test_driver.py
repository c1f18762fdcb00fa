"""Backup policies, backups, and tables made from them, over HTTP and RPC (§5.6, §12.6, §15)."""

from __future__ import annotations

import datetime

import orjson
import pytest
from structlog.testing import capture_logs

from metaserver.cluster.metadata import BackupPolicy
from shared.pegasus.client.connection import Call
from shared.pegasus.wire import calls
from shared.pegasus.wire.structures import backup as messages
from shared.pegasus.wire.structures.backup import BackupResponse
from shared.pegasus.wire.structures.base import Gpid
from shared.pegasus.wire.structures.layer2 import QueryCfgRequest
from shared.pegasus.wire.structures.meta_admin import CreateAppResponse, DropAppRequest
from tests.metaserver.conftest import NOW_S, Cluster, node


def rpc_call(name, request, response):
    return Call(f"RPC_CM_{name}", getattr(messages, request), getattr(messages, response))


ADD = rpc_call("ADD_BACKUP_POLICY", "AddBackupPolicyRequest", "AddBackupPolicyResponse")
MODIFY = rpc_call("MODIFY_BACKUP_POLICY", "ModifyBackupPolicyRequest", "ModifyBackupPolicyResponse")
QUERY = rpc_call("QUERY_BACKUP_POLICY", "QueryBackupPolicyRequest", "QueryBackupPolicyResponse")
START = rpc_call("START_BACKUP_APP", "StartBackupAppRequest", "StartBackupAppResponse")
STATUS = rpc_call("QUERY_BACKUP_STATUS", "QueryBackupStatusRequest", "QueryBackupStatusResponse")
RESTORE = Call("RPC_CM_START_RESTORE", messages.RestoreRequest, CreateAppResponse)
RESTORED = rpc_call("QUERY_RESTORE_STATUS", "QueryRestoreRequest", "QueryRestoreResponse")

DAY = 86400
# -- policies ---------------------------------------------------------------------------------------


class TestPolicies:
    @pytest.fixture
    def settings(self):
        return {"cold_backup_disabled": "false"}

    async def add(self, cluster, name, **difference):
        members = {
            "backup_provider_type": "local_service",
            "app_ids": [2],
            "backup_interval_seconds": DAY,
            "backup_history_count_to_keep": 1,
            "start_time": "12:00",
        }
        request = messages.AddBackupPolicyRequest(policy_name=name, **(members | difference))
        response = await cluster.call(ADD, request)
        return response.err, response.hint_message

    async def test_the_published_policies(self, served):
        assert await served.get("/meta/backup_policy") == (200, b"{}\n")
        assert await self.add(served, "TEST1") == ("ERR_OK", "")
        assert await self.add(served, "TEST2") == ("ERR_OK", "")
        first = (
            b'"TEST1":{"name":"TEST1","backup_provider_type":"local_service","backup_interval":"86400",'
            b'"app_ids":"[2]","start_time":"12:00","status":"enabled","backup_history_count":"1"}'
        )
        second = first.replace(b"TEST1", b"TEST2")
        assert await served.get("/meta/backup_policy?name=TEST1") == (200, b"{" + first + b"}\n")
        assert await served.get("/meta/backup_policy") == (200, b"{" + first + b"," + second + b"}\n")
        assert await served.get("/meta/backup_policy?name=TEST3") == (200, b"{}\n")
        assert await served.get("/meta/backup_policy?other=1") == (400, b"Invalid parameter")
        duplicate = b"failed to parse request: ERR_INVALID_PARAMETERS: duplicate parameter: name"
        assert await served.get("/meta/backup_policy?name=TEST1&name=TEST2") == (400, duplicate)

    @pytest.mark.parametrize(
        ("difference", "hint"),
        [
            ({"app_ids": [2, 77]}, "there is no table 77"),
            ({"app_ids": []}, "a policy needs a table"),
            ({"backup_interval_seconds": 600}, "the interval must exceed 600 s"),
            ({"backup_history_count_to_keep": 0}, "at least one backup must be kept"),
            ({"start_time": "24:00"}, "start time '24:00' is not of the form hh:mm"),
            ({"backup_provider_type": "nosuch"}, "there is no file provider 'nosuch'"),
        ],
    )
    async def test_a_wrong_policy_is_refused(self, served, difference, hint):
        assert await self.add(served, "p", **difference) == ("ERR_INVALID_PARAMETERS", hint)
        assert served.service.metadata.policies == {}

    async def test_a_policys_name_is_its_own(self, served):
        await self.add(served, "p")
        assert (await self.add(served, "p"))[0] == "ERR_INVALID_PARAMETERS"
        assert (await self.add(served, ""))[0] == "ERR_INVALID_PARAMETERS"

    async def test_a_policy_can_be_changed(self, served):
        async def modify(**members):
            return (await served.call(MODIFY, messages.ModifyBackupPolicyRequest("p", **members))).err

        await self.add(served, "p")
        assert await modify(add_appids=[1], removal_appids=[2], new_backup_interval_sec=7200) == "ERR_OK"
        assert await modify(start_time="1:05", backup_history_count_to_keep=3, is_disable=True) == "ERR_OK"
        expected = BackupPolicy("p", "local_service", frozenset({1}), 7200, 3, "1:05", True)
        assert served.service.metadata.policies == {"p": expected}
        assert await modify(removal_appids=[1]) == "ERR_INVALID_PARAMETERS"
        assert (await served.call(MODIFY, messages.ModifyBackupPolicyRequest("q"))).err == "ERR_INVALID_PARAMETERS"

    async def test_a_policy_makes_backups_and_deletes_old_ones(self, served):
        noon = datetime.datetime.fromtimestamp(NOW_S).strftime("%H:%M")
        await self.add(served, "p", start_time=noon)
        ids = []
        for _ in range(3):
            await served.backups.step()
            (kept,) = served.service.metadata.backups.values()
            assert (kept.policy_name, kept.is_failed, kept.tables) == ("p", False, {2: "temp"})
            folder = served.path.parent / "backup" / "p" / str(kept.id)
            folder.mkdir(parents=True)
            ids.append((kept.id, folder))
            served.clock.advance(DAY)
        assert len({backup_id for backup_id, _ in ids}) == 3
        assert [folder.exists() for _, folder in ids] == [False, False, True]
        assert len(served.backup_commands) == 3 * 8
        response = await served.call(QUERY, messages.QueryBackupPolicyRequest([], 5))
        assert [entry.policy_name for entry in response.policys] == ["p"]
        assert [info.backup_id for info in response.backup_infos[0]] == [ids[-1][0]]
        unknown = await served.call(QUERY, messages.QueryBackupPolicyRequest(["q"], 1))
        assert (unknown.err, unknown.hint_msg) == ("ERR_INVALID_PARAMETERS", "there is no policy 'q'")

    async def test_an_old_backup_that_cannot_be_deleted_is_tried_once_a_minute_and_told_once(self, served):
        noon = datetime.datetime.fromtimestamp(NOW_S).strftime("%H:%M")
        await self.add(served, "p", start_time=noon)
        await served.backups.step()
        (kept,) = served.service.metadata.backups.values()
        folder = served.path.parent / "backup" / "p" / str(kept.id)
        folder.parent.mkdir(parents=True)
        folder.symlink_to(served.path.parent.parent)  # which the provider does not follow
        served.clock.advance(DAY)
        with capture_logs() as logged:
            for _ in range(5):
                await served.backups.step()
            served.clock.advance(61)
            for _ in range(5):
                await served.backups.step()
        told = [line for line in logged if line["event"] == "an old backup cannot be deleted"]
        assert [line["backup_id"] for line in told] == [kept.id]
        folder.unlink()
        await served.backups.step()
        assert kept.id in served.service.metadata.backups
        served.clock.advance(61)
        await served.backups.step()
        assert kept.id not in served.service.metadata.backups


async def test_policies_are_off_unless_switched_on(served):
    assert await served.get("/meta/backup_policy") == (404, b"cold_backup_disabled")
    refused = await served.call(ADD, messages.AddBackupPolicyRequest("local_service", "p", [2], DAY, 1, "1:00"))
    assert (refused.err, refused.hint_message) == (
        "ERR_SERVICE_NOT_ACTIVE",
        "cold backup is disabled (cold_backup_disabled=true)",
    )


# -- backups ----------------------------------------------------------------------------------------


async def status_of(cluster, app_id=2, backup_id=None):
    return await cluster.call(STATUS, messages.QueryBackupStatusRequest(app_id, backup_id))


async def test_a_backup_ends_when_every_partition_is_saved(served):
    progress = dict.fromkeys(range(8), 1000)
    progress[3] = 500
    served.saver = lambda request: BackupResponse("ERR_OK", request.pid, progress[request.pid.partition_index])
    started = await served.call(START, messages.StartBackupAppRequest("local_service", 2, "somewhere"))
    assert (started.err, started.backup_id) == ("ERR_OK", NOW_S * 1000)
    await served.backups.step()
    shown = await status_of(served)
    assert (shown.hint_message, shown.backup_items[0].end_time_ms) == ("93 percent", 0)
    again = await served.call(START, messages.StartBackupAppRequest("local_service", 2))
    assert again.err == "ERR_BUSY"
    progress[3] = 1000
    served.clock.advance(2)
    await served.backups.step()
    (item,) = (await status_of(served, 2, started.backup_id)).backup_items
    assert (item.app_name, item.backup_path, item.is_backup_failed) == ("temp", "somewhere", False)
    assert item.end_time_ms == item.start_time_ms + 2000
    first = served.backup_commands[0]
    assert (first.pid, first.backup_path) == (Gpid(2, 0), "somewhere")


async def test_a_backup_that_fails_says_so(served):
    served.saver = lambda request: BackupResponse("ERR_FILE_OPERATION_FAILED", request.pid)
    await served.call(START, messages.StartBackupAppRequest("local_service", 2))
    await served.backups.step()
    assert (await status_of(served)).backup_items[0].is_backup_failed


@pytest.mark.parametrize("error", ["ERR_BUSY", "ERR_INVALID_STATE", "ERR_OBJECT_NOT_FOUND"])
async def test_a_primary_that_cannot_yet_is_asked_again(served, error):
    served.saver = lambda request: BackupResponse(error, request.pid)
    await served.call(START, messages.StartBackupAppRequest("local_service", 2))
    await served.backups.step()
    assert (await status_of(served)).backup_items[0].end_time_ms == 0
    served.saver = lambda request: BackupResponse("ERR_OK", request.pid, 1000)
    await served.backups.step()
    assert (await status_of(served)).backup_items[0].end_time_ms > 0


async def test_a_backup_of_a_dropped_table_fails(served):
    await served.call(START, messages.StartBackupAppRequest("local_service", 2))
    await served.call(calls.DROP_APP, DropAppRequest("temp"))
    await served.backups.step()
    assert (await status_of(served)).backup_items[0].is_backup_failed


async def test_a_backup_goes_on_after_a_restart(served):
    await served.call(START, messages.StartBackupAppRequest("local_service", 2))
    await served.stop()
    again = Cluster(served.path, {})
    await again.start()
    await again.backups.step()
    assert (await status_of(again)).backup_items[0].end_time_ms > 0
    await again.stop()
    await served.start()


async def test_what_cannot_be_backed_up(served):
    async def start(app_id, provider="local_service"):
        return (await served.call(START, messages.StartBackupAppRequest(provider, app_id))).err

    assert await start(77) == "ERR_INVALID_STATE"
    assert await start(2, "nosuch") == "ERR_INVALID_PARAMETERS"
    assert (await status_of(served)).err == "ERR_INVALID_PARAMETERS"


@pytest.mark.parametrize("path", ["../outside", "a/../../b", "a/b*"])
async def test_a_backup_that_would_leave_the_providers_folder_is_refused(served, path):
    refused = await served.call(START, messages.StartBackupAppRequest("local_service", 2, path))
    assert refused.err == "ERR_INVALID_PARAMETERS"
    assert refused.hint_message.startswith(f"backup_path '{path}' contains ")
    assert served.service.metadata.backups == {}


# -- restore ----------------------------------------------------------------------------------------


def save(cluster, content=None):
    """A backup as replica servers leave it."""
    folder = cluster.path.parent / "backup" / "nightly" / "1700" / "temp_2" / "0"
    folder.mkdir(parents=True)
    (folder / "backup_metadata").write_bytes(content or orjson.dumps({"partition_count": 4, "files": []}))


def request(name="copy", **difference):
    members = {"policy_name": "nightly", "time_stamp": 1700, "app_name": "temp", "app_id": 2}
    members |= {"new_app_name": name, "backup_provider_name": "local_service"}
    return messages.RestoreRequest(**(members | difference))


async def test_a_table_is_made_from_a_backup(served):
    save(served)
    created = await served.call(RESTORE, request())
    assert (created.err, created.appid) == ("ERR_OK", 3)
    await served.settle()
    (target, proposal) = next((t, r) for t, r in served.proposals if r.config.pid.app_id == 3)
    assert target == node(1)
    assert proposal.info.envs == {
        "restore.app_id": "2",
        "restore.app_name": "temp",
        "restore.backup_id": "1700",
        "restore.block_service_provider": "local_service",
        "restore.policy_name": "nightly",
        "restore.restore_path": "",
        "restore.skip_bad_partition": "false",
    }
    waiting = await served.call(RESTORED, messages.QueryRestoreRequest(3))
    assert (waiting.restore_status, waiting.restore_progress) == (["ERR_BUSY"] * 4, [0] * 4)
    await served.accept()
    done = await served.call(RESTORED, messages.QueryRestoreRequest(3))
    assert (done.restore_status, done.restore_progress) == (["ERR_OK"] * 4, [1000] * 4)
    await served.backups.step()
    assert served.service.metadata.tables[3].envs == {}
    assert (await served.call(calls.QUERY_CONFIG, QueryCfgRequest("copy"))).partition_count == 4


@pytest.mark.parametrize(
    ("content", "difference", "error"),
    [
        (None, {"new_app_name": "temp"}, "ERR_INVALID_PARAMETERS"),
        (None, {"backup_provider_name": "nosuch"}, "ERR_INVALID_PARAMETERS"),
        (None, {"time_stamp": 99}, "ERR_OBJECT_NOT_FOUND"),
        (b"{", {}, "ERR_CORRUPTION"),
        (b'{"files":[]}', {}, "ERR_CORRUPTION"),
        (b"[]", {}, "ERR_CORRUPTION"),
        (b'{"partition_count":65537}', {}, "ERR_CORRUPTION"),
        (None, {"restore_path": "../.."}, "ERR_INVALID_PARAMETERS"),
        (None, {"policy_name": ".."}, "ERR_INVALID_PARAMETERS"),
        (None, {"app_name": "../temp"}, "ERR_INVALID_PARAMETERS"),
        (None, {"new_app_name": "a/b"}, "ERR_INVALID_PARAMETERS"),
    ],
)
async def test_what_cannot_be_restored(served, content, difference, error):
    save(served, content)
    assert (await served.call(RESTORE, request(**difference))).err == error
    assert 3 not in served.service.metadata.tables


async def test_a_frozen_cluster_restores_nothing(cluster):
    save(cluster)
    assert (await cluster.call(RESTORE, request())).err == "ERR_STATE_FREEZED"


async def test_the_restoration_of_what_is_not_there(served):
    assert (await served.call(RESTORED, messages.QueryRestoreRequest(77))).err == "ERR_APP_NOT_EXIST"
    await served.call(calls.DROP_APP, DropAppRequest("temp"))
    assert (await served.call(RESTORED, messages.QueryRestoreRequest(2))).err == "ERR_APP_DROPPED"
