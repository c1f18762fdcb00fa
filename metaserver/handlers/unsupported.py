"""The RPCs of duplication and partition split, which this cluster does not support (protocol §12.6).

Tools query both on every cluster, and treat an answer without a result as a broken server.
"""

from __future__ import annotations

from dataclasses import dataclass

from metaserver.cluster import tables
from metaserver.cluster.metadata import Rejected
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

__all__ = ["UnsupportedRpcs"]


@dataclass(frozen=True)
class UnsupportedRpcs:
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
        raise Rejected(ErrorCode.ERR_INVALID_STATE, f"table '{table.name}' is not being split")

    def start_split(self, _request: StartPartitionSplitRequest) -> StartPartitionSplitResponse:
        raise Rejected(ErrorCode.ERR_SERVICE_NOT_ACTIVE, "partitions cannot be split")

    def control_split(self, _request: ControlSplitRequest) -> ControlSplitResponse:
        raise Rejected(ErrorCode.ERR_SERVICE_NOT_ACTIVE, "partitions cannot be split")
