"""Administration of tables, nodes and partition configurations: meta_admin.thrift.

The IDL calls most of these `configuration_<x>_request`; the classes leave the word out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from enum import IntEnum

from shared.pegasus.wire.structures.base import GPID, NO_NODE, Address, Gpid, HostPortField
from shared.pegasus.wire.structures.layer2 import AppInfo, PartitionConfiguration
from shared.pegasus.wire.structures.metadata import ReplicaInfo
from shared.pegasus.wire.thrift import I32, I64, ErrorName, struct


class ConfigType(IntEnum):
    """What a change of a partition's configuration does (§13.3)."""

    INVALID = 0
    ASSIGN_PRIMARY = 1
    UPGRADE_TO_PRIMARY = 2
    ADD_SECONDARY = 3
    UPGRADE_TO_SECONDARY = 4
    DOWNGRADE_TO_SECONDARY = 5
    DOWNGRADE_TO_INACTIVE = 6
    REMOVE = 7
    ADD_SECONDARY_FOR_LB = 8
    PRIMARY_FORCE_UPDATE_BALLOT = 9
    DROP_PARTITION = 10
    REGISTER_CHILD = 11


class NodeStatus(IntEnum):
    """Whether a replica server beats (§1)."""

    INVALID = 0
    ALIVE = 1
    UNALIVE = 2


class AppEnvOperation(IntEnum):
    """How a request changes a table's environment (§12.4)."""

    INVALID = 0
    SET = 1
    DEL = 2
    CLEAR = 3


class MetaFunctionLevel(IntEnum):
    """What the metaserver may do on its own (§1)."""

    STOPPED = 100
    BLIND = 200
    FREEZED = 300
    STEADY = 400
    LIVELY = 500
    INVALID = 10000


class BalancerRequestType(IntEnum):
    """How a proposed action moves a replica."""

    MOVE_PRIMARY = 0
    COPY_PRIMARY = 1
    COPY_SECONDARY = 2


class PatternMatchType(IntEnum):
    """How a name is matched against a pattern: utils.thrift."""

    INVALID = 0
    MATCH_ALL = 1
    MATCH_EXACT = 2
    MATCH_ANYWHERE = 3
    MATCH_PREFIX = 4
    MATCH_POSTFIX = 5
    MATCH_REGEX = 6


@struct
class UpdateConfigurationRequest:
    info: AppInfo = field(default_factory=AppInfo)
    config: PartitionConfiguration = field(default_factory=PartitionConfiguration)
    type: I32 = 0
    node: Address = NO_NODE
    host_node: Address = NO_NODE
    meta_split_status: I32 | None = None
    hp_node: HostPortField | None = None


@struct
class UpdateConfigurationResponse:
    err: ErrorName = "ERR_OK"
    config: PartitionConfiguration = field(default_factory=PartitionConfiguration)


@struct
class ReplicaServerInfo:
    geo_tags: Mapping[str, str] = field(default_factory=dict)
    total_capacity_mb: I64 = 0


@struct
class ConfigSyncRequest:
    node: Address = NO_NODE
    stored_replicas: Sequence[ReplicaInfo] | None = None
    info: ReplicaServerInfo | None = None
    hp_node: HostPortField | None = None


@struct
class ConfigSyncResponse:
    err: ErrorName = "ERR_OK"
    partitions: Sequence[UpdateConfigurationRequest] = ()
    gc_replicas: Sequence[ReplicaInfo] | None = None


@struct
class RecoveryRequest:
    recovery_nodes: Sequence[Address] = ()
    skip_bad_nodes: bool = False
    skip_lost_partitions: bool = False
    hp_recovery_nodes: Sequence[HostPortField] | None = None


@struct
class RecoveryResponse:
    err: ErrorName = "ERR_OK"
    hint_message: str = ""


@struct
class CreateAppOptions:
    partition_count: I32 = 0
    replica_count: I32 = 0
    success_if_exist: bool = False
    app_type: str = ""
    is_stateful: bool = False
    envs: Mapping[str, str] = field(default_factory=dict)
    atomic_idempotent: bool | None = None


@struct
class CreateAppRequest:
    app_name: str = ""
    options: CreateAppOptions = field(default_factory=CreateAppOptions)


@struct
class CreateAppResponse:
    err: ErrorName = "ERR_OK"
    appid: I32 = 0


@struct
class DropAppOptions:
    success_if_not_exist: bool = False
    reserve_seconds: I64 | None = None


@struct
class DropAppRequest:
    app_name: str = ""
    options: DropAppOptions = field(default_factory=DropAppOptions)


@struct
class DropAppResponse:
    err: ErrorName = "ERR_OK"


@struct
class RenameAppRequest:
    old_app_name: str = ""
    new_app_name: str = ""


@struct
class RenameAppResponse:
    err: ErrorName = "ERR_OK"
    hint_message: str = ""


