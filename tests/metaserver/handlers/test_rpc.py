"""The RPCs of the metaserver: routing, tables, nodes, replica servers (protocol §12, §13)."""

from __future__ import annotations

import asyncio

import pytest

from metaserver.cluster.leadership import Leadership
from metaserver.cluster.metadata import Change, Partition, Rejected, Table
from metaserver.storage import StoreError
from shared.pegasus.client.connection import Call, RpcConnections
from shared.pegasus.wire import calls
from shared.pegasus.wire.errors import RpcError
from shared.pegasus.wire.structures import duplication as dup
from shared.pegasus.wire.structures import meta_admin as admin
from shared.pegasus.wire.structures import partition_split as split
from shared.pegasus.wire.structures.base import Gpid, HostPort
from shared.pegasus.wire.structures.command import Command
from shared.pegasus.wire.structures.layer2 import AppStatus, QueryCfgRequest
from shared.pegasus.wire.structures.meta_admin import (
    AppEnvOperation,
    ConfigType,
    CreateAppOptions,
    CreateAppRequest,
    MetaFunctionLevel,
    NodeStatus,
    UpdateAppEnvRequest,
)
from shared.pegasus.wire.structures.metadata import ManualCompactionStatus, PartitionStatus, ReplicaInfo
from tests.metaserver.conftest import Cluster, node


def admin_call(name, request, response):
    return Call(f"RPC_CM_{name}", getattr(admin, request), getattr(admin, response))


SET_COUNT = admin_call("SET_MAX_REPLICA_COUNT", "SetMaxReplicaCountRequest", "SetMaxReplicaCountResponse")
GET_COUNT = admin_call("GET_MAX_REPLICA_COUNT", "GetMaxReplicaCountRequest", "GetMaxReplicaCountResponse")
SET_ATOMIC = admin_call("SET_ATOMIC_IDEMPOTENT", "SetAtomicIdempotentRequest", "SetAtomicIdempotentResponse")
GET_ATOMIC = admin_call("GET_ATOMIC_IDEMPOTENT", "GetAtomicIdempotentRequest", "GetAtomicIdempotentResponse")
BALANCE = admin_call("PROPOSE_BALANCER", "BalancerRequest", "BalancerResponse")
DIAGNOSE = admin_call("DDD_DIAGNOSE", "DddDiagnoseRequest", "DddDiagnoseResponse")
COMPACT = admin_call("START_MANUAL_COMPACT", "StartManualCompactRequest", "StartManualCompactResponse")
PROGRESS = admin_call("QUERY_MANUAL_COMPACT_STATUS", "QueryManualCompactRequest", "QueryManualCompactResponse")


async def route(cluster, name="temp", *indices):
    return await cluster.call(calls.QUERY_CONFIG, QueryCfgRequest(name, indices))


async def create(cluster, name="t", partitions=4, replicas=1, exist_ok=False, **envs):
    options = CreateAppOptions(partitions, replicas, exist_ok, "pegasus", True, envs)
    return await cluster.call(calls.CREATE_APP, CreateAppRequest(name, options))


# -- routing --------------------------------------------------------------------------------------


async def test_a_table_is_routed_once_every_partition_has_a_primary(cluster):
    assert (await route(cluster)).err == "ERR_BUSY_CREATING"
    await cluster.beat(1)
    await cluster.accept()
    routing = await route(cluster)
    assert (routing.err, routing.app_id, routing.partition_count, routing.is_stateful) == ("ERR_OK", 2, 8, True)
    assert [partition.pid for partition in routing.partitions] == [Gpid(2, index) for index in range(8)]
    assert {(p.ballot, p.primary, p.hp_primary) for p in routing.partitions} == {(1, node(1), node(1))}


async def test_a_primary_is_named_only_after_it_has_confirmed(cluster):
    await cluster.beat(1)
    await cluster.settle()
    assert len(cluster.proposals) == 12
    assert {request.type for _, request in cluster.proposals} == {ConfigType.ASSIGN_PRIMARY}
    held = [p.primary for t in cluster.service.metadata.tables.values() for _, p in t]
    assert not any(held)


