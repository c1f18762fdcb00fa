"""Who may read and write a replica now: what is denied, throttled, or not this replica's to answer (§9.4, §11.1)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from replicaserver.replication.replica import Replica
from replicaserver.table.settings import TableSettings
from replicaserver.table.throttling import ByteBucket, Throttler, Verdict
from shared.pegasus.metrics.entities import Entity
from shared.pegasus.serving.rpc import NO_REPLY, NoReply
from shared.pegasus.settings.flags import Flags
from shared.pegasus.settings.throttles import Throttle
from shared.pegasus.wire.errors import ErrorCode, RpcError
from shared.pegasus.wire.framing import MAX_BODY_BYTES, Request
from shared.pegasus.wire.structures.metadata import DiskStatus, PartitionStatus

__all__ = ["Admission"]


class Admission:
    """The gates of one replica.

    Args:
        index: Of its partition.
        core: Says what the replica is.
        flags: The settings of the process.
        metrics: Where rejections are counted.
        unix_s: The clock.

    Attributes:
        reads_plainly: Reads need no further look: this is the primary, and nothing limits them.
        writes_plainly: The same of writes that are not too large.
        max_write_bytes: A write whose request is larger is too large.
        read_bucket: The bytes that may be read; whoever answers a read takes them from it.
    """

    def __init__(self, index: int, core: Replica, flags: Flags, metrics: Entity, unix_s: Callable[[], float]) -> None:
        self._index = index
        self._core = core
        self._flags = flags
        self._metrics = metrics
        self._unix_s = unix_s
        self._disk_status = DiskStatus.NORMAL
        self._is_ingesting = False
        self.max_write_bytes = flags.integer("max_allowed_write_size") or MAX_BODY_BYTES
        self.reads_plainly = self.writes_plainly = False
        self._settings = TableSettings()
        self.read_bucket = ByteBucket(self._settings.read_size_throttle, 1, unix_s())
        self.describe(self._settings, 1)

    def describe(self, settings: TableSettings, partition_count: int) -> None:
        """Let a table's environment variables act from now on."""
        before, self._settings = self._settings, settings
        self._partition_count = partition_count
        self._read_throttler = Throttler(settings.read_throttle, partition_count)
        self._write_throttler = Throttler(settings.write_throttle, partition_count)
        self._write_size_throttler = Throttler(settings.write_size_throttle, partition_count)
        self._backup_throttler = Throttler(settings.backup_throttle, partition_count)
        if settings.read_size_throttle != before.read_size_throttle:
            self.read_bucket = ByteBucket(settings.read_size_throttle, partition_count, self._unix_s())
        self.refresh()

    def close(self) -> None:
        """Let nothing pass plainly any more."""
        self.reads_plainly = self.writes_plainly = False

    def refresh(self) -> None:
        """See what passes plainly, after the replica or its table has changed."""
        settings = self._settings
        unlimited = Throttle()
        is_open = self._core.is_primary and settings.deny is None and not settings.validate_partition_hash
        self.reads_plainly = (
            is_open and settings.read_throttle == unlimited and settings.read_size_throttle == unlimited
        )
        self.writes_plainly = (
            is_open
            and settings.write_throttle == unlimited
            and settings.write_size_throttle == unlimited
            and self._core.writing_error() is None
            and self._disk_status is DiskStatus.NORMAL
            and not self._is_ingesting
        )

    @property
    def is_ingesting(self) -> bool:
        """Files of a bulk load are being added: writes are rejected."""
        return self._is_ingesting

    @is_ingesting.setter
    def is_ingesting(self, is_ingesting: bool) -> None:
        self._is_ingesting = is_ingesting
        self.refresh()

    @property
    def disk_status(self) -> DiskStatus:
        """Whether there is room for more."""
        return self._disk_status

    @disk_status.setter
    def disk_status(self, status: DiskStatus) -> None:
        self._disk_status = status
        self.refresh()

    async def admit_read(self, request: Request) -> NoReply | None:
        """Let a read pass, in the order of §11.1; what is returned is the answer of one that does not.

        Raises:
            RpcError: It is rejected with an error.
        """
        settings = self._settings
        if settings.deny is not None and settings.deny.reads:
            if settings.deny.is_silent:
                return NO_REPLY
            raise RpcError(ErrorCode.ERR_INVALID_STATE, "reads are denied")
        self._check_owner(request)
        if self._core.status not in (PartitionStatus.PRIMARY, PartitionStatus.SECONDARY):
            raise RpcError(ErrorCode.ERR_INVALID_STATE, f"the replica is {self._core.status.name.lower()}")
        if request.is_backup_request:
            self._metrics.counter("backup_requests").value += 1
            passes = await self._throttle(self._backup_throttler.judge, 1, request, "backup")
            if not passes:
                return NO_REPLY
        elif not await self._throttle(self._read_throttler.judge, 1, request, "read"):
            raise RpcError(ErrorCode.ERR_BUSY, "too many reads")
        verdict, wait_ms = self.read_bucket.judge(self._unix_s(), request.timeout_ms)
        if verdict is Verdict.REJECT:
            self._metrics.counter("throttling_rejected_read_requests").value += 1
            await asyncio.sleep(wait_ms / 1000)
            raise RpcError(ErrorCode.ERR_BUSY, "too many bytes read")
        error = self._core.reading_error()
        if error is not None:
            raise RpcError(error)
        return None

    async def _throttle(
        self, judge: Callable[[int, float, int], tuple[Verdict, int]], units: int, request: Request, name: str
    ) -> bool:
        verdict, wait_ms = judge(units, self._unix_s(), request.timeout_ms)
        if verdict is Verdict.PASS:
            return True
        word = "rejected" if verdict is Verdict.REJECT else "delayed"
        self._metrics.counter(f"throttling_{word}_{name}_requests").value += 1
        await asyncio.sleep(wait_ms / 1000)
        return verdict is Verdict.DELAY

    def _check_owner(self, request: Request) -> None:
        if self._settings.validate_partition_hash and request.partition_hash % self._partition_count != self._index:
            raise RpcError(ErrorCode.ERR_PARENT_PARTITION_MISUSED, "the key belongs to another partition")

    async def admit_write(self, request: Request) -> NoReply | None:
        """Let a write pass, in the order of §11.1; what is returned is the answer of one that does not.

        Raises:
            RpcError: It is rejected with an error.
        """
        deny = self._settings.deny
        if deny is not None and deny.writes:
            if deny.is_silent:
                return NO_REPLY
            raise RpcError(ErrorCode.ERR_INVALID_STATE, "writes are denied")
        self._check_write(request)
        for throttler, units in ((self._write_throttler, 1), (self._write_size_throttler, len(request.arguments))):
            if not await self._throttle(throttler.judge, units, request, "write"):
                raise RpcError(ErrorCode.ERR_BUSY, "too many writes")
        return None

    def check_write_size(self, request: Request) -> None:
        """Refuse a write that is too large, before anybody looks into it.

        Raises:
            RpcError: ERR_INVALID_DATA.
        """
        limit = self._flags.integer("max_allowed_write_size")
        if limit and request.size > limit:
            self._metrics.counter("write_size_exceed_threshold_requests").value += 1
            raise RpcError(ErrorCode.ERR_INVALID_DATA, f"a write of {request.size} bytes, at most {limit} are taken")

    def _check_write(self, request: Request) -> None:
        flags = self._flags
        self.check_write_size(request)
        self._check_owner(request)
        if not self._core.is_primary:
            raise RpcError(ErrorCode.ERR_INVALID_STATE, "not the primary")
        if self._disk_status is not DiskStatus.NORMAL and flags.boolean("reject_write_when_disk_insufficient"):
            raise RpcError(ErrorCode.ERR_DISK_INSUFFICIENT, "the disk is nearly full")
        if self._is_ingesting:
            self._metrics.counter("bulk_load_ingestion_rejected_write_requests").value += 1
            raise RpcError(ErrorCode.ERR_OPERATION_DISABLED, "files of a bulk load are being added")
        error = self._core.writing_error()
        if error is not None:
            raise RpcError(error)