@struct
class RecallAppRequest:
    app_id: I32 = 0
    new_app_name: str = ""


@struct
class RecallAppResponse:
    err: ErrorName = "ERR_OK"
    info: AppInfo = field(default_factory=AppInfo)


@struct
class ListAppsRequest:
    status: I32 = 0
    app_name_pattern: str | None = None
    match_type: I32 | None = None


@struct
class ListAppsResponse:
    err: ErrorName = "ERR_OK"
    infos: Sequence[AppInfo] = ()
    hint_message: str | None = None


@struct
class QueryAppInfoRequest:
    meta_server: Address = NO_NODE
    hp_meta_server: HostPortField | None = None


@struct
class QueryAppInfoResponse:
    err: ErrorName = "ERR_OK"
    apps: Sequence[AppInfo] = ()


@struct
class UpdateAppEnvRequest:
    app_name: str = ""
    op: I32 = 0
    keys: Sequence[str] | None = None
    values: Sequence[str] | None = None
    clear_prefix: str | None = None


@struct
class UpdateAppEnvResponse:
    err: ErrorName = "ERR_OK"
    hint_message: str = ""


@struct
class StartManualCompactRequest:
    app_name: str = ""
    trigger_time: I64 | None = None
    target_level: I32 | None = None
    bottommost: bool | None = None
    max_running_count: I32 | None = None


@struct
class StartManualCompactResponse:
    err: ErrorName = "ERR_OK"
    hint_msg: str = ""


@struct
class QueryManualCompactRequest:
    app_name: str = ""


@struct
class QueryManualCompactResponse:
    err: ErrorName = "ERR_OK"
    hint_msg: str = ""
    progress: I32 | None = None


@struct
class NodeInfo:
    status: I32 = 0
    node: Address = NO_NODE
    hp_node: HostPortField | None = None


@struct
class ListNodesRequest:
    status: I32 = 0


@struct
class ListNodesResponse:
    err: ErrorName = "ERR_OK"
    infos: Sequence[NodeInfo] = ()


@struct
class ClusterInfoRequest:
    pass


@struct
class ClusterInfoResponse:
    err: ErrorName = "ERR_OK"
    keys: Sequence[str] = ()
    values: Sequence[str] = ()


@struct
class MetaControlRequest:
    level: I32 = MetaFunctionLevel.INVALID


@struct
class MetaControlResponse:
    err: ErrorName = "ERR_OK"
    old_level: I32 = MetaFunctionLevel.INVALID


@struct(ids=(1, 2, 3, 5, 6))
class ProposalAction:
    target: Address = NO_NODE
    node: Address = NO_NODE
    type: I32 = 0
    hp_target: HostPortField | None = None
    hp_node: HostPortField | None = None


@struct
class BalancerRequest:
    gpid: GPID = Gpid(0, 0)
    action_list: Sequence[ProposalAction] = ()
    force: bool | None = None
    balance_type: I32 | None = None


@struct
class BalancerResponse:
    err: ErrorName = "ERR_OK"


@struct
class DddDiagnoseRequest:
    pid: GPID = Gpid(0, 0)


@struct
class DddNodeInfo:
    node: Address = NO_NODE
    drop_time_ms: I64 = 0
    is_alive: bool = False
    is_collected: bool = False
    ballot: I64 = 0
    last_committed_decree: I64 = 0
    last_prepared_decree: I64 = 0
    hp_node: HostPortField | None = None


@struct
class DddPartitionInfo:
    config: PartitionConfiguration = field(default_factory=PartitionConfiguration)
    dropped: Sequence[DddNodeInfo] = ()
    reason: str = ""


@struct
class DddDiagnoseResponse:
    err: ErrorName = "ERR_OK"
    partitions: Sequence[DddPartitionInfo] = ()


@struct
class GetMaxReplicaCountRequest:
    app_name: str = ""


@struct
class GetMaxReplicaCountResponse:
    err: ErrorName = "ERR_OK"
    max_replica_count: I32 = 0
    hint_message: str = ""


@struct
class SetMaxReplicaCountRequest:
    app_name: str = ""
    max_replica_count: I32 = 0


@struct
class SetMaxReplicaCountResponse:
    err: ErrorName = "ERR_OK"
    old_max_replica_count: I32 = 0
    hint_message: str = ""


@struct
class GetAtomicIdempotentRequest:
    app_name: str = ""


@struct
class GetAtomicIdempotentResponse:
    err: ErrorName = "ERR_OK"
    atomic_idempotent: bool = False
    hint_message: str = ""


@struct
class SetAtomicIdempotentRequest:
    app_name: str = ""
    atomic_idempotent: bool = False


@struct
class SetAtomicIdempotentResponse:
    err: ErrorName = "ERR_OK"
    old_atomic_idempotent: bool = False
    hint_message: str = ""
