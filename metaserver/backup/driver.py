"""Runs backups: polls every partition's primary until its part is at the provider.

::

    <root>/<policy>/<backup_id>/<table>_<table id>/<index>/…

is written by replica servers; the metaserver decides when, watches, and deletes what a policy keeps no longer.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from collections.abc import Awaitable, Callable
from dataclasses import replace

import orjson
import structlog

from metaserver.backup import plan
from metaserver.cluster.metadata import Backup, BackupPolicy, Change, Metadata, Rejected, Table, rejected_paths
from metaserver.service import MetaService
from shared.pegasus.files import paths
from shared.pegasus.files.paths import PathError
from shared.pegasus.files.providers import FileProvider, FileProviders, ProviderError
from shared.pegasus.wire.errors import ErrorCode, RpcError
from shared.pegasus.wire.structures.backup import BackupRequest, BackupResponse, PolicyInfo, RestoreRequest
from shared.pegasus.wire.structures.base import Gpid, HostPort

__all__ = ["Backups"]

log = structlog.get_logger("metaserver.backup.driver")

Ask = Callable[[HostPort, BackupRequest], Awaitable[BackupResponse]]
COMPLETE = 1000
DELETE_AGAIN_S = 60.0
"""How long it takes until an old backup that could not be deleted is tried again."""


class Backups:
    """The backups of a cluster, and the tables made from them.

    Args:
        providers: Where files are, by the names that requests use.
        ask: Sends a command to a replica server and returns its answer; raises `RpcError`.
    """

    def __init__(
        self, service: MetaService, providers: FileProviders | None, ask: Ask, *, interval_s: float = 0.5
    ) -> None:
        self._service = service
        self._providers = providers or FileProviders({})
        self._ask = ask
        self._interval_s = interval_s
        self._progress: dict[tuple[int, Gpid], int] = {}
        self._undeleted: dict[int, tuple[str, float]] = {}

    @property
    def is_enabled(self) -> bool:
        """Whether policies are kept and carried out."""
        return not self._service.flags.boolean("cold_backup_disabled")

    def progress(self, made: Backup) -> int:
        """Parts in a thousand of a backup that are done."""
        if made.end_ms:
            return 0 if made.is_failed else COMPLETE
        gpids = [gpid for table in self._tables(made) for gpid, _ in table]
        return sum(self._progress.get((made.id, gpid), 0) for gpid in gpids) // max(1, len(gpids))

    def require_provider(self, name: str) -> FileProvider:
        """The provider of a name.

        Raises:
            Rejected: ERR_INVALID_PARAMETERS when there is none.
        """
        try:
            provider = self._providers.get(name)
        except ProviderError as error:
            raise Rejected(ErrorCode.ERR_FILE_OPERATION_FAILED, str(error)) from error
        if provider is None:
            raise Rejected(ErrorCode.ERR_INVALID_PARAMETERS, f"there is no file provider '{name}'")
        return provider

    # -- requests -------------------------------------------------------------------------------------

    async def back_up(self, app_id: int, provider: str, root: str) -> Backup:
        """Begin a backup of one table.

        Raises:
            Rejected: ERR_INVALID_PARAMETERS, ERR_INVALID_STATE when the table is not in service, ERR_BUSY.
        """
        self.require_provider(provider)
        with rejected_paths():
            paths.folder("backup_path", root)

        def decide(metadata: Metadata) -> tuple[Change, Backup]:
            begun = plan.begin(metadata, "", provider, root, [app_id], self._now_ms())
            if not begun.tables:
                raise Rejected(ErrorCode.ERR_INVALID_STATE, f"table {app_id} is not in service")
            running = plan.backups_of(metadata, "")
            if any(not made.end_ms and app_id in made.tables for made in running):
                raise Rejected(ErrorCode.ERR_BUSY, f"a backup of table {app_id} is under way")
            return Change(backups={begun.id: begun}), begun

        begun = await self._service.change(decide)
        log.info("backup begins", backup_id=begun.id, tables=list(begun.tables.values()))
        return begun

    async def restore(self, request: RestoreRequest) -> Table:
        """Create a table from a backup; replica servers fetch its rows when they open its partitions.

        Raises:
            Rejected: ERR_STATE_FREEZED, ERR_INVALID_PARAMETERS, ERR_OBJECT_NOT_FOUND when there is no such backup,
                ERR_CORRUPTION.
        """
        if self._service.limits().is_frozen:
            raise Rejected(ErrorCode.ERR_STATE_FREEZED)
        provider = self.require_provider(request.backup_provider_name)
        root = request.restore_path or self._service.flags.text("cold_backup_root")
        with rejected_paths():
            folder = paths.backup_partition_folder(
                root, request.policy_name, request.time_stamp, request.app_name, Gpid(request.app_id, 0)
            )
        first = f"{folder}/{paths.BACKUP_METADATA}"
        try:
            described = orjson.loads(await asyncio.to_thread(provider.read, first))
        except ProviderError as error:
            raise Rejected(ErrorCode.ERR_OBJECT_NOT_FOUND, str(error)) from error
        except orjson.JSONDecodeError as error:
            raise Rejected(ErrorCode.ERR_CORRUPTION, f"{first} is damaged") from error
        if not isinstance(described, dict):
            raise Rejected(ErrorCode.ERR_CORRUPTION, f"{first} is damaged")
        origin = {
            "block_service_provider": request.backup_provider_name,
            "policy_name": request.policy_name,
            "backup_id": str(request.time_stamp),
            "app_name": request.app_name,
            "app_id": str(request.app_id),
            "restore_path": root,
            "skip_bad_partition": "true" if request.skip_bad_partition else "false",
        }
        name, now_s = request.new_app_name or request.app_name, int(self._service.wall_clock())
        table = await self._service.change(lambda metadata: plan.restored(metadata, name, described, origin, now_s))
        log.info("table is made from a backup", table=table.name, backup_id=request.time_stamp)
        return table

    # -- work -----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Begin what is due, and drive what is under way, until cancelled."""
        while True:
            with contextlib.suppress(Rejected):  # what cannot be stored now is tried again
                await self.step()
            await asyncio.sleep(self._interval_s)

    async def step(self) -> None:
        """One round."""
        metadata = self._service.metadata
        if self.is_enabled:
            now = datetime.datetime.fromtimestamp(self._service.wall_clock()).astimezone()
            for policy in plan.due(metadata, now):
                await self._begin(policy)
        for made in [made for made in metadata.backups.values() if not made.end_ms]:
            await self._step(made)
        for policy in tuple(metadata.policies.values()):
            for old in plan.surplus(metadata, policy):
                await self._delete(old)
        await self._service.change(lambda latest: (plan.settled(latest), None))

    async def _begin(self, policy: BackupPolicy) -> None:
        root, now_ms = self._service.flags.text("cold_backup_root"), self._now_ms()

        def decide(metadata: Metadata) -> tuple[Change, Backup]:
            begun = plan.begin(metadata, policy.name, policy.provider, root, policy.app_ids, now_ms)
            return Change(backups={begun.id: begun}), begun

        begun = await self._service.change(decide)
        log.info("backup begins", policy=policy.name, backup_id=begun.id, tables=list(begun.tables.values()))

    async def _step(self, made: Backup) -> None:
        tables = self._tables(made)
        questions = [
            self._ask_one(made, table, gpid, partition.primary) for table in tables for gpid, partition in table
        ]
        errors = [error for error in await asyncio.gather(*questions) if error]
        before = self._progress.setdefault((made.id, Gpid(0, 0)), 0)
        progress = self.progress(made)
        if progress // 100 > before // 100:
            log.info("backup progress", backup_id=made.id, percent=progress // 10)
        self._progress[made.id, Gpid(0, 0)] = progress
        if errors or progress == COMPLETE or not tables:
            is_failed = bool(errors) or not tables
            ended = replace(made, end_ms=self._now_ms(), is_failed=is_failed)
            await self._service.change(lambda _metadata: (Change(backups={made.id: ended}), None))
            self._progress = {key: value for key, value in self._progress.items() if key[0] != made.id}
            log.info("backup has ended", backup_id=made.id, failed=is_failed, reason=errors[0] if errors else "")

    async def _ask_one(self, made: Backup, table: Table, gpid: Gpid, primary: HostPort) -> str:
        """Ask a primary how far its part is; why the backup has failed, or nothing."""
        if not primary or self._progress.get((made.id, gpid)) == COMPLETE:
            return ""
        policy = PolicyInfo(made.policy_name, made.provider)
        request = BackupRequest(gpid, policy, made.tables[table.app_id], made.id, made.root or None)
        try:
            response = await self._ask(primary, request)
        except RpcError as error:
            log.info("backup is not answered", node=str(primary), reason=str(error))
            return ""
        if response.err in (ErrorCode.ERR_BUSY, ErrorCode.ERR_INVALID_STATE, ErrorCode.ERR_OBJECT_NOT_FOUND):
            return ""  # not now: it is busy with another backup, or about to become primary
        if response.err != ErrorCode.ERR_OK:
            return f"{gpid}: {response.err}"
        self._progress[made.id, gpid] = response.progress
        return ""

    async def _delete(self, old: Backup) -> None:
        """Delete a backup; when that fails it is tried again later, and told when the reason is another one."""
        reported, again_s = self._undeleted.get(old.id, ("", 0.0))
        if self._service.wall_clock() < again_s:
            return
        try:
            folder = paths.backup_folder(old.root, old.policy_name, old.id)
            await asyncio.to_thread(self.require_provider(old.provider).delete, folder)
        except (ProviderError, PathError, Rejected) as error:
            if str(error) != reported:
                log.warning("an old backup cannot be deleted", backup_id=old.id, reason=str(error))
            self._undeleted[old.id] = str(error), self._service.wall_clock() + DELETE_AGAIN_S
            return
        self._undeleted.pop(old.id, None)
        await self._service.change(lambda _metadata: (Change(backups={old.id: None}), None))
        log.info("old backup deleted", backup_id=old.id)

    def _tables(self, made: Backup) -> list[Table]:
        """The tables of a backup that are still in service."""
        known = self._service.metadata.tables
        return [known[app_id] for app_id in made.tables if app_id in known and known[app_id].is_served()]

    def _now_ms(self) -> int:
        return int(self._service.wall_clock() * 1000)
