"""Tables, partition configurations and the routing query: dsn.layer2.thrift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from enum import IntEnum

from shared.pegasus.wire.structures.base import GPID, NO_NODE, Address, Gpid, HostPort, HostPortField
from shared.pegasus.wire.thrift import I32, I64, ErrorName, struct


class AppStatus(IntEnum):
    """The life of a table (§1)."""

    INVALID = 0
    AVAILABLE = 1
    CREATING = 2
    CREATE_FAILED = 3
    DROPPING = 4
    DROP_FAILED = 5
    DROPPED = 6
    RECALLING = 7


@struct
class PartitionConfiguration:
    pid: GPID = Gpid(0, 0)
    ballot: I64 = 0
    max_replica_count: I32 = 0
    primary: Address = NO_NODE
    secondaries: Sequence[Address] = ()
    last_drops: Sequence[Address] = ()
    last_committed_decree: I64 = 0
    partition_flags: I32 = 0
    hp_primary: HostPortField | None = None
    hp_secondaries: Sequence[HostPortField] | None = None
    hp_last_drops: Sequence[HostPortField] | None = None

    def primary_node(self) -> HostPort:
        """The primary by name where the peer sent one, else by address."""
        return self.hp_primary or self.primary

    def secondary_nodes(self) -> Sequence[HostPort]:
        """The secondaries by name where the peer sent names, else by address."""
        return self.secondaries if self.hp_secondaries is None else self.hp_secondaries


@struct
class QueryCfgRequest:
    app_name: str = ""
    partition_indices: Sequence[I32] = ()


@struct
class QueryCfgResponse:
    err: ErrorName = "ERR_OK"
    app_id: I32 = 0
    partition_count: I32 = 0
    is_stateful: bool = False
    partitions: Sequence[PartitionConfiguration] = ()


@struct
class RequestMeta:
    app_id: I32 = 0
    partition_index: I32 = 0
    client_timeout: I32 = 0
    partition_hash: I64 = 0
    is_backup_request: bool = False


@struct
class AppInfo:
    status: I32 = 0
    app_type: str = ""
    app_name: str = ""
    app_id: I32 = 0
    partition_count: I32 = 0
    envs: Mapping[str, str] = field(default_factory=dict)
    is_stateful: bool = False
    max_replica_count: I32 = 0
    expire_second: I64 = 0
    create_second: I64 = 0
    drop_second: I64 = 0
    duplicating: bool | None = None
    init_partition_count: I32 = -1
    is_bulk_loading: bool | None = None
    atomic_idempotent: bool | None = None
