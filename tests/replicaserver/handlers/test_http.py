"""What a replica server says over HTTP (protocol §2, §4, §6, §7)."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace

import pytest

from replicaserver.node.maintenance import Maintenance
from replicaserver.replication.replica import Forgotten
from replicaserver.storage.engine import StoreError
from shared.pegasus.wire.errors import ErrorCode
from shared.pegasus.wire.keys import encode_key
from shared.pegasus.wire.structures.rrdb import UpdateRequest
from tests.replicaserver.conftest import Clock, Served, eventually


async def test_every_call_is_listed(served: Served):
    status, body = await served.http("/")
    assert status == 200
    assert list(json.loads(body)) == [
        "/",
        "/config",
        "/configs",
        "/metrics",
        "/pprof/cmdline",
        "/pprof/growth",
        "/pprof/heap",
        "/pprof/profile",
        "/pprof/symbol",
        "/recentStartTime",
        "/replica/data_version",
        "/replica/duplication",
        "/replica/manual_compaction",
        "/updateConfig",
        "/version",
    ]
    assert '"/replica/data_version":"app_id=<app_id>. Query the data version of an app."' in body
    assert body.endswith("}\n")


async def test_the_head_of_an_answer_is_that_of_the_original(served: Served):
    reader, writer = await asyncio.open_connection("127.0.0.1", served.address.port)
    writer.write(b"GET /replica/manual_compaction?app_id=1 HTTP/1.1\r\nHost: h\r\n\r\n")
    expected = b'{"status":{"finished":0,"idle":0,"queuing":0,"running":0}}'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n" % len(expected)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(head)
    assert await reader.readexactly(len(expected)) == expected
    writer.close()


async def test_the_data_version_of_every_replica(served: Served):
    await served.table(partitions=11)
    status, body = await served.http("/replica/data_version?app_id=2")
    assert status == 200
    keys = ["0", "1", "10", *(str(index) for index in range(2, 10))]
    assert body == "{" + ",".join(f'"{key}":{{"data_version":"1"}}' for key in keys) + "}"


@pytest.mark.parametrize("route", ["data_version", "manual_compaction"])
@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "app_id should not be empty"),
        ("?other=1", "app_id should not be empty"),
        ("?app_id=", "invalid app_id="),
        ("?app_id=abc", "invalid app_id=abc"),
        ("?app_id=-1", "invalid app_id=-1"),
        ("?app_id=2147483648", "invalid app_id=2147483648"),
    ],
)
async def test_a_table_must_be_named_by_a_number(served: Served, route: str, query: str, message: str):
    assert await served.http(f"/replica/{route}{query}") == (400, message)


async def test_the_data_version_of_a_table_that_is_not_here(served: Served):
    assert await served.http("/replica/data_version?app_id=0x7") == (404, "app_id=0x7 not found")


async def test_manual_compactions_are_counted_by_state(served: Served):
    await served.table(partitions=3)
    served.partition(index=1).compaction.enqueue(100, 0)
    served.partition(index=2).compaction.enqueue(100, 0)
    served.partition(index=2).compaction.start(101)
    status, body = await served.http("/replica/manual_compaction?app_id=2", "POST", b"ignored")
    assert (status, body) == (200, '{"status":{"finished":0,"idle":1,"queuing":1,"running":1}}')


async def test_duplication_says_that_there_is_none(served: Served):
    await served.table()
    assert await served.http("/replica/duplication") == (400, "appid should not be empty")
    assert await served.http("/replica/duplication?appid=x") == (400, "invalid appid=x")
    assert await served.http("/replica/duplication?appid=9") == (404, "no primary for app [appid=9]")
    assert await served.http("/replica/duplication?appid=2") == (404, "no duplication assigned for app [appid=2]")
    served.partition().step(Forgotten())
    assert await served.http("/replica/duplication?appid=2") == (404, "no primary for app [appid=2]")


@pytest.fixture
def no_duplication(flags: dict[str, str]) -> None:
    flags["duplication_enabled"] = "false"


async def test_duplication_can_be_off(no_duplication: None, served: Served):
    expected = "duplication is not enabled [FLAGS_duplication_enabled=false]"
    assert await served.http("/replica/duplication?appid=2") == (404, expected)


async def test_an_unknown_call_is_not_found(served: Served):
    assert await served.http("/replica//nothing/") == (404, 'service not found for "replica/nothing"')


async def test_settings_act_at_once(served: Served):
    sequence = [
        ("", "ERR_INVALID_PARAMETERS: there should be exactly one config to be updated once"),
        ("?a=1&b=2", "ERR_INVALID_PARAMETERS: there should be exactly one config to be updated once"),
        ("?config_sync_interval_ms=-1", "ERR_INVALID_PARAMETERS: -1 is invalid"),
        ("?config_sync_interval_ms=10", "ERR_OK"),
    ]
    for query, update_status in sequence:
        expected = (200, '{"update_status":"%s"}\n' % update_status)  # noqa: UP031 - braces all over
        assert await served.http(f"/updateConfig{query}") == expected
    assert served.server.flags.integer("config_sync_interval_ms") == 10
    _, body = await served.http("/config?name=config_sync_interval_ms")
    assert body.endswith('"value":"10"}\n')


async def test_metrics_are_measured_on_real_tables(served: Served):
    await served.table(partitions=2)
    await served.call("put", UpdateRequest(encode_key(b"h", b""), b"x" * 100))
    _, text = await served.http("/metrics?ids=replica@2.0,server&with_metric_fields=name,value")
    answer = json.loads(text)
    assert (answer["role"], answer["port"], answer["cluster"]) == ("replica", served.address.port, "unknown")
    values = {
        entity["id"]: {metric["name"]: metric.get("value") for metric in entity["metrics"]}
        for entity in answer["entities"]
    }
    assert values["replica@2.0"]["put_requests"] == 1
    assert values["replica@2.0"]["rdb_estimated_keys"] == 1
    assert values["replica@2.0"]["rdb_memtable_mem_usage_bytes"] > 100
    assert values["server"]["primary_replicas"] == values["server"]["total_replicas"] == 2
    assert values["server"]["network_server_sessions"] == 2
    assert values["server"]["resident_mem_usage_mb"] > 10
    _, text = await served.http("/metrics?types=disk")
    [disk] = json.loads(text)["entities"]
    assert (disk["id"], disk["attributes"]["tag"]) == ("disk@data1", "data1")
    assert all(metric["value"] > 0 for metric in disk["metrics"])


async def test_reads_and_writes_that_fail_are_counted(served: Served):
    await served.table()
    await served.server.node.describe(
        served.partition(), replace(served.partition().app, envs={"replica.deny_client_request": "reconfig*write"})
    )
    assert await served.error("put", UpdateRequest(encode_key(b"h", b""), b"v")) == ErrorCode.ERR_INVALID_STATE
    assert await served.metric("write_failed_requests", "server") == 1
    assert await served.metric("read_failed_requests", "server") == 0
    assert await served.metric("write_busy_requests", "server") == 0


@pytest.fixture
def profiled(flags: dict[str, str]) -> None:
    flags["is_profile"] = "true"


@pytest.mark.usefixtures("profiled")
async def test_rpcs_are_measured_one_by_one_when_that_is_asked_for(served: Served):
    await served.table()
    await served.call("put", UpdateRequest(encode_key(b"h", b""), b"v"))
    _, text = await served.http("/metrics?types=profiler&ids=task@RPC_RRDB_RRDB_PUT")
    [entity] = json.loads(text)["entities"]
    assert entity["attributes"] == {"task_name": "RPC_RRDB_RRDB_PUT"}
    names = {metric["name"] for metric in entity["metrics"]}
    assert {"profiler_executed_tasks", "profiler_server_rpc_latency_ns"} <= names
    assert await served.metric("profiler_executed_tasks", "task@RPC_RRDB_RRDB_PUT") == 1


async def test_metrics_for_prometheus(served: Served):
    await served.table()
    status, text = await served.http("/metrics/prometheus")
    assert status == 200
    labels = 'cluster="unknown",role="replica",entity="replica",table_id="2",partition_id="0"'
    assert f"pegasus_put_requests{{{labels}}} 0" in text


async def test_health(served: Served):
    assert (await served.http("/healthz"))[0] == 200
    assert (await served.http("/readyz"))[0] == 503  # no metaserver has said what to serve


async def test_profiles_are_taken(served: Served):
    assert (await served.http("/pprof/cmdline"))[0] == 200
    assert (await served.http("/pprof/symbol"))[1].startswith("num_symbols: ")
    status, body = await served.http("/pprof/profile?seconds=0")
    assert (status, body[:16]) == (200, "\0" * 8 + "\3" + "\0" * 7)


async def test_a_compaction_that_a_table_asks_for_runs_and_applies_its_rules(served: Served, clock: Clock):
    rules = {
        "ops": [
            {
                "type": "COT_DELETE",
                "params": "",
                "rules": [
                    {
                        "type": "FRT_HASHKEY_PATTERN",
                        "params": json.dumps({"pattern": "tmp", "match_type": "SMT_MATCH_PREFIX"}),
                    }
                ],
            }
        ]
    }
    await served.table()
    for name in (b"tmp1", b"kept", b"dead"):
        expire = clock.now + 10 if name == b"dead" else 0
        await served.call("put", UpdateRequest(encode_key(name, b""), b"v", expire))
    clock.advance(20)
    trigger = str(int(clock.unix_s))
    await served.set_envs(
        {
            "manual_compact.once.trigger_time": trigger,
            "manual_compact.once.bottommost_level_compaction": "force",
            "user_specified_compaction": json.dumps(rules),
            "default_ttl": "500",
        }
    )
    await eventually(
        lambda: served.http("/replica/manual_compaction?app_id=2"),
        lambda answer: json.loads(answer[1])["status"]["finished"] == 1,
    )
    partition = served.partition()
    assert [key for key, _ in partition.store.scan(b"", b"")] == [encode_key(b"kept", b"")]
    assert (await served.call("ttl", encode_key(b"kept", b""))).ttl_seconds == 500
    assert partition.store.files() == 1
    assert partition.store.durable().compacted_s == int(clock.unix_s)
    served.server.compactor.consider(partition)
    assert partition.compaction.status.name == "FINISHED"  # once is once


async def test_only_so_many_replicas_of_a_table_compact_at_a_time(
    served: Served, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    await served.table(partitions=4)
    may_go_on = threading.Event()
    for partition in served.server.node.of_table(2):
        monkeypatch.setattr(partition.store, "compact", lambda _order: may_go_on.wait(20))
    await served.set_envs(
        {
            "manual_compact.once.trigger_time": str(int(clock.unix_s)),
            "manual_compact.max_concurrent_running_count": "1",
        }
    )

    async def status() -> dict[str, int]:
        counts: dict[str, int] = json.loads((await served.http("/replica/manual_compaction?app_id=2"))[1])["status"]
        return counts

    assert await status() == {"finished": 0, "idle": 0, "queuing": 3, "running": 1}
    assert await served.metric("rdb_manual_compact_queued_tasks", "replica@2.3") == 1
    may_go_on.set()
    await eventually(status, lambda counts: counts["finished"] == 4)


async def test_a_compaction_that_fails_can_be_asked_for_again(
    served: Served, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    await served.table()

    def fail(_order: object) -> None:
        raise StoreError("Corruption")

    with monkeypatch.context() as broken:
        broken.setattr(served.partition().store, "compact", fail)
        await served.set_envs({"manual_compact.once.trigger_time": str(int(clock.unix_s))})

        async def state() -> str:
            return served.partition().compaction.status.name

        await eventually(state, lambda name: name == "IDLE")
    served.server.compactor.consider(served.partition())
    await eventually(state, lambda name: name == "FINISHED")


async def test_expired_rows_are_swept_away(served: Served, clock: Clock):
    await served.table()
    for number in range(10):
        await served.call("put", UpdateRequest(encode_key(b"h", b"%d" % number), b"", clock.now + 5 * number))
    clock.advance(12)
    await Maintenance(served.server.node).sweep()
    rows = [key for key, _ in served.partition().store.scan(b"", b"")]
    assert rows == [encode_key(b"h", b"%d" % number) for number in range(3, 10)]
