"""Requests that find whoever holds a partition, however often that changes."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

from shared.pegasus.client.connection import Call, RpcConnections
from shared.pegasus.client.meta import MetaSession
from shared.pegasus.wire.errors import ErrorCode, RpcError, UnreachableError
from shared.pegasus.wire.keys import key_hash
from shared.pegasus.wire.structures.base import HostPort
from shared.pegasus.wire.structures.layer2 import QueryCfgResponse
from shared.tasks import retrieve_exception, start_task

__all__ = ["RoutedTable"]

_MOVED = frozenset(
    {ErrorCode.ERR_INVALID_STATE, ErrorCode.ERR_OBJECT_NOT_FOUND, ErrorCode.ERR_PARENT_PARTITION_MISUSED}
)
_LATER = frozenset({ErrorCode.ERR_NOT_ENOUGH_MEMBER, ErrorCode.ERR_CAPACITY_EXCEEDED, ErrorCode.ERR_BUSY_CREATING})
_UNCERTAIN = frozenset({ErrorCode.ERR_TIMEOUT, ErrorCode.ERR_NETWORK_FAILURE, ErrorCode.ERR_SERVICE_NOT_ACTIVE})
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 1.0


class _Attempts:
    """Until when a request is repeated, and how long to pause in between."""

    def __init__(self, timeout_s: float) -> None:
        self._deadline = time.monotonic() + timeout_s
        self._pause_s = _FIRST_PAUSE_S

    @property
    def left_s(self) -> float:
        """Seconds that are left, at least one millisecond."""
        return max(0.001, self._deadline - time.monotonic())

    async def pause(self, error: RpcError) -> None:
        """Wait before the next attempt, or raise the error if there is no time for one."""
        wait_s = self._pause_s * (0.5 + random.random())
        if time.monotonic() + wait_s >= self._deadline:
            raise error
        await asyncio.sleep(wait_s)
        self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)


class RoutedTable:
    """The partitions of one table, and who holds each of them.

    Args:
        connections: Connections to replica servers.
        meta: Asked for the routing.
        name: The table's name.
        timeout_s: How long a request may take, repetitions and questions for the routing included.
    """

    def __init__(self, connections: RpcConnections, meta: MetaSession, name: str, timeout_s: float) -> None:
        self.connections = connections
        self._meta = meta
        self._name = name
        self._timeout_s = timeout_s
        self._routing = QueryCfgResponse()
        self._primaries: dict[int, HostPort] = {}
        self._fetching: asyncio.Task[QueryCfgResponse] | None = None

    @property
    def app_id(self) -> int:
        """The id of the table that has the name now."""
        return self._routing.app_id

    @property
    def partition_count(self) -> int:
        """Number of partitions."""
        return self._routing.partition_count

    async def open(self) -> None:
        """Fetch the routing; waits while the table is being created."""
        attempts = _Attempts(self._timeout_s)
        while True:
            try:
                await self._refresh(attempts.left_s)
            except RpcError as error:
                if error.code not in _LATER | _UNCERTAIN or self.connections.is_closed:
                    raise
                await attempts.pause(error)
            else:
                return

    async def _refresh(self, timeout_s: float) -> None:
        """Fetch the routing again; requests that need it at the same time share one question.

        Raises:
            RpcError: As `MetaSession.routing`, or ERR_TIMEOUT.
        """
        if self._fetching is None or self._fetching.done():
            self._fetching = start_task(self._meta.routing(self._name), name=f"routing of {self._name}")
            self._fetching.add_done_callback(retrieve_exception)
        try:
            async with asyncio.timeout(timeout_s):
                self._routing = await asyncio.shield(self._fetching)
        except TimeoutError as error:
            raise RpcError(ErrorCode.ERR_TIMEOUT, f"no metaserver said in time who holds '{self._name}'") from error
        self._primaries = {
            partition.pid.partition_index: partition.primary_node() for partition in self._routing.partitions
        }

    async def keyed(
        self,
        call: Call,
        key: bytes,
        request: Any = None,
        *,
        routed_by: bytes | None = None,
        is_idempotent: bool = True,
    ) -> Any:
        """Send a request to the partition of a key; the key itself is the request if there is no other."""
        partition_hash = key_hash(routed_by if routed_by is not None else key)
        value = key if request is None else request
        return await self.sent(call, value, partition_hash=partition_hash, is_idempotent=is_idempotent)

    async def sent(
        self,
        call: Call,
        value: Any,
        *,
        partition_hash: int = 0,
        index: int | None = None,
        app_id: int | None = None,
        is_idempotent: bool = True,
    ) -> Any:
        """Send a request to the primary of a partition, until it is carried out or declined.

        Args:
            partition_hash: The hash of a key, which says the partition; a table of the same name may come to have
                another number of them.
            index: The partition, when there is no one key. It is that of the table `app_id` and of no other.
            is_idempotent: Whether it may be carried out twice.

        Raises:
            RpcError: It was declined, or could not be carried out in time.
        """
        attempts = _Attempts(self._timeout_s)
        while True:
            routing = self._routing
            if app_id not in (None, routing.app_id):
                raise RpcError(ErrorCode.ERR_OBJECT_NOT_FOUND, f"'{self._name}' is another table now")
            at = partition_hash % routing.partition_count if index is None else index
            try:
                return await self.connections.call(
                    self.primary(at),
                    call,
                    value,
                    attempts.left_s,
                    app_id=routing.app_id,
                    partition_index=at,
                    partition_hash=partition_hash,
                )
            except RpcError as error:
                if self.connections.is_closed:
                    raise
                may_repeat = is_idempotent or isinstance(error, UnreachableError)
                if error.code not in _MOVED | _LATER and not (error.code in _UNCERTAIN and may_repeat):
                    raise
                await attempts.pause(error)
                if error.code not in _LATER:
                    await self._refresh_if_possible(attempts.left_s)

    async def _refresh_if_possible(self, timeout_s: float) -> None:
        try:
            await self._refresh(timeout_s)
        except RpcError as error:
            if error.code == ErrorCode.ERR_OBJECT_NOT_FOUND:  # the table is gone
                raise

    def primary(self, index: int) -> HostPort:
        node = self._primaries.get(index)
        if node:
            return node
        raise RpcError(ErrorCode.ERR_OBJECT_NOT_FOUND, f"partition {index} of '{self._name}' has no primary now")
