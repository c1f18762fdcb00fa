"""How the bulk load of a table goes on.

A table is loaded in steps that all its partitions take together: download, ingest, clean up. What the
partitions' primaries answer decides when the table takes its next step. Any error goes back to downloading,
a limited number of times.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from metaserver.cluster.env_rules import INGEST_BEHIND
from metaserver.cluster.metadata import Change, Load, Metadata, Rejected, Table
from shared.pegasus.files.bulk_load import LoadInfo
from shared.pegasus.wire.errors import ErrorCode
from shared.pegasus.wire.structures.bulk_load import (
    BulkLoadControlType,
    BulkLoadResponse,
    BulkLoadStatus,
    IngestionStatus,
)
from shared.pegasus.wire.structures.layer2 import AppStatus

S = BulkLoadStatus
COMPLETE = 100


@dataclass(frozen=True, slots=True)
class PartitionProgress:
    """What a partition's primary said last.

    Attributes:
        progress: Percent of its files that are there.
        failure: Why downloading or ingesting failed; empty while it has not.
    """

    status: BulkLoadStatus = S.INVALID
    progress: int = 0
    failure: str = ""
    is_ingested: bool = False
    is_cleaned_up: bool = False
    is_paused: bool = False

    @classmethod
    def of(cls, response: BulkLoadResponse) -> PartitionProgress:
        """What an answer says."""
        states = (response.hp_group_bulk_load_state or response.group_bulk_load_state).values()
        downloads = [state.download_status for state in states if state.download_status not in (None, "ERR_OK")]
        is_broken = any(state.ingest_status == IngestionStatus.FAILED for state in states)
        return cls(
            status=S(response.primary_bulk_load_status),
            progress=response.total_download_progress or 0,
            failure=(downloads[0] or "") if downloads else (ErrorCode.ERR_INGESTION_FAILED if is_broken else ""),
            is_ingested=bool(response.is_group_ingestion_finished),
            is_cleaned_up=bool(response.is_group_bulk_load_context_cleaned_up),
            is_paused=bool(response.is_group_bulk_load_paused),
        )


def admit(metadata: Metadata, app_name: str, *, ingest_behind: bool, allows_several: bool) -> Table:
    """The table, if a bulk load of it may begin (§5.8).

    Raises:
        Rejected: With the error and hint of the answer.
    """
    if not allows_several and any(load.is_running for load in metadata.loads.values()):
        raise Rejected(ErrorCode.ERR_BUSY, "meta server is busy now, please wait")
    table = metadata.named(app_name)
    if table is None:
        raise Rejected(ErrorCode.ERR_APP_NOT_EXIST, "app not existed is ")
    if table.status != AppStatus.AVAILABLE:
        raise Rejected(ErrorCode.ERR_APP_DROPPED, "app not available is ")
    load = metadata.loads.get(table.app_id)
    if load is not None and load.is_running:
        raise Rejected(ErrorCode.ERR_BUSY, f"app({app_name}) is already executing bulk load")
    if ingest_behind and table.envs.get(INGEST_BEHIND, "").lower() != "true":
        raise Rejected(ErrorCode.ERR_INCONSISTENT_STATE, "inconsistent ingestion behind option")
    return table


def check_info(table: Table, info: LoadInfo) -> None:
    """Refuse files that were made for another table.

    Raises:
        Rejected: ERR_INCONSISTENT_STATE.
    """
    if (info.app_id, info.partition_count) != (table.app_id, table.partition_count):
        raise Rejected(ErrorCode.ERR_INCONSISTENT_STATE, "app_id or partition_count is inconsistent")


def begin(load: Load) -> Change:
    """The change that begins a load."""
    return Change(loads={load.app_id: load})


def control(metadata: Metadata, app_name: str, type: int) -> Change:
    """Pause, go on with, or cancel a load.

    Raises:
        Rejected: ERR_APP_NOT_EXIST, ERR_INACTIVE_STATE when nothing is loaded, ERR_INVALID_STATE when the load
            is too far, ERR_INVALID_PARAMETERS.
    """
    load = _of(metadata, app_name)
    if load is None or not load.is_running:
        raise Rejected(ErrorCode.ERR_INACTIVE_STATE, f"app({app_name}) is not executing bulk load")
    match type:
        case BulkLoadControlType.PAUSE if load.status == S.DOWNLOADING:
            status = S.PAUSING
        case BulkLoadControlType.RESTART if load.status in (S.PAUSED, S.PAUSING):
            status = S.DOWNLOADING
        case BulkLoadControlType.CANCEL if load.status in (S.DOWNLOADING, S.PAUSED, S.PAUSING):
            status = S.CANCELED
        case BulkLoadControlType.FORCE_CANCEL:
            status = S.CANCELED
        case BulkLoadControlType.PAUSE | BulkLoadControlType.RESTART | BulkLoadControlType.CANCEL:
            hint = "; only a forced cancel ends it now (--force)" if type == BulkLoadControlType.CANCEL else ""
            raise Rejected(ErrorCode.ERR_INVALID_STATE, f"app({app_name}) is {load.status.name.lower()}{hint}")
        case _:
            raise Rejected(ErrorCode.ERR_INVALID_PARAMETERS, f"there is no control {type}")
    return Change(loads={load.app_id: replace(load, status=status)})


def clear(metadata: Metadata, app_name: str) -> Change:
    """Forget how the last load of a table ended.

    Raises:
        Rejected: ERR_APP_NOT_EXIST, ERR_INVALID_STATE while it runs.
    """
    load = _of(metadata, app_name)
    if load is None:
        return Change()
    if load.is_running:
        raise Rejected(ErrorCode.ERR_INVALID_STATE, f"app({app_name}) is executing bulk load")
    return Change(loads={load.app_id: None})


def _of(metadata: Metadata, app_name: str) -> Load | None:
    table = metadata.named(app_name)
    if table is None:
        raise Rejected(ErrorCode.ERR_APP_NOT_EXIST, f"there is no table '{app_name}'")
    return metadata.loads.get(table.app_id)


def command(load: Load, seen: PartitionProgress, *, may_ingest: bool) -> BulkLoadStatus:
    """The command for the primary of a partition.

    Args:
        may_ingest: Whether its server has room for one more ingestion.
    """
    if load.status == S.DOWNLOADING and seen.failure and seen.status == S.DOWNLOADING:
        return S.FAILED  # it gives up what failed, and begins again when it is told to download
    if load.status == S.INGESTING and not may_ingest and not seen.is_ingested and seen.status != S.INGESTING:
        return S.DOWNLOADED
    return load.status


def advance(load: Load, seen: Mapping[int, PartitionProgress], partition_count: int, max_rollbacks: int) -> Load:
    """The load after what its partitions said; the same one if it stays where it is.

    Args:
        seen: By partition index; those that did not answer are missing.
    """
    failures = [state.failure for state in seen.values() if state.failure]
    if failures and load.status in (S.DOWNLOADING, S.DOWNLOADED, S.INGESTING):
        return _roll_back(load, failures[0], max_rollbacks)
    if len(seen) < partition_count:
        return load
    states = seen.values()
    match load.status:
        case S.DOWNLOADING if all(state.progress == COMPLETE for state in states):
            return replace(load, status=S.DOWNLOADED)
        case S.DOWNLOADED if all(state.status in (S.DOWNLOADED, S.INGESTING) for state in states):
            return replace(load, status=S.INGESTING)
        case S.INGESTING if all(state.is_ingested for state in states):
            return replace(load, status=S.SUCCEED)
        case S.PAUSING if all(state.is_paused for state in states):
            return replace(load, status=S.PAUSED)
        case S.SUCCEED | S.FAILED | S.CANCELED if all(state.is_cleaned_up for state in states):
            return replace(load, is_running=False)
        case _:
            return load


def _roll_back(load: Load, failure: str, max_rollbacks: int) -> Load:
    if load.rollbacks >= max_rollbacks:
        return replace(load, status=S.FAILED, failure=failure)
    return replace(load, status=S.DOWNLOADING, rollbacks=load.rollbacks + 1, failure=failure)
