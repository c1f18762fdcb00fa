"""What every replica of a node shares."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field

from replicaserver.partition.lease import Lease
from replicaserver.partition.write_batches import AnswerPuts
from replicaserver.partition.write_queue import Backlog
from replicaserver.storage.node_log import NodeLog
from shared.pegasus.metrics.entities import Registry
from shared.pegasus.settings.flags import Flags
from shared.pegasus.wire.structures.base import HostPort
from shared.tasks import Supervisor


@dataclass(frozen=True, slots=True)
class NodeContext:
    """What every replica of a node shares.

    Attributes:
        node: The address of this node.
        flags: The settings of the process.
        registry: Where metrics are.
        node_log: Puts writes on disk.
        workers: Threads for reads that may take long.
        unix_s: The clock.
        answer_puts: Sends the answers of plain puts.
        tasks: Runs the background work of the node.
        lease: Until when this node may serve.
        backlog: Counts the writes that wait.
    """

    node: HostPort
    flags: Flags
    registry: Registry
    node_log: NodeLog
    workers: Executor
    unix_s: Callable[[], float]
    answer_puts: AnswerPuts
    tasks: Supervisor
    lease: Lease
    backlog: Backlog = field(default_factory=Backlog)
