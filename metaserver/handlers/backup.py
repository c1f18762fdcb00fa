"""Backup and restore over RPC."""

from __future__ import annotations

from dataclasses import dataclass

from metaserver.backup import plan
from metaserver.backup.driver import Backups
from metaserver.cluster.metadata import BackupPolicy, Rejected
from metaserver.service import MetaService
from shared.pegasus.wire.errors import ErrorCode
from shared.pegasus.wire.structures.backup import (
    AddBackupPolicyRequest,
    AddBackupPolicyResponse,
    BackupEntry,
    BackupItem,
    ModifyBackupPolicyRequest,
    ModifyBackupPolicyResponse,
    PolicyEntry,
    QueryBackupPolicyRequest,
    QueryBackupPolicyResponse,
    QueryBackupStatusRequest,
    QueryBackupStatusResponse,
    QueryRestoreRequest,
    QueryRestoreResponse,
    RestoreRequest,
    StartBackupAppRequest,
    StartBackupAppResponse,
)
from shared.pegasus.wire.structures.layer2 import AppStatus
from shared.pegasus.wire.structures.meta_admin import CreateAppResponse

__all__ = ["BackupRpcs"]


@dataclass(frozen=True)
class BackupRpcs:
    """Functions behind the RPC codes of backup and restore."""

    service: MetaService
    backups: Backups

    async def add_policy(self, request: AddBackupPolicyRequest) -> AddBackupPolicyResponse:
        self._require_enabled()
        self.backups.require_provider(request.backup_provider_type)
        policy = BackupPolicy(
            name=request.policy_name,
            provider=request.backup_provider_type,
            app_ids=frozenset(request.app_ids),
            interval_s=request.backup_interval_seconds,
            history_count=request.backup_history_count_to_keep,
            start_time=request.start_time,
        )
        shortest_s = self._shortest_interval_s()
        await self.service.change(lambda metadata: (plan.add_policy(metadata, policy, shortest_s), None))
        return AddBackupPolicyResponse()

    async def modify_policy(self, request: ModifyBackupPolicyRequest) -> ModifyBackupPolicyResponse:
        self._require_enabled()
        shortest_s = self._shortest_interval_s()
        await self.service.change(lambda metadata: (plan.modify_policy(metadata, request, shortest_s), None))
        return ModifyBackupPolicyResponse()

    def query_policies(self, request: QueryBackupPolicyRequest) -> QueryBackupPolicyResponse:
        self._require_enabled()
        metadata = self.service.metadata
        names = request.policy_names or sorted(metadata.policies)
        policies = [metadata.policies[name] for name in names if name in metadata.policies]
        if len(policies) < len(names):
            unknown = next(name for name in names if name not in metadata.policies)
            raise Rejected(ErrorCode.ERR_INVALID_PARAMETERS, f"there is no policy '{unknown}'")
        return QueryBackupPolicyResponse(
            policys=[_entry(policy) for policy in policies],
            backup_infos=[
                [
                    BackupEntry(made.id, made.start_ms, made.end_ms, frozenset(made.tables))
                    for made in plan.backups_of(metadata, policy.name)[: max(0, request.backup_info_count)]
                ]
                for policy in policies
            ],
        )

    async def start_backup(self, request: StartBackupAppRequest) -> StartBackupAppResponse:
        made = await self.backups.back_up(request.app_id, request.backup_provider_type, request.backup_path or "")
        return StartBackupAppResponse(backup_id=made.id)

    def query_backup(self, request: QueryBackupStatusRequest) -> QueryBackupStatusResponse:
        wanted = [
            made
            for made in plan.backups_of(self.service.metadata, "")
            if request.app_id in made.tables and request.backup_id in (None, made.id)
        ]
        if not wanted:
            raise Rejected(ErrorCode.ERR_INVALID_PARAMETERS, f"there is no such backup of table {request.app_id}")
        items = [
            BackupItem(
                made.id,
                made.tables[request.app_id],
                made.provider,
                made.root,
                made.start_ms,
                made.end_ms,
                made.is_failed,
            )
            for made in wanted
        ]
        return QueryBackupStatusResponse(
            hint_message=f"{self.backups.progress(wanted[0]) // 10} percent", backup_items=items
        )

    async def start_restore(self, request: RestoreRequest) -> CreateAppResponse:
        table = await self.backups.restore(request)
        return CreateAppResponse(appid=table.app_id)

    def query_restore(self, request: QueryRestoreRequest) -> QueryRestoreResponse:
        table = self.service.metadata.tables.get(request.restore_app_id)
        if table is None:
            return QueryRestoreResponse(err=ErrorCode.ERR_APP_NOT_EXIST)
        if table.status == AppStatus.DROPPED:
            return QueryRestoreResponse(err=ErrorCode.ERR_APP_DROPPED)
        done = [bool(partition.primary) for _, partition in table]
        return QueryRestoreResponse(
            restore_status=[ErrorCode.ERR_OK if is_done else ErrorCode.ERR_BUSY for is_done in done],
            restore_progress=[1000 if is_done else 0 for is_done in done],
        )

    def _require_enabled(self) -> None:
        if not self.backups.is_enabled:
            raise Rejected(ErrorCode.ERR_SERVICE_NOT_ACTIVE, "cold backup is disabled (cold_backup_disabled=true)")

    def _shortest_interval_s(self) -> int:
        return self.service.flags.integer("cold_backup_checkpoint_reserve_minutes") * 60


def _entry(policy: BackupPolicy) -> PolicyEntry:
    return PolicyEntry(
        policy.name,
        policy.provider,
        str(policy.interval_s),
        policy.app_ids,
        policy.history_count,
        policy.start_time,
        policy.is_disabled,
    )
