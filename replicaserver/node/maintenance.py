"""The background tasks of a node: sweeping expired rows, checking disks, deleting orphaned folders."""

from __future__ import annotations

import asyncio

import structlog

from replicaserver.node.replicas import Node
from replicaserver.partition import table_passes
from replicaserver.storage.engine import StoreError
from replicaserver.table.rewriting import Pass
from shared.pegasus.wire.errors import RpcError
from shared.pegasus.wire.keys import EPOCH

log = structlog.get_logger("replicaserver.maintenance")

SWEEP_PAUSE_S = 60.0
"""Seconds between two sweeps over all replicas."""
SLICE_PAUSE_S = 0.1
"""Seconds between two slices of a sweep: it reads at most 20,000 rows a second."""


class Maintenance:
    """The regular work on a node's replicas."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def start(self) -> None:
        """Begin the regular work; it ends with the tasks of the node."""
        flags = self._node.context.flags

        def metrics_s() -> float:
            return flags.integer("builtin_metrics_update_interval_ms") / 1000

        for name, work, interval_s in (
            ("expiry sweep", self.sweep, lambda: SWEEP_PAUSE_S),
            ("disk check", self._node.check_disks, lambda: min(10, flags.integer("disk_stat_interval_seconds"))),
            ("orphaned folders", self._node.delete_orphaned_folders, lambda: flags.integer("gc_interval_ms") / 1000),
            ("scanner expiry", self._forget_scanners, lambda: 30),
            ("engine metrics", self.update_engine_metrics, metrics_s),
        ):
            self._node.context.tasks.periodic(name, interval_s, work, immediately=True)

    async def sweep(self) -> None:
        """Remove the expired rows of every replica, a slice at a time."""
        for partition in tuple(self._node.partitions.values()):
            if partition.core.is_primary:
                work = Pass(partition.data_version, int(self._node.context.unix_s()) - EPOCH)
                try:
                    outcome = await table_passes.rewrite(partition, work, SLICE_PAUSE_S, lambda _outcome: None)
                except (StoreError, RpcError) as error:  # the others are swept all the same
                    log.warning("expired rows stay", gpid=str(partition.gpid), reason=str(error))
                    continue
                if outcome.changed:
                    log.info(
                        "expired rows removed", gpid=str(partition.gpid), removed=outcome.changed, rows=outcome.rows
                    )

    async def update_engine_metrics(self) -> None:
        """Bring the metrics up to date that RocksDB counts, one replica after the other: requests come first."""
        for partition in tuple(self._node.partitions.values()):
            try:
                partition.update_engine_metrics()
            except StoreError as error:
                log.warning("an engine does not say what it does", gpid=str(partition.gpid), reason=str(error))
            await asyncio.sleep(0)

    async def _forget_scanners(self) -> None:
        for partition in self._node.partitions.values():
            partition.scans.sweep(self._node.context.unix_s())
