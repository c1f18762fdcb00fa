"""The commands of an operator, and what they say when the cluster declines (protocol §12.3 to §12.5)."""

from __future__ import annotations

import asyncio
import json

import pytest
from click.testing import CliRunner

from metaserver.cli import main
from shared.pegasus.wire.structures.meta_admin import MetaFunctionLevel
from tests.metaserver.conftest import node


async def run(cluster, *arguments):
    """A command's exit code and the last line that it printed; the metaserver in this process logs the others."""
    arguments = [*arguments, "--meta", str(cluster.address), "--timeout", "5"]
    done = await asyncio.to_thread(CliRunner().invoke, main, arguments)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output.strip().splitlines()[-1]


async def rows(cluster, *arguments):
    code, output = await run(cluster, *arguments, "--json")
    assert code == 0, output
    return json.loads(output)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("stat", "--replicas", "1"), "ERR_APP_EXIST: there is a table 'stat' already"),
        (("a b", "--replicas", "1"), "ERR_INVALID_PARAMETERS: 'a b' is not a name of letters, digits, '_', '.', ':'"),
        (
            ("t", "--replicas", "3"),
            "ERR_INVALID_PARAMETERS: 3 replicas need as many replica servers, and 1 are alive (--replicas)",
        ),
        (
            ("t", "--replicas", "1", "--env", "default_ttl=x"),
            "ERR_INVALID_PARAMETERS: invalid value 'x', should be an 32 bits integer",
        ),
        (
            ("t", "--replicas", "1", "--partitions", "70000"),
            "ERR_INVALID_PARAMETERS: 70000 partitions are more than 65536",
        ),
        (
            ("stat", "--replicas", "1", "--partitions", "9", "--if-missing"),
            "ERR_INVALID_PARAMETERS: there may be a table 'stat' that is not just like this",
        ),
    ],
)
async def test_why_a_table_is_not_created(served, arguments, words):
    assert await run(served, "create-table", *arguments) == (1, f"Error: {words}")


async def test_a_frozen_cluster_says_what_it_lacks(cluster):
    words = "nothing can be changed at the level 'freezed'; 0 of 0 replica servers are alive"
    assert await run(cluster, "create-table", "t") == (1, f"Error: ERR_STATE_FREEZED: {words}")
    assert await rows(cluster, "level") == [{"level": "steady", "before": "steady", "in_force": "freezed"}]


async def test_a_replica_count_may_be_forbidden(served):
    await served.beat(2, 3, 4, 5, 6)
    served.flags.update("max_allowed_replica_count", "2")
    _, said = await run(served, "create-table", "t", "--replicas", "3")
    assert said.endswith("the cluster does not allow a table of 3 replicas (max_allowed_replica_count)")


async def test_why_a_table_is_not_brought_back(served):
    assert await run(served, "recall-table", "99") == (
        1,
        "Error: ERR_APP_NOT_EXIST: no table with the id 99 can be brought back (list-tables --status dropped)",
    )
    assert await run(served, "recall-table", "1") == (1, "Error: ERR_APP_EXIST: table 1 is not dropped")
    await rows(served, "drop-table", "temp")
    _, said = await run(served, "recall-table", "2", "--name", "stat")
    assert said.endswith("its name is in use, or cannot be one (--name gives it another)")


async def test_why_a_backup_is_not_restored(served):
    _, said = await run(served, "backup", "restore", "temp", "1", "copy")
    assert said.startswith("Error: ERR_OBJECT_NOT_FOUND: there is no such backup")


async def test_partitions_without_a_primary_are_diagnosed(served):
    assert await rows(served, "diagnose") == []
    assert await run(served, "diagnose") == (0, "nothing")
    served.clock.advance(22)
    await served.service.tick()
    await served.beat(2, 3)
    listed = await rows(served, "diagnose", "stat")
    assert listed[0] == {
        "partition": "1.0",
        "ballot": 2,
        "last_members": str(node(1)),
        "reason": f"waiting for {node(1)}, the last member",
    }
    assert len(listed) == 4
    assert len(await rows(served, "diagnose")) == 12
    assert await run(served, "diagnose", "nosuch") == (1, "Error: ERR_APP_NOT_EXIST: there is no table 'nosuch'")


