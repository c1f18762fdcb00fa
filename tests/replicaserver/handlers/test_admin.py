"""Remote commands of the shell (protocol §12.5)."""

from __future__ import annotations

import threading

from replicaserver.handlers.admin import AdminHandlers
from shared.pegasus.client.connection import Call
from shared.pegasus.wire.structures.command import Command
from tests.replicaserver.conftest import Served

COMMAND = Call("RPC_CLI_CLI_CALL", Command, str)


async def run(served: Served, command: str, *arguments: str) -> str:
    answer: str = await served.connection.call(COMMAND, Command(command, arguments), 20)
    return answer


async def test_replicas_are_described_and_flushed(served: Served):
    await served.table()
    assert '"app_name"' in await run(served, "replica.info")
    assert "idle" in await run(served, "replica.query-compact", "2.0")
    assert await run(served, "replica.flush") == "1 replicas flushed"
    assert await run(served, "replica.flush", "9.9") == "0 replicas flushed"
    assert await run(served, "replica.sync") == "OK"
    assert "unknown command 'replica.eat'" in await run(served, "replica.eat")


async def test_what_belongs_to_the_event_loop_is_looked_at_there_alone(served: Served):
    await served.table()
    looked: set[int] = set()

    class Watched(dict):
        def values(self):
            looked.add(threading.get_ident())
            return super().values()

    served.server.node.partitions = Watched(served.server.node.partitions)
    handlers = AdminHandlers(served.server.node, served.server.link, "now")
    for command in ("replica.info", "replica.query-compact", "replica.flush"):
        await handlers.rpcs(is_compat=False)["RPC_CLI_CLI_CALL"].function(Command(command, []), None)
    assert looked == {threading.get_ident()}
