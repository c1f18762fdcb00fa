"""A node and its metaserver: beacons, leases, what to serve, proposals (protocol §13)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from replicaserver.node.meta_calls import configuration, wire
from replicaserver.replication.replica import Configuration
from shared.pegasus.client.connection import Call, RpcConnection
from shared.pegasus.serving.rpc import rpc
from shared.pegasus.serving.server import PegasusServer
from shared.pegasus.wire.errors import ErrorCode, RpcError
from shared.pegasus.wire.framing import Request
from shared.pegasus.wire.keys import encode_key
from shared.pegasus.wire.structures import replica_admin
from shared.pegasus.wire.structures.base import Gpid, HostPort
from shared.pegasus.wire.structures.command import Command
from shared.pegasus.wire.structures.failure_detector import BeaconAck, BeaconMessage
from shared.pegasus.wire.structures.layer2 import AppInfo
from shared.pegasus.wire.structures.meta_admin import (
    ConfigSyncRequest,
    ConfigSyncResponse,
    ConfigType,
    QueryAppInfoRequest,
    QueryAppInfoResponse,
    UpdateConfigurationRequest,
    UpdateConfigurationResponse,
)
from shared.pegasus.wire.structures.metadata import ReplicaInfo
from shared.pegasus.wire.structures.rrdb import UpdateRequest
from tests.replicaserver.conftest import Clock, Served, eventually, start

PROPOSAL = Call("RPC_CONFIG_PROPOSAL", UpdateConfigurationRequest, bytes)
KEY = encode_key(b"h", b"s")
FIRST = Gpid(2, 0)


class Meta:
    """A metaserver that keeps configurations in memory and says what a test tells it to."""

    def __init__(self, address: HostPort) -> None:
        self.address = address
        self.configurations: dict[Gpid, Configuration] = {}
        self.envs: dict[str, str] = {}
        self.garbage: list[ReplicaInfo] = []
        self.is_leader = True
        self.leader = address
        self.beacons: list[BeaconMessage] = []
        self.syncs: list[ConfigSyncRequest] = []
        self.updates: list[UpdateConfigurationRequest] = []
        self.silent = False
        self.declined: int | None = None

    def rpcs(self):
        return {
            "RPC_FD_FAILURE_DETECTOR_PING": rpc(BeaconMessage, BeaconAck, self.beacon),
            "RPC_CM_CONFIG_SYNC": rpc(ConfigSyncRequest, ConfigSyncResponse, self.sync),
            "RPC_CM_UPDATE_PARTITION_CONFIGURATION": rpc(
                UpdateConfigurationRequest, UpdateConfigurationResponse, self.update
            ),
        }

    def app(self, app_id: int) -> AppInfo:
        return AppInfo(1, "pegasus", f"table{app_id}", app_id, 2, self.envs, True, 1)

    def beacon(self, message: BeaconMessage, _request: Request) -> BeaconAck:
        if self.silent:
            raise RpcError(ErrorCode.ERR_BUSY)
        self.beacons.append(message)
        return BeaconAck(message.time, self.address, self.leader, self.is_leader, True, self.address, self.leader)

    def sync(self, request: ConfigSyncRequest, _request: Request) -> ConfigSyncResponse:
        self.syncs.append(request)
        partitions = [
            UpdateConfigurationRequest(self.app(gpid.app_id), wire(gpid, config))
            for gpid, config in self.configurations.items()
            if config.primary == request.hp_node
        ]
        return ConfigSyncResponse(ErrorCode.ERR_OK, partitions, self.garbage)

    def update(self, request: UpdateConfigurationRequest, _request: Request) -> UpdateConfigurationResponse:
        self.updates.append(request)
        gpid = request.config.pid
        held = self.configurations[gpid]
        if request.type == self.declined:
            return UpdateConfigurationResponse(ErrorCode.ERR_INVALID_STATE, wire(gpid, held))
        if request.config.ballot != held.ballot + 1:
            return UpdateConfigurationResponse(ErrorCode.ERR_INVALID_VERSION, wire(gpid, held))
        self.configurations[gpid] = configuration(request.config)
        return UpdateConfigurationResponse(ErrorCode.ERR_OK, request.config)


async def serve_meta() -> tuple[Meta, PegasusServer]:
    listening = socket.create_server(("127.0.0.1", 0))
    meta = Meta(HostPort("127.0.0.1", listening.getsockname()[1]))
    server = PegasusServer(None, meta.rpcs())
    await server.start([listening], None)
    return meta, server


@pytest.fixture
async def meta() -> AsyncIterator[Meta]:
    made, server = await serve_meta()
    yield made
    await server.drain()


@pytest.fixture
def flags() -> dict[str, str]:
    return {
        "disk_min_available_space_ratio": "0",
        "config_sync_interval_ms": "50",
        "fd_beacon_interval_seconds": "1",
    }


@pytest.fixture
async def served(tmp_path: Path, clock: Clock, flags: dict[str, str], meta: Meta) -> AsyncIterator[Served]:
    running = await start(tmp_path, clock, flags, metas=[meta.address])
    yield running
    running.connection.close()
    await running.server.drain()


async def propose(
    served: Served, meta: Meta, gpid: Gpid, type: ConfigType = ConfigType.ASSIGN_PRIMARY, **held: int
) -> None:
    """What a metaserver does: ask a node for a change of a configuration."""
    config = meta.configurations.setdefault(gpid, Configuration(**held))
    request = UpdateConfigurationRequest(
        meta.app(gpid.app_id), wire(gpid, config), type, served.address, hp_node=served.address
    )
    connection = await RpcConnection.open(served.address)
    connection.tell(PROPOSAL, request)
    await asyncio.sleep(0)
    await served.ask("RPC_CLI_CLI_CALL", Command, str, Command("help"))
    connection.close()


async def is_primary(served: Served, gpid: Gpid = FIRST) -> bool:
    partition = served.server.node.partitions.get(gpid)
    return partition is not None and partition.core.is_primary


async def assigned(served: Served, meta: Meta, gpid: Gpid = FIRST) -> None:
    await propose(served, meta, gpid)
    await eventually(lambda: is_primary(served, gpid), bool)


async def test_a_node_says_who_it_is_and_asks_what_to_serve(served: Served, meta: Meta):
    await eventually(lambda: served.http("/readyz"), lambda answer: answer[0] == 200)
    beacon, sync = meta.beacons[0], meta.syncs[0]
    assert beacon.from_node == beacon.hp_from_node == sync.node == sync.hp_node == served.address
    assert beacon.start_time
    assert sync.info is not None
    assert sync.info.total_capacity_mb > 0


async def test_a_proposed_replica_is_made_and_serves_once_its_ballot_is_granted(served: Served, meta: Meta):
    await assigned(served, meta)
    assert meta.configurations[Gpid(2, 0)] == Configuration(1, served.address)
    [update] = meta.updates
    assert (update.type, update.info.app_name) == (ConfigType.ASSIGN_PRIMARY, "table2")
    assert (await served.call("put", UpdateRequest(KEY, b"val"))).error == 0
    await served.partition().batches.drained()
    assert served.partition().store.durable().ballot == 1


async def test_after_a_restart_a_primary_takes_the_next_ballot(
    served: Served, meta: Meta, tmp_path: Path, clock: Clock, flags: dict[str, str]
):
    await assigned(served, meta)
    await served.call("put", UpdateRequest(KEY, b"val"))
    served.connection.close()
    await served.server.drain()
    again = await start(tmp_path, clock, flags, port=served.address.port, metas=[meta.address])
    try:
        await eventually(lambda: is_primary(again), bool)
        assert meta.updates[-1].type == ConfigType.PRIMARY_FORCE_UPDATE_BALLOT
        assert meta.configurations[Gpid(2, 0)] == Configuration(2, again.address, last_committed_decree=1)
        assert (await again.call("get", KEY)).value == b"val"
    finally:
        again.connection.close()
        await again.server.drain()


async def test_environment_variables_arrive_and_are_written_down(served: Served, meta: Meta, tmp_path: Path):
    await assigned(served, meta)
    meta.envs = {"default_ttl": "60"}
    partition = served.partition()

    async def default_ttl() -> int:
        return partition.settings.default_ttl

    await eventually(default_ttl, lambda seconds: seconds == 60)
    description = served.server.node.folder(partition) / ".app-info"

    async def written() -> str:
        return description.read_text()

    await eventually(written, lambda text: '"default_ttl":"60"' in text)


async def test_a_partition_that_was_given_to_another_is_served_no_more(served: Served, meta: Meta):
    await assigned(served, meta)
    meta.configurations[Gpid(2, 0)] = Configuration(2, HostPort("127.0.0.1", 1))
    await eventually(lambda: is_primary(served), lambda primary: not primary)
    assert await served.error("get", KEY) == ErrorCode.ERR_INVALID_STATE


async def test_a_replica_that_nobody_wants_is_set_aside(served: Served, meta: Meta):
    await assigned(served, meta)
    folder = served.server.node.folder(served.partition())
    del meta.configurations[Gpid(2, 0)]
    meta.garbage = [ReplicaInfo(pid=Gpid(2, 0))]

    async def here() -> bool:
        return folder.exists()

    await eventually(here, lambda there: not there)
    assert [path.suffix for path in folder.parent.glob("2.*")] == [".gar"]


async def test_a_replica_whose_files_are_lost_is_reported(served: Served, meta: Meta):
    meta.configurations[Gpid(2, 0)] = Configuration(7, served.address, last_committed_decree=5)

    async def held() -> Configuration:
        return meta.configurations[Gpid(2, 0)]

    await eventually(held, lambda config: config.primary is None)
    assert meta.updates[0].type == ConfigType.DOWNGRADE_TO_INACTIVE
    assert Gpid(2, 0) not in served.server.node.partitions


async def test_an_empty_replica_is_not_made_of_a_partition_that_was_written(served: Served, meta: Meta):
    await propose(served, meta, Gpid(2, 0), ballot=3, last_committed_decree=5)
    await propose(served, meta, Gpid(2, 1), ballot=3)
    await eventually(lambda: is_primary(served, Gpid(2, 1)), bool)
    assert Gpid(2, 0) not in served.server.node.partitions


async def test_a_primary_leaves_when_it_is_asked_to(served: Served, meta: Meta):
    await assigned(served, meta)
    await served.call("put", UpdateRequest(KEY, b"val"))
    await propose(served, meta, Gpid(2, 0), ConfigType.DOWNGRADE_TO_INACTIVE)

    async def held() -> Configuration:
        return meta.configurations[Gpid(2, 0)]

    await eventually(held, lambda config: config.primary is None)
    assert (await held()).last_committed_decree == 1
    assert await served.error("put", UpdateRequest(KEY, b"")) == ErrorCode.ERR_INVALID_STATE


async def test_a_partition_that_was_never_written_is_left_to_others(served: Served, meta: Meta):
    await assigned(served, meta)
    await propose(served, meta, FIRST, ConfigType.REMOVE)

    async def held() -> Configuration:
        return meta.configurations[FIRST]

    await eventually(held, lambda config: config.primary is None)
    assert (meta.updates[-1].type, meta.updates[-1].config.last_committed_decree) == (ConfigType.REMOVE, 0)
    assert await served.error("put", UpdateRequest(KEY, b"")) == ErrorCode.ERR_INVALID_STATE


async def test_a_partition_with_rows_is_kept_and_serves_on(served: Served, meta: Meta):
    await assigned(served, meta)
    await served.call("put", UpdateRequest(KEY, b"val"))
    syncs = len(meta.syncs)
    await propose(served, meta, FIRST, ConfigType.REMOVE)

    async def reported() -> int:
        return max(
            (info.last_committed_decree for sync in meta.syncs[syncs:] for info in sync.stored_replicas), default=0
        )

    await eventually(reported, lambda decree: decree == 1)
    assert [update.type for update in meta.updates] == [ConfigType.ASSIGN_PRIMARY]
    assert (await served.call("put", UpdateRequest(KEY, b"again"))).error == 0


async def test_rows_of_a_bulk_load_count_as_written(served: Served, meta: Meta):
    await assigned(served, meta)
    served.partition().store.write({KEY: b"row"}, {})
    await propose(served, meta, FIRST, ConfigType.REMOVE)
    assert (await served.call("put", UpdateRequest(KEY, b"again"))).error == 0
    assert [update.type for update in meta.updates] == [ConfigType.ASSIGN_PRIMARY]


async def test_whoever_may_not_leave_serves_again_under_a_new_ballot(served: Served, meta: Meta):
    await assigned(served, meta)
    ballot = meta.configurations[FIRST].ballot
    meta.declined = ConfigType.REMOVE
    await propose(served, meta, FIRST, ConfigType.REMOVE)

    async def held() -> int:
        return meta.configurations[FIRST].ballot

    await eventually(held, lambda now: now > ballot)
    await eventually(lambda: is_primary(served), bool)
    types = [type for type, _ in groupby(update.type for update in meta.updates)]  # the next sync may ask once more
    assert types == [ConfigType.ASSIGN_PRIMARY, ConfigType.REMOVE, ConfigType.PRIMARY_FORCE_UPDATE_BALLOT]
    assert (await served.call("put", UpdateRequest(KEY, b"v"))).error == 0


@pytest.mark.parametrize("type", [ConfigType.ADD_SECONDARY, ConfigType.DOWNGRADE_TO_INACTIVE, 99])
async def test_a_proposal_that_cannot_be_carried_out_changes_nothing(served: Served, meta: Meta, type: int):
    await propose(served, meta, Gpid(2, 0), type)  # type: ignore[arg-type]
    await assigned(served, meta, Gpid(2, 1))
    assert list(served.server.node.partitions) == [(2, 1)]


@pytest.fixture
def short_lease(flags: dict[str, str]) -> None:
    flags["fd_lease_seconds"] = "2"


async def test_without_acknowledgement_a_node_stops_serving_until_it_has_asked_again(
    short_lease: None, served: Served, meta: Meta
):
    await assigned(served, meta)
    meta.silent = True
    await eventually(lambda: is_primary(served), lambda primary: not primary)
    assert await served.error("get", KEY) == ErrorCode.ERR_INVALID_STATE
    assert await served.metric("beacon_failed_count", "server") > 0
    asked = len(meta.syncs)
    meta.silent = False
    await eventually(lambda: is_primary(served), bool)
    assert len(meta.syncs) > asked


async def test_a_proposal_that_comes_before_the_metaserver_is_known_is_carried_out_when_it_is(
    served: Served, meta: Meta
):
    await eventually(lambda: served.http("/readyz"), lambda answer: answer[0] == 200)
    meta.silent = True
    await eventually(lambda: served.metric("beacon_failed_count", "server"), lambda count: count > 0)
    await propose(served, meta, FIRST)
    meta.silent = False
    await eventually(lambda: is_primary(served), bool)


async def test_a_metaserver_that_does_not_answer_is_named_at_once(served: Served, meta: Meta):
    await eventually(lambda: served.http("/readyz"), lambda answer: answer[0] == 200)
    meta.silent = True
    with capture_logs() as logs:
        await eventually(lambda: served.metric("beacon_failed_count", "server"), lambda count: count > 1)
    [warning] = [entry for entry in logs if entry["event"] == "no metaserver acknowledges this node"]
    assert warning["log_level"] == "warning"
    assert "ERR_BUSY" in warning["metas"][str(meta.address)]


async def test_a_metaserver_that_hangs_does_not_keep_the_leader_from_being_found(
    meta: Meta, tmp_path: Path, clock: Clock, flags: dict[str, str]
):
    """Those that hang are asked at the same time as the others, not before them."""
    flags |= {"fd_beacon_interval_seconds": "60", "fd_lease_seconds": "100", "fd_grace_seconds": "200"}
    with ExitStack() as hanging:
        deaf = [hanging.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        metas = [HostPort("127.0.0.1", listening.getsockname()[1]) for listening in deaf]
        running = await start(tmp_path, clock, flags, metas=[*metas, meta.address])
        try:
            await eventually(lambda: running.http("/readyz"), lambda answer: answer[0] == 200)
        finally:
            running.connection.close()
            await running.server.drain()


async def test_the_leader_is_found_through_another_metaserver(
    meta: Meta, tmp_path: Path, clock: Clock, flags: dict[str, str]
):
    follower, server = await serve_meta()
    follower.is_leader, follower.leader = False, meta.address
    running = await start(tmp_path, clock, flags, metas=[follower.address])
    try:
        await eventually(lambda: running.http("/readyz"), lambda answer: answer[0] == 200)
        assert follower.syncs == []
    finally:
        running.connection.close()
        await running.server.drain()
        await server.drain()


# -- tools ------------------------------------------------------------------------------------------


async def test_tools_see_disks_replicas_and_tables(served: Served, meta: Meta, tmp_path: Path):
    await assigned(served, meta)
    await served.call("put", UpdateRequest(KEY, b"val"))
    Ask = replica_admin.QueryDiskInfoRequest  # noqa: N806
    disks = await served.ask("RPC_QUERY_DISK_INFO", Ask, replica_admin.QueryDiskInfoResponse, Ask())
    [disk] = disks.disk_infos
    assert (disk.tag, disk.holding_primary_replicas) == ("data1", {2: {Gpid(2, 0)}})
    assert disk.full_dir == str(tmp_path / "replica" / "reps")
    assert disks.total_capacity_mb == disk.disk_capacity_mb > disk.disk_available_mb
    of_table = await served.ask("RPC_QUERY_DISK_INFO", Ask, replica_admin.QueryDiskInfoResponse, Ask(app_name="x"))
    assert of_table.err == ErrorCode.ERR_OBJECT_NOT_FOUND
    replicas = await served.ask(
        "RPC_QUERY_REPLICA_INFO",
        replica_admin.QueryReplicaInfoRequest,
        replica_admin.QueryReplicaInfoResponse,
        replica_admin.QueryReplicaInfoRequest(),
    )
    [info] = replicas.replicas
    assert (info.pid, info.ballot, info.last_committed_decree, info.disk_tag) == (Gpid(2, 0), 1, 1, "data1")
    tables = await served.ask("RPC_QUERY_APP_INFO", QueryAppInfoRequest, QueryAppInfoResponse, QueryAppInfoRequest())
    assert [app.app_name for app in tables.apps] == ["table2"]
    for gpid, err, decree in ((Gpid(2, 0), ErrorCode.ERR_OK, 1), (Gpid(2, 9), ErrorCode.ERR_OBJECT_NOT_FOUND, 0)):
        answer = await served.ask(
            "RPC_QUERY_PN_DECREE",
            replica_admin.QueryReplicaDecreeRequest,
            replica_admin.QueryReplicaDecreeResponse,
            replica_admin.QueryReplicaDecreeRequest(gpid),
        )
        assert (answer.err, answer.last_decree) == (err, decree)


async def test_remote_commands(served: Served, meta: Meta):
    await assigned(served, meta)

    async def run(*words: str) -> str:
        answer: str = await served.ask("RPC_CLI_CLI_CALL", Command, str, Command(words[0], words[1:]))
        return answer

    assert "server-info - version and start time" in await run("help")
    assert (await run("server-info")).startswith("Pegasus Server 2.6.0-SNAPSHOT, Started at 20")
    assert '"status": "PRIMARY"' in await run("replica.info")
    assert await run("replica.info", "9.9") == "{}"
    assert await run("replica.query-compact", "2.0") == "2.0: idle, last finished at 0"
    assert await run("replica.sync") == "OK"
    assert await run("replica.flush") == "1 replicas flushed"
    assert await run("nonsense") == "unknown command 'nonsense'"


async def test_an_unknown_code_has_no_handler(served: Served):
    with pytest.raises(RpcError, match="ERR_HANDLER_NOT_FOUND"):
        await served.ask("RPC_DETECT_HOTKEY", bytes, bytes, b"")
