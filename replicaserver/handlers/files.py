"""Bulk loads and backups over RPC, as the metaserver commands them."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from replicaserver.jobs.backups import Backups
from replicaserver.jobs.bulk_loader import BulkLoader
from replicaserver.node.replicas import Node
from shared.pegasus.serving.rpc import NO_REPLY, NoReply, Rpc, rpc
from shared.pegasus.wire.errors import ErrorCode, RpcError
from shared.pegasus.wire.framing import Request
from shared.pegasus.wire.structures.backup import BackupClearRequest, BackupRequest, BackupResponse
from shared.pegasus.wire.structures.base import Gpid
from shared.pegasus.wire.structures.bulk_load import (
    BulkLoadRequest,
    BulkLoadResponse,
    IngestionRequest,
    IngestionResponse,
)


class FileHandlers:
    """Answers the codes of long operations on files."""

    def __init__(self, node: Node, loader: BulkLoader, backups: Backups) -> None:
        self._node = node
        self._loader = loader
        self._backups = backups

    def rpcs(self) -> dict[str, Rpc[Any, Any]]:
        """Every code of bulk load and backup."""
        return {
            "RPC_BULK_LOAD": rpc(BulkLoadRequest, BulkLoadResponse, self.bulk_load),
            "RPC_RRDB_RRDB_BULK_LOAD": rpc(IngestionRequest, IngestionResponse, self.ingest),
            "RPC_COLD_BACKUP": rpc(BackupRequest, BackupResponse, self.back_up),
            "RPC_CLEAR_COLD_BACKUP": rpc(BackupClearRequest, None, self.clear_backup),
        }

    def bulk_load(self, value: BulkLoadRequest, _request: Request) -> Awaitable[BulkLoadResponse]:
        """BULK_LOAD: the metaserver's command, answered with how far the replica is."""
        return self._loader.command(value)

    async def ingest(self, value: IngestionRequest, request: Request) -> IngestionResponse:
        """BULK_LOAD of the data plane: add the fetched files."""
        gpid = Gpid(request.app_id, request.partition_index)
        partition = self._node.partitions.get(gpid)
        if partition is None:
            raise RpcError(ErrorCode.ERR_OBJECT_NOT_FOUND, f"no replica of {gpid} is open here")
        return await self._loader.ingest(partition, value)

    def back_up(self, value: BackupRequest, _request: Request) -> BackupResponse:
        """COLD_BACKUP: begin a backup, or say how far it is."""
        return self._backups.command(value)

    async def clear_backup(self, value: BackupClearRequest, _request: Request) -> NoReply:
        """CLEAR_COLD_BACKUP: forget the backups of a policy; never answered."""
        await self._backups.clear(value)
        return NO_REPLY
