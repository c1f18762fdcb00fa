"""One synced write per replica for all the writes that came in together.

RocksDB syncs its log in a worker thread, so that the event loop serves on meanwhile. Batches of different replicas
that are ready in the same turn of the loop go to the workers together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from replicaserver.storage.rocks import Batch, RocksStore, StoreError

Done = Callable[[StoreError | None], None]
Job = tuple[RocksStore, Batch, Done]


class GroupCommit:
    """Stores batches in worker threads.

    Args:
        workers: How many threads write at a time.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="commit")
        self._ready: list[Job] = []
        self._loop = asyncio.get_running_loop()

    def submit(self, store: RocksStore, batch: Batch, done: Done) -> None:
        """Store a batch; `done` is called on the loop when it is on disk, or with what went wrong.

        A store has one batch on its way at a time.
        """
        if not self._ready:
            self._loop.call_soon(self._send)
        self._ready.append((store, batch, done))

    def _send(self) -> None:
        jobs, self._ready = self._ready, []
        for start in range(min(self._workers, len(jobs))):
            self._executor.submit(self._write, jobs[start :: self._workers])

    def _write(self, jobs: list[Job]) -> None:
        outcomes: list[tuple[Done, StoreError | None]] = []
        for store, batch, done in jobs:
            try:
                store.write(batch)
            except StoreError as error:
                outcomes.append((done, error))
            else:
                outcomes.append((done, None))
        self._loop.call_soon_threadsafe(_tell, outcomes)

    def close(self) -> None:
        """Wait for what is being written, and end the threads."""
        self._executor.shutdown()


def _tell(outcomes: list[tuple[Done, StoreError | None]]) -> None:
    for done, error in outcomes:
        done(error)
