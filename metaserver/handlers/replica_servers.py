"""The RPCs of replica servers: beacons, reports, changes of configuration."""

from __future__ import annotations

from dataclasses import dataclass

from metaserver.cluster import configurations, messages
from metaserver.cluster.metadata import Rejected
from metaserver.handlers.rpc import MANY, unavailable
from metaserver.service import MetaService
from shared.pegasus.serving.rpc import Offloaded, Rpc, rpc
from shared.pegasus.wire.errors import ErrorCode
from shared.pegasus.wire.framing import Request
from shared.pegasus.wire.structures.failure_detector import BeaconAck, BeaconMessage
from shared.pegasus.wire.structures.meta_admin import (
    ConfigSyncRequest,
    ConfigSyncResponse,
    ConfigType,
    MetaFunctionLevel,
    UpdateConfigurationRequest,
    UpdateConfigurationResponse,
)
from shared.pegasus.wire.structures.metadata import PartitionStatus, ReplicaInfo

__all__ = ["ReplicaServerRpcs"]

MAX_REPORT_BYTES = 16 * 1024 * 1024
"""The longest report of what a server holds: some 100,000 replicas."""


@dataclass(frozen=True)
class ReplicaServerRpcs:
    """Functions behind the RPC codes of replica servers; their answers always name nodes in both forms."""

    service: MetaService

    def beacon(self) -> Rpc[BeaconMessage, BeaconAck]:
        """A sign of life of a replica server."""

        def answer(beacon: BeaconMessage, _request: Request) -> BeaconAck:
            leadership = self.service.leadership
            if leadership.is_leader:
                node = beacon.hp_from_node or beacon.from_node
                self.service.beacon(node, beacon.from_node or node, beacon.start_time or 0)
            return BeaconAck(
                time=beacon.time,
                this_node=leadership.this,
                primary_node=leadership.leader,
                is_master=leadership.is_leader,
                allowed=True,
                hp_this_node=leadership.this,
                hp_primary_node=leadership.leader,
            )

        return rpc(BeaconMessage, BeaconAck, answer)

    def config_sync(self) -> Rpc[ConfigSyncRequest, ConfigSyncResponse]:
        """What a server holds; answered with what it shall serve and what it may delete."""
        return rpc(ConfigSyncRequest, ConfigSyncResponse, self._config_sync, max_bytes=MAX_REPORT_BYTES)

    def _config_sync(self, request: ConfigSyncRequest, _request: Request) -> ConfigSyncResponse | Offloaded:
        service = self.service
        reason = unavailable(service)
        if reason is not None:
            return ConfigSyncResponse(err=reason)
        node, stored = request.hp_node or request.node, request.stored_replicas or ()
        if request.stored_replicas is not None:
            service.report(node, stored)
        metadata, nodes, now = service.metadata, service.nodes, service.wall_clock()
        is_steady = service.current_level() >= MetaFunctionLevel.STEADY

        def answer() -> ConfigSyncResponse:
            listed = configurations.assigned(metadata, node)
            partitions = [messages.proposal(metadata, nodes, gpid, ConfigType.INVALID, node) for gpid in listed]
            garbage = configurations.garbage(metadata, node, stored, now) if is_steady else []
            return ConfigSyncResponse(partitions=partitions, gc_replicas=garbage)

        if len(stored) + sum(table.partition_count for table in metadata.served()) <= MANY:
            return answer()
        metadata, nodes = metadata.copy(), nodes.copy()
        return Offloaded(answer)

    def update_configuration(self) -> Rpc[UpdateConfigurationRequest, UpdateConfigurationResponse]:
        """A change of a partition's members; answered, once durable, with the configuration in force (§13.2)."""
        return rpc(UpdateConfigurationRequest, UpdateConfigurationResponse, self._update_configuration)

    async def _update_configuration(
        self, request: UpdateConfigurationRequest, _request: Request
    ) -> UpdateConfigurationResponse:
        service = self.service
        reason = unavailable(service)
        if reason is not None:
            return UpdateConfigurationResponse(reason)
        if request.type not in list(ConfigType):
            return UpdateConfigurationResponse(ErrorCode.ERR_INVALID_PARAMETERS)
        proposed = configurations.Proposed(
            gpid=request.config.pid,
            type=ConfigType(request.type),
            node=request.hp_node or request.node,
            ballot=request.config.ballot,
            last_committed_decree=request.config.last_committed_decree,
        )
        error: str = ErrorCode.ERR_OK
        try:
            if service.level <= MetaFunctionLevel.BLIND:
                raise Rejected(ErrorCode.ERR_STATE_FREEZED)
            await service.change(lambda metadata: (configurations.decide(metadata, proposed), None))
        except Rejected as rejected:
            error = rejected.code
        found = service.metadata.partition(proposed.gpid)
        if found is None:
            return UpdateConfigurationResponse(error)
        table, partition = found
        if error == ErrorCode.ERR_OK and proposed.node in partition.members():
            decree = proposed.last_committed_decree
            info = ReplicaInfo(proposed.gpid, partition.ballot, PartitionStatus.INACTIVE, decree, decree)
            service.nodes.confirm(proposed.node, info)
        return UpdateConfigurationResponse(
            error, messages.configuration(service.nodes, table, proposed.gpid, partition)
        )