async def test_partitions_can_be_asked_for_by_index(served):
    assert [p.pid.partition_index for p in (await route(served, "temp", 3, 5, 99)).partitions] == [3, 5]


async def test_a_partition_that_is_asked_for_often_is_described_once(served):
    indices = [3, 5, 3, 99, -1, 3]
    assert [p.pid.partition_index for p in (await route(served, "temp", *indices)).partitions] == [3, 5]


async def test_a_question_for_millions_of_partitions_is_refused_before_it_is_read(served):
    with pytest.raises(RpcError, match="ERR_INVALID_DATA"):
        await route(served, "temp", *[0] * 2_500_000)


def large_table(cluster, partitions):
    """Let there be a table whose partitions are all held by the first replica server."""
    held = (Partition(1, node(1)),) * partitions
    table = Table(cluster.service.metadata.last_app_id + 1, "large", AppStatus.AVAILABLE, 1, held)
    cluster.service.metadata.apply(Change.of_table(table))


async def test_the_routing_of_a_large_table_holds_up_nobody(served):
    large_table(served, 30_000)
    fetching = asyncio.ensure_future(route(served, "large"))
    others = RpcConnections()
    for _ in range(20):
        assert (await others.call(served.address, calls.QUERY_CONFIG, QueryCfgRequest("temp"), 5.0)).err == "ERR_OK"
    assert not fetching.done()
    routing = await fetching
    assert [partition.pid.partition_index for partition in routing.partitions] == list(range(30_000))
    await others.close()


async def test_a_server_with_many_partitions_is_told_all_of_them(served):
    large_table(served, 2_000)
    assert len((await served.report(1)).partitions) == 2_012


async def test_many_tables_are_listed(served):
    for app_id in range(10, 310):
        served.service.metadata.apply(Change.of_table(Table(app_id, f"t{app_id}", AppStatus.AVAILABLE, 1, ())))
    infos = (await served.call(calls.LIST_APPS, admin.ListAppsRequest())).infos
    assert [info.app_id for info in infos] == [1, 2, *range(10, 310)]


async def test_an_unknown_or_dropped_table_is_not_routed(served):
    assert (await route(served, "nosuch")).err == "ERR_OBJECT_NOT_FOUND"
    await served.call(calls.DROP_APP, admin.DropAppRequest("temp"))
    assert (await route(served)).err == "ERR_OBJECT_NOT_FOUND"


async def test_header_fields_do_not_matter_and_unknown_codes_are_said(served):
    with pytest.raises(RpcError) as failed:
        await served.call(Call("RPC_CM_START_RECOVERY", bytes, bytes), b"")
    assert failed.value.code == "ERR_HANDLER_NOT_FOUND"


class TestForOlderClients:
    @pytest.fixture
    def settings(self):
        return {"compat_omit_host_port": "true"}

    async def test_answers_have_no_host_port_members(self, served):
        partition = (await route(served)).partitions[0]
        assert (partition.primary, partition.hp_primary, partition.hp_secondaries) == (node(1), None, None)
        (info,) = (await served.call(calls.LIST_NODES, admin.ListNodesRequest(0))).infos
        assert (info.node, info.hp_node) == (node(1), None)

    async def test_replica_servers_are_still_told_both_forms(self, served):
        response = await served.report(1)
        assert response.partitions[0].config.hp_primary == node(1)


async def test_a_follower_names_the_leader(tmp_path):
    leader = HostPort("127.0.0.1", 34602)
    follower = Cluster(tmp_path / "f.db", {})
    await follower.start(leadership=Leadership(HostPort("127.0.0.1", 34601), leader))
    routing = await route(follower)
    assert (routing.err, routing.partitions[0].hp_primary) == ("ERR_FORWARD_TO_OTHERS", leader)
    assert (await create(follower)).err == "ERR_FORWARD_TO_OTHERS"
    assert (await follower.call(calls.CONTROL_META, admin.MetaControlRequest())).err == "ERR_FORWARD_TO_OTHERS"
    assert (await follower.report(1)).err == "ERR_FORWARD_TO_OTHERS"
    await follower.stop()


