"""Bulk loads: files are fetched, verified, and added to stores, as the metaserver commands.

What has been fetched survives a crash: a file that is here with the right size and MD5 is not fetched again. While
files are added, writes are rejected; which load is being added, and which was, is noted in the store, so that after
a crash the replica rejects writes until the same load has been added, and adds it at most once.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from replicaserver.jobs.transfers import Transfer, Transfers
from replicaserver.node.metrics import LoadSummary
from replicaserver.node.replicas import Node
from replicaserver.partition.partition import Partition
from replicaserver.partition.write_queue import PendingWrite
from replicaserver.rows.writes import Cost, Draft
from replicaserver.storage import folders
from replicaserver.storage.engine import StoreError
from replicaserver.table.bulk_load import BulkLoad, LoadEffect
from shared.pegasus.files.bulk_load import METADATA, encode_metadata, parse_metadata, partition_folder
from shared.pegasus.files.providers import FileProvider, FileProviders, ProviderError, md5_of
from shared.pegasus.wire.errors import ErrorCode, RocksdbError, RpcError
from shared.pegasus.wire.structures.base import Gpid
from shared.pegasus.wire.structures.bulk_load import (
    BulkLoadMetadata,
    BulkLoadRequest,
    BulkLoadResponse,
    BulkLoadStatus,
    IngestionRequest,
    IngestionResponse,
    IngestionStatus,
)
from shared.pegasus.wire.structures.metadata import FileMeta

log = structlog.get_logger("replicaserver.bulk_loader")

THREADS = 2
_ENDED = (BulkLoadStatus.FAILED, BulkLoadStatus.CANCELED, BulkLoadStatus.INVALID)
INGESTING, INGESTED = "ingesting", "ingested"
"""What a store notes: the load that is being added, and the one that was."""


@dataclass(slots=True)
class _Load:
    state: BulkLoad = field(default_factory=BulkLoad)
    stop: threading.Event = field(default_factory=threading.Event)
    task: asyncio.Task[None] | None = None
    behind: bool = False
    began_s: float = 0.0
    adding_since_s: float = 0.0


class _DamagedError(Exception):
    """A file is not what its description says."""


class BulkLoader:
    """The bulk loads of a node."""

    def __init__(self, node: Node, providers: FileProviders) -> None:
        self._node = node
        self._providers = providers
        self._loads: dict[Gpid, _Load] = {}
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="bulk-load")
        self._transfers = Transfers(THREADS)

    def opened(self, partition: Partition) -> None:
        """Refuse writes to a replica that was opened in the middle of a load, until the load is added."""
        partition.admission.is_ingesting = partition.store.noted(INGESTING) != partition.store.noted(INGESTED)

    def summary(self) -> LoadSummary:
        """Which loads there are now."""
        now_s = time.monotonic()
        over = (BulkLoadStatus.INVALID, BulkLoadStatus.SUCCEED)
        running = [load for load in self._loads.values() if load.state.status not in over]
        longest_s = max((now_s - load.began_s for load in running if load.began_s), default=0.0)
        adding_s = max((now_s - load.adding_since_s for load in running if load.adding_since_s), default=0.0)
        return LoadSummary(len(running), int(longest_s * 1000), int(adding_s * 1000))

    # -- commands -------------------------------------------------------------------------------------

    async def command(self, request: BulkLoadRequest) -> BulkLoadResponse:
        """BULK_LOAD: take the metaserver's command, and say how far the replica is."""
        partition = self._node.partitions.get(request.pid)
        if partition is None:
            return BulkLoadResponse(ErrorCode.ERR_OBJECT_NOT_FOUND, request.pid, request.app_name)
        if not partition.core.is_primary or request.ballot != partition.core.ballot:
            return BulkLoadResponse(ErrorCode.ERR_INVALID_STATE, request.pid, request.app_name)
        try:
            wanted = BulkLoadStatus(request.meta_bulk_load_status)
            source = partition_folder(
                request.remote_root_path, request.cluster_name, request.app_name, request.pid.partition_index
            )
        except ValueError as error:
            log.warning("a bulk load is rejected", gpid=str(request.pid), reason=str(error))
            return BulkLoadResponse(ErrorCode.ERR_INVALID_PARAMETERS, request.pid, request.app_name)
        load = self._loads.setdefault(request.pid, _Load())
        if self._is_busy(load, wanted):
            return BulkLoadResponse(ErrorCode.ERR_BUSY, request.pid, request.app_name)
        for effect in load.state.command(wanted):
            await self._carry_out(effect, partition, load, request.remote_provider_name, source)
        if wanted in _ENDED and partition.admission.is_ingesting and load.task is None:
            await self._clean_up(partition)  # a load that a crash interrupted is given up
        return self._answer(request, load.state)

    def _is_busy(self, load: _Load, wanted: BulkLoadStatus) -> bool:
        most = self._node.context.flags.integer("max_concurrent_bulk_load_downloading_count")
        downloading = sum(
            other.task is not None and not other.task.done() and other.state.status is BulkLoadStatus.DOWNLOADING
            for other in self._loads.values()
        )
        begins = wanted is BulkLoadStatus.DOWNLOADING and load.state.status is not BulkLoadStatus.DOWNLOADING
        return begins and downloading >= most

    async def _carry_out(
        self, effect: LoadEffect, partition: Partition, load: _Load, provider: str, source: str
    ) -> None:
        log.info("bulk load", gpid=str(partition.gpid), does=effect.value)
        match effect:
            case LoadEffect.DOWNLOAD:
                await self._stop(load)
                load.began_s = load.began_s or time.monotonic()
                load.stop = threading.Event()
                load.task = self._start(partition, partial(self._download, partition, load, provider, source))
            case LoadEffect.STOP:
                await self._stop(load)
            case LoadEffect.INGEST:
                load.task = self._start(partition, partial(self._ingest, partition, load))
            case LoadEffect.CLEAN_UP:
                load.began_s = 0.0
                await self._clean_up(partition)

    def _start(self, partition: Partition, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        return self._node.context.tasks.once(f"bulk load of {partition.gpid}", work)

    async def _stop(self, load: _Load) -> None:
        load.stop.set()
        if load.task is not None:
            await asyncio.wait({load.task})
            load.task = None

    def _answer(self, request: BulkLoadRequest, state: BulkLoad) -> BulkLoadResponse:
        me, shown = self._node.context.node, state.state()
        return BulkLoadResponse(
            err=ErrorCode.ERR_OK,
            pid=request.pid,
            app_name=request.app_name,
            primary_bulk_load_status=state.status,
            group_bulk_load_state={me: shown},
            metadata=state.metadata if request.query_bulk_load_metadata else None,
            total_download_progress=state.progress,
            is_group_ingestion_finished=state.ingestion is IngestionStatus.SUCCEED,
            is_group_bulk_load_context_cleaned_up=shown.is_cleaned_up,
            is_group_bulk_load_paused=shown.is_paused,
            hp_group_bulk_load_state={me: shown},
        )

    # -- fetching -------------------------------------------------------------------------------------

    async def _download(self, partition: Partition, load: _Load, name: str, source: str) -> None:
        counter = partition.metrics.counter
        counter("bulk_load_downloading_count").value += 1
        shown = log.bind(gpid=str(partition.gpid), source=source)
        try:
            provider = self._providers.get(name)
            if provider is None:
                raise ProviderError(f"there is no file provider '{name}'")
            await self._transfers.run(partial(self._fetch, partition, load, provider, source), load.stop)
        except (ProviderError, OSError) as error:
            if not load.stop.is_set():
                shown.error("bulk load cannot fetch its files", reason=str(error))
                counter("bulk_load_download_file_failed_count").value += 1
                counter("bulk_load_failed_count").value += 1
                load.state.failed(ErrorCode.ERR_FILE_OPERATION_FAILED)
        except (_DamagedError, ValueError) as error:
            shown.error("bulk load has fetched damaged files", reason=str(error))
            counter("bulk_load_failed_count").value += 1
            load.state.failed(ErrorCode.ERR_CORRUPTION)
        except Exception as error:  # noqa: BLE001 - a bug must fail the load, which else would wait for its files for good
            shown.error("bulk load cannot fetch its files", reason=repr(error), exc_info=error)
            counter("bulk_load_failed_count").value += 1
            load.state.failed(ErrorCode.ERR_UNKNOWN)
        else:
            load.state.downloaded()
            shown.info("bulk load has its files", bytes=load.state.metadata and load.state.metadata.file_total_size)

    def _fetch(
        self, partition: Partition, load: _Load, provider: FileProvider, source: str, transfer: Transfer
    ) -> None:
        """Fetch what is not here yet, and verify everything; blocks its thread."""
        transfer.moved()
        folder = self._folder(partition)
        folder.mkdir(exist_ok=True)
        metadata = parse_metadata(provider.read(f"{source}/{METADATA}"))
        folders.write_durably(folder / METADATA, encode_metadata(metadata))
        load.state.metadata = metadata
        here, reported = 0, 0
        for file in metadata.files:
            if not _is_here(folder / file.name, file):
                here = self._fetch_file(partition, load, provider, source, file, here, transfer)
            else:
                transfer.moved()
                here += file.size
            load.state.received(here)
            if load.state.progress // 10 > reported:
                reported = load.state.progress // 10
                log.info("bulk load progress", gpid=str(partition.gpid), percent=reported * 10)
        folders.sync_folder(folder)

    def _fetch_file(
        self,
        partition: Partition,
        load: _Load,
        provider: FileProvider,
        source: str,
        file: FileMeta,
        here: int,
        transfer: Transfer,
    ) -> int:
        bytes_ = partition.metrics.counter("bulk_load_download_file_bytes")

        def received(size: int) -> None:
            nonlocal here
            transfer.moved()
            here += size
            bytes_.value += size
            load.state.received(here)

        target = self._folder(partition) / file.name
        md5 = provider.download(f"{source}/{file.name}", target, received)
        size = target.stat().st_size
        if (size, md5) != (file.size, file.md5):
            target.unlink()
            raise _DamagedError(f"{file.name} has {size} bytes and MD5 {md5}, expected {file.size} and {file.md5}")
        partition.metrics.counter("bulk_load_download_file_successful_count").value += 1
        return here

    def _folder(self, partition: Partition) -> Path:
        return self._node.folder(partition) / "bulk_load"

    # -- adding ---------------------------------------------------------------------------------------

    async def ingest(self, partition: Partition, request: IngestionRequest) -> IngestionResponse:
        """BULK_LOAD of the data plane: add the fetched files now, and answer when they are added.

        Raises:
            RpcError: The replica has not fetched them, or is not the primary of that ballot.
        """
        load = self._loads.get(partition.gpid)
        if load is None or request.ballot != partition.core.ballot or not partition.core.is_primary:
            raise RpcError(ErrorCode.ERR_INVALID_STATE, "no bulk load is ready here")
        load.behind = request.ingest_behind
        if request.verify_before_ingest and load.state.metadata is not None:
            await asyncio.get_running_loop().run_in_executor(
                self._executor, self._verify, self._folder(partition), load.state.metadata
            )
        for effect in load.state.command(BulkLoadStatus.INGESTING):
            if effect is LoadEffect.INGEST:
                load.task = self._start(partition, partial(self._ingest, partition, load))
        if load.task is not None and load.state.status is BulkLoadStatus.INGESTING:
            await asyncio.wait({load.task})
        if load.state.ingestion is not IngestionStatus.SUCCEED:
            return IngestionResponse(ErrorCode.ERR_INGESTION_FAILED, RocksdbError.CORRUPTION)
        return IngestionResponse(ErrorCode.ERR_OK, RocksdbError.OK)

    def _verify(self, folder: Path, metadata: BulkLoadMetadata) -> None:
        for file in metadata.files:
            if not _is_here(folder / file.name, file):
                raise RpcError(ErrorCode.ERR_WRONG_CHECKSUM, f"{file.name} is not what it was")

    async def _ingest(self, partition: Partition, load: _Load) -> None:
        metadata = load.state.metadata
        assert metadata is not None
        load_id = identify(metadata)
        shown = log.bind(gpid=str(partition.gpid), files=len(metadata.files))
        partition.metrics.counter("bulk_load_ingesting_count").value += 1
        load.adding_since_s = time.monotonic()
        partition.admission.is_ingesting = True
        try:
            if partition.store.noted(INGESTED) != load_id:
                await partition.note(INGESTING, load_id)
                async with partition.batches.held():
                    await partition.log.persist()  # the log's older records must not be applied over the files
                    await self._add(partition, load, metadata)
                await partition.batches.submit(
                    _log(load_id), None, lambda _waiting, _response: None, shares_decree=False
                )
        except Exception as error:  # noqa: BLE001 - as above
            is_expected = isinstance(error, StoreError | RpcError)
            shown.error("bulk load cannot add its files", reason=str(error), exc_info=None if is_expected else error)
            partition.metrics.counter("bulk_load_failed_count").value += 1
            try:
                await partition.note(INGESTING, partition.store.noted(INGESTED))
            finally:
                load.state.ingested(is_done=False)
        else:
            partition.metrics.counter("bulk_load_successful_count").value += 1
            load.state.ingested(is_done=True)
            shown.info("bulk load has added its files", rows=partition.store.measure("estimate-num-keys"))
        finally:
            load.adding_since_s = 0.0
            partition.admission.is_ingesting = False

    async def _add(self, partition: Partition, load: _Load, metadata: BulkLoadMetadata) -> None:
        files = [self._folder(partition) / file.name for file in metadata.files]
        if files:
            await asyncio.get_running_loop().run_in_executor(
                self._executor, lambda: partition.store.ingest(files, behind=load.behind)
            )

    async def _clean_up(self, partition: Partition) -> None:
        """Forget a load: its files, and that it was added, so that the same files may be loaded again."""

        def forget(draft: Draft) -> None:
            draft.notes.update({INGESTING: 0, INGESTED: 0})

        await partition.batches.submit_internal(forget)
        partition.admission.is_ingesting = False
        await asyncio.get_running_loop().run_in_executor(self._executor, folders.delete, self._folder(partition))

    async def close(self) -> None:
        """Stop fetching; what is being added is added."""
        await asyncio.gather(*(self._stop(load) for load in self._loads.values()))
        self._executor.shutdown()


def identify(metadata: BulkLoadMetadata) -> int:
    """A number for a set of files, not 0."""
    return int.from_bytes(hashlib.sha256(encode_metadata(metadata)).digest()[:7], "big") + 1


def _is_here(path: Path, file: FileMeta) -> bool:
    return path.is_file() and path.stat().st_size == file.size and md5_of(path) == file.md5


def _uncounted(_waiting: PendingWrite, _response: Any) -> None:
    """The adding of files is no request of a client."""


def _log(load_id: int) -> Any:
    """The operation by which a load has a decree, in the same write as the note that it was added."""

    def ingested(draft: Draft, _request: None, _who: Any, _decree: int, _cost: Cost) -> IngestionResponse:
        draft.notes.update({INGESTING: load_id, INGESTED: load_id})
        return IngestionResponse()

    return ingested