async def test_a_lost_partition_is_begun_anew_when_the_operator_accepts_the_loss(served):
    assert await run(served, "assign", "1.0", str(node(2)), "--accept-loss") == (
        1,
        "Error: partition 1.0 is not one that waits for an operator (diagnose lists them)",
    )
    served.clock.advance(22)
    await served.service.tick()
    await served.beat(2, 3)
    assert await run(served, "assign", "1.0", str(node(2))) == (
        1,
        f"Error: partition 1.0: waiting for {node(1)}, the last member; what it has would be given up (--accept-loss)",
    )
    assert await run(served, "assign", "1.0", str(node(9)), "--accept-loss") == (
        1,
        f"Error: ERR_OBJECT_NOT_FOUND: replica server {node(9)} is not alive",
    )
    assert (await run(served, "assign", "x", str(node(2))))[0] == 2
    assigned = asyncio.create_task(rows(served, "assign", "1.0", str(node(2)), "--accept-loss"))
    while not assigned.done():
        await served.accept()
        await asyncio.sleep(0)
    assert await assigned == [{"partition": "1.0", "primary": str(node(2)), "ballot": 4}]
    assert len(await rows(served, "diagnose", "stat")) == 3


async def test_what_is_switched_off_says_so_and_not_that_another_one_leads(served):
    assert await run(served, "backup", "policies") == (
        1,
        "Error: ERR_SERVICE_NOT_ACTIVE: cold backup is disabled (cold_backup_disabled=true)",
    )
    served.loads._providers = None
    _, said = await run(served, "bulk-load", "status", "temp")
    assert said == "Error: ERR_SERVICE_NOT_ACTIVE: bulk load is not enabled"


async def test_a_stopped_metaserver_answers_nothing_but_its_level(served):
    served.service.level = MetaFunctionLevel.STOPPED
    _, said = await run(served, "list-tables")
    assert said == f"Error: ERR_SERVICE_NOT_ACTIVE: metaserver {served.address} is stopped"
    assert await rows(served, "level", "steady") == [{"level": "steady", "before": "stopped", "in_force": "steady"}]


async def test_nobody_there_is_said_in_one_line(served):
    done = await asyncio.to_thread(CliRunner().invoke, main, ["nodes", "--meta", "127.0.0.1:1", "--timeout", "1"])
    assert (done.exit_code, done.output) == (
        1,
        "Error: ERR_NETWORK_FAILURE: cannot connect to 127.0.0.1:1: connection refused\n",
    )


async def test_environment_variables_are_set_deleted_cleared_and_listed(served):
    assert await rows(served, "set-envs", "temp") == []
    await rows(served, "set-envs", "temp", "default_ttl=5", "business.info=a=b", "manual_compact.disabled=true")
    await rows(served, "set-envs", "temp", "--delete", "default_ttl", "--clear", "manual_compact")
    assert await rows(served, "set-envs", "temp") == [{"name": "business.info", "value": "a=b"}]
    assert await run(served, "set-envs", "temp", "zz=1") == (
        1,
        "Error: ERR_INVALID_PARAMETERS: app_env 'zz' is not supported",
    )


async def test_what_was_deleted_is_said_beside_the_answer(served):
    await rows(served, "set-envs", "temp", "default_ttl=5")
    done = await asyncio.to_thread(
        CliRunner().invoke, main, ["set-envs", "temp", "--delete", "zz", "--json", "--meta", str(served.address)]
    )
    assert (done.exit_code, done.stdout) == (0, '[{"name":"default_ttl","value":"5"}]\n')
    assert "no key needs to be deleted" in done.stderr