# -- what the cluster does not have -----------------------------------------------------------------


async def test_tools_that_ask_for_duplications_and_splits_are_told_that_there_are_none(served):
    def call(name, request, response):
        return Call(f"RPC_CM_{name}", request, response)

    query = call("QUERY_DUPLICATION", dup.DuplicationQueryRequest, dup.DuplicationQueryResponse)
    found = await served.call(query, dup.DuplicationQueryRequest("temp"))
    assert (found.err, found.appid, list(found.entry_list)) == ("ERR_OK", 2, [])
    assert (await served.call(query, dup.DuplicationQueryRequest("none"))).err == "ERR_APP_NOT_EXIST"
    listing = call("LIST_DUPLICATION", dup.DuplicationListRequest, dup.DuplicationListResponse)
    assert (await served.call(listing, dup.DuplicationListRequest("", 1))) == dup.DuplicationListResponse()

    status = call("QUERY_PARTITION_SPLIT", split.QuerySplitRequest, split.QuerySplitResponse)
    found = await served.call(status, split.QuerySplitRequest("temp"))
    assert (found.err, found.hint_msg) == ("ERR_INVALID_STATE", "table 'temp' is not being split")


@pytest.mark.parametrize(
    ("name", "request_type", "response_type"),
    [
        ("ADD_DUPLICATION", dup.DuplicationAddRequest, dup.DuplicationAddResponse),
        ("MODIFY_DUPLICATION", dup.DuplicationModifyRequest, dup.DuplicationModifyResponse),
        ("START_PARTITION_SPLIT", split.StartPartitionSplitRequest, split.StartPartitionSplitResponse),
        ("CONTROL_PARTITION_SPLIT", split.ControlSplitRequest, split.ControlSplitResponse),
    ],
)
async def test_duplications_and_splits_are_refused_in_the_response(served, name, request_type, response_type):
    answered = await served.call(Call(f"RPC_CM_{name}", request_type, response_type), request_type("temp"))
    assert answered.err == "ERR_SERVICE_NOT_ACTIVE"


# -- tables ---------------------------------------------------------------------------------------


async def test_a_table_lives_from_creation_to_recall(served):
    created = await create(served, "t", 4, default_ttl="5")
    assert (created.err, created.appid) == ("ERR_OK", 3)
    assert (await create(served, "t", 4)).err == "ERR_BUSY_CREATING"
    await served.accept()
    assert (await create(served, "t", 4)).err == "ERR_APP_EXIST"
    assert (await create(served, "t", 4, exist_ok=True, default_ttl="5")).appid == 3
    assert (await served.call(calls.RENAME_APP, admin.RenameAppRequest("t", "u"))).err == "ERR_OK"
    assert (await served.call(calls.DROP_APP, admin.DropAppRequest("u"))).err == "ERR_OK"
    await served.accept()
    assert (await served.call(calls.DROP_APP, admin.DropAppRequest("u"))).err == "ERR_APP_NOT_EXIST"
    recalled = await served.call(calls.RECALL_APP, admin.RecallAppRequest(3, "v"))
    assert (recalled.err, recalled.info.app_name, recalled.info.status) == ("ERR_OK", "v", AppStatus.RECALLING)
    await served.report(1)
    await served.accept()
    routing = await route(served, "v")
    assert {(p.hp_primary, p.ballot) for p in routing.partitions} == {(node(1), 3)}
    (info,) = [i for i in (await served.call(calls.LIST_APPS, admin.ListAppsRequest())).infos if i.app_name == "v"]
    assert (info.app_id, info.envs, info.status) == (3, {"default_ttl": "5"}, AppStatus.AVAILABLE)


@pytest.fixture
async def patient(tmp_path, settings):
    """A metaserver that waits for primaries before it answers a creation, and one replica server."""
    cluster = Cluster(tmp_path / "meta.db", settings)
    cluster.open_timeout_s = 60.0
    await cluster.start()
    await cluster.beat(1)
    yield cluster
    await cluster.stop()


