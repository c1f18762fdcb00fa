"""Runs bulk loads: polls every partition's primary until all partitions have completed every step (§5.8)."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace

import structlog

from metaserver.bulk_load import plan
from metaserver.bulk_load.plan import PartitionProgress
from metaserver.cluster.metadata import Change, Load, Metadata, Rejected, Table, rejected_paths
from metaserver.service import MetaService
from shared.pegasus.files.bulk_load import INFO, LoadInfo, parse_info, table_folder
from shared.pegasus.files.providers import FileProvider, FileProviders, ProviderError
from shared.pegasus.wire.errors import ErrorCode, RpcError
from shared.pegasus.wire.structures.base import Gpid, HostPort
from shared.pegasus.wire.structures.bulk_load import BulkLoadRequest, BulkLoadResponse, BulkLoadStatus
from shared.pegasus.wire.structures.meta_admin import MetaFunctionLevel

__all__ = ["BulkLoads"]

log = structlog.get_logger("metaserver.bulk_load.driver")

Ask = Callable[[HostPort, BulkLoadRequest], Awaitable[BulkLoadResponse]]


class BulkLoads:
    """The bulk loads of a cluster.

    Args:
        providers: Where files are, by the names that requests use; without any, bulk load is off.
        ask: Sends a command to a replica server and returns its answer; raises `RpcError`.
        interval_s: Pause between two rounds of questions.
    """

    def __init__(
        self, service: MetaService, providers: FileProviders | None, ask: Ask, *, interval_s: float = 0.5
    ) -> None:
        self._service = service
        self._providers = providers
        self._ask = ask
        self._interval_s = interval_s
        self._seen: dict[Gpid, PartitionProgress] = {}
        self._wanted = asyncio.Event()

    @property
    def is_enabled(self) -> bool:
        """Whether tables can be loaded at all."""
        return self._providers is not None

    def seen(self, gpid: Gpid) -> PartitionProgress:
        """What a partition's primary said last."""
        return self._seen.get(gpid, PartitionProgress())

    async def start(
        self, app_name: str, cluster_name: str, provider: str, root: str, *, ingest_behind: bool = False
    ) -> None:
        """Begin the load of a table.

        Raises:
            Rejected: With the error and hint of the answer.
        """
        service = self._service

        def admit(metadata: Metadata) -> Table:
            allows_several = service.flags.boolean("enable_concurrent_bulk_load")
            return plan.admit(metadata, app_name, ingest_behind=ingest_behind, allows_several=allows_several)

        admit(service.metadata)
        with rejected_paths():
            folder = table_folder(root, cluster_name, app_name)
        info = await self._info(provider, folder)

        def decide(metadata: Metadata) -> tuple[Change, Gpid]:
            table = admit(metadata)
            plan.check_info(table, info)
            load = Load(table.app_id, cluster_name, provider, root, ingest_behind, BulkLoadStatus.DOWNLOADING)
            return plan.begin(load), Gpid(table.app_id, table.partition_count)

        app_id, count = await service.change(decide)
        for index in range(count):
            self._seen.pop(Gpid(app_id, index), None)
        service.set_level(MetaFunctionLevel.STEADY)
        log.info("bulk load begins", table=app_name, provider=provider, root=root)
        self._wanted.set()

    async def _info(self, name: str, folder: str) -> LoadInfo:
        provider = None if self._providers is None else self._provider(self._providers, name)
        if provider is None:
            raise Rejected(ErrorCode.ERR_INVALID_PARAMETERS, "invalid file_provider")
        try:
            content = await asyncio.to_thread(provider.read, f"{folder}/{INFO}")
        except ProviderError as error:
            log.warning("bulk load has no files", folder=folder, reason=str(error))
            raise Rejected(ErrorCode.ERR_FILE_OPERATION_FAILED, "file_provider error") from error
        try:
            return parse_info(content)
        except ValueError as error:
            raise Rejected(ErrorCode.ERR_CORRUPTION, "bulk_load_info damaged") from error

    def _provider(self, providers: FileProviders, name: str) -> FileProvider | None:
        try:
            return providers.get(name)
        except ProviderError as error:
            log.error("file provider cannot be used", provider=name, reason=str(error))
            raise Rejected(ErrorCode.ERR_FILE_OPERATION_FAILED, "file_provider error") from error

    async def control(self, app_name: str, type: int) -> None:
        """Pause, go on with, or cancel a load; see `bulk_load.control`."""
        await self._service.change(lambda metadata: (plan.control(metadata, app_name, type), None))
        self._wanted.set()

    async def clear(self, app_name: str) -> None:
        """Forget how the last load of a table ended; see `bulk_load.clear`."""
        await self._service.change(lambda metadata: (plan.clear(metadata, app_name), None))

    async def run(self) -> None:
        """Drive every load that is under way, also those of an earlier life of the process, until cancelled."""
        while True:
            if any(load.is_running for load in self._service.metadata.loads.values()):
                with contextlib.suppress(Rejected):  # what cannot be stored now is tried again
                    await self.step()
                await asyncio.sleep(self._interval_s)
            else:
                self._wanted.clear()
                await self._wanted.wait()

    async def step(self) -> None:
        """One round: ask every partition of every load, and take the steps that the answers allow."""
        for load in [load for load in self._service.metadata.loads.values() if load.is_running]:
            await self._step(load)

    async def _step(self, load: Load) -> None:
        service = self._service
        table = service.metadata.tables.get(load.app_id)
        if table is None or not table.is_served():
            ended = replace(load, status=BulkLoadStatus.CANCELED, is_running=False)
            await service.change(lambda _metadata: (Change(loads={load.app_id: ended}), None))
            return
        if load.status == BulkLoadStatus.PAUSED:
            return
        answered = await self._ask_all(load, table)
        before = sum(self.seen(gpid).progress for gpid, _ in table)
        self._seen.update({Gpid(table.app_id, index): seen for index, seen in answered.items()})
        self._log_progress(load, table, before)

        def decide(metadata: Metadata) -> tuple[Change, Load]:
            current = metadata.loads.get(load.app_id, load)
            if current != load:  # an operator has intervened meanwhile
                return Change(), current
            most = service.flags.integer("bulk_load_max_rollback_times")
            after = plan.advance(load, answered, table.partition_count, most)
            return (Change(loads={load.app_id: after}) if after != load else Change()), after

        after = await service.change(decide)
        if after != load:
            log.info(
                "bulk load goes on", table=table.name, status=after.status.name.lower(), running=after.is_running,
                rollbacks=after.rollbacks, failure=after.failure,
            )  # fmt: skip

    async def _ask_all(self, load: Load, table: Table) -> dict[int, PartitionProgress]:
        """What the primaries answer; those that do not are missing."""
        ingesting: Counter[HostPort] = Counter()
        most = self._service.flags.integer("bulk_load_node_max_ingesting_count")
        for gpid, partition in table:
            seen = self.seen(gpid)
            ingesting[partition.primary] += seen.status == BulkLoadStatus.INGESTING and not seen.is_ingested
        questions = []
        for gpid, partition in table:
            seen = self.seen(gpid)
            may_ingest = ingesting[partition.primary] < most
            status = plan.command(load, seen, may_ingest=may_ingest)
            if status == BulkLoadStatus.INGESTING and not seen.is_ingested and seen.status != status:
                ingesting[partition.primary] += 1
            node = self._service.nodes.address(partition.primary)
            request = BulkLoadRequest(
                gpid,
                table.name,
                node,
                load.provider,
                load.cluster_name,
                partition.ballot,
                status,
                False,
                load.root,
                partition.primary,
            )
            questions.append(self._ask_one(partition.primary, request))
        answers = await asyncio.gather(*questions)
        return {index: seen for index, seen in enumerate(answers) if seen is not None}

    async def _ask_one(self, primary: HostPort, request: BulkLoadRequest) -> PartitionProgress | None:
        if not primary:
            return None
        try:
            response = await self._ask(primary, request)
        except RpcError as error:
            log.info("bulk load is not answered", node=str(primary), reason=str(error))
            return None
        if response.err != ErrorCode.ERR_OK:
            return None
        return PartitionProgress.of(response)

    def _log_progress(self, load: Load, table: Table, before: int) -> None:
        now = sum(self.seen(gpid).progress for gpid, _ in table)
        count = table.partition_count
        if load.status == BulkLoadStatus.DOWNLOADING and now // count // 10 > before // count // 10:
            log.info("bulk load progress", table=table.name, percent=now // count)
