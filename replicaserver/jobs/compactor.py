"""Manual compactions: started as tables ask, a few at a time, with their progress in the log."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import structlog

from replicaserver.partition import table_passes
from replicaserver.partition.partition import Partition
from replicaserver.storage.engine import StoreError
from replicaserver.table import compaction
from replicaserver.table.compaction import Order
from replicaserver.table.rewriting import Pass
from shared.pegasus.wire.errors import RpcError
from shared.pegasus.wire.keys import EPOCH

log = structlog.get_logger("replicaserver.compactor")

THREADS = 2


class Compactor:
    """Runs the manual compactions of a node."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="compact")
        self._queue: deque[tuple[Partition, Order]] = deque()
        self._running: dict[asyncio.Task[None], Partition] = {}
        self._is_closing = False

    def consider(self, partition: Partition) -> None:
        """Start a compaction if the table asks for one; called whenever its settings were received."""
        context = partition.context
        now_s = int(context.unix_s())
        order = compaction.wanted(
            partition.app.envs,
            partition.store.settings.levels,
            partition.compaction.last_finish_s,
            now_s,
            lambda hour, minute: _at_today(now_s, hour, minute),
        )
        if order is None or self._is_closing:
            return
        if partition.compaction.enqueue(now_s, context.flags.integer("manual_compact_min_interval_seconds")):
            log.info("manual compaction queued", gpid=str(partition.gpid), target_level=order.target_level)
            self._queue.append((partition, order))
            self._start_some()

    def _start_some(self) -> None:
        waiting: deque[tuple[Partition, Order]] = deque()
        while self._queue:
            partition, order = self._queue.popleft()
            most = compaction.max_running(partition.app.envs)
            table = partition.gpid.app_id
            if most and sum(other.gpid.app_id == table for other in self._running.values()) >= most:
                waiting.append((partition, order))
                continue
            task = partition.context.tasks.once(f"compaction of {partition.gpid}", partial(self._run, partition, order))
            self._running[task] = partition
            task.add_done_callback(self._ended)
        self._queue = waiting

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        if not self._is_closing:
            self._start_some()

    async def _run(self, partition: Partition, order: Order) -> None:
        context, state = partition.context, partition.compaction
        state.start(int(context.unix_s()))
        shown = log.bind(gpid=str(partition.gpid))
        shown.info("manual compaction runs", target_level=order.target_level, forced=order.is_forced)
        try:
            await self._rewrite(partition, shown)
            await asyncio.get_running_loop().run_in_executor(self._executor, partition.store.compact, order)
            finished_s = int(context.unix_s())
            await partition.note("compacted_s", finished_s)
        except (StoreError, RpcError) as error:
            shown.error("manual compaction failed", reason=str(error))
            state.give_up()
            return
        except BaseException:
            state.give_up()
            raise
        state.finish(finished_s)
        shown.info("manual compaction finished", seconds=state.last_used_s, sst_files=partition.store.files())

    async def _rewrite(self, partition: Partition, shown: structlog.stdlib.BoundLogger) -> None:
        """Remove expired rows and apply the table's rules, which the original does while it compacts."""
        settings, now = partition.settings, int(partition.context.unix_s()) - EPOCH
        work = Pass(partition.data_version, now, settings.default_ttl, settings.compaction_operations)
        keys = max(1, partition.store.measure("estimate-num-keys"))
        reported = 0

        def report(outcome: table_passes.Outcome) -> None:
            nonlocal reported
            tenth = min(10, outcome.rows * 10 // keys)
            if tenth > reported:
                reported = tenth
                shown.info("manual compaction progress", percent=tenth * 10, rows=outcome.rows)

        outcome = await table_passes.rewrite(partition, work, 0.0, report)
        shown.info("rules applied", rows=outcome.rows, changed=outcome.changed)

    async def close(self) -> None:
        """Give up what is queued and what runs; the stores are about to be closed."""
        self._is_closing = True
        for partition, _ in self._queue:
            partition.compaction.give_up()
        self._queue.clear()
        running = dict(self._running)  # one that ends meanwhile leaves the table of those that run
        for task, partition in running.items():
            with contextlib.suppress(StoreError):  # then the log keeps what the files do not have
                await partition.log.persist()  # an interrupted store flushes no more
            partition.store.interrupt()
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        self._executor.shutdown(wait=True)


def _at_today(now_s: int, hour: int, minute: int) -> int:
    """The unix seconds of an hour and a minute of the present day, in local time."""
    today = time.localtime(now_s)
    return int(time.mktime((today.tm_year, today.tm_mon, today.tm_mday, hour, minute, 0, 0, 0, -1)))
