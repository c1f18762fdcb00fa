"""Bulk load over HTTP and RPC (protocol §5.8, §5.9, §12.6)."""

from __future__ import annotations

from dataclasses import dataclass

from metaserver.bulk_load.driver import BulkLoads
from metaserver.cluster.metadata import Rejected
from metaserver.service import MetaService
from shared.errors import Problem
from shared.pegasus.wire.errors import ErrorCode
from shared.pegasus.wire.structures.bulk_load import (
    BulkLoadStatus,
    ClearBulkLoadStateRequest,
    ClearBulkLoadStateResponse,
    ControlBulkLoadRequest,
    ControlBulkLoadResponse,
    PartitionBulkLoadState,
    QueryBulkLoadRequest,
    QueryBulkLoadResponse,
    StartBulkLoadRequest,
    StartBulkLoadResponse,
)

__all__ = ["BulkLoadRpcs", "query", "start"]


async def start(loads: BulkLoads, body: dict[str, str]) -> tuple[str, str]:
    """Begin a load as the HTTP call asks for it; the error's name and the hint of the answer (§5.8)."""
    if not loads.is_enabled:
        raise Problem(404, "bulk load is not enabled")
    for member in ("app_name", "cluster_name", "file_provider_type", "remote_root_path"):
        if not body[member]:
            raise Problem(400, f"{member} should not be empty")
    try:
        await loads.start(body["app_name"], body["cluster_name"], body["file_provider_type"], body["remote_root_path"])
    except Rejected as rejected:
        return rejected.code, rejected.hint
    return ErrorCode.ERR_OK, ""


def query(service: MetaService, app_name: str) -> tuple[str, BulkLoadStatus]:
    """The error's name and the status of a table's load (§5.9)."""
    table = service.metadata.named(app_name)
    if table is None:
        return ErrorCode.ERR_APP_NOT_EXIST, BulkLoadStatus.INVALID
    load = service.metadata.loads.get(table.app_id)
    return ErrorCode.ERR_OK, BulkLoadStatus.INVALID if load is None else load.status


@dataclass(frozen=True)
class BulkLoadRpcs:
    """Functions behind the RPC codes of bulk load."""

    service: MetaService
    loads: BulkLoads

    async def start(self, request: StartBulkLoadRequest) -> StartBulkLoadResponse:
        self._require_enabled()
        await self.loads.start(
            request.app_name,
            request.cluster_name,
            request.file_provider_type,
            request.remote_root_path,
            ingest_behind=request.ingest_behind,
        )
        return StartBulkLoadResponse()

    async def control(self, request: ControlBulkLoadRequest) -> ControlBulkLoadResponse:
        self._require_enabled()
        await self.loads.control(request.app_name, request.type)
        return ControlBulkLoadResponse()

    async def clear(self, request: ClearBulkLoadStateRequest) -> ClearBulkLoadStateResponse:
        self._require_enabled()
        await self.loads.clear(request.app_name)
        return ClearBulkLoadStateResponse()

    def query(self, request: QueryBulkLoadRequest) -> QueryBulkLoadResponse:
        self._require_enabled()
        service = self.service
        table = service.metadata.named(request.app_name)
        if table is None:
            raise Rejected(ErrorCode.ERR_APP_NOT_EXIST, f"there is no table '{request.app_name}'")
        load = service.metadata.loads.get(table.app_id)
        if load is None:
            return QueryBulkLoadResponse(app_name=table.name, max_replica_count=table.max_replica_count)
        seen = [self.loads.seen(gpid) for gpid, _ in table]
        states = [
            PartitionBulkLoadState(
                download_progress=state.progress, download_status=state.failure or ErrorCode.ERR_OK,
                is_cleaned_up=state.is_cleaned_up, is_paused=state.is_paused,
            )
            for state in seen
        ]  # fmt: skip
        primaries = [partition.primary for _, partition in table]
        return QueryBulkLoadResponse(
            app_name=table.name,
            app_status=load.status,
            partitions_status=[state.status for state in seen],
            max_replica_count=table.max_replica_count,
            bulk_load_states=[
                {service.nodes.address(node): state} for node, state in zip(primaries, states, strict=True)
            ],
            hint_msg=load.failure,
            is_bulk_loading=load.is_running,
            hp_bulk_load_states=[{node: state} for node, state in zip(primaries, states, strict=True)],
        )

    def _require_enabled(self) -> None:
        if not self.loads.is_enabled:
            raise Rejected(ErrorCode.ERR_SERVICE_NOT_ACTIVE, "bulk load is not enabled")