async def test_a_table_is_routed_as_soon_as_its_creation_and_recall_are_answered(patient):
    for bring in (
        lambda: create(patient, "t", 4),
        lambda: patient.call(calls.RECALL_APP, admin.RecallAppRequest(1)),
    ):
        answering = asyncio.create_task(bring())
        await patient.proposed()
        assert not answering.done()
        await patient.accept()
        answered = await answering
        assert answered.err == "ERR_OK"
        routing = await route(patient, "t")
        assert (routing.err, {p.hp_primary for p in routing.partitions}) == ("ERR_OK", {node(1)})
        await patient.call(calls.DROP_APP, admin.DropAppRequest("t"))
        await patient.accept()
    assert answered.info.status == AppStatus.AVAILABLE


async def test_a_creation_is_answered_without_primaries_if_a_server_cannot_be_reached(patient):
    patient.delivers = False
    assert (await create(patient, "t", 4)).err == "ERR_OK"
    assert (await route(patient, "t")).err == "ERR_BUSY_CREATING"


async def test_the_primaries_of_a_dropped_table_are_told_at_once(served):
    await served.call(calls.DROP_APP, admin.DropAppRequest("temp"))
    await served.settle()
    told = [(target, request.config.pid, request.type, request.hp_node) for target, request in served.proposals]
    assert sorted(told) == [(node(1), Gpid(2, n), ConfigType.DOWNGRADE_TO_INACTIVE, node(1)) for n in range(8)]


async def test_a_table_that_was_just_created_can_be_recalled_at_once(served):
    await create(served, "t", 4)
    await served.accept()
    await served.call(calls.DROP_APP, admin.DropAppRequest("t"))
    await served.accept()
    assert (await served.call(calls.RECALL_APP, admin.RecallAppRequest(3))).err == "ERR_OK"
    await served.accept()  # its server has not reported since, but has confirmed that it holds the partitions
    assert {p.hp_primary for p in (await route(served, "t")).partitions} == {node(1)}


async def test_a_frozen_cluster_creates_no_table(cluster):
    assert (await create(cluster)).err == "ERR_STATE_FREEZED"


async def test_more_replicas_than_servers_are_refused(served):
    assert (await create(served, replicas=2)).err == "ERR_INVALID_PARAMETERS"


async def test_a_dropped_table_is_forgotten_when_its_time_is_over(served):
    options = admin.DropAppOptions(reserve_seconds=60)
    await served.call(calls.DROP_APP, admin.DropAppRequest("temp", options))
    served.clock.advance(59)
    await served.beat(1)
    await served.service.tick()
    assert (await served.report(1)).gc_replicas == []
    held = served.held(1)
    served.clock.advance(1)
    await served.service.tick()
    assert 2 not in served.service.metadata.tables
    response = await served.report(1, *held)
    assert sorted(info.pid for info in response.gc_replicas) == [Gpid(2, index) for index in range(8)]
    assert (await served.call(calls.RECALL_APP, admin.RecallAppRequest(2))).err == "ERR_APP_NOT_EXIST"


async def test_environment_variables_by_rpc(served):
    async def update(op, **members):
        response = await served.call(calls.UPDATE_APP_ENV, UpdateAppEnvRequest("temp", op, **members))
        return response.err, response.hint_message

    assert await update(AppEnvOperation.SET, keys=["default_ttl"], values=["7"]) == ("ERR_OK", "")
    assert await update(AppEnvOperation.SET, keys=["x"], values=["7"]) == (
        "ERR_INVALID_PARAMETERS",
        "app_env 'x' is not supported",
    )
    assert await update(AppEnvOperation.DEL, keys=["default_ttl"]) == ("ERR_OK", "deleted keys:\n    default_ttl")
    assert await update(AppEnvOperation.CLEAR, clear_prefix="") == ("ERR_OK", "no key needs to be deleted")
    assert (await update(AppEnvOperation.INVALID))[0] == "ERR_INVALID_PARAMETERS"


