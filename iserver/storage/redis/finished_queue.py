"""Finished sessions in Redis, on their way to the warehouse: one server of the deployment writes at a time.

A batch is the head of the queue and has an id before anything of it is written. The server that writes after one that
died begins with the same batch under the same id, which the warehouse recognises.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import structlog

from iserver.configuration.compiled import Configuration
from iserver.errors import NotStoredError
from iserver.etl.etl import Etl
from iserver.etl.interface import Batch, WarehouseError, WarehouseWriter
from iserver.evaluation.definition import Definition
from iserver.storage.redis.client import RedisArguments
from iserver.storage.redis.scripts import BATCH, CLOSE, HOLD, PAGE, RELEASE
from iserver.storage.redis.sessions import RedisSessions
from shared.tasks import cancel_and_wait, start_task

log = structlog.get_logger("iserver.redis")

HOLD_MS = 15_000
"""After how long without a renewal another server may write."""

PAGE_SESSIONS = 512
BATCH_SESSIONS = 20_000
FLUSH_TIMEOUT_S = 120.0


class RedisFinishedQueue:
    """The queue of a deployment; a `FinishedSessionQueue`."""

    def __init__(self, sessions: RedisSessions, url: str) -> None:
        self._sessions = sessions
        self._url = url

    @property
    def definitions(self) -> Mapping[str, Definition]:
        """Every definition that sessions in a batch may refer to."""
        return self._sessions.definitions.known

    async def hold(self) -> bool:
        """Become, or stay, the server that writes; whether it is this one."""
        arguments: RedisArguments = [self._sessions.prefix, self._sessions.server_id, HOLD_MS]
        return bool(await self._sessions.client.script(HOLD, arguments))

    async def release(self) -> None:
        """Let another server write."""
        await self._sessions.client.script(RELEASE, [self._sessions.prefix, self._sessions.server_id])

    async def count(self) -> int:
        """How many sessions wait."""
        await self._sessions.poll()
        return self._sessions.waiting

    async def next_batch(self, new_id: str, limit: int) -> Batch | None:
        """The batch to write: one that was interrupted, else a new one."""
        arguments: RedisArguments = [self._sessions.prefix, self._sessions.server_id, new_id, limit]
        found = await self._sessions.client.script(BATCH, arguments)
        if not found:
            return None
        await self._sessions.definitions.load()
        return Batch(found[0].decode(), 0, int(found[1]) - 1)

    def read_batch_lines(self, batch: Batch) -> Iterator[bytes]:
        """The sessions of a batch, some in each item, one a line. Blocks: call it in a thread.

        Raises:
            WarehouseError: Redis does not answer, or another server has written the batch meanwhile.
        """
        return iter(self._read(batch))

    def _read(self, batch: Batch) -> list[bytes]:
        """Read all before any of it is used: what another server has written must not be written with other rows."""
        from redis import Redis, RedisError

        sessions: list[bytes] = []
        try:
            with Redis.from_url(self._url, socket_timeout=30) as redis:
                page = redis.register_script(PAGE.text)
                while len(sessions) <= batch.last_row:
                    last = min(batch.last_row, len(sessions) + PAGE_SESSIONS - 1)
                    rows: Any = page(args=[self._sessions.prefix, batch.id, len(sessions), last])
                    if not rows:
                        raise WarehouseError(f"batch {batch.id} was written by another server")
                    sessions += rows
        except RedisError as error:
            raise WarehouseError(f"cannot read batch {batch.id}: {error}") from error
        return sessions

    async def close_batch(self, batch: Batch) -> int:
        """Forget the sessions of a batch: they are in the warehouse."""
        sessions = int(await self._sessions.client.script(CLOSE, [self._sessions.prefix, batch.id]))
        await self._sessions.poll()
        return sessions


class SharedEtl(Etl):
    """Writes the finished sessions of a deployment when no other server does."""

    def __init__(
        self,
        queue: RedisFinishedQueue,
        open_warehouse: Callable[[], WarehouseWriter],
        *,
        clock_ms: Callable[[], int],
        new_id: Callable[[], str],
    ) -> None:
        super().__init__(queue, open_warehouse, clock_ms=clock_ms, new_id=new_id, batch_sessions=BATCH_SESSIONS)
        self._queue = queue
        self._turn = asyncio.Lock()

    async def run(self, configuration: Configuration) -> int:
        """Write everything that is finished by now, unless another server is writing."""
        async with self._turn:
            if not await self._queue.hold():
                return 0
            renewing = start_task(self._stay(), name="warehouse lease")
            try:
                return await super().run(configuration)
            finally:
                await cancel_and_wait(renewing)
                await self._queue.release()

    async def run_all(self, configuration: Configuration) -> None:
        """Write everything that is finished by now, or see another server do it.

        Raises:
            OSError: It is not written after all.
        """
        deadline = asyncio.get_running_loop().time() + FLUSH_TIMEOUT_S
        await self.run(configuration)
        while await self._queue.count():
            if asyncio.get_running_loop().time() > deadline:
                raise WarehouseError("another server is writing the warehouse and does not come to an end")
            await asyncio.sleep(0.1)
            await self.run(configuration)

    async def _stay(self) -> None:
        while True:
            await asyncio.sleep(HOLD_MS / 3000)
            try:
                await self._queue.hold()
            except NotStoredError as error:
                log.warning("cannot stay the server that writes the warehouse", reason=str(error))
