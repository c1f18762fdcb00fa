"""Passes over all rows of a replica, in slices that let clients go first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from replicaserver.partition.partition import Partition
from replicaserver.rows.writes import Draft
from replicaserver.storage.rocks import RocksStore
from replicaserver.table.rewriting import Exchange, Pass

SLICE_ROWS = 2000
SLICE_BYTES = 8 * 1024 * 1024


@dataclass(slots=True)
class Outcome:
    """What a pass has done so far."""

    rows: int = 0
    changed: int = 0


async def rewrite(partition: Partition, work: Pass, pause_s: float, report: Callable[[Outcome], None]) -> Outcome:
    """Take a pass over all rows of a replica.

    Args:
        partition: The replica; it keeps serving.
        work: What changes.
        pause_s: Seconds between two slices.
        report: Called after every slice.
    """
    loop, outcome, start = asyncio.get_running_loop(), Outcome(), b""
    while True:
        slice_ = loop.run_in_executor(partition.context.workers, _read, partition.store, start, work)
        rows, exchanges, following = await slice_
        outcome.rows += rows
        if exchanges:
            outcome.changed += await partition.batches.submit_internal(_exchanging(exchanges))
        report(outcome)
        if following is None:
            return outcome
        start = following
        await asyncio.sleep(pause_s)


def _read(store: RocksStore, start: bytes, work: Pass) -> tuple[int, list[Exchange], bytes | None]:
    """How many rows a slice has, which of them change, and where the next slice begins."""
    rows = store.read(start, SLICE_ROWS, SLICE_BYTES)
    is_full = len(rows) == SLICE_ROWS or sum(len(key) + len(stored) for key, stored in rows) >= SLICE_BYTES
    following = rows[-1][0] + b"\0" if is_full else None
    return len(rows), work.exchanges(rows), following


def _exchanging(exchanges: list[Exchange]) -> Callable[[Draft], int]:
    def exchange(draft: Draft) -> int:
        return sum(draft.exchange(*one) for one in exchanges)

    return exchange
