"""Replicas as their nodes report them: metadata.thrift."""

from __future__ import annotations

from enum import IntEnum

from shared.pegasus.wire.structures.base import GPID, NO_NODE, Address, Gpid, HostPortField
from shared.pegasus.wire.thrift import I32, I64, struct


class PartitionStatus(IntEnum):
    """The role of a replica (§1)."""

    INVALID = 0
    INACTIVE = 1
    ERROR = 2
    PRIMARY = 3
    SECONDARY = 4
    POTENTIAL_SECONDARY = 5
    PARTITION_SPLIT = 6


class SplitStatus(IntEnum):
    """How far a partition split has come."""

    NOT_SPLIT = 0
    SPLITTING = 1
    PAUSING = 2
    PAUSED = 3
    CANCELING = 4


class DiskStatus(IntEnum):
    """Whether a data directory takes writes."""

    NORMAL = 0
    SPACE_INSUFFICIENT = 1
    IO_ERROR = 2


class ManualCompactionStatus(IntEnum):
    """How far a replica's manual compaction has come (§9.3)."""

    IDLE = 0
    QUEUING = 1
    RUNNING = 2
    FINISHED = 3


@struct
class FileMeta:
    name: str = ""
    size: I64 = 0
    md5: str = ""


@struct
class ReplicaConfiguration:
    pid: GPID = Gpid(0, 0)
    ballot: I64 = 0
    primary: Address = NO_NODE
    status: I32 = 0
    learner_signature: I64 = 0
    pop_all: bool | None = None
    split_sync_to_child: bool | None = None
    hp_primary: HostPortField | None = None


@struct
class ReplicaInfo:
    pid: GPID = Gpid(0, 0)
    ballot: I64 = 0
    status: I32 = 0
    last_committed_decree: I64 = 0
    last_prepared_decree: I64 = 0
    last_durable_decree: I64 = 0
    app_type: str = ""
    disk_tag: str = ""
    manual_compact_status: I32 | None = None
