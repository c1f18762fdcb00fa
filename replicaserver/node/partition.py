"""A replica that is open on this node: who may read and write it, and what that counts as (§11.1, §11.4)."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import structlog

from replicaserver import writes
from replicaserver.compaction import ManualCompaction
from replicaserver.node.rounds import AnswerPuts, Operation, PlainPut, Rounds, Waiting
from replicaserver.reads import Limits, Reader
from replicaserver.replica import Configuration, Effect, LogFailed, LogMended, Message, Replica, SaveBallot
from replicaserver.rows import Identity, UnreadableError, Usage
from replicaserver.scans import Page, Scans
from replicaserver.storage.journal import Journal
from replicaserver.storage.rocks import RocksStore, StoreError
from replicaserver.storage.statistics import Statistics
from replicaserver.table_settings import TableSettings
from replicaserver.throttling import ByteBucket, Throttle, Throttler, Verdict
from replicaserver.writes import Draft
from shared.pegasus.errors import ErrorCode, RocksdbError, RpcError
from shared.pegasus.flags import Flags
from shared.pegasus.framing import MAX_BODY_BYTES, Request
from shared.pegasus.keys import EPOCH, make_timetag
from shared.pegasus.metrics import Counter, Registry
from shared.pegasus.rpc import NO_REPLY, NoReply
from shared.pegasus.structures.base import Gpid, HostPort
from shared.pegasus.structures.layer2 import AppInfo
from shared.pegasus.structures.metadata import DiskStatus, PartitionStatus
from shared.pegasus.structures.rrdb import UpdateResponse

log = structlog.get_logger("replicaserver.partition")

WRITE_NAMES = ("put", "remove", "multi_put", "multi_remove", "incr", "check_and_set", "check_and_mutate")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every replica of a node shares.

    Attributes:
        node: The address of this node.
        flags: The settings of the process.
        registry: Where metrics are.
        journal: Puts writes on disk.
        workers: Threads for reads that may take long.
        unix_s: The clock.
        answer_puts: Sends the answers of plain puts.
    """

    node: HostPort
    flags: Flags
    registry: Registry
    journal: Journal
    workers: Executor
    unix_s: Callable[[], float]
    answer_puts: AnswerPuts


Read = Callable[[Any, int, Usage], Any]


