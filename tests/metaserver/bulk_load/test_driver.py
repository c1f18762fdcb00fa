"""A bulk load, over HTTP and RPC (§5.8, §5.9, §12.6, §15)."""

from __future__ import annotations

import orjson
import pytest

from metaserver.cluster.metadata import Load
from metaserver.cluster.tables import NewTable
from shared.pegasus.client.connection import Call
from shared.pegasus.files.bulk_load import INFO, LoadInfo, encode_info, table_folder
from shared.pegasus.wire.structures import bulk_load as messages
from shared.pegasus.wire.structures.bulk_load import (
    BulkLoadControlType,
    BulkLoadResponse,
    BulkLoadStatus,
    IngestionStatus,
    PartitionBulkLoadState,
)
from tests.metaserver.conftest import Cluster, node

S = BulkLoadStatus
LOAD = Load(2, "onebox", "local_service", "root", False, S.DOWNLOADING)
START = Call("RPC_CM_START_BULK_LOAD", messages.StartBulkLoadRequest, messages.StartBulkLoadResponse)
CONTROL = Call("RPC_CM_CONTROL_BULK_LOAD", messages.ControlBulkLoadRequest, messages.ControlBulkLoadResponse)
QUERY = Call("RPC_CM_QUERY_BULK_LOAD_STATUS", messages.QueryBulkLoadRequest, messages.QueryBulkLoadResponse)
CLEAR = Call("RPC_CM_CLEAR_BULK_LOAD", messages.ClearBulkLoadStateRequest, messages.ClearBulkLoadStateResponse)

# -- a metaserver, with replica servers played by the test ------------------------------------------


class Loader:
    """Replica servers that take one step at every command."""

    def __init__(self) -> None:
        self.broken: dict[int, str] = {}
        self.done: set[int] = set()

    def __call__(self, request):
        index = request.pid.partition_index
        wanted = S(request.meta_bulk_load_status)
        if wanted == S.INGESTING:
            self.done.add(index)
        elif wanted == S.FAILED:
            self.broken.pop(index, None)
        state = PartitionBulkLoadState(100, self.broken.get(index, "ERR_OK"), IngestionStatus.INVALID)
        return BulkLoadResponse(
            "ERR_OK",
            request.pid,
            request.app_name,
            wanted,
            {node(1): state},
            None,
            100,
            index in self.done,
            wanted in (S.SUCCEED, S.FAILED, S.CANCELED),
            wanted in (S.PAUSING, S.PAUSED),
            {node(1): state},
        )


@pytest.fixture
def files(served):
    """Makes the description of a table's files."""

    def make(content=None, app_id=2, partitions=8, name="temp"):
        folder = served.path.parent / table_folder("root", "onebox", name)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / INFO).write_bytes(content or encode_info(LoadInfo(app_id, name, partitions)))

    return make


def body(**difference):
    members = {
        "app_name": "temp",
        "cluster_name": "onebox",
        "file_provider_type": "local_service",
        "remote_root_path": "root",
    }
    return orjson.dumps(members | difference)


async def start(cluster, **difference):
    status, answer = await cluster.get("/meta/app/start_bulk_load", body=body(**difference))
    assert status == 200
    return tuple(orjson.loads(answer).values())


async def shown(cluster, name="temp"):
    status, answer = await cluster.get(f"/meta/app/query_bulk_load?name={name}")
    assert status == 200
    return answer


async def test_a_table_is_loaded_step_by_step(served, files):
    files()
    served.loader = Loader()
    status, answer = await served.get("/meta/app/start_bulk_load", body=body())
    assert (status, answer) == (200, b'{"error":"ERR_OK","hint_msg":""}\n')
    assert await shown(served) == (
        b'{"error":"ERR_OK","app_status":"replication::bulk_load_status::BLS_DOWNLOADING"}\n'
    )
    seen = []
    while served.service.metadata.is_loading(2):
        seen.append(served.service.metadata.loads[2].status.name)
        await served.loads.step()
    assert list(dict.fromkeys(seen)) == ["DOWNLOADING", "DOWNLOADED", "INGESTING", "SUCCEED"]
    assert (await shown(served)).endswith(b'BLS_SUCCEED"}\n')
    first = served.load_commands[0]
    assert (first.hp_primary, first.ballot, first.remote_root_path, first.cluster_name) == (
        node(1),
        1,
        "root",
        "onebox",
    )
    assert (await served.call(CLEAR, messages.ClearBulkLoadStateRequest("temp"))).err == "ERR_OK"
    assert (await shown(served)).endswith(b'BLS_INVALID"}\n')