async def test_replica_count_and_atomicity_of_a_table(served):
    await served.beat(2)
    changed = await served.call(SET_COUNT, admin.SetMaxReplicaCountRequest("temp", 2))
    assert (changed.err, changed.old_max_replica_count) == ("ERR_OK", 1)
    assert (await served.call(GET_COUNT, admin.GetMaxReplicaCountRequest("temp"))).max_replica_count == 2
    refused = await served.call(GET_COUNT, admin.GetMaxReplicaCountRequest("nosuch"))
    assert (refused.err, refused.hint_message) == ("ERR_APP_NOT_EXIST", "there is no table 'nosuch'")
    changed = await served.call(SET_ATOMIC, admin.SetAtomicIdempotentRequest("temp", True))
    assert (changed.err, changed.old_atomic_idempotent) == ("ERR_OK", False)
    assert (await served.call(GET_ATOMIC, admin.GetAtomicIdempotentRequest("temp"))).atomic_idempotent


# -- the cluster ----------------------------------------------------------------------------------


async def test_nodes_are_listed_by_status(served):
    await served.beat(2)
    served.clock.advance(15)
    await served.beat(1)
    served.clock.advance(10)
    await served.service.tick()

    async def listed(status):
        infos = (await served.call(calls.LIST_NODES, admin.ListNodesRequest(status))).infos
        return [(info.hp_node, info.status) for info in infos]

    alive, dead = (node(1), NodeStatus.ALIVE), (node(2), NodeStatus.UNALIVE)
    assert await listed(NodeStatus.INVALID) == [alive, dead]
    assert await listed(NodeStatus.ALIVE) == [alive]
    assert await listed(NodeStatus.UNALIVE) == [dead]


async def test_the_cluster_in_words(served):
    response = await served.call(calls.CLUSTER_INFO, admin.ClusterInfoRequest())
    info = dict(zip(response.keys, response.values, strict=True))
    assert list(info)[:2] == ["meta_servers", "primary_meta_server"]
    assert info["cluster_name"] == "onebox"
    assert info["balance_operation_count"] == "move_pri=0,copy_pri=0,copy_sec=0,total=0"


async def test_the_function_level_acts(served):
    async def level(wanted=MetaFunctionLevel.INVALID):
        response = await served.call(calls.CONTROL_META, admin.MetaControlRequest(wanted))
        return response.err, response.old_level

    assert await level() == ("ERR_OK", MetaFunctionLevel.STEADY)
    assert await level(123) == ("ERR_INVALID_PARAMETERS", MetaFunctionLevel.STEADY)
    await level(MetaFunctionLevel.FREEZED)
    assert (await create(served)).err == "ERR_STATE_FREEZED"
    await level(MetaFunctionLevel.STOPPED)
    assert (await route(served)).err == "ERR_SERVICE_NOT_ACTIVE"
    assert (await create(served)).err == "ERR_SERVICE_NOT_ACTIVE"
    assert await level(MetaFunctionLevel.LIVELY) == ("ERR_OK", MetaFunctionLevel.STOPPED)
    assert (await route(served)).err == "ERR_OK"


async def test_a_blind_metaserver_changes_no_configuration(served):
    await served.call(calls.CONTROL_META, admin.MetaControlRequest(MetaFunctionLevel.BLIND))
    served.clock.advance(30)
    await served.service.tick()
    routing = await route(served)
    assert {p.hp_primary for p in routing.partitions} == {node(1)}


async def test_remote_commands(served):
    async def run(name, *arguments):
        return await served.call(calls.CLI_CALL, Command(name, arguments))

    assert await run("nosuch") == "unknown command 'nosuch'"
    assert await run("server-info") == "Pegasus Meta Server 2.6.0-SNAPSHOT"
    assert await run("meta.lb.get_balance_operation_count") == "move_pri=0,copy_pri=0,copy_sec=0,total=0"
    assert await run("meta.lb.assign_delay_ms") == "600000"
    assert "server-info" in (await run("help")).splitlines()


