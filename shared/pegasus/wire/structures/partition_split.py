"""Partition split: partition_split.thrift."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import IntEnum

from shared.pegasus.wire.thrift import I32, ErrorName, struct


class SplitControl(IntEnum):
    """What an operator does with a running split."""

    PAUSE = 0
    RESTART = 1
    CANCEL = 2


@struct
class StartPartitionSplitRequest:
    app_name: str = ""
    new_partition_count: I32 = 0


@struct
class StartPartitionSplitResponse:
    err: ErrorName = "ERR_OK"
    hint_msg: str = ""


@struct
class ControlSplitRequest:
    app_name: str = ""
    control_type: I32 = 0
    parent_pidx: I32 = 0
    old_partition_count: I32 | None = None


@struct
class ControlSplitResponse:
    err: ErrorName = "ERR_OK"
    hint_msg: str | None = None


@struct
class QuerySplitRequest:
    app_name: str = ""


@struct
class QuerySplitResponse:
    err: ErrorName = "ERR_OK"
    new_partition_count: I32 = 0
    status: Mapping[I32, I32] = field(default_factory=dict)
    hint_msg: str | None = None