async def test_a_load_begun_by_an_earlier_process_goes_on(served, files):
    files()
    await start(served)
    await served.stop()
    again = Cluster(served.path, {})
    await again.start()
    again.loader = Loader()
    while again.service.metadata.is_loading(2):
        await again.loads.step()
    assert again.service.metadata.loads[2].status == S.SUCCEED
    await again.stop()
    await served.start()


async def test_no_more_partitions_of_a_server_ingest_than_the_setting_says(served, files):
    files()
    served.loader = Loader()
    await start(served)
    while served.service.metadata.loads[2].status != S.INGESTING:
        await served.loads.step()
    served.load_commands.clear()
    await served.loads.step()
    wanted = [request.meta_bulk_load_status for request in served.load_commands]
    assert wanted == [S.INGESTING] * 4 + [S.DOWNLOADED] * 4


async def test_a_load_that_fails_once_is_tried_again(served, files):
    files()
    served.loader = Loader()
    served.loader.broken = {3: "ERR_CORRUPTION"}
    await start(served)
    while served.service.metadata.is_loading(2):
        await served.loads.step()
    load = served.service.metadata.loads[2]
    assert (load.status, load.rollbacks, load.failure) == (S.SUCCEED, 1, "ERR_CORRUPTION")


async def test_a_load_can_be_paused_resumed_and_canceled(served, files):
    async def control(type):
        return (await served.call(CONTROL, messages.ControlBulkLoadRequest("temp", type))).err

    files()
    served.loader = Loader()
    assert await control(BulkLoadControlType.PAUSE) == "ERR_INACTIVE_STATE"
    await start(served)
    assert await control(99) == "ERR_INVALID_PARAMETERS"
    assert await control(BulkLoadControlType.RESTART) == "ERR_INVALID_STATE"
    assert await control(BulkLoadControlType.PAUSE) == "ERR_OK"
    await served.loads.step()
    assert served.service.metadata.loads[2].status == S.PAUSED
    served.load_commands.clear()
    await served.loads.step()
    assert served.load_commands == []
    assert await control(BulkLoadControlType.RESTART) == "ERR_OK"
    assert (await served.call(CLEAR, messages.ClearBulkLoadStateRequest("temp"))).err == "ERR_INVALID_STATE"
    assert await control(BulkLoadControlType.CANCEL) == "ERR_OK"
    await served.loads.step()
    response = await served.call(QUERY, messages.QueryBulkLoadRequest("temp"))
    assert (response.app_status, response.is_bulk_loading) == (S.CANCELED, False)
    assert (await served.call(CONTROL, messages.ControlBulkLoadRequest("nosuch", 0))).err == "ERR_APP_NOT_EXIST"


async def test_a_load_is_seen_partition_by_partition(served, files):
    files()
    served.loader = Loader()
    await start(served)
    await served.loads.step()
    response = await served.call(QUERY, messages.QueryBulkLoadRequest("temp"))
    assert (response.app_name, response.max_replica_count, response.is_bulk_loading) == ("temp", 1, True)
    assert response.partitions_status == [S.DOWNLOADING] * 8
    assert [states[node(1)].download_progress for states in response.hp_bulk_load_states] == [100] * 8
    assert (await served.call(QUERY, messages.QueryBulkLoadRequest("nosuch"))).err == "ERR_APP_NOT_EXIST"