async def test_an_operators_proposal_is_passed_on(served):
    action = admin.ProposalAction(node(1), node(1), ConfigType.DOWNGRADE_TO_INACTIVE, node(1), node(1))
    assert (await served.call(BALANCE, admin.BalancerRequest(Gpid(2, 3), [action]))).err == "ERR_OK"
    await served.settle()
    (target, request) = served.proposals[-1]
    assert (target, request.type, request.hp_node) == (node(1), ConfigType.DOWNGRADE_TO_INACTIVE, node(1))
    assert (await served.call(BALANCE, admin.BalancerRequest(Gpid(9, 0), [action]))).err == "ERR_APP_NOT_EXIST"
    assert (await served.call(BALANCE, admin.BalancerRequest(Gpid(2, 3), []))).err == "ERR_INVALID_PARAMETERS"


async def test_an_operator_moves_a_primary_that_was_never_written(cluster):
    await cluster.beat(1)
    await cluster.accept()
    cluster.service.set_level(admin.MetaFunctionLevel.BLIND)  # or the balancer is faster
    await cluster.beat(2)
    cluster.service.level = admin.MetaFunctionLevel.STEADY

    def copy(node_number):
        to = node(node_number)
        actions = [
            admin.ProposalAction(node(1), to, ConfigType.ADD_SECONDARY_FOR_LB, node(1), to),
            admin.ProposalAction(node(1), node(1), ConfigType.DOWNGRADE_TO_SECONDARY, node(1), node(1)),
            admin.ProposalAction(to, to, ConfigType.UPGRADE_TO_PRIMARY, to, to),
        ]
        return admin.BalancerRequest(Gpid(2, 3), actions, balance_type=admin.BalancerRequestType.COPY_PRIMARY)

    assert (await cluster.call(BALANCE, copy(3))).err == "ERR_NOT_IMPLEMENTED"  # there is no such server
    assert (await cluster.call(BALANCE, copy(2))).err == "ERR_OK"
    await cluster.accept()
    partition = (await route(cluster)).partitions[3]
    assert (partition.hp_primary, partition.ballot) == (node(2), 3)
    await cluster.report(2)
    assert (await cluster.call(BALANCE, copy(1))).err == "ERR_NOT_IMPLEMENTED"  # there are rows in it


# -- compaction -----------------------------------------------------------------------------------


async def test_manual_compaction_by_rpc(served):
    request = admin.StartManualCompactRequest("temp", target_level=2, bottommost=True, max_running_count=3)
    assert (await served.call(COMPACT, request)).err == "ERR_OK"
    assert served.service.metadata.tables[2].envs == {
        "manual_compact.once.trigger_time": "1700000000",
        "manual_compact.once.target_level": "2",
        "manual_compact.once.bottommost_level_compaction": "force",
        "manual_compact.max_concurrent_running_count": "3",
    }
    assert (await served.call(COMPACT, admin.StartManualCompactRequest("nosuch"))).err == "ERR_APP_NOT_EXIST"


async def test_the_progress_of_a_compaction_is_what_replicas_report(served):
    query = admin.QueryManualCompactRequest("temp")
    assert (await served.call(PROGRESS, query)).err == "ERR_INVALID_STATE"
    states = [ManualCompactionStatus.FINISHED] * 6 + [ManualCompactionStatus.RUNNING, ManualCompactionStatus.QUEUING]
    stored = [
        ReplicaInfo(Gpid(2, index), 1, PartitionStatus.PRIMARY, manual_compact_status=state)
        for index, state in enumerate(states)
    ]
    await served.report(1, *stored)
    response = await served.call(PROGRESS, query)
    assert (response.err, response.progress) == ("ERR_OK", 75)


# -- replica servers ------------------------------------------------------------------------------


async def test_a_dead_servers_partitions_wait_for_its_return(served):
    served.clock.advance(22)
    await served.service.tick()
    routing = await route(served)
    assert {(p.hp_primary, p.ballot) for p in routing.partitions} == {(HostPort("", 0), 2)}
    assert {p.hp_last_drops[0] for p in routing.partitions} == {node(1)}
    await served.beat(2, 3)
    await served.settle()
    assert served.proposals == []
    diagnosed = await served.call(DIAGNOSE, admin.DddDiagnoseRequest(Gpid(2, -1)))
    assert len(diagnosed.partitions) == 8
    assert diagnosed.partitions[0].reason == f"waiting for {node(1)}, the last member"
    await served.beat(1)
    await served.accept()
    routing = await route(served)
    assert {(p.hp_primary, p.ballot) for p in routing.partitions} == {(node(1), 3)}
    assert (await served.call(DIAGNOSE, admin.DddDiagnoseRequest(Gpid(0, 0)))).partitions == []