class Partition:
    """An open replica.

    Attributes:
        gpid: Which partition of which table.
        app: The table, as the metaserver last described it.
        core: Decides about configurations and decrees.
        store: The rows.
        settings: The table's environment variables, understood.
        log: Puts writes on disk.
        compaction: How far a manual compaction is.
        response_end: What the edge ends every reading response with; it writes it once.
        reads_plainly: Reads need no further look: this is the primary, and nothing limits them.
        writes_plainly: The same of writes that are not too large.
        max_write_bytes: A write whose request is larger is too large.
    """

    def __init__(self, gpid: Gpid, app: AppInfo, store: RocksStore, around: Surroundings, disk: str) -> None:
        durable = store.durable()
        self.gpid = gpid
        self.app = app
        self.store = store
        self.disk_tag = disk
        self._disk_status = DiskStatus.NORMAL
        self.max_write_bytes = around.flags.integer("max_allowed_write_size") or MAX_BODY_BYTES
        self.around = around
        self.data_version = durable.data_version
        self.core = Replica(
            around.node,
            durable.ballot,
            durable.decree,
            min_members=around.flags.integer("mutation_2pc_min_replica_count"),
            window=around.flags.integer("staleness_for_commit"),
        )
        self.who = Identity(gpid.app_id, gpid.partition_index, str(around.node))
        self.reader = Reader(store, self.who, durable.data_version)
        self.scans = Scans(self.reader, durable.data_version, secrets.randbelow(2**62))
        self.log = around.journal.of(gpid, store)
        self.rounds = Rounds(self.core, self.log, self.who, self._draft, self._fail, self._answer_puts)
        self.metrics = around.registry.replica(*gpid)
        self._statistics = Statistics()
        self.compaction = ManualCompaction(last_finish_s=durable.compacted_s)
        self._is_ingesting = False
        self.response_end = b""
        self.settings = TableSettings()
        self.reads_plainly = False
        self.writes_plainly = False
        self._count_metrics()
        self.describe(app)

    def _count_metrics(self) -> None:
        flags, counter = self.around.flags, self.metrics.counter
        self.read_unit = flags.integer("perf_counter_read_capacity_unit_size")
        self.write_unit = flags.integer("perf_counter_write_capacity_unit_size")
        self.read_units, self.write_units = counter("read_capacity_units"), counter("write_capacity_units")
        self.abnormal_reads = counter("abnormal_read_requests")
        self.get_requests, self.get_bytes = counter("get_requests"), counter("get_bytes")
        self.get_latency = self.metrics.percentile("get_latency_ns")
        self.put_requests, self.put_bytes = counter("put_requests"), counter("put_bytes")
        self.put_latency, self.committed = self.metrics.percentile("put_latency_ns"), counter("committed_requests")
        self.expired_values, self.filtered_values = counter("read_expired_values"), counter("read_filtered_values")
        self._accounts = {name: self._accountant(name) for name in WRITE_NAMES}
        self.large_get = flags.integer("rocksdb_abnormal_get_size_threshold")
        self.slow_ns = flags.integer("rocksdb_slow_query_threshold_ns")

    # -- what the table and the metaserver say --------------------------------------------------------

    def describe(self, app: AppInfo) -> None:
        """Take the table's present description: its environment variables act from now on."""
        before, self.app = self.settings, app
        self.settings = settings = before.updated(app.envs)
        count = app.partition_count
        self.read_throttler = Throttler(settings.read_throttle, count)
        self.write_throttler = Throttler(settings.write_throttle, count)
        self.write_size_throttler = Throttler(settings.write_size_throttle, count)
        self.backup_throttler = Throttler(settings.backup_throttle, count)
        if settings.read_size_throttle != before.read_size_throttle or not hasattr(self, "read_bucket"):
            self.read_bucket = ByteBucket(settings.read_size_throttle, count, self.around.unix_s())
        if settings.slow_query_ms is not None:
            self.slow_ns = settings.slow_query_ms * 1_000_000
        else:
            self.slow_ns = self.around.flags.integer("rocksdb_slow_query_threshold_ns")
        if settings.usage_scenario != before.usage_scenario or settings.write_buffer_bytes != before.write_buffer_bytes:
            self._tune()
        self._look_at_gates()

    def _tune(self) -> None:
        """Fit the engine to how the table is used (§9.1)."""
        settings, flags = self.settings, self.around.flags
        buffer = settings.write_buffer_bytes or flags.integer("rocksdb_write_buffer_size")
        trigger = flags.integer("rocksdb_level0_file_num_compaction_trigger")
        is_loading = settings.usage_scenario == "bulk_load"
        if settings.usage_scenario == "prefer_write":
            trigger *= 3
        self.store.set_options(
            {
                "write_buffer_size": str(buffer * 4 if is_loading else buffer),
                "disable_auto_compactions": "true" if is_loading else "false",
                "level0_file_num_compaction_trigger": str(trigger),
                "level0_slowdown_writes_trigger": "1000000" if is_loading else str(max(20, trigger * 5)),
                "level0_stop_writes_trigger": "1000000" if is_loading else str(max(36, trigger * 9)),
            }
        )

    def step(self, message: Message) -> list[Effect]:
        """Let the core decide; a new ballot is on its way to the disk before any later write."""
        effects = self.core.step(message)
        for effect in effects:
            if isinstance(effect, SaveBallot):
                self.note("ballot", effect.ballot)
        self._look_at_gates()
        return effects

    def note(self, name: str, value: int) -> asyncio.Future[None]:
        """Let the store know a number; it is on disk when the future is done."""
        return self.rounds.own(lambda draft: draft.notes.__setitem__(name, value))

    def _fail(self) -> None:
        self.step(LogFailed())

    async def mend(self) -> None:
        """Take writes again after the disk did not take one, if it takes what is in memory now."""
        try:
            await self.note("ballot", self.core.ballot)  # does the log take anything? A flush that fails is final
            await self.log.pass_over_failed()
        except (StoreError, RpcError) as error:
            log.warning("a replica still takes no writes", gpid=str(self.gpid), reason=str(error))
            return
        self.step(LogMended())
        log.info("a replica takes writes again", gpid=str(self.gpid))

    def _look_at_gates(self) -> None:
        settings = self.settings
        unlimited = Throttle()
        is_open = self.core.is_primary and settings.deny is None and not settings.validate_partition_hash
        self.reads_plainly = (
            is_open and settings.read_throttle == unlimited and settings.read_size_throttle == unlimited
        )
        self.writes_plainly = (
            is_open
            and settings.write_throttle == unlimited
            and settings.write_size_throttle == unlimited
            and self.core.writing_error() is None
            and self._disk_status is DiskStatus.NORMAL
            and not self._is_ingesting
        )

    @property
    def is_ingesting(self) -> bool:
        """Files of a bulk load are being added: writes are refused."""
        return self._is_ingesting

    @is_ingesting.setter
    def is_ingesting(self, is_ingesting: bool) -> None:
        self._is_ingesting = is_ingesting
        self._look_at_gates()

    @property
    def disk_status(self) -> DiskStatus:
        """Whether there is room for more."""
        return self._disk_status

    @disk_status.setter
    def disk_status(self, status: DiskStatus) -> None:
        self._disk_status = status
        self._look_at_gates()

    async def begin_anew(self) -> None:
        """Forget the ballot of the table that a restored store was taken from, and what else was noted of it."""
        self.core.configuration = Configuration()
        self._look_at_gates()
        self.compaction = ManualCompaction()
        await self.rounds.own(lambda draft: draft.notes.update({"ballot": 0, "compacted_s": 0}))

    # -- reading ------------------------------------------------------------------------------------

    def read(self, operation: Read, value: Any, request: Request, name: str) -> Any:
        """Answer a reading operation, at once where nothing stands against it.

        Args:
            operation: Answers; see `replicaserver.reads`.
            value: Its request.
            request: The envelope, for admission.
            name: The prefix of its metrics, such as ``multi_get``.

        Raises:
            RpcError: It is not admitted.
        """
        if self.reads_plainly and not request.is_backup_request:
            return self._read(operation, value, name)
        return self._admitted_read(operation, value, request, name)

    async def _admitted_read(self, operation: Read, value: Any, request: Request, name: str) -> Any:
        refused = await self.admit_read(request)
        if refused is not None:
            return refused
        answer = self._read(operation, value, name)
        return await answer if asyncio.isfuture(answer) else answer

    async def admit_read(self, request: Request) -> NoReply | None:
        """Let a read pass, in the order of §11.1; what is returned is the answer of one that does not.

        Raises:
            RpcError: It is refused with an error.
        """
        settings = self.settings
        if settings.deny is not None and settings.deny.reads:
            if settings.deny.is_silent:
                return NO_REPLY
            raise RpcError(ErrorCode.ERR_INVALID_STATE, "reads are denied")
        self._check_owner(request)
        if self.core.status not in (PartitionStatus.PRIMARY, PartitionStatus.SECONDARY):
            raise RpcError(ErrorCode.ERR_INVALID_STATE, f"the replica is {self.core.status.name.lower()}")
        if request.is_backup_request:
            self.metrics.counter("backup_requests").value += 1
            passes = await self._throttle(self.backup_throttler.judge, 1, request, "backup")
            if not passes:
                return NO_REPLY
        elif not await self._throttle(self.read_throttler.judge, 1, request, "read"):
            raise RpcError(ErrorCode.ERR_BUSY, "too many reads")
        verdict, wait_ms = self.read_bucket.judge(self.around.unix_s(), request.timeout_ms)
        if verdict is Verdict.REJECT:
            self.metrics.counter("throttling_rejected_read_requests").value += 1
            await asyncio.sleep(wait_ms / 1000)
            raise RpcError(ErrorCode.ERR_BUSY, "too many bytes read")
        error = self.core.reading_error()
        if error is not None:
            raise RpcError(error)
        return None

    async def _throttle(
        self, judge: Callable[[int, float, int], tuple[Verdict, int]], units: int, request: Request, name: str
    ) -> bool:
        verdict, wait_ms = judge(units, self.around.unix_s(), request.timeout_ms)
        if verdict is Verdict.PASS:
            return True
        word = "rejected" if verdict is Verdict.REJECT else "delayed"
        self.metrics.counter(f"throttling_{word}_{name}_requests").value += 1
        await asyncio.sleep(wait_ms / 1000)
        return verdict is Verdict.DELAY

    def _check_owner(self, request: Request) -> None:
        if (
            self.settings.validate_partition_hash
            and request.partition_hash % self.app.partition_count != self.gpid.partition_index
        ):
            raise RpcError(ErrorCode.ERR_PARENT_PARTITION_MISUSED, "the key belongs to another partition")

    def _read(self, operation: Read, value: Any, name: str) -> Any:
        started = time.perf_counter_ns()
        usage = Usage()
        answer = operation(value, int(self.around.unix_s()) - EPOCH, usage)
        if asyncio.isfuture(answer):
            answer.add_done_callback(lambda _done: self.account_read(name, usage, started))
        else:
            self.account_read(name, usage, started)
        return answer

    def account_read(self, name: str, usage: Usage, started_ns: int) -> None:
        """Count a read that was answered."""
        metrics = self.metrics.metrics
        metrics[f"{name}_requests"].value += 1  # type: ignore[union-attr]
        bytes_ = metrics.get(f"{name}_bytes")
        if isinstance(bytes_, Counter):
            bytes_.value += usage.bytes_
        self.expired_values.value += usage.expired
        self.filtered_values.value += usage.filtered
        if not usage.has_failed:
            self.read_units.value += writes.capacity_units(usage.bytes_, self.read_unit)
        elapsed = time.perf_counter_ns() - started_ns
        self.metrics.percentile(f"{name}_latency_ns").observe(elapsed)
        self.read_bucket.consume(usage.bytes_)
        if elapsed > self.slow_ns or self._is_abnormal(name, usage):
            self.abnormal_reads.value += 1
            log.info(
                "abnormal read", gpid=str(self.gpid), call=name, ms=elapsed / 1e6, rows=usage.rows, bytes=usage.bytes_
            )

    def unreadable(self, error: UnreadableError, usage: Usage) -> RocksdbError:
        """What a read is answered with that the store could not carry out, which is told."""
        log.error("rows cannot be read", gpid=str(self.gpid), reason=str(error))
        usage.has_failed = True
        return error.code

    def _is_abnormal(self, name: str, usage: Usage) -> bool:
        flags = self.around.flags
        if name == "batch_get":
            return usage.bytes_ > flags.integer(
                "rocksdb_abnormal_batch_get_bytes_threshold"
            ) or usage.rows > flags.integer("rocksdb_abnormal_batch_get_count_threshold")
        if name == "get":
            return usage.bytes_ > self.large_get
        return name == "multi_get" and (
            usage.bytes_ > flags.integer("rocksdb_abnormal_multi_get_size_threshold")
            or usage.rows > flags.integer("rocksdb_abnormal_multi_get_iterate_count_threshold")
        )

    def limits(self, rows_flag: str) -> Limits:
        """What one range read may do, beginning now."""
        flags = self.around.flags
        ms = self.settings.iteration_ms
        if ms is None:
            ms = flags.integer("rocksdb_iteration_threshold_time_ms")
        end = time.perf_counter() + ms / 1000 if ms else float("inf")
        return Limits(
            rows=flags.integer(rows_flag),
            size_bytes=flags.integer("rocksdb_multi_get_max_iteration_size"),
            is_overdue=lambda: time.perf_counter() > end,
        )

    def page(self, name: str, value: Any, now: int, usage: Usage) -> Page:
        """A page of a scan: the first for a `GetScannerRequest` (``open``), a later one for a context id."""
        limits, now_s = self.limits("rocksdb_max_iteration_count"), self.around.unix_s()
        if name != "open":
            return self.scans.go_on(value, now, now_s, limits, usage)
        validates = self.settings.validate_partition_hash and value.validate_partition_hash is not False
        count = self.app.partition_count if validates else None
        return self.scans.open(value, now, now_s, limits, usage, partition_count=count)

    # -- writing ------------------------------------------------------------------------------------

    def write(self, operation: Operation, value: Any, request: Request, name: str, *, shares_decree: bool) -> Any:
        """Take a writing operation; the awaitable has the response once it is on disk.

        Args:
            operation: Decides what is written; see `replicaserver.writes`.
            value: Its request.
            request: The envelope, for admission.
            name: The prefix of its metrics, such as ``multi_put``.
            shares_decree: Whether it may have the same decree as others of its kind.

        Raises:
            RpcError: It is not admitted.
        """
        if self.writes_plainly and len(request.arguments) <= self.max_write_bytes:
            return self.rounds.submit(operation, value, self._accounts[name], shares_decree=shares_decree)
        return self._admitted_write(operation, value, request, name, shares_decree)

    async def _admitted_write(
        self, operation: Operation, value: Any, request: Request, name: str, shares_decree: bool
    ) -> Any:
        refused = await self.admit_write(request)
        if refused is not None:
            return refused
        return await self.rounds.submit(operation, value, self._accounts[name], shares_decree=shares_decree)

    async def admit_write(self, request: Request) -> NoReply | None:
        """Let a write pass, in the order of §11.1; what is returned is the answer of one that does not.

        Raises:
            RpcError: It is refused with an error.
        """
        deny = self.settings.deny
        if deny is not None and deny.writes:
            if deny.is_silent:
                return NO_REPLY
            raise RpcError(ErrorCode.ERR_INVALID_STATE, "writes are denied")
        self._check_write(request)
        for throttler, units in ((self.write_throttler, 1), (self.write_size_throttler, len(request.arguments))):
            if not await self._throttle(throttler.judge, units, request, "write"):
                raise RpcError(ErrorCode.ERR_BUSY, "too many writes")
        return None

    def _check_write(self, request: Request) -> None:
        flags = self.around.flags
        limit = flags.integer("max_allowed_write_size")
        if limit and len(request.arguments) > limit:
            self.metrics.counter("write_size_exceed_threshold_requests").value += 1
            raise RpcError(ErrorCode.ERR_INVALID_DATA, f"a write of more than {limit} bytes")
        self._check_owner(request)
        if not self.core.is_primary:
            raise RpcError(ErrorCode.ERR_INVALID_STATE, "not the primary")
        if self.disk_status is not DiskStatus.NORMAL and flags.boolean("reject_write_when_disk_insufficient"):
            raise RpcError(ErrorCode.ERR_DISK_INSUFFICIENT, "the disk is nearly full")
        if self.is_ingesting:
            self.metrics.counter("bulk_load_ingestion_rejected_write_requests").value += 1
            raise RpcError(ErrorCode.ERR_OPERATION_DISABLED, "files of a bulk load are being added")
        error = self.core.writing_error()
        if error is not None:
            raise RpcError(error)

    def _draft(self) -> Draft:
        unix_s = self.around.unix_s()
        now, timetag = int(unix_s) - EPOCH, make_timetag(int(unix_s * 1_000_000))
        return Draft(self.store, self.data_version, now, timetag, self.settings.default_ttl)

    def _accountant(self, name: str) -> Callable[[Waiting, Any], None]:
        """What counts a write of one kind when it is answered."""
        requests = self.metrics.counter(f"{name}_requests")
        bytes_ = self.metrics.metrics.get(f"{name}_bytes")
        latency = self.metrics.percentile(f"{name}_latency_ns")
        committed = self.metrics.counter("committed_requests")
        read_unit, write_unit = self.read_unit, self.write_unit

        def account(waiting: Waiting, response: Any) -> None:
            requests.value += 1
            committed.value += 1
            cost = waiting.cost
            if isinstance(bytes_, Counter):
                bytes_.value += cost.written
            if response.error == RocksdbError.OK:
                self.write_units.value += writes.capacity_units(cost.written, write_unit)
            if cost.read and response.error in (RocksdbError.OK, RocksdbError.TRY_AGAIN):
                self.read_units.value += writes.capacity_units(cost.read, read_unit)
            latency.observe(time.perf_counter_ns() - waiting.started_ns)

        return account

    def _answer_puts(self, puts: Sequence[PlainPut], response: UpdateResponse | None, error: RpcError | None) -> None:
        """Count plain puts as an accountant counts the others, and answer them."""
        if response is not None:
            now_ns, unit = time.perf_counter_ns(), self.write_unit
            size = units = 0
            took_ns = []
            for key, value, _, started_ns, _, _ in puts:
                written = len(key) + len(value)
                size += written
                units += 1 if written <= unit else -(-written // unit)
                took_ns.append(now_ns - started_ns)
            self.put_latency.observe_all(took_ns)
            self.put_requests.value += len(puts)
            self.committed.value += len(puts)
            self.put_bytes.value += size
            self.write_units.value += units
        self.around.answer_puts(puts, response, error)

    def is_untouched(self) -> bool:
        """Whether it is certain that nothing was ever written here, by clients or by a bulk load."""
        if self.core.last_prepared > 0 or self.core.last_committed > 0 or self.is_ingesting:
            return False
        try:
            return not self.store.read(b"", 1)
        except StoreError:
            return False

    def look_at_engine(self) -> None:
        """Bring the metrics up to date that RocksDB counts.

        Raises:
            StoreError: The store is closed.
        """
        self._statistics.show(self.store.statistics(), self.metrics)

    def flush(self) -> str | None:
        """Write what is in memory to files; what went wrong, None when nothing did. Blocks its thread."""
        try:
            self.store.flush()
        except StoreError as error:
            return str(error)
        return None

    # -- the end --------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Finish the writes under way and close the store."""
        self.reads_plainly = self.writes_plainly = False
        self.core.status = PartitionStatus.INACTIVE
        await self.rounds.close()
        try:
            await self.log.close()
        except StoreError as error:
            log.error("a store is closed before its files have everything", gpid=str(self.gpid), reason=str(error))
        await asyncio.get_running_loop().run_in_executor(self.around.workers, self.store.close)
