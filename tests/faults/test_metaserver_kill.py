"""kill -9 of a metaserver: what it acknowledged is there afterwards, and nothing is there by half."""

from __future__ import annotations

import asyncio
import random

import pytest

from shared.pegasus.client.connection import RpcConnections
from shared.pegasus.wire import calls
from shared.pegasus.wire.errors import RpcError
from shared.pegasus.wire.structures.base import HostPort
from shared.pegasus.wire.structures.failure_detector import BeaconMessage
from shared.pegasus.wire.structures.layer2 import AppStatus, QueryCfgRequest
from shared.pegasus.wire.structures.meta_admin import (
    ConfigType,
    CreateAppOptions,
    CreateAppRequest,
    ListAppsRequest,
    UpdateConfigurationRequest,
)
from tests.processes import start_daemon

ROUNDS = 8
PARTITIONS = 4
NODE = HostPort("127.0.0.1", 1)
"""A replica server that the test plays; what is proposed to it reaches nobody."""


class Operator:
    """Creates tables and confirms their primaries as fast as it can, and remembers what was acknowledged."""

    def __init__(self) -> None:
        self.created: dict[str, int] = {}
        self.ballots: dict[tuple[int, int], int] = {}
        self.number = 0

    async def work(self, connections, server):
        beacon = BeaconMessage(1, NODE, server, 1, NODE, server)
        await connections.call(server, calls.BEACON, beacon, 5.0)
        while True:
            self.number += 1
            name = f"t{self.number}"
            options = CreateAppOptions(PARTITIONS, 1, False, "pegasus", True, {"business.info": name})
            response = await connections.call(server, calls.CREATE_APP, CreateAppRequest(name, options), 5.0)
            assert response.err == "ERR_OK"
            self.created[name] = response.appid
            await asyncio.gather(*(self.confirm(connections, server, response.appid, n) for n in range(PARTITIONS)))

    async def confirm(self, connections, server, app_id, index):
        request = UpdateConfigurationRequest(type=ConfigType.ASSIGN_PRIMARY, node=NODE, hp_node=NODE)
        request.config.pid, request.config.ballot = (app_id, index), 1
        answered = await connections.call(server, calls.UPDATE_CONFIGURATION, request, 5.0)
        assert answered.err == "ERR_OK"
        self.ballots[app_id, index] = answered.config.ballot


async def check(operator, connections, server):
    listed = (await connections.call(server, calls.LIST_APPS, ListAppsRequest(AppStatus.INVALID), 5.0)).infos
    tables = {info.app_name: info for info in listed}
    assert {name: tables[name].app_id for name in operator.created} == operator.created
    assert len({info.app_id for info in listed}) == len(listed)
    for name, info in tables.items():
        assert (info.partition_count, info.envs) == (PARTITIONS, {"business.info": name})
        routing = await connections.call(server, calls.QUERY_CONFIG, QueryCfgRequest(name), 5.0)
        confirmed = {index for app_id, index in operator.ballots if app_id == info.app_id}
        if routing.err == "ERR_OK":
            assert [(p.ballot, p.hp_primary) for p in routing.partitions] == [(1, NODE)] * PARTITIONS
        else:
            assert routing.err == "ERR_BUSY_CREATING"
            assert len(confirmed) < PARTITIONS


@pytest.mark.timeout(120)
async def test_what_was_acknowledged_survives_at_any_moment(tmp_path):
    operator, chance = Operator(), random.Random(20261121)
    arguments = ("--data-dir", tmp_path, "--no-first-tables")
    for _ in range(ROUNDS):
        daemon = await asyncio.to_thread(start_daemon, "metaserver", *arguments)
        with daemon:
            server = HostPort("127.0.0.1", daemon.port)
            connections = RpcConnections()
            await check(operator, connections, server)
            wanted = len(operator.created) + chance.randrange(1, 25)
            working = asyncio.ensure_future(operator.work(connections, server))
            while len(operator.created) < wanted and not working.done():  # noqa: ASYNC110 - the worker counts
                await asyncio.sleep(0)
            daemon.process.kill()
            with pytest.raises(RpcError):
                await working
            await asyncio.to_thread(daemon.wait)
            await connections.close()
    daemon = await asyncio.to_thread(start_daemon, "metaserver", *arguments)
    with daemon:
        connections = RpcConnections()
        await check(operator, connections, HostPort("127.0.0.1", daemon.port))
        await connections.close()
    assert len(operator.created) >= ROUNDS
