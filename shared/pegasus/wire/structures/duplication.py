"""Duplication to other clusters: duplication.thrift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from enum import IntEnum

from shared.pegasus.wire.structures.base import GPID, NO_NODE, Address, HostPortField
from shared.pegasus.wire.thrift import I32, I64, ErrorName, struct


class DuplicationMode(IntEnum):
    """Whether what a table held before is duplicated too."""

    FULL = 0
    INCREMENTAL = 1


class DuplicationStatus(IntEnum):
    """How far a duplication has come."""

    INIT = 0
    PREPARE = 1
    APP = 2
    LOG = 3
    PAUSE = 4
    REMOVED = 5


class DuplicationFailMode(IntEnum):
    """What is done with a write that cannot be duplicated."""

    SLOW = 0
    SKIP = 1
    FAST = 2


@struct
class DuplicationAddRequest:
    app_name: str = ""
    remote_cluster_name: str = ""
    is_duplicating_checkpoint: bool | None = None
    remote_app_name: str | None = None
    remote_replica_count: I32 | None = None


@struct
class DuplicationAddResponse:
    err: ErrorName = "ERR_OK"
    appid: I32 = 0
    dupid: I32 = 0
    hint: str | None = None
    remote_app_name: str | None = None
    remote_replica_count: I32 | None = None


@struct
class DuplicationModifyRequest:
    app_name: str = ""
    dupid: I32 = 0
    status: I32 | None = None
    fail_mode: I32 | None = None


@struct
class DuplicationModifyResponse:
    err: ErrorName = "ERR_OK"
    appid: I32 = 0


@struct
class DuplicationPartitionState:
    confirmed_decree: I64 = 0
    last_committed_decree: I64 = 0


@struct(ids=(1, 2, 3, 4, 5, 7, 8, 9, 10, 11))
class DuplicationEntry:
    dupid: I32 = 0
    status: I32 = 0
    remote: str = ""
    create_ts: I64 = 0
    progress: Mapping[I32, I64] | None = None
    fail_mode: I32 | None = None
    remote_app_name: str | None = None
    remote_replica_count: I32 | None = None
    mode: I32 | None = None
    partition_states: Mapping[I32, DuplicationPartitionState] | None = None


@struct
class DuplicationAppState:
    appid: I32 = 0
    duplications: Mapping[I32, DuplicationEntry] = field(default_factory=dict)
    app_name: str = ""
    partition_count: I32 = 0


@struct
class DuplicationQueryRequest:
    app_name: str = ""


@struct(ids=(1, 3, 4))
class DuplicationQueryResponse:
    err: ErrorName = "ERR_OK"
    appid: I32 = 0
    entry_list: Sequence[DuplicationEntry] = ()


@struct
class DuplicationConfirmEntry:
    dupid: I32 = 0
    confirmed_decree: I64 = 0
    checkpoint_prepared: bool | None = None
    last_committed_decree: I64 | None = None


@struct
class DuplicationSyncRequest:
    node: Address = NO_NODE
    confirm_list: Mapping[GPID, Sequence[DuplicationConfirmEntry]] = field(default_factory=dict)
    hp_node: HostPortField = NO_NODE


@struct
class DuplicationSyncResponse:
    err: ErrorName = "ERR_OK"
    dup_map: Mapping[I32, Mapping[I32, DuplicationEntry]] = field(default_factory=dict)


@struct
class DuplicationListRequest:
    app_name_pattern: str = ""
    match_type: I32 = 0


@struct
class DuplicationListResponse:
    err: ErrorName = "ERR_OK"
    hint_message: str = ""
    app_states: Mapping[str, DuplicationAppState] = field(default_factory=dict)
