"""The data plane: the RPC codes with which clients read and write rows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from replicaserver.handlers import encoding
from replicaserver.partition.partition import Partition
from replicaserver.partition.write_queue import WriteOperation
from replicaserver.rows import writes
from replicaserver.rows.scans import FINISHED, Page
from replicaserver.rows.store import UnreadableError, Usage
from shared.pegasus.serving.rpc import NO_REPLY, NoReply, Rpc, rpc
from shared.pegasus.wire.errors import ErrorCode, RocksdbError, RpcError
from shared.pegasus.wire.framing import Request
from shared.pegasus.wire.keys import EPOCH
from shared.pegasus.wire.structures import rrdb
from shared.pegasus.wire.structures.base import Gpid
from shared.pegasus.wire.thrift import I64, codec_of

PREFIX = "RPC_RRDB_RRDB_"
MAX_SCANNER_BYTES = 256 * 1024
"""The longest request for a scanner, which the scanner keeps: two keys and two patterns."""


class RrdbHandlers:
    """Answers the rrdb codes for the partitions that are open.

    Args:
        partitions: The open replicas; looked up at every request.
        max_write_bytes: The longest write.
    """

    def __init__(self, partitions: Mapping[tuple[int, int], Partition], max_write_bytes: int) -> None:
        self._partitions = partitions
        self._max_write_bytes = max_write_bytes

    def rpcs(self) -> dict[str, Rpc[Any, Any]]:
        """Every data-plane code, in the order of §11."""
        return {
            PREFIX + name: function
            for name, function in {
                "PUT": self._update(rrdb.UpdateRequest, writes.put, "put"),
                "REMOVE": self._update(bytes, writes.remove, "remove"),
                "MULTI_PUT": self._write(rrdb.MultiPutRequest, rrdb.UpdateResponse, writes.multi_put, "multi_put"),
                "MULTI_REMOVE": self._write(
                    rrdb.MultiRemoveRequest, rrdb.MultiRemoveResponse, writes.multi_remove, "multi_remove"
                ),
                "INCR": self._write(rrdb.IncrRequest, rrdb.IncrResponse, writes.incr, "incr"),
                "CHECK_AND_SET": self._write(
                    rrdb.CheckAndSetRequest, rrdb.CheckAndSetResponse, writes.check_and_set, "check_and_set"
                ),
                "CHECK_AND_MUTATE": self._write(
                    rrdb.CheckAndMutateRequest,
                    rrdb.CheckAndMutateResponse,
                    writes.check_and_mutate,
                    "check_and_mutate",
                ),
                "GET": Rpc(codec_of(bytes).decode_field, _as_it_is, self.get),
                "MULTI_GET": rpc(rrdb.MultiGetRequest, rrdb.MultiGetResponse, self.multi_get),
                "BATCH_GET": rpc(rrdb.BatchGetRequest, rrdb.BatchGetResponse, self.batch_get),
                "SORTKEY_COUNT": rpc(bytes, rrdb.CountResponse, self.sortkey_count),
                "TTL": rpc(bytes, rrdb.TtlResponse, self.ttl),
                "GET_SCANNER": Rpc(
                    codec_of(rrdb.GetScannerRequest).decode_field, _as_it_is, self.get_scanner, MAX_SCANNER_BYTES
                ),
                "SCAN": Rpc(codec_of(rrdb.ScanRequest).decode_field, _as_it_is, self.scan),
                "CLEAR_SCANNER": rpc(I64, None, self.clear_scanner),
            }.items()
        }

    def _partition(self, request: Request) -> Partition:
        partition = self._partitions.get((request.app_id, request.partition_index))
        if partition is None:
            gpid = Gpid(request.app_id, request.partition_index)
            raise RpcError(ErrorCode.ERR_OBJECT_NOT_FOUND, f"no replica of {gpid} is open here")
        return partition

    def _update(self, question: Any, operation: WriteOperation, name: str) -> Rpc[Any, Any]:
        def update(value: Any, request: Request) -> Any:
            return self._partition(request).write(operation, value, request, name, shares_decree=True)

        return self._admitted(codec_of(question).decode_field, encoding.update_response, update)

    def _admitted(self, decode: Callable[[bytes], Any], encode: Callable[[Any], bytes], write: Any) -> Rpc[Any, Any]:
        """A write whose size is checked first, against the limit of the setting ``max_allowed_write_size``."""

        def admit(request: Request) -> None:
            self._partition(request).admission.check_write_size(request)

        return Rpc(decode, encode, write, self._max_write_bytes, admit)

    def _write(self, question: Any, answer: Any, operation: WriteOperation, name: str) -> Rpc[Any, Any]:
        def write(value: Any, request: Request) -> Any:
            return self._partition(request).write(operation, value, request, name, shares_decree=False)

        return self._admitted(codec_of(question).decode_field, codec_of(answer).encode_field, write)

    # -- reads --------------------------------------------------------------------------------------

    def get(self, key: bytes, request: Request) -> Any:
        """GET: the hot path, answered in one go from what RocksDB has."""
        partition = self._partitions.get((request.app_id, request.partition_index))
        if partition is None or not partition.admission.reads_plainly or request.is_backup_request:
            return self._admitted_get(key, request)
        return answer_get(partition, key)

    async def _admitted_get(self, key: bytes, request: Request) -> bytes | NoReply:
        partition = self._partition(request)
        rejection = await partition.admission.admit_read(request)
        if rejection is not None:
            return rejection
        answer = answer_get(partition, key)
        if request.is_backup_request:
            partition.metrics.counter("backup_request_bytes").value += len(key) + len(answer)
        return answer

    def multi_get(self, value: rrdb.MultiGetRequest, request: Request) -> Any:
        """MULTI_GET: rows of one hash key."""
        partition = self._partition(request)

        def read(value: rrdb.MultiGetRequest, now: int, usage: Usage) -> rrdb.MultiGetResponse:
            limits = partition.limits("rocksdb_multi_get_max_iteration_count")
            return partition.reader.multi_get(value, now, limits, usage)

        return partition.read(_checked(read, rrdb.MultiGetResponse, partition), value, request, "multi_get")

    def batch_get(self, value: rrdb.BatchGetRequest, request: Request) -> Any:
        """BATCH_GET: rows of several hash keys of one partition."""
        partition = self._partition(request)
        read = _checked(partition.reader.batch_get, rrdb.BatchGetResponse, partition)
        return partition.read(read, value, request, "batch_get")

    def ttl(self, key: bytes, request: Request) -> Any:
        """TTL: how long a row still has; counted as a GET, which has the metrics for it."""
        partition = self._partition(request)
        return partition.read(_checked(partition.reader.ttl, rrdb.TtlResponse, partition), key, request, "get")

    def sortkey_count(self, hash_key: bytes, request: Request) -> Any:
        """SORTKEY_COUNT: may read very many rows, so it counts in a worker thread."""
        partition = self._partition(request)

        def count(hash_key: bytes, now: int, usage: Usage) -> rrdb.CountResponse:
            limits = partition.limits("rocksdb_max_iteration_count")
            return partition.reader.sortkey_count(hash_key, now, limits, usage)

        def count_meanwhile(hash_key: bytes, now: int, usage: Usage) -> asyncio.Future[rrdb.CountResponse]:
            work = _checked(count, rrdb.CountResponse, partition)
            return asyncio.get_running_loop().run_in_executor(partition.context.workers, work, hash_key, now, usage)

        return partition.read(count_meanwhile, hash_key, request, "scan")

    # -- scans --------------------------------------------------------------------------------------

    def get_scanner(self, value: rrdb.GetScannerRequest, request: Request) -> Any:
        """GET_SCANNER: the first page of a scan."""
        return self._page("open", value, request)

    def scan(self, value: rrdb.ScanRequest, request: Request) -> Any:
        """SCAN: the next page of a scan."""
        return self._page("go on", value.context_id, request)

    def _page(self, name: str, value: Any, request: Request) -> Any:
        partition = self._partition(request)

        def read(value: Any, now: int, usage: Usage) -> bytes:
            try:
                page: Page = partition.page(name, value, now, usage)
            except UnreadableError as error:
                page = Page(partition.unreadable(error, usage), [], None, FINISHED, None)
            return encoding.scan_response(page, partition.who)

        return partition.read(read, value, request, "scan")

    def clear_scanner(self, context_id: int, request: Request) -> NoReply:
        """CLEAR_SCANNER: forget a scan; never answered."""
        partition = self._partitions.get((request.app_id, request.partition_index))
        if partition is not None:
            partition.scans.close(context_id)
        return NO_REPLY


def answer_get(partition: Partition, key: bytes) -> bytes:
    """The result of a GET that is admitted.

    Raises:
        RpcError: The lease of this node has ended.
    """
    lease = partition.lease
    lease.require()
    started = time.perf_counter_ns()
    usage = Usage()
    end = partition.response_end
    if not end:
        end = partition.response_end = encoding.tail(partition.who)
    try:
        data = partition.reader.live(key, int(partition.context.unix_s()) - EPOCH, usage)
    except UnreadableError as error:
        return encoding.get_response(partition.unreadable(error, usage), b"", end)
    answer = (
        encoding.get_response(RocksdbError.NOT_FOUND, b"", end) if data is None else encoding.get_response(0, data, end)
    )
    size = usage.bytes_
    partition.get_requests.value += 1
    partition.get_bytes.value += size
    partition.expired_values.value += usage.expired
    partition.read_units.value += 1 if size <= partition.read_unit else -(-size // partition.read_unit)
    partition.admission.read_bucket.consume(size)
    elapsed = time.perf_counter_ns() - started
    partition.get_latency.observe(elapsed)
    if elapsed > partition.slow_ns or size > partition.large_get:
        partition.abnormal_reads.value += 1
    lease.require()
    return answer


def _as_it_is(answer: bytes) -> bytes:
    return answer


def _checked(
    read: Callable[[Any, int, Usage], Any], response: Any, partition: Partition
) -> Callable[[Any, int, Usage], Any]:
    """A reading operation whose impossible keys are an error of the client, and whose damage is one in the response."""

    def checked(value: Any, now: int, usage: Usage) -> Any:
        try:
            return read(value, now, usage)
        except ValueError as error:
            raise RpcError(ErrorCode.ERR_INVALID_PARAMETERS, str(error)) from error
        except UnreadableError as error:
            who = partition.who
            return response(
                error=partition.unreadable(error, usage),
                app_id=who.app_id,
                partition_index=who.partition_index,
                server=who.server,
            )

    return checked
