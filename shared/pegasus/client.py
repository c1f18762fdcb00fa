"""An asyncio client of Pegasus tables: ours, and Apache Pegasus' own (specification §10, §11).

::

    async with PegasusClient(["127.0.0.1:34601"]) as client:
        table = await client.table("temp")
        await table.put(b"user-1", b"name", b"Ada", ttl_s=3600)
        print(await table.get(b"user-1", b"name"))
        async for sort_key, value in table.scan(b"user-1"):
            ...

A table remembers who holds its partitions. When a replica server answers that it is not (or no longer)
the one to ask, or cannot be reached, the routing is fetched again and the request repeated until the
client's timeout has passed. A request that is not idempotent (`incr`, `check_and_set`, `check_and_mutate`)
is repeated only when it is certain that it was not carried out.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Self

from shared.pegasus import calls
from shared.pegasus.connection import Call, RpcConnections
from shared.pegasus.errors import ErrorCode, RocksdbError, RpcError, UnreachableError
from shared.pegasus.keys import decode_key, encode_key, hash_key_range, key_hash, since_epoch
from shared.pegasus.meta_session import MetaSession
from shared.pegasus.structures.base import HostPort
from shared.pegasus.structures.layer2 import QueryCfgResponse
from shared.pegasus.structures.rrdb import (
    BatchGetRequest,
    CheckAndMutateRequest,
    CheckAndMutateResponse,
    CheckAndSetRequest,
    CheckAndSetResponse,
    FullKey,
    GetScannerRequest,
    IncrRequest,
    KeyValue,
    MultiGetRequest,
    MultiPutRequest,
    MultiRemoveRequest,
    ScanRequest,
    ScanResponse,
    UpdateRequest,
)

__all__ = ["PegasusClient", "StorageError", "TableClient"]

_MOVED = frozenset(
    {ErrorCode.ERR_INVALID_STATE, ErrorCode.ERR_OBJECT_NOT_FOUND, ErrorCode.ERR_PARENT_PARTITION_MISUSED}
)
_LATER = frozenset({ErrorCode.ERR_NOT_ENOUGH_MEMBER, ErrorCode.ERR_CAPACITY_EXCEEDED, ErrorCode.ERR_BUSY_CREATING})
_UNCERTAIN = frozenset({ErrorCode.ERR_TIMEOUT, ErrorCode.ERR_NETWORK_FAILURE, ErrorCode.ERR_SERVICE_NOT_ACTIVE})
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 1.0
_SCAN_BATCH = 1000


class StorageError(Exception):
    """A request that the store declined.

    Attributes:
        error: What it answered.
    """

    def __init__(self, error: int, message: str) -> None:
        super().__init__(f"{message}: {RocksdbError(error).name if error in list(RocksdbError) else error}")
        self.error = error


class PegasusClient:
    """A client of one cluster.

    Args:
        meta_servers: Addresses of its metaservers, `host:port`.
        timeout_s: How long a request may take, repetitions and questions for the routing included.

    A request goes to the server that the routing names. It is sent again, until the time is up, when that server

    - says that it is not the one to ask: the routing is asked for first;
    - says that it cannot take it now: too few members, too many writes waiting, the table is being created;
    - cannot be reached, so that nothing was sent: the routing is asked for first;
    - lets the connection break before it answers, or is shutting down. Nobody knows then whether the request was
      carried out, and `incr`, `check_and_set` and `check_and_mutate`, which would do something else the second time,
      raise the error instead. A host that is gone without a word is noticed within `connection.DEAD_HOST_S` seconds.

    Whoever cancels a request gives up its answer; a write may be carried out all the same. After `close` every request
    raises ERR_NETWORK_FAILURE.
    """

    def __init__(self, meta_servers: Sequence[str | HostPort], *, timeout_s: float = 10.0) -> None:
        servers = [server if isinstance(server, HostPort) else HostPort.parse(server) for server in meta_servers]
        if not servers:
            raise ValueError("a client needs the address of at least one metaserver")
        self.timeout_s = timeout_s
        self.connections = RpcConnections()
        self.meta = MetaSession(servers, self.connections, min(timeout_s, 5.0))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self.connections.close()

    async def table(self, name: str) -> TableClient:
        """Open a table; waits while it is being created.

        Raises:
            RpcError: ERR_OBJECT_NOT_FOUND when there is no such table, or no metaserver answers.
        """
        table = TableClient(self, name)
        await table.open()
        return table


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


class TableClient:
    """One table; `PegasusClient.table` makes it.

    Every method raises `RpcError` when the request could not be carried out in time, and `StorageError`
    when the store declined it.
    """

    def __init__(self, client: PegasusClient, name: str) -> None:
        self._client = client
        self._name = name
        self._routing = QueryCfgResponse()
        self._primaries: dict[int, HostPort] = {}
        self._fetching: asyncio.Task[QueryCfgResponse] | None = None

    @property
    def partition_count(self) -> int:
        """Number of partitions."""
        return self._routing.partition_count

    # one value

    async def get(self, hash_key: bytes, sort_key: bytes = b"") -> bytes | None:
        """The value, None when there is none."""
        response = await self._keyed(calls.GET, encode_key(hash_key, sort_key))
        return None if _is_absent(response.error, "get") else response.value

    async def put(self, hash_key: bytes, sort_key: bytes, value: bytes, *, ttl_s: int = 0) -> None:
        """Store a value; it expires after `ttl_s` seconds, 0 for never."""
        key = encode_key(hash_key, sort_key)
        response = await self._keyed(calls.PUT, key, UpdateRequest(key, value, _expiry(ttl_s)))
        _check(response.error, "put")

    async def remove(self, hash_key: bytes, sort_key: bytes = b"") -> None:
        """Remove a value, whether or not it is there."""
        response = await self._keyed(calls.REMOVE, encode_key(hash_key, sort_key))
        _check(response.error, "remove")

    async def exists(self, hash_key: bytes, sort_key: bytes = b"") -> bool:
        """Whether there is a value."""
        return await self.ttl(hash_key, sort_key) is not None

    async def ttl(self, hash_key: bytes, sort_key: bytes = b"") -> int | None:
        """Seconds until the value expires, -1 for never, None when there is none."""
        response = await self._keyed(calls.TTL, encode_key(hash_key, sort_key))
        return None if _is_absent(response.error, "ttl") else response.ttl_seconds

    async def incr(self, hash_key: bytes, sort_key: bytes, increment: int, *, ttl_s: int = 0) -> int:
        """Add to a decimal number, 0 when there is none, and return the sum.

        Args:
            ttl_s: New time to live; 0 keeps the old, negative removes it.
        """
        key = encode_key(hash_key, sort_key)
        request = IncrRequest(key, increment, ttl_s if ttl_s < 0 else _expiry(ttl_s))
        response = await self._keyed(calls.INCR, key, request, is_idempotent=False)
        _check(response.error, "incr")
        value: int = response.new_value
        return value

    # many values of one hash key

    async def multi_get(
        self, hash_key: bytes, sort_keys: Sequence[bytes] = (), *, max_count: int = 0, no_value: bool = False
    ) -> dict[bytes, bytes]:
        """Values by sort key: those named, or all of the hash key up to the limits of the server."""
        request = MultiGetRequest(hash_key, sort_keys, max_count, 0, no_value, start_inclusive=True)
        response = await self._keyed(calls.MULTI_GET, encode_key(hash_key, b""), request)
        if response.error != RocksdbError.INCOMPLETE:
            _check(response.error, "multi_get")
        return {row.key: row.value for row in response.kvs}

    async def multi_put(self, hash_key: bytes, values: Mapping[bytes, bytes], *, ttl_s: int = 0) -> None:
        """Store values by sort key, all or none."""
        rows = [KeyValue(sort_key, value) for sort_key, value in values.items()]
        request = MultiPutRequest(hash_key, rows, _expiry(ttl_s))
        response = await self._keyed(calls.MULTI_PUT, encode_key(hash_key, b""), request)
        _check(response.error, "multi_put")

    async def multi_remove(self, hash_key: bytes, sort_keys: Sequence[bytes]) -> int:
        """Remove values by sort key, all or none, and return how many were named."""
        request = MultiRemoveRequest(hash_key, sort_keys, len(sort_keys))
        response = await self._keyed(calls.MULTI_REMOVE, encode_key(hash_key, b""), request)
        _check(response.error, "multi_remove")
        count: int = response.count
        return count

    async def sortkey_count(self, hash_key: bytes) -> int:
        """Number of values of a hash key, -1 when counting took the server too long."""
        response = await self._keyed(calls.SORTKEY_COUNT, hash_key, routed_by=encode_key(hash_key, b""))
        _check(response.error, "sortkey_count")
        count: int = response.count
        return count

    async def check_and_set(self, request: CheckAndSetRequest) -> CheckAndSetResponse:
        """Set a value if another one is as expected; `error` 13 in the response says that it is not."""
        key = encode_key(request.hash_key, b"")
        response: CheckAndSetResponse = await self._keyed(calls.CHECK_AND_SET, key, request, is_idempotent=False)
        if response.error != RocksdbError.TRY_AGAIN:
            _check(response.error, "check_and_set")
        return response

    async def check_and_mutate(self, request: CheckAndMutateRequest) -> CheckAndMutateResponse:
        """Change several values if one is as expected; `error` 13 in the response says that it is not."""
        key = encode_key(request.hash_key, b"")
        response: CheckAndMutateResponse = await self._keyed(calls.CHECK_AND_MUTATE, key, request, is_idempotent=False)
        if response.error != RocksdbError.TRY_AGAIN:
            _check(response.error, "check_and_mutate")
        return response

    # values anywhere

    async def batch_get(self, keys: Sequence[tuple[bytes, bytes]]) -> dict[tuple[bytes, bytes], bytes]:
        """Values by (hash key, sort key), those that exist; one request for each partition concerned."""
        app_id = self._routing.app_id
        by_partition: dict[int, list[FullKey]] = {}
        for hash_key, sort_key in keys:
            index = key_hash(encode_key(hash_key, sort_key)) % self.partition_count
            by_partition.setdefault(index, []).append(FullKey(hash_key, sort_key))
        answers = await asyncio.gather(
            *(
                self._sent(calls.BATCH_GET, BatchGetRequest(wanted), index=index, app_id=app_id)
                for index, wanted in by_partition.items()
            )
        )
        found: dict[tuple[bytes, bytes], bytes] = {}
        for response in answers:
            _check(response.error, "batch_get")
            found.update({(row.hash_key, row.sort_key): row.value for row in response.data})
        return found

    async def scan(
        self, hash_key: bytes, *, batch_size: int = _SCAN_BATCH
    ) -> AsyncGenerator[tuple[bytes, bytes], None]:
        """The (sort key, value) pairs of a hash key, in order; each page is as the server has it when it is asked for.

        Close the iterator (`contextlib.aclosing`) when leaving early, and the server forgets the scan at once.
        """
        start, stop = hash_key_range(hash_key)
        request = GetScannerRequest(start, stop, True, False, batch_size)
        index = key_hash(start) % self.partition_count
        async with contextlib.aclosing(self._scanned(index, self._routing.app_id, request)) as rows:
            async for row in rows:
                yield decode_key(row.key)[1], row.value

    async def full_scan(self, *, batch_size: int = _SCAN_BATCH) -> AsyncGenerator[tuple[bytes, bytes, bytes], None]:
        """Every (hash key, sort key, value) of the table, one partition after the other; see `scan`."""
        app_id = self._routing.app_id
        for index in range(self.partition_count):
            request = GetScannerRequest(
                b"\x00\x00", b"\xff\xff", True, False, batch_size, full_scan=True, validate_partition_hash=True
            )
            async with contextlib.aclosing(self._scanned(index, app_id, request)) as rows:
                async for row in rows:
                    hash_key, sort_key = decode_key(row.key)
                    yield hash_key, sort_key, row.value

    async def _scanned(self, index: int, app_id: int, request: GetScannerRequest) -> AsyncGenerator[KeyValue, None]:
        response: ScanResponse = await self._sent(calls.GET_SCANNER, request, index=index, app_id=app_id)
        open_id = response.context_id
        try:
            while True:
                if response.error == RocksdbError.NOT_FOUND:  # the scanner is gone: go on after the last row
                    response = await self._sent(calls.GET_SCANNER, request, index=index, app_id=app_id)
                _check(response.error, "scan")
                open_id = response.context_id
                for row in response.kvs:
                    yield row
                if response.kvs:
                    request.start_key, request.start_inclusive = response.kvs[-1].key, False
                if open_id < 0:
                    return
                response = await self._sent(calls.SCAN, ScanRequest(open_id), index=index, app_id=app_id)
        finally:
            if open_id >= 0:
                await self._forget_scan(index, app_id, open_id)

    async def _forget_scan(self, index: int, app_id: int, context_id: int) -> None:
        """Tell a server that a scan is not gone on with; it would find out by itself after a while."""
        with contextlib.suppress(RpcError):
            await self._client.connections.tell(
                self._primary(index), calls.CLEAR_SCANNER, context_id, app_id=app_id, partition_index=index
            )

    # routing

    async def open(self) -> None:
        """Fetch the routing; waits while the table is being created."""
        attempts = _Attempts(self._client.timeout_s)
        while True:
            try:
                await self._refresh(attempts.left_s)
            except RpcError as error:
                if error.code not in _LATER | _UNCERTAIN or self._client.connections.is_closed:
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
            self._fetching = asyncio.ensure_future(self._client.meta.routing(self._name))
            self._fetching.add_done_callback(_seen)
        try:
            async with asyncio.timeout(timeout_s):
                self._routing = await asyncio.shield(self._fetching)
        except TimeoutError as error:
            raise RpcError(ErrorCode.ERR_TIMEOUT, f"no metaserver said in time who holds '{self._name}'") from error
        self._primaries = {
            partition.pid.partition_index: partition.primary_node() for partition in self._routing.partitions
        }

    async def _keyed(
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
        return await self._sent(call, value, partition_hash=partition_hash, is_idempotent=is_idempotent)

    async def _sent(
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
        """
        attempts = _Attempts(self._client.timeout_s)
        while True:
            routing = self._routing
            if app_id not in (None, routing.app_id):
                raise RpcError(ErrorCode.ERR_OBJECT_NOT_FOUND, f"'{self._name}' is another table now")
            at = partition_hash % routing.partition_count if index is None else index
            try:
                return await self._client.connections.call(
                    self._primary(at),
                    call,
                    value,
                    attempts.left_s,
                    app_id=routing.app_id,
                    partition_index=at,
                    partition_hash=partition_hash,
                )
            except RpcError as error:
                if self._client.connections.is_closed:
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

    def _primary(self, index: int) -> HostPort:
        node = self._primaries.get(index)
        if node:
            return node
        raise RpcError(ErrorCode.ERR_OBJECT_NOT_FOUND, f"partition {index} of '{self._name}' has no primary now")


def _seen(fetching: asyncio.Task[QueryCfgResponse]) -> None:
    """Note that a question failed, also when all who wanted its answer have gone."""
    if not fetching.cancelled():
        fetching.exception()


def _expiry(ttl_s: int) -> int:
    """A time to live as the point in time that travels (§10.8)."""
    return since_epoch(time.time()) + ttl_s if ttl_s > 0 else 0


def _check(error: int, operation: str) -> None:
    if error != RocksdbError.OK:
        raise StorageError(error, operation)


def _is_absent(error: int, operation: str) -> bool:
    if error == RocksdbError.NOT_FOUND:
        return True
    _check(error, operation)
    return False
