"""The HTTP API of the metaserver (protocol §2.6, §4, §5, §15)."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from metaserver.cluster.leadership import Leadership
from shared.pegasus.wire import calls
from shared.pegasus.wire.structures.base import HostPort
from shared.pegasus.wire.structures.meta_admin import (
    AppEnvOperation,
    CreateAppOptions,
    CreateAppRequest,
    DropAppRequest,
    UpdateAppEnvRequest,
)
from tests.metaserver.conftest import Cluster, node

REDIRECTED = [
    "/meta/app",
    "/meta/app/duplication",
    "/meta/app/query_bulk_load",
    "/meta/app/start_bulk_load",
    "/meta/app/start_compaction",
    "/meta/app/usage_scenario",
    "/meta/app_envs",
    "/meta/apps",
    "/meta/backup_policy",
    "/meta/cluster",
    "/meta/nodes",
]
NODE_1 = str(node(1))


async def create(cluster, name, partitions=4, replicas=1, **envs):
    options = CreateAppOptions(partitions, replicas, False, "pegasus", True, envs)
    response = await cluster.call(calls.CREATE_APP, CreateAppRequest(name, options))
    assert response.err == "ERR_OK"
    return response.appid


async def test_the_list_of_calls_is_that_of_the_api_page(cluster):
    status, body = await cluster.get("/")
    listed = orjson.loads(body)
    assert status == 200
    assert list(listed) == sorted(listed)
    assert set(REDIRECTED) < set(listed)
    assert len(listed) == 24
    assert listed["/meta/app"] == "name=<app_name>[&detail]. Query app info."
    assert "/healthz" not in listed


async def test_the_head_of_an_answer_is_that_of_the_original(cluster):
    reader, writer = await asyncio.open_connection(cluster.address.host, cluster.address.port)
    writer.write(b"GET /meta/app_envs?name=temp HTTP/1.1\r\nHost: h\r\n\r\n")
    answer = await reader.readuntil(b"}\n")
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n")
    assert answer.endswith(b"\r\n\r\n{}\n")


async def test_the_cluster(served):
    status, body = await served.get("/meta/cluster?ignored=1")
    assert (status, body.decode()) == (
        200,
        f'{{"meta_servers":"{served.address}","primary_meta_server":"{served.address}","zookeeper_hosts":"",'
        '"zookeeper_root":"/pegasus/onebox","meta_function_level":"steady",'
        '"balance_operation_count":"{\\n  \\"copy_pri\\": 0,\\n  \\"copy_sec\\": 0,\\n  \\"move_pri\\": 0,\\n'
        '  \\"total\\": 0\\n}","primary_replica_count_stddev":"0.00","total_replica_count_stddev":"0.00"}\n',
    )


async def test_an_uneven_cluster_shows_its_spread(served):
    await served.report(1)  # there are rows in its partitions
    await served.beat(2)
    await create(served, "t", 4)
    await served.accept()
    shown = orjson.loads((await served.get("/meta/cluster"))[1])
    assert shown["primary_replica_count_stddev"] == "6.00"  # 14 and 2
    counts = {"copy_pri": 6, "copy_sec": 0, "move_pri": 0, "total": 6}  # of 4 and 8, half should move
    assert orjson.loads(shown["balance_operation_count"]) == counts
    assert '"copy_pri": 6,\n' in shown["balance_operation_count"]


async def test_a_frozen_cluster_says_so(cluster):
    assert orjson.loads((await cluster.get("/meta/cluster"))[1])["meta_function_level"] == "freezed"


async def test_no_nodes(cluster):
    assert await cluster.get("/meta/nodes") == (
        200,
        b'{"details":{},"summary":{"total_node_count":"0","alive_node_count":"0","unalive_node_count":"0"}}\n',
    )


async def test_nodes_alive_and_dead(served):
    await served.beat(3)
    served.clock.advance(21)
    await served.beat(1)
    served.clock.advance(1)
    await served.service.tick()
    _, body = await served.get("/meta/nodes")
    assert body.decode() == (
        f'{{"details":{{"{NODE_1}":{{"address":"{NODE_1}","status":"ALIVE"}},'
        f'"{node(3)}":{{"address":"{node(3)}","status":"UNALIVE"}}}},'
        '"summary":{"total_node_count":"2","alive_node_count":"1","unalive_node_count":"1"}}\n'
    )
    _, body = await served.get("/meta/nodes?detail=false")  # the value of a flag does not matter
    assert orjson.loads(body)["details"][NODE_1] == {
        "address": NODE_1,
        "status": "ALIVE",
        "replica_count": "12",
        "primary_count": "12",
        "secondary_count": "0",
    }


async def test_no_tables_in_service(cluster):
    for target in ("/meta/apps", "/meta/apps?detail"):
        assert await cluster.get(target) == (200, b'{"general_info":{},"summary":{"total_app_count":"0"}}\n')


async def test_tables_in_service(served):
    _, body = await served.get("/meta/apps")
    assert list(orjson.loads(body)["general_info"]["2"]) == [
        "app_id",
        "status",
        "app_name",
        "app_type",
        "partition_count",
        "replica_count",
        "is_stateful",
        "create_time",
        "drop_time",
        "drop_expire",
        "envs_count",
    ]
    assert (
        b'"2":{"app_id":"2","status":"AVAILABLE","app_name":"temp","app_type":"pegasus","partition_count":"8"' in body
    )
    assert body.endswith(b'"summary":{"total_app_count":"2"}}\n')


async def test_tables_in_service_with_their_health(served):
    await served.beat(2, 3)
    await create(served, "t", 4, replicas=3)
    await served.accept()
    _, body = await served.get("/meta/apps?detail")
    assert (
        b'"3":{"app_id":"3","app_name":"t","partition_count":"4","fully_healthy":"0","unhealthy":"4",'
        b'"write_unhealthy":"4","read_unhealthy":"0"}' in body
    )
    assert body.endswith(
        b'"summary":{"total_app_count":"3","fully_healthy_app_count":"2","unhealthy_app_count":"1",'
        b'"write_unhealthy_app_count":"1","read_unhealthy_app_count":"0"}}\n'
    )


async def test_one_table(served):
    assert await served.get("/meta/app?name=temp") == (
        200,
        b'{"general":{"app_name":"temp","app_id":"2","partition_count":"8","max_replica_count":"1"}}\n',
    )


async def test_one_table_in_detail(served):
    await served.beat(2)
    await create(served, "t2", 2)
    await served.accept()
    for number in (1, 2):
        served.clock.advance(12)
        await served.beat(3 - number if number == 1 else 2)
        await served.service.tick()
    _, body = await served.get("/meta/app?name=t2&detail")
    shown = orjson.loads(body)
    assert list(shown) == ["general", "replicas", "nodes", "healthy"]
    rows = sorted(shown["replicas"].values(), key=lambda row: row["primary"])
    assert rows[0] | {"pidx": ""} == {
        "pidx": "",
        "ballot": "2",
        "replica_count": "0/1",
        "primary": "-",
        "secondaries": "[]",
    }
    assert (rows[1]["ballot"], rows[1]["replica_count"], rows[1]["primary"]) == ("1", "1/1", str(node(2)))
    assert list(shown["nodes"]) == [str(node(2)), "total"]
    assert shown["nodes"]["total"] == {"node": "total", "primary": "1", "secondary": "0", "total": "1"}
    assert shown["healthy"] == {
        "fully_healthy_partition_count": "1",
        "unhealthy_partition_count": "1",
        "write_unhealthy_partition_count": "1",
        "read_unhealthy_partition_count": "1",
    }


async def test_a_table_that_is_not_there_or_not_yet(cluster):
    assert await cluster.get("/meta/app") == (400, b"app name shouldn't be empty")
    assert await cluster.get("/meta/app?name=") == (400, b"app name shouldn't be empty")
    assert await cluster.get("/meta/app?name=nosuch") == (404, b'table not found: "nosuch"')
    assert await cluster.get("/meta/app?name=temp") == (500, b"ERR_BUSY_CREATING")


async def test_a_dropped_table_is_not_found(served):
    assert (await served.call(calls.DROP_APP, DropAppRequest("temp"))).err == "ERR_OK"
    assert await served.get("/meta/app?name=temp") == (404, b'table not found: "temp"')
    assert await served.get("/meta/app_envs?name=temp") == (200, b"{}\n")


async def test_environment_variables_of_a_table(served):
    assert await served.get("/meta/app_envs") == (400, b"app name shouldn't be empty")
    assert await served.get("/meta/app_envs?name=nosuch") == (200, b"{}\n")
    assert await served.get("/meta/app_envs?name=temp&other=1") == (200, b"{}\n")
    envs = ["replica.slow_query_threshold", "default_ttl"]
    request = UpdateAppEnvRequest("temp", AppEnvOperation.SET, envs, ["100", "1"])
    assert (await served.call(calls.UPDATE_APP_ENV, request)).err == "ERR_OK"
    expected = b'{"default_ttl":"1","replica.slow_query_threshold":"100"}\n'
    assert await served.get("/meta/app_envs?name=temp") == (200, expected)


async def test_all_environment_variables_there_are(cluster):
    status, body = await cluster.get("/envs/list?ignored")
    assert status == 200
    assert body.startswith(
        b'{\n  "business.info": {\n    "limitation": "",\n    "sample": "",\n    "type": "string"\n  },\n'
    )
    assert not body.endswith(b"\n")
    assert len(orjson.loads(body)) == 33


COMPACTION = {
    "app_name": "temp",
    "type": "once",
    "target_level": -1,
    "bottommost_level_compaction": "skip",
    "max_concurrent_running_count": 0,
    "trigger_time": "",
}


@pytest.mark.parametrize(
    ("difference", "message"),
    [
        ({"max_concurrent_running_count": "0"}, b"invalid request structure"),
        ({"app_name": ""}, b"app_name should not be empty"),
        ({"type": "wrong"}, b"type should ony be 'once' or 'periodic'"),
        ({"target_level": -3}, b"target_level should be >= -1"),
        ({"bottommost_level_compaction": "wrong"}, b"bottommost_level_compaction should ony be 'skip' or 'force'"),
        ({"max_concurrent_running_count": -2}, b"max_running_count should be >= 0"),
        ({"type": "periodic"}, b"trigger_time should not be empty when type is periodic"),
    ],
)
async def test_what_a_compaction_must_say(served, difference, message):
    body = orjson.dumps(COMPACTION | difference)
    assert await served.get("/meta/app/start_compaction", body=body) == (400, message)


async def envs(cluster, name="temp"):
    return orjson.loads((await cluster.get(f"/meta/app_envs?name={name}"))[1])


async def test_a_compaction_once_is_a_set_of_variables(served):
    status, body = await served.get("/meta/app/start_compaction", body=orjson.dumps(COMPACTION))
    assert (status, body) == (200, b'{"error":"ERR_OK","hint_message":""}\n')
    assert await envs(served) == {
        "manual_compact.once.bottommost_level_compaction": "skip",
        "manual_compact.once.target_level": "-1",
        "manual_compact.once.trigger_time": "1700000000",
    }


async def test_a_periodic_compaction_keeps_its_times_of_day(served):
    periodic = {"type": "periodic", "trigger_time": "3:00,21:00", "max_concurrent_running_count": 2, "target_level": 6}
    await served.get("/meta/app/start_compaction", body=orjson.dumps(COMPACTION | periodic))
    assert await envs(served) == {
        "manual_compact.max_concurrent_running_count": "2",
        "manual_compact.periodic.bottommost_level_compaction": "skip",
        "manual_compact.periodic.target_level": "6",
        "manual_compact.periodic.trigger_time": "3:00,21:00",
    }


@pytest.mark.parametrize(
    ("difference", "answer"),
    [
        (
            {"target_level": 0},
            b'{"error":"ERR_INVALID_PARAMETERS","hint_message":"invalid value \'0\', should be \'-1 or >= 1\'"}\n',
        ),
        ({"app_name": "nosuch"}, b'{"error":"ERR_APP_NOT_EXIST","hint_message":"app cannot be found"}\n'),
    ],
)
async def test_a_compaction_that_cannot_be_started_says_why(served, difference, answer):
    body = orjson.dumps(COMPACTION | difference)
    assert await served.get("/meta/app/start_compaction", body=body) == (200, answer)
    assert await envs(served) == {}


async def test_a_table_in_creation_accepts_variables(cluster):
    body = orjson.dumps({"app_name": "temp", "scenario": "bulk_load"})
    assert (await cluster.get("/meta/app/usage_scenario", body=body))[1] == b'{"error":"ERR_OK","hint_message":""}\n'


@pytest.mark.parametrize(
    ("body", "status", "answer"),
    [
        ({"app": "temp", "scenario": "normal"}, 400, b"invalid request structure"),
        ({"app_name": "", "scenario": "normal"}, 400, b"app_name should not be empty"),
        ({"app_name": "temp", "scenario": "wrong"}, 400, b"scenario should ony be 'normal' or 'bulk_load'"),
        ({"app_name": "temp", "scenario": "prefer_write"}, 400, b"scenario should ony be 'normal' or 'bulk_load'"),
        ({"app_name": "temp"}, 400, b"scenario should ony be 'normal' or 'bulk_load'"),
        ({"app_name": "temp", "scenario": "bulk_load"}, 200, b'{"error":"ERR_OK","hint_message":""}\n'),
    ],
)
async def test_a_usage_scenario(served, body, status, answer):
    assert await served.get("/meta/app/usage_scenario", body=orjson.dumps(body)) == (status, answer)
    expected = {"rocksdb.usage_scenario": "bulk_load"} if status == 200 else {}
    assert await envs(served) == expected


async def test_a_table_without_duplication(served):
    assert await served.get("/meta/app/duplication?name=temp") == (200, b"null")
    assert await served.get("/meta/app/duplication") == (400, b"name should not be empty")
    assert await served.get("/meta/app/duplication?name=nosuch") == (404, b"ERR_APP_NOT_EXIST")


class TestWithoutDuplication:
    @pytest.fixture
    def settings(self):
        return {"duplication_enabled": "false"}

    async def test_duplication_may_be_off(self, cluster):
        message = b"duplication is not enabled [FLAGS_duplication_enabled=false]"
        assert await cluster.get("/meta/app/duplication") == (404, message)


@pytest.mark.parametrize("path", ["/meta/apps", "/meta/nodes", "/meta/app"])
async def test_unknown_arguments_of_three_calls_are_refused(cluster, path):
    assert await cluster.get(f"{path}?detail&unknown=1") == (400, b"")


# -- another metaserver leads ---------------------------------------------------------------------


@pytest.fixture
async def follower(tmp_path, request):
    leader = getattr(request, "param", HostPort("127.0.0.1", 34602))
    cluster = Cluster(tmp_path / "follower.db", {})
    await cluster.start(leadership=Leadership(HostPort("127.0.0.1", 34601), leader, (leader,)))
    yield cluster
    await cluster.stop()


@pytest.mark.parametrize("path", REDIRECTED)
async def test_a_follower_redirects_to_the_leader(follower, path):
    assert await follower.get(path) == (307, b"")
    assert follower.location == f"http://127.0.0.1:34602{path}"


async def test_a_redirect_keeps_decoded_arguments(follower):
    await follower.get("//meta///app/?detail&name=a%20b")
    assert follower.location == "http://127.0.0.1:34602/meta/app?detail=&name=a b"


async def test_a_redirect_cannot_smuggle_headers(follower):
    reader, writer = await asyncio.open_connection(follower.address.host, follower.address.port)
    writer.write(b"GET /meta/app_envs?name=a%0d%0aSet-Cookie:x%00y HTTP/1.1\r\nHost: h\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    assert b"Location: http://127.0.0.1:34602/meta/app_envs?name=aSet-Cookie:xy\r\n" in head
    assert b"\nSet-Cookie" not in head


async def test_bytes_that_are_not_text_stay_escaped_in_a_redirect(follower):
    await follower.get("/meta/app_envs?name=%EB%B2%95%80")
    assert follower.location == "http://127.0.0.1:34602/meta/app_envs?name=법%80"


@pytest.mark.parametrize("follower", [HostPort("", 0)], indirect=True)
async def test_without_a_leader_the_redirect_says_so(follower):
    assert (await follower.get("/meta/apps"))[0] == 307
    assert follower.location == "http://invalid host_port/meta/apps"


@pytest.mark.parametrize("path", ["/meta/apps", "/meta/nodes", "/meta/app"])
async def test_a_follower_checks_unknown_arguments_first(follower, path):
    assert await follower.get(f"{path}?unknown=1") == (400, b"")


@pytest.mark.parametrize(
    "path", ["/", "/version", "/configs", "/metrics", "/envs/list", "/recentStartTime", "/healthz"]
)
async def test_what_describes_the_process_is_not_redirected(follower, path):
    assert (await follower.get(path))[0] == 200
