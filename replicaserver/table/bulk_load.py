"""How the bulk load of one replica goes on: what the metaserver commands, and what is to be done.

Pure: whoever carries out the effects reports how it went.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from shared.pegasus.wire.errors import ErrorCode
from shared.pegasus.wire.structures.bulk_load import (
    BulkLoadMetadata,
    BulkLoadStatus,
    IngestionStatus,
    PartitionBulkLoadState,
)

S = BulkLoadStatus
COMPLETE = 100


class LoadEffect(Enum):
    """What is to be done."""

    DOWNLOAD = "download the files"
    STOP = "stop downloading"
    INGEST = "add the files to the store"
    CLEAN_UP = "delete the files"


@dataclass(slots=True)
class BulkLoad:
    """The bulk load of one replica.

    Attributes:
        status: How far it is.
        progress: Percent of the bytes that are here.
        download_error: Why downloading failed, ERR_OK while it has not.
        ingestion: How far the adding of the files is.
        metadata: The files, once they are known.
    """

    status: BulkLoadStatus = S.INVALID
    progress: int = 0
    download_error: str = ErrorCode.ERR_OK
    ingestion: IngestionStatus = IngestionStatus.INVALID
    metadata: BulkLoadMetadata | None = None

    def command(self, wanted: BulkLoadStatus) -> list[LoadEffect]:
        """Take what the metaserver says; repeating it changes nothing."""
        match wanted:
            case S.DOWNLOADING if self.status is not S.DOWNLOADING:  # after SUCCEED it begins the table's next load
                return self._download()
            case S.DOWNLOADED | S.INGESTING if self.status is S.INVALID:
                return self._download()  # a restart has forgotten the load: look for its files first
            case S.DOWNLOADED if self.status is S.DOWNLOADING and self.progress == COMPLETE:
                self.status = S.DOWNLOADED
            case S.INGESTING:
                return self._ingest()
            case S.SUCCEED if self.status is S.INVALID or self.ingestion is IngestionStatus.SUCCEED:
                if self.status is not S.SUCCEED:
                    self.status = S.SUCCEED
                    return [LoadEffect.CLEAN_UP]
            case S.PAUSING if self.status is S.DOWNLOADING:
                self.status = S.PAUSED
                return [LoadEffect.STOP]
            case S.PAUSING if self.status is S.INVALID:
                self.status = S.PAUSED
            case S.FAILED | S.CANCELED | S.INVALID if self.status is not S.INVALID:
                return self._give_up()
        return []

    def _download(self) -> list[LoadEffect]:
        if self.ingestion is IngestionStatus.RUNNING:
            return []  # what is being added cannot be called back
        if self.status is S.DOWNLOADED and self.download_error == ErrorCode.ERR_OK:
            return []
        self.status, self.download_error, self.progress = S.DOWNLOADING, ErrorCode.ERR_OK, 0
        self.ingestion = IngestionStatus.INVALID
        return [LoadEffect.DOWNLOAD]

    def _ingest(self) -> list[LoadEffect]:
        if self.progress != COMPLETE:
            return []
        self.status = S.INGESTING
        if self.ingestion is not IngestionStatus.INVALID:
            return []  # one that failed begins again with its files
        self.ingestion = IngestionStatus.RUNNING
        return [LoadEffect.INGEST]

    def _give_up(self) -> list[LoadEffect]:
        if self.ingestion is IngestionStatus.RUNNING:
            return []
        fresh = BulkLoad()
        self.status, self.progress, self.download_error = fresh.status, fresh.progress, fresh.download_error
        self.ingestion, self.metadata = fresh.ingestion, fresh.metadata
        return [LoadEffect.STOP, LoadEffect.CLEAN_UP]

    def received(self, size_bytes: int) -> None:
        """So many bytes of the files are here now."""
        total = self.metadata.file_total_size if self.metadata is not None else 0
        if total and self.progress < COMPLETE:
            self.progress = min(COMPLETE - 1, size_bytes * COMPLETE // total)

    def downloaded(self) -> None:
        """All files are here, and are what they should be."""
        self.progress = COMPLETE

    def failed(self, error: ErrorCode) -> None:
        """Downloading has failed."""
        self.download_error = error

    def ingested(self, *, is_done: bool) -> None:
        """Adding the files has ended."""
        self.ingestion = IngestionStatus.SUCCEED if is_done else IngestionStatus.FAILED

    def state(self) -> PartitionBulkLoadState:
        """What is reported to the metaserver of this replica."""
        return PartitionBulkLoadState(
            download_progress=self.progress,
            download_status=self.download_error,
            ingest_status=self.ingestion,
            is_cleaned_up=self.status in (S.INVALID, S.SUCCEED),
            is_paused=self.status is S.PAUSED,
        )
