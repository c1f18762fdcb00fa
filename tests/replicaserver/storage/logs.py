"""A node's log with the stores of some replicas, without the node."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from replicaserver.storage.engine import StoreError, StoreSettings
from replicaserver.storage.node_log import NodeLog, ReplicaLog
from replicaserver.storage.recovery import OrphanedRecords
from replicaserver.storage.rocks import RocksStore
from shared.pegasus.wire.structures.base import Gpid
from shared.wal.log import CommitLog
from tests.crashes import copy_as_it_is

ONE, TWO = Gpid(2, 0), Gpid(2, 1)
SEGMENT_BYTES = 64 * 1024


class Opened:
    """A node's log with the stores of some partitions, in a folder."""

    def __init__(
        self,
        folder: Path,
        settings: StoreSettings,
        gpids: tuple[Gpid, ...] = (ONE, TWO),
        *,
        accepts_loss: bool = False,
    ) -> None:
        self.folder = folder
        self.workers = ThreadPoolExecutor(2)
        self.stores = {gpid: RocksStore(folder / str(gpid), settings) for gpid in gpids}
        self.commit_log = CommitLog.open(folder / "slog", segment_bytes=SEGMENT_BYTES, accepts_loss=accepts_loss)
        self.node_log = NodeLog(self.commit_log, OrphanedRecords(folder / "slog" / "left"), self.workers)
        self.behind = self.node_log.replay(self.stores)
        self.node_log.start()
        self.is_open = True
        self.logs = {gpid: self.node_log.of(gpid, store) for gpid, store in self.stores.items()}

    async def write(self, changes: Mapping[bytes, bytes | None], gpid: Gpid = ONE, **notes: int) -> None:
        await written(self.logs[gpid], changes, notes)

    def rows(self, gpid: Gpid = ONE) -> dict[bytes, bytes]:
        return dict(self.stores[gpid].scan(b"", b""))

    async def fill(self, segments: int, gpid: Gpid = ONE) -> None:
        """Write until the log has begun some more segments."""
        until, number = self.commit_log.segment + segments, 0
        while self.commit_log.segment < until:
            number += 1
            await self.write({b"filler": b"%d" % number + bytes(8000)}, gpid)

    def crash(self, folder: Path) -> None:
        """Copy everything as it is now."""
        for gpid in self.stores:
            copy_as_it_is(self.folder / str(gpid), folder / str(gpid))
        copy_as_it_is(self.folder / "slog", folder / "slog")

    async def close(self) -> None:
        """End in good order."""
        if self.is_open:
            for log in self.logs.values():
                await log.close()
            await self.drop()

    async def drop(self) -> None:
        """End without letting the stores' files catch up."""
        self.is_open = False
        await self.node_log.close()
        for store in self.stores.values():
            store.close()
        self.workers.shutdown()


def written(log: ReplicaLog, changes: Mapping[bytes, bytes | None], notes: Mapping[str, int]) -> asyncio.Future[None]:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def done(error: StoreError | None) -> None:
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

    log.submit(changes, notes, done)
    return future
