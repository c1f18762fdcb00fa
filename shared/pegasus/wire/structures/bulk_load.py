"""Loading tables from files: bulk_load.thrift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from enum import IntEnum

from shared.pegasus.wire.structures.base import GPID, NO_NODE, Address, Gpid, HostPortField
from shared.pegasus.wire.structures.metadata import FileMeta
from shared.pegasus.wire.thrift import I32, I64, ErrorName, struct


class BulkLoadStatus(IntEnum):
    """How far a bulk load has come (§5.8)."""

    INVALID = 0
    DOWNLOADING = 1
    DOWNLOADED = 2
    INGESTING = 3
    SUCCEED = 4
    FAILED = 5
    PAUSING = 6
    PAUSED = 7
    CANCELED = 8


class IngestionStatus(IntEnum):
    """How far the adding of files to a store has come."""

    INVALID = 0
    RUNNING = 1
    SUCCEED = 2
    FAILED = 3


class BulkLoadControlType(IntEnum):
    """What a tool can do to a bulk load."""

    PAUSE = 0
    RESTART = 1
    CANCEL = 2
    FORCE_CANCEL = 3


@struct
class BulkLoadMetadata:
    files: Sequence[FileMeta] = ()
    file_total_size: I64 = 0


@struct
class StartBulkLoadRequest:
    app_name: str = ""
    cluster_name: str = ""
    file_provider_type: str = ""
    remote_root_path: str = ""
    ingest_behind: bool = False


@struct
class StartBulkLoadResponse:
    err: ErrorName = "ERR_OK"
    hint_msg: str = ""


@struct
class PartitionBulkLoadState:
    download_progress: I32 | None = None
    download_status: ErrorName | None = None
    ingest_status: I32 | None = None
    is_cleaned_up: bool | None = None
    is_paused: bool | None = None


@struct
class BulkLoadRequest:
    pid: GPID = Gpid(0, 0)
    app_name: str = ""
    primary: Address = NO_NODE
    remote_provider_name: str = ""
    cluster_name: str = ""
    ballot: I64 = 0
    meta_bulk_load_status: I32 = 0
    query_bulk_load_metadata: bool = False
    remote_root_path: str = ""
    hp_primary: HostPortField | None = None


@struct
class BulkLoadResponse:
    err: ErrorName = "ERR_OK"
    pid: GPID = Gpid(0, 0)
    app_name: str = ""
    primary_bulk_load_status: I32 = 0
    group_bulk_load_state: Mapping[Address, PartitionBulkLoadState] = field(default_factory=dict)
    metadata: BulkLoadMetadata | None = None
    total_download_progress: I32 | None = None
    is_group_ingestion_finished: bool | None = None
    is_group_bulk_load_context_cleaned_up: bool | None = None
    is_group_bulk_load_paused: bool | None = None
    hp_group_bulk_load_state: Mapping[HostPortField, PartitionBulkLoadState] | None = None


@struct
class IngestionRequest:
    app_name: str = ""
    metadata: BulkLoadMetadata = field(default_factory=BulkLoadMetadata)
    ingest_behind: bool = False
    ballot: I64 = 0
    verify_before_ingest: bool = False


@struct
class IngestionResponse:
    err: ErrorName = "ERR_OK"
    rocksdb_error: I32 = 0


@struct
class ControlBulkLoadRequest:
    app_name: str = ""
    type: I32 = 0


@struct
class ControlBulkLoadResponse:
    err: ErrorName = "ERR_OK"
    hint_msg: str | None = None


@struct
class QueryBulkLoadRequest:
    app_name: str = ""


@struct
class QueryBulkLoadResponse:
    err: ErrorName = "ERR_OK"
    app_name: str = ""
    app_status: I32 = 0
    partitions_status: Sequence[I32] = ()
    max_replica_count: I32 = 0
    bulk_load_states: Sequence[Mapping[Address, PartitionBulkLoadState]] = ()
    hint_msg: str | None = None
    is_bulk_loading: bool | None = None
    hp_bulk_load_states: Sequence[Mapping[HostPortField, PartitionBulkLoadState]] | None = None


@struct
class ClearBulkLoadStateRequest:
    app_name: str = ""


@struct
class ClearBulkLoadStateResponse:
    err: ErrorName = "ERR_OK"
    hint_msg: str = ""