async def test_a_proposal_that_is_not_answered_is_repeated(cluster):
    await cluster.beat(1)
    await cluster.settle()
    cluster.proposals.clear()
    cluster.clock.advance(9)
    await cluster.beat(1)
    await cluster.service.tick()
    await cluster.settle()
    assert cluster.proposals == []
    cluster.clock.advance(1)
    await cluster.service.tick()
    await cluster.settle()
    assert len(cluster.proposals) == 12


async def test_who_comes_second_is_told_the_configuration_in_force(served):
    table = served.service.metadata.tables[2]
    request = admin.UpdateConfigurationRequest(type=ConfigType.ASSIGN_PRIMARY, hp_node=node(2))
    request.config.pid, request.config.ballot = Gpid(2, 0), 1
    response = await served.call(calls.UPDATE_CONFIGURATION, request)
    assert (response.err, response.config.ballot, response.config.hp_primary) == ("ERR_INVALID_VERSION", 1, node(1))
    assert served.service.metadata.tables[2] == table


async def test_a_wrong_proposal_changes_nothing(served):
    request = admin.UpdateConfigurationRequest(type=77)
    assert (await served.call(calls.UPDATE_CONFIGURATION, request)).err == "ERR_INVALID_PARAMETERS"
    request = admin.UpdateConfigurationRequest(type=ConfigType.REMOVE)
    request.config.pid = Gpid(44, 0)
    assert (await served.call(calls.UPDATE_CONFIGURATION, request)).err == "ERR_APP_NOT_EXIST"


async def test_a_server_is_told_what_to_serve_with_the_tables_variables(served):
    await served.call(calls.UPDATE_APP_ENV, UpdateAppEnvRequest("temp", AppEnvOperation.SET, ["default_ttl"], ["7"]))
    response = await served.report(1)
    assert len(response.partitions) == 12
    temp = [request for request in response.partitions if request.info.app_name == "temp"]
    assert {(r.info.app_id, r.info.envs["default_ttl"], r.config.hp_primary) for r in temp} == {(2, "7", node(1))}
    assert (await served.report(2)).partitions == []


class FullDisk:
    """A store that takes nothing."""

    async def commit(self, change):
        raise StoreError("database or disk is full")


async def test_what_cannot_be_stored_is_refused_and_not_seen(served, monkeypatch):
    before = dict(served.service.metadata.tables)
    with monkeypatch.context() as full:
        full.setattr(served.store, "commit", FullDisk().commit)
        assert (await create(served)).err == "ERR_DISK_IO_ERROR"
        response = await served.call(
            calls.UPDATE_APP_ENV, UpdateAppEnvRequest("temp", AppEnvOperation.SET, ["default_ttl"], ["7"])
        )
        assert response.hint_message == "cannot be stored: database or disk is full"
        served.clock.advance(30)
        with pytest.raises(Rejected):
            await served.service.tick()
        assert served.service.metadata.tables == before
    await served.service.tick()
    assert {p.hp_primary for p in (await route(served)).partitions} == {HostPort("", 0)}


async def test_a_table_cannot_be_kept_for_ever(served):
    options = admin.DropAppOptions(reserve_seconds=(1 << 63) - 1)
    assert (await served.call(calls.DROP_APP, admin.DropAppRequest("temp", options))).err == "ERR_OK"


# -- the process ----------------------------------------------------------------------------------


async def test_a_restarted_metaserver_knows_everything_and_expects_its_servers(tmp_path, served):
    before = served.service.metadata
    await served.stop()
    again = Cluster(served.path, {})
    await again.start()
    assert again.service.metadata == before
    assert again.service.nodes.alive() == [node(1)]
    assert (await route(again)).partitions[0].hp_primary == node(1)
    await again.stop()
    await served.start()
