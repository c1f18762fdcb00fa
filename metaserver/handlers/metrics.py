"""Metrics that are measured at every query."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from metaserver.backup import plan
from metaserver.cluster import health
from metaserver.service import MetaService
from shared.pegasus.metrics.entities import Registry
from shared.pegasus.process.statistics import memory_bytes
from shared.pegasus.wire.structures.base import Gpid

__all__ = ["Measurements"]

TABLE_GAUGES = (
    "dead_partitions",
    "healthy_partitions",
    "unreadable_partitions",
    "unwritable_partitions",
    "writable_ill_partitions",
)


class Measurements:
    """Sets the metrics from the state of the metaserver.

    Args:
        sessions: How many connections are open.
        clock: The clock by which retired entities disappear.
    """

    def __init__(
        self, registry: Registry, service: MetaService, sessions: Callable[[], int], clock: Callable[[], float]
    ) -> None:
        self._registry = registry
        self._service = service
        self._sessions = sessions
        self._clock = clock
        self._known: set[Gpid] = set()
        registry.before_query.append(self.measure)

    def measure(self, _is_asked_for: object = None) -> None:
        """Update every metric; each is cheap to read."""
        server, nodes = self._registry.server(), self._service.nodes
        alive = len(nodes.alive())
        server.gauge("alive_replica_servers").value = alive
        server.gauge("unalive_replica_servers").value = len(nodes.known) - alive
        server.counter("replica_server_disconnections").value = nodes.disconnections
        server.gauge("network_server_sessions").value = self._sessions()
        virtual, resident = memory_bytes()
        server.gauge("virtual_mem_usage_mb").value = virtual >> 20
        server.gauge("resident_mem_usage_mb").value = resident >> 20
        self._measure_tables()
        self._measure_policies()

    def _measure_tables(self) -> None:
        service = self._service
        required = health.required_members(service.flags.integer("mutation_2pc_min_replica_count"))
        seen: set[Gpid] = set()
        planned = Counter(move.gpid for move in service.moves)
        for table in service.metadata.available():
            states = [health.gauge(table, partition, required) for partition in table.partitions]
            entity = self._registry.table(table.app_id)
            for name in TABLE_GAUGES:
                entity.gauge(name).value = states.count(name)
            for gpid, _ in table:
                seen.add(gpid)
                self._measure_partition(gpid, planned[gpid])
        for gpid in self._known - seen:
            self._registry.retire(self._registry.partition(*gpid), self._clock())
            if gpid.partition_index == 0:
                self._registry.retire(self._registry.table(gpid.app_id), self._clock())
        self._known = seen

    def _measure_policies(self) -> None:
        """How long the last backup of each policy took, or has been taking."""
        now_ms = int(self._service.wall_clock() * 1000)
        for name in self._service.metadata.policies:
            entity = self._registry.entity("backup_policy", f"backup_policy@{name}", {"policy_name": name})
            made = plan.backups_of(self._service.metadata, name)
            if made:
                entity.gauge("backup_recent_duration_ms").value = (made[0].end_ms or now_ms) - made[0].start_ms

    def _measure_partition(self, gpid: Gpid, planned_moves: int) -> None:
        counts, entity = self._service.counts, self._registry.partition(*gpid)
        entity.counter("partition_configuration_changes").value = counts.changes[gpid]
        entity.counter("writable_partition_changes").value = counts.became_writable[gpid]
        entity.counter("unwritable_partition_changes").value = counts.became_unwritable[gpid]
        entity.counter("choose_primary_failed_operations").value = counts.undecided[gpid]
        entity.counter("greedy_copy_primary_operations").value = counts.moved[gpid]
        entity.gauge("greedy_recent_balance_operations").value = planned_moves
