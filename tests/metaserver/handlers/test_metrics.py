"""The metrics of a metaserver (protocol §7, appendix A)."""

from __future__ import annotations

from dataclasses import replace

import orjson

from metaserver.cluster.metadata import Backup, BackupPolicy, Change
from shared.pegasus.wire import calls
from shared.pegasus.wire.structures.meta_admin import DropAppRequest


async def metrics(cluster, query):
    """Values by entity and name."""
    status, body = await cluster.get(f"/metrics?{query}")
    assert status == 200
    return {e["id"]: {m["name"]: m.get("value") for m in e["metrics"]} for e in orjson.loads(body)["entities"]}


async def test_the_server_counts_its_replica_servers_and_connections(served):
    await served.beat(2)
    served.clock.advance(15)
    await served.beat(1)
    served.clock.advance(10)
    await served.service.tick()
    server = (await metrics(served, "types=server"))["server"]
    assert (server["alive_replica_servers"], server["unalive_replica_servers"]) == (1, 1)
    assert server["replica_server_disconnections"] == 1
    assert server["network_server_sessions"] == 2  # this query, and the RPCs
    assert server["resident_mem_usage_mb"] > 0
    assert server["virtual_mem_usage_mb"] >= server["resident_mem_usage_mb"]


async def test_every_partition_counts_in_exactly_one_gauge_of_its_table(served):
    table = (await metrics(served, "ids=table@2"))["table@2"]
    assert table["healthy_partitions"] == sum(table.values()) == 8
    served.clock.advance(30)
    await served.service.tick()
    table = (await metrics(served, "ids=table@2"))["table@2"]
    assert table["dead_partitions"] == sum(table.values()) == 8


async def test_changes_of_configurations_are_counted(served):
    before = await metrics(served, "ids=partition@2.3")
    assert before["partition@2.3"]["partition_configuration_changes"] == 1
    assert before["partition@2.3"]["writable_partition_changes"] == 1
    assert before["partition@2.3"]["unwritable_partition_changes"] == 0
    served.clock.advance(30)
    await served.service.tick()
    after = await metrics(served, "ids=partition@2.3")
    assert after["partition@2.3"]["partition_configuration_changes"] == 2
    assert after["partition@2.3"]["writable_partition_changes"] == 1
    assert after["partition@2.3"]["unwritable_partition_changes"] == 1


async def test_a_primary_that_cannot_be_chosen_is_counted(served):
    served.clock.advance(30)
    await served.service.tick()
    await served.beat(2, 3)
    found = await metrics(served, "ids=partition@2.3&metrics=choose_primary_failed_operations")
    assert found["partition@2.3"]["choose_primary_failed_operations"] >= 1


async def test_the_last_backup_of_a_policy_is_timed(served):
    policy = BackupPolicy("nightly", "local_service", frozenset({2}), 86400, 3, "03:00")
    running = Backup(1000, "nightly", "local_service", "", {2: "temp"}, 1_700_000_000_000)
    await served.service.change(lambda _: (Change(policies={"nightly": policy}, backups={1000: running}), None))
    served.clock.advance(5)
    found = await metrics(served, "types=backup_policy")
    assert found == {"backup_policy@nightly": {"backup_recent_duration_ms": 5000}}
    ended = replace(running, end_ms=1_700_000_003_000)
    await served.service.change(lambda _: (Change(backups={1000: ended}), None))
    assert (await metrics(served, "types=backup_policy"))["backup_policy@nightly"]["backup_recent_duration_ms"] == 3000


async def test_a_dropped_tables_metrics_disappear_after_a_while(served):
    assert "table@2" in await metrics(served, "types=table,partition")
    await served.call(calls.DROP_APP, DropAppRequest("temp"))
    assert "table@2" in await metrics(served, "types=table,partition")
    served.clock.advance(600)
    assert served.registry.sweep(served.clock.monotonic(), 600) == 9
    assert set(await metrics(served, "types=table,partition")) == {"table@1", *(f"partition@1.{n}" for n in range(4))}


async def test_prometheus_reads_the_same_numbers(served):
    status, body = await served.get("/metrics/prometheus")
    assert status == 200
    assert 'pegasus_healthy_partitions{cluster="onebox",role="meta",entity="table",table_id="2"} 8' in body.decode()
