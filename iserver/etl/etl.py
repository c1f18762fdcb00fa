"""From the journal's finished sessions to the warehouse, exactly once.

A batch has an id before anything of it is written, and leaves the journal after all of it is in place.
Whenever this is interrupted, the next run writes the same batch again, over what is there.

The warehouse is opened in the background, not on the way to the first request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import structlog

from iserver.configuration.compiled import Configuration
from iserver.etl.interface import Batch, WarehouseWriter
from iserver.evaluation.definition import Definition
from iserver.warehouse.metadata import metadata_rows

log = structlog.get_logger("iserver.etl")

BATCH_SESSIONS = 200_000
"""The most sessions in one batch; the warehouse holds fewer than that in memory."""


class FinishedSessionQueue(Protocol):
    """Where finished sessions wait, as `iserver.storage.journal.Journal` does it."""

    @property
    def definitions(self) -> Mapping[str, Definition]:
        """Every definition that sessions in a batch may refer to, by fingerprint."""

    async def next_batch(self, new_id: str, limit: int) -> Batch | None:
        """The batch to write to the warehouse: one that was interrupted, else a new one."""

    def read_batch_lines(self, batch: Batch) -> Iterator[bytes]:
        """The sessions of a batch, some in each item, one a line. Blocks: call it in a thread."""

    async def close_batch(self, batch: Batch) -> int:
        """Forget the sessions of a batch: they are in the warehouse. Returns how many they were."""


class Etl:
    """Moves finished sessions into the warehouse, one run at a time.

    Attributes:
        sessions: Sessions written so far.
        rows: Rows written so far.
        seconds: Duration of the last run that had something to do.
    """

    def __init__(
        self,
        journal: FinishedSessionQueue,
        open_warehouse: Callable[[], WarehouseWriter],
        *,
        clock_ms: Callable[[], int],
        new_id: Callable[[], str],
        batch_sessions: int = BATCH_SESSIONS,
    ) -> None:
        """
        Args:
            journal: Where finished sessions wait.
            open_warehouse: Opens the warehouse; called once, in a thread.
            clock_ms: The current time in epoch milliseconds.
            new_id: Makes ids for batches.
            batch_sessions: The most sessions in a batch.
        """
        self._journal = journal
        self.open_warehouse = open_warehouse
        self._clock_ms = clock_ms
        self._new_id = new_id
        self._batch_sessions = batch_sessions
        self._running = asyncio.Lock()
        self._warehouse: WarehouseWriter | None = None
        self._prepared: Configuration | None = None
        self.sessions = 0
        self.rows = 0
        self.seconds = 0.0

    async def prepare(self, configuration: Configuration) -> None:
        """Make the tables of a configuration openable before they have rows, and write its metadata tables.

        Raises:
            OSError: The warehouse cannot be written.
        """
        async with self._running:
            await asyncio.to_thread(self._prepare, configuration)

    async def run(self, configuration: Configuration) -> int:
        """Write everything that is finished by now.

        Args:
            configuration: Goes to the metadata tables.

        Returns:
            How many sessions were written.

        Raises:
            OSError: The warehouse cannot be written; the sessions stay in the journal.
        """
        async with self._running:
            started, before = time.monotonic(), self.sessions
            while (batch := await self._journal.next_batch(self._new_id(), self._batch_sessions)) is not None:
                await asyncio.to_thread(self._prepare, configuration)
                self.rows += await asyncio.to_thread(self._write, batch)
                self.sessions += await self._journal.close_batch(batch)
                self.seconds = time.monotonic() - started
            return self.sessions - before

    async def close(self) -> None:
        """Close the warehouse."""
        async with self._running:
            if self._warehouse is not None:
                await asyncio.to_thread(self._warehouse.close)
                self._warehouse = None

    def _prepare(self, configuration: Configuration) -> None:
        if self._warehouse is None:
            self._warehouse = self.open_warehouse()
        if configuration is not self._prepared:
            self._warehouse.prepare(configuration.definition.program, self._clock_ms())
            self._warehouse.write_metadata(metadata_rows(configuration.document.raw))
            self._prepared = configuration

    def _write(self, batch: Batch) -> int:
        assert self._warehouse is not None
        programs = [definition.program for definition in list(self._journal.definitions.values())]
        written = self._warehouse.write_lines(self._journal.read_batch_lines(batch), batch.id, programs)
        log.info("batch written", batch=batch.id, seconds=round(written.seconds, 3), rows=written.rows)
        if written.left_out:
            log.error("values without a column skipped", batch=batch.id, left_out=written.left_out)
        return sum(written.rows.values())
