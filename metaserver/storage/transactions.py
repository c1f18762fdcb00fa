"""Group commit of decisions: each is made on what those before it have decided, several share one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import structlog

from metaserver.cluster.metadata import Change, Metadata, Rejected
from metaserver.storage import MetadataStore, StoreError
from shared.pegasus.wire.errors import ErrorCode
from shared.tasks import start_task

__all__ = ["Decide", "Transactions"]

log = structlog.get_logger("metaserver")

R = TypeVar("R")
Decide = Callable[[Metadata], tuple[Change, R]]
"""Looks at the metadata and returns a change with the answer to give, or raises `Rejected`."""


class Transactions:
    """Makes decisions one after the other; those that arrive while a transaction is under way share the next one.

    Args:
        store: Makes changes durable.
        metadata: Returns the metadata that is visible now.
        apply: Makes a durable change visible.
    """

    def __init__(self, store: MetadataStore, metadata: Callable[[], Metadata], apply: Callable[[Change], None]) -> None:
        self._store = store
        self._metadata = metadata
        self._apply = apply
        self._waiting: list[tuple[Decide[Any], asyncio.Future[Any]]] = []
        self._task: asyncio.Task[None] | None = None

    async def run(self, decide: Decide[R]) -> R:
        """Carry out one decision: durable first, visible after.

        Raises:
            Rejected: As decided, or ERR_DISK_IO_ERROR when the change cannot be stored; then nothing has changed.
        """
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((decide, answer))
        if self._task is None or self._task.done():
            self._task = start_task(self._run_all(), name="metadata changes")
        return await answer

    async def settled(self) -> None:
        """Wait until every decision is answered."""
        if self._task is not None:
            await self._task

    async def _run_all(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            await self._run(waiting)

    async def _run(self, waiting: Sequence[tuple[Decide[Any], asyncio.Future[Any]]]) -> None:
        draft, merged = self._metadata().copy(), Change()
        decided: list[tuple[asyncio.Future[Any], Any]] = []
        for decide, answer in waiting:
            try:
                change, result = decide(draft)
            except Exception as error:  # noqa: BLE001 - raised where the decision was requested
                _answer(answer, error=error)
                continue
            draft.apply(change)
            merged = merged.then(change)
            decided.append((answer, result))
        failure: Exception | None = None
        if merged:
            try:
                await self._commit(merged)
            except Exception as error:  # noqa: BLE001 - as above
                failure = error
        for answer, result in decided:
            _answer(answer, result, failure)

    async def _commit(self, change: Change) -> None:
        try:
            await self._store.commit(change)
        except StoreError as error:
            log.error("a change cannot be stored", reason=str(error))
            raise Rejected(ErrorCode.ERR_DISK_IO_ERROR, f"cannot be stored: {error}") from error
        self._apply(change)


def _answer(answer: asyncio.Future[Any], result: Any = None, error: Exception | None = None) -> None:
    """Answer a request that still waits."""
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)
