"""Cold backup and restore: backup.thrift."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import field

from shared.pegasus.wire.structures.base import GPID, Gpid
from shared.pegasus.wire.thrift import I32, I64, ErrorName, struct


@struct
class PolicyInfo:
    policy_name: str = ""
    backup_provider_type: str = ""


@struct
class RestoreRequest:
    cluster_name: str = ""
    policy_name: str = ""
    time_stamp: I64 = 0
    app_name: str = ""
    app_id: I32 = 0
    new_app_name: str = ""
    backup_provider_name: str = ""
    skip_bad_partition: bool = False
    restore_path: str | None = None


@struct
class BackupRequest:
    pid: GPID = Gpid(0, 0)
    policy: PolicyInfo = field(default_factory=PolicyInfo)
    app_name: str = ""
    backup_id: I64 = 0
    backup_path: str | None = None


@struct
class BackupResponse:
    err: ErrorName = "ERR_OK"
    pid: GPID = Gpid(0, 0)
    progress: I32 = 0
    policy_name: str = ""
    backup_id: I64 = 0
    checkpoint_total_size: I64 = 0


@struct
class BackupClearRequest:
    pid: GPID = Gpid(0, 0)
    policy_name: str = ""


@struct
class ModifyBackupPolicyRequest:
    policy_name: str = ""
    add_appids: Sequence[I32] | None = None
    removal_appids: Sequence[I32] | None = None
    new_backup_interval_sec: I64 | None = None
    backup_history_count_to_keep: I32 | None = None
    is_disable: bool | None = None
    start_time: str | None = None
    force_disable: bool | None = None


@struct
class ModifyBackupPolicyResponse:
    err: ErrorName = "ERR_OK"
    hint_message: str = ""


@struct
class AddBackupPolicyRequest:
    backup_provider_type: str = ""
    policy_name: str = ""
    app_ids: Sequence[I32] = ()
    backup_interval_seconds: I64 = 0
    backup_history_count_to_keep: I32 = 0
    start_time: str = ""


@struct
class AddBackupPolicyResponse:
    err: ErrorName = "ERR_OK"
    hint_message: str = ""


@struct
class PolicyEntry:
    policy_name: str = ""
    backup_provider_type: str = ""
    backup_interval_seconds: str = ""
    app_ids: AbstractSet[I32] = frozenset()
    backup_history_count_to_keep: I32 = 0
    start_time: str = ""
    is_disable: bool = False


@struct
class BackupEntry:
    backup_id: I64 = 0
    start_time_ms: I64 = 0
    end_time_ms: I64 = 0
    app_ids: AbstractSet[I32] = frozenset()


@struct
class QueryBackupPolicyRequest:
    policy_names: Sequence[str] = ()
    backup_info_count: I32 = 0


@struct
class QueryBackupPolicyResponse:
    err: ErrorName = "ERR_OK"
    policys: Sequence[PolicyEntry] = ()
    backup_infos: Sequence[Sequence[BackupEntry]] = ()
    hint_msg: str | None = None


@struct
class ReportRestoreStatusRequest:
    pid: GPID = Gpid(0, 0)
    restore_status: ErrorName = "ERR_OK"
    progress: I32 = 0
    reason: str | None = None


@struct
class ReportRestoreStatusResponse:
    err: ErrorName = "ERR_OK"


@struct
class QueryRestoreRequest:
    restore_app_id: I32 = 0


@struct
class QueryRestoreResponse:
    err: ErrorName = "ERR_OK"
    restore_status: Sequence[ErrorName] = ()
    restore_progress: Sequence[I32] = ()


@struct
class StartBackupAppRequest:
    backup_provider_type: str = ""
    app_id: I32 = 0
    backup_path: str | None = None


@struct
class StartBackupAppResponse:
    err: ErrorName = "ERR_OK"
    hint_message: str = ""
    backup_id: I64 | None = None


@struct
class BackupItem:
    backup_id: I64 = 0
    app_name: str = ""
    backup_provider_type: str = ""
    backup_path: str = ""
    start_time_ms: I64 = 0
    end_time_ms: I64 = 0
    is_backup_failed: bool = False


@struct
class QueryBackupStatusRequest:
    app_id: I32 = 0
    backup_id: I64 | None = None


@struct
class QueryBackupStatusResponse:
    err: ErrorName = "ERR_OK"
    hint_message: str = ""
    backup_items: Sequence[BackupItem] | None = None
