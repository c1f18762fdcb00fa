"""An asyncio client of Pegasus tables: ours, and Apache Pegasus' own.

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
import ssl
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Self

from shared.pegasus.client.connection import RpcConnections
from shared.pegasus.client.meta import MetaSession
from shared.pegasus.client.routing import RoutedTable
from shared.pegasus.wire import calls
from shared.pegasus.wire.errors import RocksdbError, RpcError
from shared.pegasus.wire.keys import decode_key, encode_key, hash_key_range, key_hash, since_epoch
from shared.pegasus.wire.structures.base import HostPort
from shared.pegasus.wire.structures.rrdb import (
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
        tls: How to speak TLS with the servers of the cluster; None does not.

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

    def __init__(
        self,
        meta_servers: Sequence[str | HostPort],
        *,
        timeout_s: float = 10.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        servers = [server if isinstance(server, HostPort) else HostPort.parse(server) for server in meta_servers]
        if not servers:
            raise ValueError("a client needs the address of at least one metaserver")
        self.timeout_s = timeout_s
        self.connections = RpcConnections(tls=tls)
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
        table = TableClient(RoutedTable(self.connections, self.meta, name, self.timeout_s))
        await table.open()
        return table


class TableClient:
    """One table; `PegasusClient.table` makes it.

    Every method raises `RpcError` when the request could not be carried out in time, and `StorageError`
    when the store declined it.
    """

    def __init__(self, routed: RoutedTable) -> None:
        self._routed = routed
        self._keyed = routed.keyed

    @property
    def partition_count(self) -> int:
        """Number of partitions."""
        return self._routed.partition_count

    async def open(self) -> None:
        """Fetch the routing again; waits while the table is being created."""
        await self._routed.open()

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
        """Values by sort key: those named, or all of the hash key; the first `max_count` of them if that is not 0.

        What a server does not answer at once, because it is too much, is asked for in parts, each as it is then.
        """
        found: dict[bytes, bytes] = {}
        left = list(sort_keys)
        while True:
            count = max_count - len(found) if max_count else 0
            request = MultiGetRequest(hash_key, left, count, 0, no_value, start_inclusive=True)
            response = await self._keyed(calls.MULTI_GET, encode_key(hash_key, b""), request)
            found.update({row.key: row.value for row in response.kvs})
            is_all = response.error != RocksdbError.INCOMPLETE
            if is_all:
                _check(response.error, "multi_get")
            if is_all or 0 < max_count <= len(found):
                return found
            if not left:
                break
            if not response.kvs:
                raise StorageError(response.error, "multi_get")
            left = left[left.index(response.kvs[-1].key) + 1 :]
            if not left:
                return found
        start = response.kvs[-1].key + b"\0" if response.kvs else b""
        async with contextlib.aclosing(self.scan(hash_key, start=start, no_value=no_value)) as rows:
            async for sort_key, value in rows:
                found[sort_key] = value
                if len(found) == max_count:
                    break
        return found

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
        app_id = self._routed.app_id
        by_partition: dict[int, list[FullKey]] = {}
        for hash_key, sort_key in keys:
            index = key_hash(encode_key(hash_key, sort_key)) % self.partition_count
            by_partition.setdefault(index, []).append(FullKey(hash_key, sort_key))
        answers = await asyncio.gather(
            *(
                self._routed.sent(calls.BATCH_GET, BatchGetRequest(wanted), index=index, app_id=app_id)
                for index, wanted in by_partition.items()
            )
        )
        found: dict[tuple[bytes, bytes], bytes] = {}
        for response in answers:
            _check(response.error, "batch_get")
            found.update({(row.hash_key, row.sort_key): row.value for row in response.data})
        return found

    async def scan(
        self,
        hash_key: bytes,
        *,
        start: bytes = b"",
        stop: bytes = b"",
        no_value: bool = False,
        batch_size: int = _SCAN_BATCH,
    ) -> AsyncGenerator[tuple[bytes, bytes], None]:
        """The (sort key, value) pairs of a hash key, in order; each page is as the server has it when it is asked for.

        Close the iterator (`contextlib.aclosing`) when leaving early, and the server forgets the scan at once.

        Args:
            start: The sort key to begin at.
            stop: The sort key to end before; empty for no end.
            no_value: Leave the values out; they are empty then.
            batch_size: How many rows a page has at most.
        """
        first, end = hash_key_range(hash_key)
        stop_key = encode_key(hash_key, stop) if stop else end
        request = GetScannerRequest(encode_key(hash_key, start), stop_key, True, False, batch_size, no_value)
        index = key_hash(first) % self.partition_count
        async with contextlib.aclosing(self._scanned(index, self._routed.app_id, request)) as rows:
            async for row in rows:
                yield decode_key(row.key)[1], row.value

    async def full_scan(self, *, batch_size: int = _SCAN_BATCH) -> AsyncGenerator[tuple[bytes, bytes, bytes], None]:
        """Every (hash key, sort key, value) of the table, one partition after the other; see `scan`."""
        app_id = self._routed.app_id
        for index in range(self.partition_count):
            request = GetScannerRequest(
                b"\x00\x00", b"\xff\xff", True, False, batch_size, full_scan=True, validate_partition_hash=True
            )
            async with contextlib.aclosing(self._scanned(index, app_id, request)) as rows:
                async for row in rows:
                    hash_key, sort_key = decode_key(row.key)
                    yield hash_key, sort_key, row.value

    async def _scanned(self, index: int, app_id: int, request: GetScannerRequest) -> AsyncGenerator[KeyValue, None]:
        response: ScanResponse = await self._routed.sent(calls.GET_SCANNER, request, index=index, app_id=app_id)
        open_id = response.context_id
        try:
            while True:
                if response.error == RocksdbError.NOT_FOUND:  # the scanner is gone: go on after the last row
                    response = await self._routed.sent(calls.GET_SCANNER, request, index=index, app_id=app_id)
                _check(response.error, "scan")
                open_id = response.context_id
                for row in response.kvs:
                    yield row
                if response.kvs:
                    request.start_key, request.start_inclusive = response.kvs[-1].key, False
                if open_id < 0:
                    return
                response = await self._routed.sent(calls.SCAN, ScanRequest(open_id), index=index, app_id=app_id)
        finally:
            if open_id >= 0:
                await self._forget_scan(index, app_id, open_id)

    async def _forget_scan(self, index: int, app_id: int, context_id: int) -> None:
        """Tell a server that a scan is not gone on with; it would find out by itself after a while."""
        with contextlib.suppress(RpcError):
            await self._routed.connections.tell(
                self._routed.primary(index), calls.CLEAR_SCANNER, context_id, app_id=app_id, partition_index=index
            )


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
