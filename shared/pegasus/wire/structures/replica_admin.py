"""What tools ask a replica server: replica_admin.thrift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import field

from shared.pegasus.wire.structures.base import GPID, NO_NODE, Address, Gpid, HostPortField
from shared.pegasus.wire.structures.metadata import ReplicaInfo
from shared.pegasus.wire.thrift import I32, I64, ErrorName, struct


@struct
class QueryReplicaDecreeRequest:
    pid: GPID = Gpid(0, 0)
    node1: Address = NO_NODE
    hp_node1: HostPortField | None = None


@struct
class QueryReplicaDecreeResponse:
    err: ErrorName = "ERR_OK"
    last_decree: I64 = 0


@struct
class QueryReplicaInfoRequest:
    node1: Address = NO_NODE
    hp_node1: HostPortField | None = None


@struct
class QueryReplicaInfoResponse:
    err: ErrorName = "ERR_OK"
    replicas: Sequence[ReplicaInfo] = ()


@struct
class DiskInfo:
    tag: str = ""
    full_dir: str = ""
    disk_capacity_mb: I64 = 0
    disk_available_mb: I64 = 0
    holding_primary_replicas: Mapping[I32, AbstractSet[GPID]] = field(default_factory=dict)
    holding_secondary_replicas: Mapping[I32, AbstractSet[GPID]] = field(default_factory=dict)


@struct
class QueryDiskInfoRequest:
    node1: Address = NO_NODE
    app_name: str = ""
    hp_node1: HostPortField | None = None


@struct
class QueryDiskInfoResponse:
    err: ErrorName = "ERR_OK"
    total_capacity_mb: I64 = 0
    total_available_mb: I64 = 0
    disk_infos: Sequence[DiskInfo] = ()
