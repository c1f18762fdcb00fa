"""A replica that is open on this node: how it is read and written, and what that counts as (§11.4)."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from replicaserver.partition.admission import Admission
from replicaserver.partition.context import NodeContext
from replicaserver.partition.write_batches import WriteBatches
from replicaserver.partition.write_queue import PendingWrite, PlainPut, WriteOperation
from replicaserver.replication.replica import Effect, LogFailed, LogRecovered, Message, Replica, SaveBallot
from replicaserver.rows import writes
from replicaserver.rows.reads import Limits, Reader
from replicaserver.rows.scans import Page, Scans
from replicaserver.rows.store import Responder, UnreadableError, Usage
from replicaserver.rows.writes import Draft
from replicaserver.storage.engine import StoreError
from replicaserver.storage.rocks import RocksStore
from replicaserver.storage.statistics import Statistics
from replicaserver.table.compaction import ManualCompaction
from replicaserver.table.settings import TableSettings
from shared.pegasus.metrics.entities import Counter
from shared.pegasus.wire.errors import RocksdbError, RpcError
from shared.pegasus.wire.framing import Request
from shared.pegasus.wire.keys import EPOCH, make_timetag
from shared.pegasus.wire.structures.base import Gpid
from shared.pegasus.wire.structures.layer2 import AppInfo
from shared.pegasus.wire.structures.metadata import PartitionStatus
from shared.pegasus.wire.structures.rrdb import UpdateResponse

log = structlog.get_logger("replicaserver.partition")

WRITE_NAMES = ("put", "remove", "multi_put", "multi_remove", "incr", "check_and_set", "check_and_mutate")


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
        admission: Who may read and write it now.
        lease: Until when this node may serve.
    """

    def __init__(self, gpid: Gpid, app: AppInfo, store: RocksStore, context: NodeContext, disk: str) -> None:
        durable = store.durable()
        self.gpid = gpid
        self.app = app
        self.store = store
        self.disk_tag = disk
        self.context = context
        self.data_version = durable.data_version
        self.core = Replica(
            context.node,
            durable.ballot,
            durable.decree,
            min_members=context.flags.integer("mutation_2pc_min_replica_count"),
            window=context.flags.integer("staleness_for_commit"),
            may_serve=context.lease.is_held,
        )
        self.who = Responder(gpid.app_id, gpid.partition_index, str(context.node))
        self.reader = Reader(store, self.who, durable.data_version)
        self.scans = Scans(self.reader, durable.data_version, secrets.randbelow(2**62))
        self.log = context.node_log.of(gpid, store)
        self.lease = context.lease
        self.batches = WriteBatches(
            self.core, self.log, self.who, self.lease, self._draft, self._fail, self._answer_puts, context.backlog
        )
        self.metrics = context.registry.replica(*gpid)
        self._statistics = Statistics()
        self.compaction = ManualCompaction(last_finish_s=durable.compacted_s)
        self.admission = Admission(gpid.partition_index, self.core, context.flags, self.metrics, context.unix_s)
        self.response_end = b""
        self.settings = TableSettings()
        self._count_metrics()
        self.describe(app)

    def _count_metrics(self) -> None:
        flags, counter = self.context.flags, self.metrics.counter
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
        if settings.slow_query_ms is not None:
            self.slow_ns = settings.slow_query_ms * 1_000_000
        else:
            self.slow_ns = self.context.flags.integer("rocksdb_slow_query_threshold_ns")
        if settings.usage_scenario != before.usage_scenario or settings.write_buffer_bytes != before.write_buffer_bytes:
            self._tune()
        self.admission.describe(settings, app.partition_count)

    def _tune(self) -> None:
        """Fit the engine to how the table is used (§9.1)."""
        settings, flags = self.settings, self.context.flags
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
        self.admission.refresh()
        return effects

    def note(self, name: str, value: int) -> asyncio.Future[None]:
        """Let the store know a number; it is on disk when the future is done."""
        return self.batches.submit_internal(lambda draft: draft.notes.__setitem__(name, value))

    def _fail(self) -> None:
        self.step(LogFailed())

    async def recover(self) -> None:
        """Take writes again after the disk did not take one, if it takes what is in memory now."""
        try:
            await self._renew_store()
            await self.note("ballot", self.core.ballot)  # does the log take anything?
            await self.log.skip_failed()
        except (StoreError, RpcError) as error:
            log.warning("a replica still takes no writes", gpid=str(self.gpid), reason=str(error))
            return
        self.step(LogRecovered())
        log.info("a replica takes writes again", gpid=str(self.gpid))

    async def _renew_store(self) -> None:
        """Open the store again if RocksDB has given up to write, which is final while it is open.

        Raises:
            StoreError: The disk takes no files, or the store cannot be opened.
        """
        in_worker = asyncio.get_running_loop().run_in_executor
        await in_worker(self.context.workers, self.store.try_files)
        try:
            await in_worker(self.context.workers, self.store.write, {}, {"ballot": self.core.ballot})
        except StoreError as error:
            log.warning("a store is opened again", gpid=str(self.gpid), reason=str(error))
            async with self.batches.held():
                await in_worker(self.context.workers, self.store.note_unwritten)
                self.store.reopen()  # on the event loop: a read in between would find it closed
                self._tune()

    # -- reading ------------------------------------------------------------------------------------

    def read(self, operation: Read, value: Any, request: Request, name: str) -> Any:
        """Answer a reading operation, at once where nothing stands against it.

        Args:
            operation: Answers; see `replicaserver.rows.reads`.
            value: Its request.
            request: The envelope, for admission.
            name: The prefix of its metrics, such as ``multi_get``.

        Raises:
            RpcError: It is not admitted.
        """
        if self.admission.reads_plainly and not request.is_backup_request:
            self.lease.require()
            return self._read(operation, value, name)
        return self._admitted_read(operation, value, request, name)

    async def _admitted_read(self, operation: Read, value: Any, request: Request, name: str) -> Any:
        rejection = await self.admission.admit_read(request)
        if rejection is not None:
            return rejection
        answer = self._read(operation, value, name)
        return await answer if asyncio.iscoroutine(answer) else answer

    def _read(self, operation: Read, value: Any, name: str) -> Any:
        started = time.perf_counter_ns()
        usage = Usage()
        answer = operation(value, int(self.context.unix_s()) - EPOCH, usage)
        if asyncio.isfuture(answer):
            return self._read_later(answer, name, usage, started)
        self.account_read(name, usage, started)
        self.lease.require()
        return answer

    async def _read_later(self, reading: asyncio.Future[Any], name: str, usage: Usage, started_ns: int) -> Any:
        try:
            answer = await reading
        finally:
            self.account_read(name, usage, started_ns)
        self.lease.require()
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
        self.admission.read_bucket.consume(usage.bytes_)
        if elapsed > self.slow_ns or self._is_abnormal(name, usage):
            self.abnormal_reads.value += 1
            log.info(
                "abnormal read", gpid=str(self.gpid), call=name, ms=elapsed / 1e6, rows=usage.rows, bytes=usage.bytes_
            )

    def unreadable(self, error: UnreadableError, usage: Usage) -> RocksdbError:
        """The error of a read that the store could not carry out; it is logged."""
        log.error("rows cannot be read", gpid=str(self.gpid), reason=str(error))
        usage.has_failed = True
        return error.code

    def _is_abnormal(self, name: str, usage: Usage) -> bool:
        flags = self.context.flags
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
        flags = self.context.flags
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
        limits, now_s = self.limits("rocksdb_max_iteration_count"), self.context.unix_s()
        if name != "open":
            return self.scans.go_on(value, now, now_s, limits, usage)
        validates = self.settings.validate_partition_hash and value.validate_partition_hash is not False
        count = self.app.partition_count if validates else None
        return self.scans.open(value, now, now_s, limits, usage, partition_count=count)

    # -- writing ------------------------------------------------------------------------------------

    def write(self, operation: WriteOperation, value: Any, request: Request, name: str, *, shares_decree: bool) -> Any:
        """Take a writing operation; the awaitable has the response once it is on disk.

        Args:
            operation: Decides what is written; see `replicaserver.rows.writes`.
            value: Its request.
            request: The envelope, for admission.
            name: The prefix of its metrics, such as ``multi_put``.
            shares_decree: Whether it may have the same decree as others of its kind.

        Raises:
            RpcError: It is not admitted.
        """
        admission = self.admission
        if admission.writes_plainly and len(request.arguments) <= admission.max_write_bytes:
            size = len(request.arguments)
            return self.batches.submit(operation, value, self._accounts[name], shares_decree=shares_decree, size=size)
        return self._admitted_write(operation, value, request, name, shares_decree)

    async def _admitted_write(
        self, operation: WriteOperation, value: Any, request: Request, name: str, shares_decree: bool
    ) -> Any:
        rejection = await self.admission.admit_write(request)
        if rejection is not None:
            return rejection
        size = len(request.arguments)
        return await self.batches.submit(operation, value, self._accounts[name], shares_decree=shares_decree, size=size)

    def _draft(self) -> Draft:
        unix_s = self.context.unix_s()
        now, timetag = int(unix_s) - EPOCH, make_timetag(int(unix_s * 1_000_000))
        return Draft(self.store, self.data_version, now, timetag, self.settings.default_ttl)

    def _accountant(self, name: str) -> Callable[[PendingWrite, Any], None]:
        """What counts a write of one kind when it is answered."""
        requests = self.metrics.counter(f"{name}_requests")
        bytes_ = self.metrics.metrics.get(f"{name}_bytes")
        latency = self.metrics.percentile(f"{name}_latency_ns")
        committed = self.metrics.counter("committed_requests")
        read_unit, write_unit = self.read_unit, self.write_unit

        def account(waiting: PendingWrite, response: Any) -> None:
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
        self.context.answer_puts(puts, response, error)

    def is_untouched(self) -> bool:
        """Whether it is certain that nothing was ever written here, by clients or by a bulk load."""
        if self.core.last_prepared > 0 or self.core.last_committed > 0 or self.admission.is_ingesting:
            return False
        try:
            return not self.store.read(b"", 1)
        except StoreError:
            return False

    def update_engine_metrics(self) -> None:
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
        self.admission.close()
        self.core.status = PartitionStatus.INACTIVE
        await self.batches.close()
        try:
            await self.log.close()
        except StoreError as error:
            log.error("a store is closed before its files have everything", gpid=str(self.gpid), reason=str(error))
        await asyncio.get_running_loop().run_in_executor(self.context.workers, self.store.close)
