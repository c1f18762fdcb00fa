"""RPC on a connection: requests are answered as soon as their answers are there, in any order (protocol §10.1).

A client that sends faster than it reads its answers, or faster than they can be made, is not read from until it
catches up. A request that takes long to decode, and an answer that takes long to make, are made in a worker thread.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

import structlog

from shared.pegasus.serving.deadlines import RPC_IDLE_S
from shared.pegasus.serving.protocol import ClientConnection, Load, Partial
from shared.pegasus.serving.rpc import NO_REPLY, FastPath, Offloaded, Pending, Rpc
from shared.pegasus.wire.errors import ErrorCode, RpcError
from shared.pegasus.wire.framing import SMALL_BODY_BYTES, Request, RequestReader, encode_error, encode_reply
from shared.pegasus.wire.thrift import ThriftError
from shared.tasks import start_task

__all__ = ["Observer", "RpcHandler", "RpcService"]

log = structlog.get_logger("shared.pegasus.serving.rpc_protocol")

MAX_IN_FLIGHT = 4096
FLUSH_BYTES = 256 * 1024
LARGE_BYTES = 16 * 1024
"""A request with more bytes of arguments is decoded in a worker thread: it may have thousands of items."""
MAX_WAITING_BYTES = 256 * 1024 * 1024
"""How much of the requests of all clients together may wait for an answer."""

Observer = Callable[[str, int, int, int], None]
"""Called for every answered RPC: code, request bytes, reply bytes, nanoseconds from arrival to answer."""


@dataclass(frozen=True, slots=True)
class RpcService:
    """What answers RPC requests.

    Attributes:
        rpcs: What each RPC code does.
        observe: Called for every answered RPC, for metrics.
        failed: Called with the code and the error name of every RPC that is answered with an error.
        fast_path: Tried for every request before the table.
        workers: Decode large requests, and make large answers.
        load: What all connections hold.
    """

    rpcs: Mapping[str, Rpc[Any, Any]]
    observe: Observer | None
    failed: Callable[[str, str], None]
    fast_path: FastPath | None
    workers: Executor
    load: Load = field(default_factory=Load)

    def limit_of(self, code: str) -> int:
        """The longest request of a code, in bytes."""
        found = self.rpcs.get(code)
        return SMALL_BODY_BYTES if found is None else found.max_bytes


class RpcHandler:
    """Answers RPC requests, each as soon as its answer is there.

    Args:
        connection: Carries requests and replies.
        service: Answers.
        flush_soon: Calls `flush` at the end of this iteration of the event loop.
    """

    def __init__(
        self, connection: ClientConnection, service: RpcService, flush_soon: Callable[[RpcHandler], None]
    ) -> None:
        self._connection = connection
        self._load = service.load
        self._workers = service.workers
        self._partial = Partial(service.load)
        self._reader = RequestReader(service.limit_of)
        self._rpcs = service.rpcs
        self._observe = service.observe
        self._failed = service.failed
        self._fast_path = service.fast_path
        self._flush_soon = flush_soon
        self._waiting: deque[Request] = deque()
        self._tasks: set[asyncio.Future[Any]] = set()
        self._pending = 0
        self._is_occupied = False
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._flushes = False

    def receive(self, data: bytes) -> None:
        if self._fast_path is not None and not (self._waiting or self._is_occupied or self._reader.is_busy):
            data = self._take(self._fast_path, data)
            if not data:
                return
        self._waiting.extend(self._reader.feed(data))
        if self._partial.is_too_much(self._reader.buffered_bytes):
            log.warning("connection closed", peer=self._connection.peer, reason="too many large requests at a time")
            self._connection.close()
        self.proceed()

    def _take(self, fast_path: FastPath, data: bytes) -> bytes:
        """Offer the first requests to the fast path; return the bytes that are left for the table."""
        position, size = 0, len(data)
        self._flushes = True
        while position < size and self._connection.can_write and len(self._tasks) + self._pending < MAX_IN_FLIGHT:
            self._pending += 1
            try:
                stop = fast_path(data, position, self)
            except Exception:  # noqa: BLE001 - the table reports the error
                stop = 0
            if not stop:
                self._pending -= 1
                break
            position = stop
            if self._unsent_bytes >= FLUSH_BYTES:
                self._flush()
        self._flushes = False
        if self._unsent:
            self._flush()
        return data[position:] if position < size else b""

    def answer(self, reply: bytes) -> None:
        """Reply to a request that the fast path accepted."""
        self._pending -= 1
        self._add(reply)
        if self._waiting:
            self.proceed()

    def reject(self, code: str, seqid: int, error: Exception) -> None:
        """Reply with an error to a request that the fast path accepted."""
        self._pending -= 1
        self._fail(Request(code, seqid, 0, 0, 0, 0, False, b"", self._connection.peer), error, 0)
        self._continue()

    def proceed(self) -> None:
        waiting, connection = self._waiting, self._connection
        self._flushes = True
        while waiting and self._accepts_more():
            self._answer(waiting.popleft())
            if self._unsent_bytes >= FLUSH_BYTES:
                self._flush()
        self._flushes = False
        self._flush()
        connection.set_reading(not waiting and self._reader.error is None)
        if self.is_idle():
            self._check_end()

    def _accepts_more(self) -> bool:
        is_full = len(self._tasks) + self._pending >= MAX_IN_FLIGHT
        return self._connection.can_write and not (self._is_occupied or is_full)

    def _check_end(self) -> None:
        if self._reader.error is not None:
            log.debug("connection closed", peer=self._connection.peer, reason=self._reader.error)
            self._connection.close()
        else:
            self._connection.all_answered()

    def is_idle(self) -> bool:
        return not (self._waiting or self._tasks or self._pending or self._is_occupied)

    def ended(self) -> bool:
        """Requests received so far are still answered."""
        return not self.is_idle()

    def pause(self) -> None:
        """`proceed` begins no request while the connection cannot write."""

    def close(self) -> None:
        """The client is gone: requests under way complete, and their answers are dropped."""
        self._waiting.clear()
        self._partial.is_too_much(0)

    idle_s = RPC_IDLE_S

    def is_partial(self) -> bool:
        return self._reader.is_busy

    def requests(self) -> int:
        return self._reader.taken

    def _flush(self) -> None:
        unsent = self._unsent
        if unsent:
            self._connection.write(unsent[0] if len(unsent) == 1 else b"".join(unsent))
            unsent.clear()
            self._unsent_bytes = 0

    def _answer(self, request: Request) -> None:
        started = time.perf_counter_ns() if self._observe is not None else 0
        rpc = self._rpcs.get(request.code)
        if rpc is None:
            self._send(request, encode_error(request.code, request.seqid, ErrorCode.ERR_HANDLER_NOT_FOUND), started)
            return
        request.peer = self._connection.peer
        try:
            if self._load.waiting_bytes > MAX_WAITING_BYTES:
                raise RpcError(ErrorCode.ERR_BUSY, f"requests of {MAX_WAITING_BYTES} bytes are waiting for answers")
            if request.size > LARGE_BYTES:
                self._answer_large(request, rpc, started)
            else:
                self._take_answer(rpc.function(rpc.decode(request.arguments), request), request, rpc, started)
        except Exception as error:  # noqa: BLE001 - the error boundary: a bug in one answer must not end the daemon
            self._fail(request, error, started)

    def _answer_large(self, request: Request, rpc: Rpc[Any, Any], started: int) -> None:
        """Decide by its size whether a request is taken, and decode it in a worker thread."""
        rpc.admit(request)
        if request.dropped_bytes:
            reason = f"a request of {request.dropped_bytes} bytes, at most {rpc.max_bytes} are taken"
            raise RpcError(ErrorCode.ERR_INVALID_DATA, reason)

        def carry_out(value: Any) -> None:
            self._take_answer(rpc.function(value, request), request, rpc, started)

        self._offload(functools.partial(rpc.decode, request.arguments), carry_out, request, started)

    def _take_answer(self, answer: Any, request: Request, rpc: Rpc[Any, Any], started: int) -> None:
        """Send an answer, now or when it is there."""
        if isinstance(answer, Pending):
            self._hold(request)
            self._pending += 1
            answer.listener = functools.partial(self._answered, request, rpc, started)
        elif isinstance(answer, Offloaded):
            assert rpc.encode is not None
            encode, work = rpc.encode, answer.work

            def send(result: bytes) -> None:
                self._send(request, encode_reply(request.code, request.seqid, result), started)

            self._offload(lambda: encode(work()), send, request, started)
        elif isinstance(answer, asyncio.Future):
            self._await(answer, request, rpc, started)
        elif inspect.isawaitable(answer):
            self._await(start_task(answer, name="rpc"), request, rpc, started)
        else:
            self._finish(request, rpc, answer, started)

    def _offload(self, work: Callable[[], Any], then: Callable[[Any], None], request: Request, started: int) -> None:
        """Do something in a worker thread and go on with what it returns; nothing else is answered meanwhile."""
        working = asyncio.get_running_loop().run_in_executor(self._workers, work)
        self._hold(request)
        self._is_occupied = True

        def done(working: asyncio.Future[Any]) -> None:
            self._release(request)
            self._is_occupied = False
            try:
                then(working.result())
            except asyncio.CancelledError:
                self._fail(request, RpcError(ErrorCode.ERR_SERVICE_NOT_ACTIVE), started)
            except Exception as error:  # noqa: BLE001 - the error boundary, as above
                self._fail(request, error, started)
            self._continue()

        working.add_done_callback(done)

    def _hold(self, request: Request) -> None:
        """Count a request that waits for its answer."""
        self._load.waiting_bytes += len(request.arguments)

    def _release(self, request: Request) -> None:
        self._load.waiting_bytes -= len(request.arguments)

    def _answered(
        self, request: Request, rpc: Rpc[Any, Any], started: int, answer: Any, error: Exception | None
    ) -> None:
        self._release(request)
        self._pending -= 1
        try:
            if error is not None:
                self._fail(request, error, started)
            else:
                self._finish(request, rpc, answer, started)
        except Exception as bug:  # noqa: BLE001 - the error boundary, as above
            self._fail(request, bug, started)
        self._continue()

    def _continue(self) -> None:
        if self._waiting:
            self.proceed()
        elif self.is_idle() and not self._flushes:
            self._check_end()

    def _await(self, answer: asyncio.Future[Any], request: Request, rpc: Rpc[Any, Any], started: int) -> None:
        self._hold(request)
        self._tasks.add(answer)

        def done(answer: asyncio.Future[Any]) -> None:
            self._release(request)
            self._tasks.discard(answer)
            try:
                self._finish(request, rpc, answer.result(), started)
            except asyncio.CancelledError:
                self._fail(request, RpcError(ErrorCode.ERR_SERVICE_NOT_ACTIVE), started)
            except Exception as error:  # noqa: BLE001 - the error boundary, as above
                self._fail(request, error, started)
            self._continue()

        answer.add_done_callback(done)

    def _finish(self, request: Request, rpc: Rpc[Any, Any], answer: Any, started: int) -> None:
        if rpc.encode is None or answer is NO_REPLY:
            return
        self._send(request, encode_reply(request.code, request.seqid, rpc.encode(answer)), started)

    def _fail(self, request: Request, error: Exception, started: int) -> None:
        if isinstance(error, RpcError):
            name = error.code
        elif isinstance(error, ThriftError):
            log.info("unreadable request", peer=request.peer, code=request.code, reason=str(error))
            name = ErrorCode.ERR_INVALID_DATA
        else:
            log.error("an RPC failed", peer=request.peer, code=request.code, exc_info=error)
            name = ErrorCode.ERR_UNKNOWN
        self._failed(request.code, name)
        rpc = self._rpcs[request.code]
        if rpc.encode is not None:
            self._send(request, encode_error(request.code, request.seqid, name), started)

    def _send(self, request: Request, reply: bytes, started: int) -> None:
        if self._observe is not None:
            self._observe(request.code, request.size, len(reply), time.perf_counter_ns() - started)
        self._add(reply)

    def _add(self, reply: bytes) -> None:
        self._unsent.append(reply)
        self._unsent_bytes += len(reply)
        if not self._flushes:
            self._flushes = True
            self._flush_soon(self)

    def flush(self) -> None:
        """Send the answers of one iteration of the event loop together."""
        self._flushes = False
        self._flush()
        if self.is_idle():
            self._check_end()
