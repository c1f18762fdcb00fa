"""From the journal's finished sessions to the warehouse, exactly once (specification §12.1).

A batch has an id before anything of it is written, and leaves the journal after all of it is in place.
Whenever this is interrupted, the next run writes the same batch again, over what is there.

The warehouse's libraries are large, so it is opened in the background, not on the way to the first request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from iserver.configuration import Configuration
from iserver.fdl.model import Program
from iserver.storage.journal import Batch, Journal

if TYPE_CHECKING:
    from iserver.storage.warehouse import Warehouse

BATCH_SESSIONS = 200_000
"""The most sessions in one batch; the warehouse holds fewer than that in memory."""


class Etl:
    """Moves finished sessions into the warehouse, one run at a time.

    Attributes:
        rows: Rows written so far.
        seconds: Duration of the last run that had something to do.
    """

    def __init__(
        self,
        journal: Journal,
        open_warehouse: Callable[[], Warehouse],
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
        self._open_warehouse = open_warehouse
        self._clock_ms = clock_ms
        self._new_id = new_id
        self._batch_sessions = batch_sessions
        self._running = asyncio.Lock()
        self._warehouse: Warehouse | None = None
        self._prepared: Configuration | None = None
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
            started, sessions = time.monotonic(), 0
            while (batch := await self._journal.next_batch(self._new_id(), self._batch_sessions)) is not None:
                await asyncio.to_thread(self._prepare, configuration)
                self.rows += await asyncio.to_thread(self._write, batch)
                sessions += await self._journal.close_batch(batch)
                self.seconds = time.monotonic() - started
            return sessions

    def _prepare(self, configuration: Configuration) -> None:
        from iserver.warehouse.metadata import metadata_rows

        if self._warehouse is None:
            self._warehouse = self._open_warehouse()
        if configuration is not self._prepared:
            self._warehouse.prepare(configuration.definition.program, self._clock_ms())
            self._warehouse.write_metadata(metadata_rows(configuration.document.raw))
            self._prepared = configuration

    def _write(self, batch: Batch) -> int:
        assert self._warehouse is not None
        written = self._warehouse.write(self._journal.read_batch(batch), batch.id, self._program)
        return sum(written.rows.values())

    def _program(self, fingerprint: str) -> Program:
        return self._journal.definitions[fingerprint].program