async def test_a_dropped_tables_load_ends(served, files):
    files()
    await start(served)
    await served.service.drop_table("temp", 60, success_if_not_exist=False)
    await served.loads.step()
    assert not served.service.metadata.is_loading(2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"app": "t", "cluster_name": "c", "file_provider_type": "local_service", "remote_root_path": "r"},
            b"invalid request structure",
        ),
        ({"app_name": ""}, b"app_name should not be empty"),
        ({"app_name": "t", "cluster_name": ""}, b"cluster_name should not be empty"),
        ({"app_name": "t", "cluster_name": "c"}, b"file_provider_type should not be empty"),
        (
            {"app_name": "t", "cluster_name": "c", "file_provider_type": "l"},
            b"remote_root_path should not be empty",
        ),
    ],
)
async def test_what_a_load_must_say(served, content, message):
    assert await served.get("/meta/app/start_bulk_load", body=orjson.dumps(content)) == (400, message)


async def test_what_keeps_a_load_from_beginning(served, files):
    assert await start(served, app_name="nosuch") == ("ERR_APP_NOT_EXIST", "app not existed is ")
    assert await start(served) == ("ERR_FILE_OPERATION_FAILED", "file_provider error")
    assert await start(served, file_provider_type="nosuch") == ("ERR_INVALID_PARAMETERS", "invalid file_provider")
    files(content=b'{"app_id":')
    assert await start(served) == ("ERR_CORRUPTION", "bulk_load_info damaged")
    files(partitions=4)
    assert await start(served) == ("ERR_INCONSISTENT_STATE", "app_id or partition_count is inconsistent")
    behind = messages.StartBulkLoadRequest("temp", "onebox", "local_service", "root", True)
    refused = await served.call(START, behind)
    assert (refused.err, refused.hint_msg) == ("ERR_INCONSISTENT_STATE", "inconsistent ingestion behind option")
    files()
    assert await start(served) == ("ERR_OK", "")
    assert await start(served, app_name="stat") == ("ERR_BUSY", "meta server is busy now, please wait")
    served.flags.update("enable_concurrent_bulk_load", "true")
    assert await start(served) == ("ERR_BUSY", "app(temp) is already executing bulk load")
    files(app_id=1, partitions=4, name="stat")
    assert await start(served, app_name="stat") == ("ERR_OK", "")


@pytest.mark.parametrize(
    ("member", "value"),
    [("remote_root_path", "a/../../b"), ("cluster_name", ".."), ("cluster_name", "a/b"), ("remote_root_path", "*")],
)
async def test_a_load_from_outside_of_the_providers_folder_is_refused(served, member, value):
    error, hint = await start(served, **{member: value})
    assert error == "ERR_INVALID_PARAMETERS"
    assert hint.startswith(f"{member} '{value}' contains ")


async def test_a_table_in_creation_is_not_loaded(cluster):
    assert await start(cluster) == ("ERR_APP_DROPPED", "app not available is ")


async def test_what_is_asked_about_a_load(served):
    assert await served.get("/meta/app/query_bulk_load") == (400, b"name should not be empty")
    assert await shown(served) == b'{"error":"ERR_OK","app_status":"replication::bulk_load_status::BLS_INVALID"}\n'
    assert await shown(served, "nosuch") == (
        b'{"error":"ERR_APP_NOT_EXIST","app_status":"replication::bulk_load_status::BLS_INVALID"}\n'
    )


async def test_without_providers_bulk_load_is_off(tmp_path):
    cluster = Cluster(tmp_path / "meta.db", {}, providers=None)
    await cluster.start([NewTable("temp", 8, 1)])
    assert await cluster.get("/meta/app/start_bulk_load", body=b"{}") == (404, b"bulk load is not enabled")
    assert await cluster.get("/meta/app/query_bulk_load?name=temp") == (404, b"bulk load is not enabled")
    refused = await cluster.call(QUERY, messages.QueryBulkLoadRequest("temp"))
    assert (refused.err, refused.hint_msg) == ("ERR_SERVICE_NOT_ACTIVE", "bulk load is not enabled")
    await cluster.stop()
