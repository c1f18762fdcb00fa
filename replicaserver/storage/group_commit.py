"""One synced write per replica for all the writes that came in together.

RocksDB syncs its log in a worker thread, so that the event loop serves on meanwhile. Several replicas' logs are synced
at a time: a disk does that for little more than one.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue

from replicaserver.storage.rocks import Batch, RocksStore, StoreError

Done = Callable[[StoreError | None], None]
Job = tuple[RocksStore, Batch, Done]


class GroupCommit:
    """Stores batches in worker threads.

    Args:
        workers: How many threads write at a time.
    """

    def __init__(self, workers: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._outcomes: deque[tuple[Done, StoreError | None]] = deque()
        self._is_telling = False
        self._threads = [threading.Thread(target=self._work, name=f"commit-{n}", daemon=True) for n in range(workers)]
        for thread in self._threads:
            thread.start()

    def submit(self, store: RocksStore, batch: Batch, done: Done) -> None:
        """Store a batch; `done` is called on the loop when it is on disk, or with what went wrong.

        A store has one batch on its way at a time.
        """
        self._jobs.put((store, batch, done))

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            store, batch, done = job
            try:
                store.write(batch)
            except StoreError as error:
                self._outcomes.append((done, error))
            else:
                self._outcomes.append((done, None))
            if not self._is_telling:  # else the loop has been woken already, and will find this outcome too
                self._is_telling = True
                self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        self._is_telling = False
        while self._outcomes:
            done, error = self._outcomes.popleft()
            done(error)

    def close(self) -> None:
        """Wait for what is being written, and end the threads."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
