"""Backups of replicas to a file provider, and restoring them into new tables.

::

    <root>/<policy>/<backup_id>/<table>_<table id>/<index>/<file>…
    <root>/<policy>/<backup_id>/<table>_<table id>/<index>/backup_metadata

The files are a checkpoint of the store: what was committed when the backup began. `backup_metadata` lists them with
sizes and MD5s, and is written last: a backup without it is not one.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import structlog

from replicaserver.jobs.transfers import Transfer, Transfers
from replicaserver.node.replicas import Node
from replicaserver.partition.partition import Partition
from replicaserver.storage import folders
from replicaserver.storage.engine import StoreError
from replicaserver.storage.folders import FolderError
from shared.pegasus.files import paths
from shared.pegasus.files.providers import FileProvider, FileProviders, ProviderError
from shared.pegasus.wire.errors import ErrorCode
from shared.pegasus.wire.structures.backup import BackupClearRequest, BackupRequest, BackupResponse
from shared.pegasus.wire.structures.base import Gpid
from shared.pegasus.wire.structures.layer2 import AppInfo

log = structlog.get_logger("replicaserver.backups")

FINISHED = 1000
"""The progress of a backup that is complete."""
RESTORE = "restore."
"""What the environment variables of a table begin with that is made from a backup."""


@dataclass(slots=True)
class _Backup:
    backup_id: int
    progress: int = 0
    error: str = ErrorCode.ERR_OK
    size: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    task: asyncio.Task[None] | None = None


def parse_files(content: bytes) -> dict[str, str]:
    """The files of a backup by name, with their MD5s, from its `backup_metadata`.

    Raises:
        ValueError: It is damaged, or a file's name is more than a name.
    """
    described = orjson.loads(content)
    listed = described.get("files") if isinstance(described, dict) else None
    if not isinstance(listed, list):
        raise ValueError(f"{paths.BACKUP_METADATA} is damaged: it lists no files")
    files: dict[str, str] = {}
    for item in listed:
        name, md5 = (item.get("name"), item.get("md5")) if isinstance(item, dict) else (None, None)
        if not (isinstance(name, str) and isinstance(md5, str) and paths.name(f"{paths.BACKUP_METADATA}: name", name)):
            raise ValueError(f"{paths.BACKUP_METADATA} is damaged: a file has no name or no MD5")
        files[name] = md5
    return files


class Backups:
    """The backups that a node makes, and the tables it makes from them."""

    def __init__(self, node: Node, providers: FileProviders) -> None:
        self._node = node
        self._providers = providers
        self._running: dict[tuple[Gpid, str], _Backup] = {}
        self._transfers = Transfers(2)
        self._stop_restoring = threading.Event()

    # -- backup ---------------------------------------------------------------------------------------

    def command(self, request: BackupRequest) -> BackupResponse:
        """COLD_BACKUP: begin a backup, or say how far it is; the progress goes from 0 to 1000."""
        answer = BackupResponse(pid=request.pid, policy_name=request.policy.policy_name, backup_id=request.backup_id)
        partition = self._node.partitions.get(request.pid)
        if partition is None:
            answer.err = ErrorCode.ERR_OBJECT_NOT_FOUND
            return answer
        if not partition.core.is_primary:
            answer.err = ErrorCode.ERR_INVALID_STATE
            return answer
        try:
            target = self._target(request)
        except ValueError as error:
            log.warning("a backup is rejected", gpid=str(request.pid), reason=str(error))
            answer.err = ErrorCode.ERR_INVALID_PARAMETERS
            return answer
        key = (request.pid, request.policy.policy_name)
        backup = self._running.get(key)
        if backup is None or backup.backup_id != request.backup_id:
            if backup is not None and backup.task is not None and not backup.task.done():
                answer.err = ErrorCode.ERR_BUSY
                return answer
            backup = self._running[key] = _Backup(request.backup_id)
            backup.task = self._node.context.tasks.once(
                f"backup of {partition.gpid}", partial(self._back_up, partition, backup, request, target)
            )
        answer.err, answer.progress, answer.checkpoint_total_size = backup.error, backup.progress, backup.size
        return answer

    async def clear(self, request: BackupClearRequest) -> None:
        """CLEAR_COLD_BACKUP: give up, and forget, the backups of a policy."""
        backup = self._running.pop((request.pid, request.policy_name), None)
        if backup is not None and backup.task is not None:
            backup.stop.set()
            await asyncio.wait({backup.task})

    def _target(self, request: BackupRequest) -> str:
        root = request.backup_path or self._node.context.flags.text("cold_backup_root")
        policy, backup_id = request.policy.policy_name, request.backup_id
        return paths.backup_partition_folder(root, policy, backup_id, request.app_name, request.pid)

    async def _back_up(self, partition: Partition, backup: _Backup, request: BackupRequest, target: str) -> None:
        counter = partition.metrics.counter
        shown = log.bind(gpid=str(partition.gpid), target=target)
        counter("backup_started_count").value += 1
        partition.metrics.gauge("backup_running_count").value += 1
        checkpoint = self._node.folder(partition) / f"backup.{request.backup_id}"
        started_s = time.monotonic()
        try:
            provider = self._providers.get(request.policy.backup_provider_type)
            if provider is None:
                raise ProviderError(f"there is no file provider '{request.policy.backup_provider_type}'")
            shown.info("backup begins")
            await self._transfers.run(
                lambda transfer: self._send(partition, backup, provider, checkpoint, target, transfer), backup.stop
            )
        except (ProviderError, StoreError, OSError) as error:
            name = "backup_cancelled_count" if backup.stop.is_set() else "backup_failed_count"
            counter(name).value += 1
            backup.error = ErrorCode.ERR_FILE_OPERATION_FAILED
            shown.error("backup failed", reason=str(error))
        else:
            counter("backup_successful_count").value += 1
            shown.info("backup is complete", bytes=backup.size)
        finally:
            partition.metrics.gauge("backup_running_count").value -= 1
            longest = partition.metrics.gauge("backup_max_duration_ms")
            longest.value = max(longest.value, int((time.monotonic() - started_s) * 1000))
            folders.delete(checkpoint)

    def _send(
        self,
        partition: Partition,
        backup: _Backup,
        provider: FileProvider,
        checkpoint: Path,
        target: str,
        transfer: Transfer,
    ) -> None:
        """Copy a checkpoint to the provider; blocks its thread."""
        folders.delete(checkpoint)
        partition.store.checkpoint(checkpoint)
        files = sorted(path for path in checkpoint.iterdir() if path.is_file())
        backup.size = sum(path.stat().st_size for path in files)
        counter = partition.metrics.counter
        largest = partition.metrics.gauge("backup_file_upload_max_bytes")
        gone = 0

        def sent(size: int) -> None:
            nonlocal gone
            transfer.moved()
            gone += size
            counter("backup_file_upload_total_bytes").value += size
            backup.progress = min(FINISHED - 1, gone * FINISHED // max(1, backup.size))

        listed: list[dict[str, Any]] = []
        transfer.moved()
        for path in files:
            md5 = provider.upload(path, f"{target}/{path.name}", sent)
            listed.append({"name": path.name, "size": path.stat().st_size, "md5": md5})
            counter("backup_file_upload_successful_count").value += 1
            largest.value = max(largest.value, path.stat().st_size)
            log.info("backup progress", gpid=str(partition.gpid), percent=backup.progress // 10)
        described = {
            "files": listed,
            "checkpoint_total_size": backup.size,
            "app_name": partition.app.app_name,
            "app_id": partition.gpid.app_id,
            "partition_count": partition.app.partition_count,
            "partition_index": partition.gpid.partition_index,
            "data_version": partition.data_version,
        }
        provider.write(f"{target}/{paths.BACKUP_METADATA}", orjson.dumps(described))
        backup.progress = FINISHED

    # -- restore --------------------------------------------------------------------------------------

    async def restore(self, gpid: Gpid, app: AppInfo, replica: Path) -> None:
        """Fetch a replica from a backup, if its table is made from one, before it is opened.

        Args:
            gpid: The new replica.
            app: Its table; the environment variables ``restore.*`` name the backup.
            replica: Its folder.

        Raises:
            FolderError: The backup is not there or damaged, and must not be left out.
        """
        if f"{RESTORE}backup_id" not in app.envs:
            return
        try:
            await self._transfers.run(partial(self._fetch, gpid, app.envs, replica), self._stop_restoring)
        except (ProviderError, ValueError, KeyError, OSError) as error:
            if app.envs.get(f"{RESTORE}skip_bad_partition") != "true":
                raise FolderError(f"{gpid} cannot be restored: {error}") from error
            log.error("a partition is not restored and begins empty", gpid=str(gpid), reason=str(error))
            folders.delete(folders.engine_folder(replica))

    def _fetch(self, gpid: Gpid, envs: Mapping[str, str], replica: Path, transfer: Transfer) -> None:
        """Copy a backup here; blocks its thread."""
        transfer.moved()
        name = envs[f"{RESTORE}block_service_provider"]
        provider = self._providers.get(name)
        if provider is None:
            raise ProviderError(f"there is no file provider '{name}'")
        source = paths.backup_partition_folder(
            envs.get(f"{RESTORE}restore_path", ""),
            envs[f"{RESTORE}policy_name"],
            int(envs[f"{RESTORE}backup_id"]),
            envs[f"{RESTORE}app_name"],
            Gpid(int(envs[f"{RESTORE}app_id"]), gpid.partition_index),
        )
        files = parse_files(provider.read(f"{source}/{paths.BACKUP_METADATA}"))
        engine = folders.engine_folder(replica)
        folders.delete(engine)
        engine.mkdir(parents=True)
        for name, expected in files.items():
            md5 = provider.download(f"{source}/{name}", engine / name, transfer.moved)
            if md5 != expected:
                raise ValueError(f"{name} has MD5 {md5}, expected {expected}")
        folders.sync_folder(engine)
        log.info("replica restored", gpid=str(gpid), source=source, files=len(files))

    async def close(self) -> None:
        """Give up the backups under way."""
        tasks = [backup.task for backup in self._running.values() if backup.task is not None]
        for backup in self._running.values():
            backup.stop.set()
        self._stop_restoring.set()
        await asyncio.gather(*tasks, return_exceptions=True)
