"""Duplication and partition split over RPC: this cluster has neither, and says so (protocol §12.6).

Tools ask every cluster for both, and take an answer without a result for a broken server.
"""

from __future__ import annotations

from dataclasses import dataclass

from metaserver.cluster import tables
from metaserver.cluster.metadata import Refused
from metaserver.service import MetaService
from shared.pegasus.wire.errors import ErrorCode
from shared.pegasus.wire.structures.duplication import (
    DuplicationAddRequest,
    DuplicationAddResponse,
    DuplicationListRequest,
    DuplicationListResponse,
    DuplicationModifyRequest,
    DuplicationModifyResponse,
    DuplicationQueryRequest,
    DuplicationQueryResponse,
)
from shared.pegasus.wire.structures.partition_split import (
    ControlSplitRequest,
    ControlSplitResponse,
    QuerySplitRequest,
    QuerySplitResponse,
    StartPartitionSplitRequest,
    StartPartitionSplitResponse,
)

__all__ = ["AbsentRpcs"]


@dataclass(frozen=True)
class AbsentRpcs:
    """Functions behind the RPC codes of duplication and partition split."""

    service: MetaService

    def query_duplication(self, request: DuplicationQueryRequest) -> DuplicationQueryResponse:
        return DuplicationQueryResponse(appid=tables.in_service(self.service.metadata, request.app_name).app_id)

    def list_duplication(self, _request: DuplicationListRequest) -> DuplicationListResponse:
        return DuplicationListResponse()

    def add_duplication(self, _request: DuplicationAddRequest) -> DuplicationAddResponse:
        hint = "tables are not duplicated to other clusters"
        return DuplicationAddResponse(err=ErrorCode.ERR_SERVICE_NOT_ACTIVE, hint=hint)

    def modify_duplication(self, _request: DuplicationModifyRequest) -> DuplicationModifyResponse:
        return DuplicationModifyResponse(err=ErrorCode.ERR_SERVICE_NOT_ACTIVE)

    def query_split(self, request: QuerySplitRequest) -> QuerySplitResponse:
        table = tables.in_service(self.service.metadata, request.app_name)
        raise Refused(ErrorCode.ERR_INVALID_STATE, f"table '{table.name}' is not being split")

    def start_split(self, _request: StartPartitionSplitRequest) -> StartPartitionSplitResponse:
        raise Refused(ErrorCode.ERR_SERVICE_NOT_ACTIVE, "partitions cannot be split")

    def control_split(self, _request: ControlSplitRequest) -> ControlSplitResponse:
        raise Refused(ErrorCode.ERR_SERVICE_NOT_ACTIVE, "partitions cannot be split")
