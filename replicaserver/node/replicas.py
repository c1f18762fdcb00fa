"""The replicas of this node: found on disk at the start, opened, described, and closed as the metaserver says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import structlog

from replicaserver.partition.context import NodeContext
from replicaserver.partition.partition import Partition
from replicaserver.storage import folders
from replicaserver.storage.engine import StoreError, StoreSettings
from replicaserver.storage.folders import DataFolder, FolderError
from replicaserver.storage.rocks import RocksStore
from replicaserver.table.settings import TableSettings
from shared.errors import StartupError
from shared.pegasus.wire.structures.base import Gpid
from shared.pegasus.wire.structures.layer2 import AppInfo
from shared.pegasus.wire.structures.metadata import DiskStatus, ReplicaInfo

log = structlog.get_logger("replicaserver.replicas")

T = TypeVar("T")

OF_ANOTHER_TABLE = {"ballot": 0, "compacted_s": 0}
"""What a store forgets that was restored: it knows of the table that it was taken from."""
RECOVERY_BYTES = 64 * 1024 * 1024
"""How much room a disk has, beside that for what is in memory, before replicas write to it again."""


@dataclass(slots=True)
class Counts:
    """What the node counts of its replicas.

    Attributes:
        opening: Being opened now.
        closing: Being closed now.
        failed: Replicas that could not be opened.
        removed_folders: Orphaned folders that were deleted.
        moved_garbage: Replicas set aside because nobody wants them.
        moved_errors: Replicas set aside because they cannot be opened.
    """

    opening: int = 0
    closing: int = 0
    failed: int = 0
    removed_folders: int = 0
    moved_garbage: int = 0
    moved_errors: int = 0


async def _nothing(_gpid: Gpid, _app: AppInfo, _path: Path) -> None:
    """Nothing is to be done before a replica is opened."""


@dataclass(slots=True)
class Node:
    """The replicas of this node.

    Attributes:
        context: What replicas share.
        disks: Where replicas lie.
        store_settings: How their stores are opened.
        before_open: Called with a new replica, its table and its folder before it is opened.
        on_open: Called with every replica that has been opened.
        partitions: The open ones, by table id and index.
    """

    context: NodeContext
    disks: Sequence[DataFolder]
    store_settings: StoreSettings
    before_open: Callable[[Gpid, AppInfo, Path], Awaitable[None]] = field(default=_nothing)
    on_open: Callable[[Partition], None] = field(default=lambda _partition: None)
    partitions: dict[tuple[int, int], Partition] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    _locks: dict[Gpid, asyncio.Lock] = field(default_factory=dict)

    @property
    def _workers(self) -> Executor:
        return self.context.workers

    async def open_all(self) -> None:
        """Open every replica that lies on the disks; one that cannot be opened is set aside, the others open.

        Raises:
            StartupError: The log or a data folder cannot be read, or a replica cannot be set aside.
        """
        at_a_time = asyncio.Semaphore(8)
        found = [(gpid, path, disk) for disk in self.disks for gpid, path in _replicas_on(disk).items()]
        opened: list[tuple[Gpid, AppInfo, RocksStore, DataFolder]] = []

        async def open_one(gpid: Gpid, path: Path, disk: DataFolder) -> None:
            async with at_a_time:
                try:
                    app = await self._in_worker(folders.load_description, path)
                    opened.append((gpid, app, await self._open_store(path, app), disk))
                except OSError as error:  # it may pass: the replica is not broken
                    raise StartupError(f"cannot open {path}: {error.strerror}") from error
                except (FolderError, StoreError) as error:
                    log.error("a replica cannot be opened and is set aside", gpid=str(gpid), reason=str(error))
                    self.counts.failed += 1
                    try:
                        await self._set_aside(path, "err")
                    except OSError as failure:
                        raise StartupError(
                            f"cannot set aside {path}, which cannot be opened ({error}): {failure.strerror}"
                        ) from failure

        await asyncio.gather(*(open_one(*one) for one in found))
        node_log = self.context.node_log
        behind = await self._in_worker(node_log.replay, {gpid: store for gpid, _, store, _ in opened})
        node_log.start()
        for gpid, app, store, disk in opened:
            if gpid in behind:
                self.counts.failed += 1
                await self._in_worker(store.close)
                log.error(
                    "a replica cannot take back its writes and is not served; they are kept until the next start",
                    gpid=str(gpid),
                    reason=behind[gpid],
                )
            else:
                self._begin(gpid, app, store, disk)
        if found:
            log.info("replicas opened", open=len(self.partitions), failed=self.counts.failed)

    async def create(self, gpid: Gpid, app: AppInfo) -> Partition:
        """The open replica of a partition, made empty where there is none.

        Raises:
            StoreError, FolderError: It cannot be made.
        """
        async with self._lock(gpid):
            found = self.partitions.get(gpid)
            if found is not None:
                return found
            disk = self._emptiest()
            path = disk.replica(gpid)
            await self._in_worker(path.mkdir, 0o755, True, True)
            await self.before_open(gpid, app, path)
            store = await self._open_store(path, app)
            try:
                if store.durable().ballot:
                    await self._in_worker(store.write, {}, OF_ANOTHER_TABLE)
                await self._in_worker(self.context.node_log.recover, gpid, store)
                # last, because it makes the folder a replica for the next start
                await self._in_worker(folders.save_description, path, app)
            except (StoreError, OSError, StartupError):
                await self._in_worker(store.close)
                raise
            return self._begin(gpid, app, store, disk)

    async def _open_store(self, path: Path, app: AppInfo) -> RocksStore:
        self.counts.opening += 1
        try:
            engine = folders.engine_folder(path)
            await self._in_worker(engine.parent.mkdir, 0o755, True, True)
            behind = TableSettings().updated(app.envs).allow_ingest_behind
            settings = replace(self.store_settings, allow_ingest_behind=behind)
            return await self._in_worker(RocksStore, engine, settings)
        finally:
            self.counts.opening -= 1

    def _begin(self, gpid: Gpid, app: AppInfo, store: RocksStore, disk: DataFolder) -> Partition:
        partition = Partition(gpid, app, store, self.context, disk.tag)
        self.partitions[gpid] = partition
        self.on_open(partition)
        log.debug("replica opened", gpid=str(gpid), decree=partition.core.last_committed, ballot=partition.core.ballot)
        return partition

    async def describe(self, partition: Partition, app: AppInfo) -> None:
        """Take a table's present description, and write it down if it has changed."""
        if app == partition.app:
            return
        partition.describe(app)
        await self._in_worker(folders.save_description, self.folder(partition), app)

    async def remove(self, gpid: Gpid) -> None:
        """Close a replica and set its folder aside, because nobody wants it any more."""
        async with self._lock(gpid):
            partition = self.partitions.get(gpid)
            if partition is None:
                return
            path = self.folder(partition)
            await self._close(partition)
            await self._set_aside(path, "gar")
            log.info("replica removed", gpid=str(gpid))

    async def close_all(self) -> None:
        """Close every replica, when the process ends."""
        await asyncio.gather(*(self._close(partition) for partition in tuple(self.partitions.values())))

    async def _close(self, partition: Partition) -> None:
        self.partitions.pop(partition.gpid, None)
        self.counts.closing += 1
        try:
            await partition.close()
        finally:
            self.counts.closing -= 1
        self.context.registry.retire(partition.metrics, asyncio.get_running_loop().time())

    async def _set_aside(self, path: Path, kind: str) -> None:
        await self._in_worker(folders.set_aside, path, kind, int(self.context.unix_s()))
        if kind == "gar":
            self.counts.moved_garbage += 1
        else:
            self.counts.moved_errors += 1

    def folder(self, partition: Partition) -> Path:
        """The folder of an open replica."""
        return partition.store.path.parent.parent

    def of_table(self, app_id: int) -> list[Partition]:
        """The open replicas of a table, by index."""
        found = [partition for partition in self.partitions.values() if partition.gpid.app_id == app_id]
        return sorted(found, key=lambda partition: partition.gpid)

    def report(self) -> list[ReplicaInfo]:
        """What is reported to the metaserver, of every open replica."""
        return [replica_info(partition) for partition in self.partitions.values()]

    def _emptiest(self) -> DataFolder:
        held = {disk.tag: 0 for disk in self.disks}
        for partition in self.partitions.values():
            held[partition.disk_tag] += 1
        return min(self.disks, key=lambda disk: held[disk.tag])

    def _lock(self, gpid: Gpid) -> asyncio.Lock:
        return self._locks.setdefault(gpid, asyncio.Lock())

    async def _in_worker(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._workers, work, *arguments)

    # -- maintenance --------------------------------------------------------------------------------

    async def check_disks(self) -> None:
        """Note which disks are nearly full: their replicas take no more writes. Mend replicas whose disk has room."""
        least = self.context.flags.integer("disk_min_available_space_ratio")
        for disk in self.disks:
            total, free = await self._in_worker(disk.measure)
            is_full = free * 100 < total * least
            here = [partition for partition in self.partitions.values() if partition.disk_tag == disk.tag]
            failed = [partition for partition in here if partition.core.has_failed]
            for partition in here:
                partition.admission.disk_status = DiskStatus.SPACE_INSUFFICIENT if is_full else DiskStatus.NORMAL
            if not is_full and free > RECOVERY_BYTES + sum(2 * partition.log.unpersisted_bytes for partition in failed):
                for partition in failed:
                    await partition.recover()
            if is_full:
                log.warning("a disk is nearly full", tag=disk.tag, free_bytes=free, total_bytes=total)

    async def delete_orphaned_folders(self) -> None:
        """Delete the folders of replicas that have been gone or broken for long enough."""
        flags, now_s = self.context.flags, self.context.unix_s()
        for kind, setting in (
            ("gar", "gc_disk_garbage_replica_interval_seconds"),
            ("err", "gc_disk_error_replica_interval_seconds"),
        ):
            for disk in self.disks:
                for path, since_s in (await self._in_worker(disk.orphaned, kind)).items():
                    if since_s + flags.integer(setting) <= now_s:
                        await self._in_worker(folders.delete, path)
                        self.counts.removed_folders += 1
        kept_s = flags.integer("gc_disk_error_replica_interval_seconds")
        present = {gpid for disk in self.disks for gpid in await self._in_worker(disk.replicas)}
        await self._in_worker(self.context.node_log.orphans.delete_older, now_s - kept_s, present)


def _replicas_on(disk: DataFolder) -> dict[Gpid, Path]:
    try:
        return disk.replicas()
    except OSError as error:
        raise StartupError(f"cannot read the data directory {disk.path}: {error.strerror}") from error


def replica_info(partition: Partition) -> ReplicaInfo:
    """What is reported of a replica, to the metaserver and to tools."""
    core = partition.core
    return ReplicaInfo(
        pid=partition.gpid,
        ballot=core.ballot,
        status=core.status,
        last_committed_decree=core.last_committed,
        last_prepared_decree=core.last_prepared,
        last_durable_decree=partition.log.durable_decree,
        app_type=partition.app.app_type,
        disk_tag=partition.disk_tag,
        manual_compact_status=partition.compaction.status,
    )
