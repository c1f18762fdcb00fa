"""The metrics of a replica server that are measured when they are asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from replicaserver.node.replicas import Node
from replicaserver.partition.partition import Partition
from shared.pegasus.metrics.entities import Entity, Registry
from shared.pegasus.process.statistics import memory_bytes
from shared.pegasus.wire.errors import ErrorCode
from shared.pegasus.wire.structures.metadata import ManualCompactionStatus, PartitionStatus

_MB = 1 << 20
_KINDS = {
    **dict.fromkeys(("GET", "MULTI_GET", "BATCH_GET", "SORTKEY_COUNT", "TTL", "GET_SCANNER", "SCAN"), "read"),
    **dict.fromkeys(
        ("PUT", "MULTI_PUT", "REMOVE", "MULTI_REMOVE", "INCR", "CHECK_AND_SET", "CHECK_AND_MUTATE"), "write"
    ),
}
_ROLES = {
    "primary_replicas": PartitionStatus.PRIMARY,
    "secondary_replicas": PartitionStatus.SECONDARY,
    "learning_replicas": PartitionStatus.POTENTIAL_SECONDARY,
    "inactive_replicas": PartitionStatus.INACTIVE,
    "splitting_replicas": PartitionStatus.PARTITION_SPLIT,
    "error_replicas": PartitionStatus.ERROR,
}


@dataclass(frozen=True, slots=True)
class LoadSummary:
    """The bulk loads of a node at a moment.

    Attributes:
        running: How many replicas are being loaded.
        longest_ms: How long the oldest of them has been going on.
        longest_ingestion_ms: How long the oldest has been adding its files; 0 when none does.
    """

    running: int
    longest_ms: int
    longest_ingestion_ms: int


class Measurements:
    """Sets the metrics from the state of the node.

    Args:
        node: The replicas.
        sessions: How many connections are open.
        loads: Which replicas are being loaded from files.
    """

    def __init__(self, node: Node, sessions: Callable[[], int], loads: Callable[[], LoadSummary]) -> None:
        self._node = node
        self._sessions = sessions
        self._loads = loads
        node.context.registry.before_query.append(self.measure)

    def measure(self, is_asked_for: Callable[[Entity], bool]) -> None:
        """Bring the metrics up to date, of replicas only those that are asked for."""
        self._measure_server()
        for disk in self._node.disks:
            attributes = {"tag": disk.tag, "data_dir": str(disk.path)}
            entity = self._node.context.registry.entity("disk", f"disk@{disk.tag}", attributes)
            total, free = disk.measure()
            entity.gauge("disk_capacity_total_mb").value = total // _MB
            entity.gauge("disk_capacity_avail_mb").value = free // _MB
        for partition in self._node.partitions.values():
            if is_asked_for(partition.metrics):
                _measure_replica(partition)

    def _measure_server(self) -> None:
        node, server = self._node, self._node.context.registry.server()
        roles = Counter(partition.core.status for partition in node.partitions.values())
        for name, role in _ROLES.items():
            server.gauge(name).value = roles[role]
        counts = node.counts
        server.gauge("total_replicas").value = len(node.partitions)
        server.gauge("opening_replicas").value = counts.opening
        server.gauge("closing_replicas").value = counts.closing
        server.counter("replica_removed_dirs").value = counts.removed_folders
        server.counter("moved_garbage_replicas").value = counts.moved_garbage
        server.counter("moved_error_replicas").value = counts.moved_errors
        server.gauge("replica_garbage_dirs").value = sum(len(disk.orphaned("gar")) for disk in node.disks)
        server.gauge("replica_error_dirs").value = sum(len(disk.orphaned("err")) for disk in node.disks)
        loads = self._loads()
        server.gauge("bulk_load_running_count").value = loads.running
        server.gauge("bulk_load_max_duration_ms").value = loads.longest_ms
        server.gauge("bulk_load_ingestion_max_duration_ms").value = loads.longest_ingestion_ms
        server.gauge("network_server_sessions").value = self._sessions()
        server.gauge("rdb_block_cache_mem_usage_bytes").value = node.store_settings.block_cache.get_usage()
        buffers = node.store_settings.write_buffers
        server.gauge("rdb_wbm_mutable_mem_usage_bytes").value = sum(
            partition.store.measure("cur-size-active-mem-table") for partition in node.partitions.values()
        )
        server.gauge("rdb_wbm_total_mem_usage_bytes").value = buffers.get_usage() if buffers else 0
        virtual, resident = memory_bytes()
        server.gauge("virtual_mem_usage_mb").value = virtual >> 20
        server.gauge("resident_mem_usage_mb").value = resident >> 20


def failures(registry: Registry) -> Callable[[str, str], None]:
    """Counts the reads and writes of clients that are answered with an error.

    Returns:
        A function to call with the code and the error.
    """
    server = registry.server()

    def count(code: str, error: str) -> None:
        kind = _KINDS.get(code.removeprefix("RPC_RRDB_RRDB_"))
        if kind is not None:
            how = "busy" if error == ErrorCode.ERR_BUSY else "failed"
            server.counter(f"{kind}_{how}_requests").value += 1

    return count


def _measure_replica(partition: Partition) -> None:
    gauge, store = partition.metrics.gauge, partition.store
    gauge("rdb_estimated_keys").value = store.measure("estimate-num-keys")
    gauge("rdb_total_sst_size_mb").value = store.measure("total-sst-files-size") // _MB
    gauge("rdb_total_sst_files").value = store.files()
    gauge("rdb_memtable_mem_usage_bytes").value = store.measure("cur-size-all-mem-tables")
    gauge("rdb_index_and_filter_blocks_mem_usage_bytes").value = store.measure("estimate-table-readers-mem")
    gauge("private_log_size_mb").value = partition.log.unpersisted_bytes // _MB
    status = partition.compaction.status
    gauge("rdb_manual_compact_queued_tasks").value = int(status is ManualCompactionStatus.QUEUING)
    gauge("rdb_manual_compact_running_tasks").value = int(status is ManualCompactionStatus.RUNNING)
