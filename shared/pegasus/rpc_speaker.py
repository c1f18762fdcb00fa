"""RPC on a connection: requests are answered as soon as their answers are there, in any order (specification §10.1).

A client that sends faster than it reads its answers, or faster than they can be made, is not read from until it
catches up.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from shared.pegasus.errors import ErrorCode, RpcError
from shared.pegasus.framing import Request, RequestReader, encode_error, encode_reply
from shared.pegasus.rpc import NO_REPLY, Pending, Rpc, Shortcut
from shared.pegasus.speaker import Carrier
from shared.pegasus.thrift import ThriftError
from shared.tasks import start_task

__all__ = ["Observer", "RpcService", "RpcSpeaker"]

log = structlog.get_logger("shared.pegasus.rpc_speaker")

MAX_IN_FLIGHT = 4096
FLUSH_BYTES = 256 * 1024

Observer = Callable[[str, int, int, int], None]
"""Told about every answered RPC: code, request bytes, reply bytes, nanoseconds from arrival to answer."""


@dataclass(frozen=True, slots=True)
class RpcService:
    """What answers RPC requests.

    Attributes:
        rpcs: What each RPC code does.
        observe: Told about every answered RPC, for metrics.
        failed: Told the code of every RPC that is answered with an error, and the error.
        shortcut: Is offered every request before the table is.
    """

    rpcs: Mapping[str, Rpc[Any, Any]]
    observe: Observer | None
    failed: Callable[[str, str], None]
    shortcut: Shortcut | None


class RpcSpeaker:
    """Answers RPC requests, each as soon as its answer is there.

    Args:
        connection: Carries requests and replies.
        service: Answers.
        flush_soon: Calls `flush` at the end of this turn of the loop.
    """

    def __init__(self, connection: Carrier, service: RpcService, flush_soon: Callable[[RpcSpeaker], None]) -> None:
        self._connection = connection
        self._reader = RequestReader()
        self._rpcs = service.rpcs
        self._observe = service.observe
        self._failed = service.failed
        self._shortcut = service.shortcut
        self._flush_soon = flush_soon
        self._waiting: deque[Request] = deque()
        self._tasks: set[asyncio.Future[Any]] = set()
        self._pending = 0
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._flushes = False

    def receive(self, data: bytes) -> None:
        if self._shortcut is not None and not (self._waiting or self._reader.is_busy):
            data = self._take(self._shortcut, data)
            if not data:
                return
        self._waiting.extend(self._reader.feed(data))
        self.proceed()

    def _take(self, shortcut: Shortcut, data: bytes) -> bytes:
        """Let the shortcut have the first requests, as many as it takes; what is left for the table."""
        position, size = 0, len(data)
        self._flushes = True
        while position < size and self._connection.can_write and len(self._tasks) + self._pending < MAX_IN_FLIGHT:
            self._pending += 1
            try:
                stop = shortcut(data, position, self)
            except Exception:  # noqa: BLE001 - the table fails too, and says so
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
        """Reply to what a shortcut took."""
        self._pending -= 1
        self._add(reply)
        if self._waiting:
            self.proceed()

    def refuse(self, code: str, seqid: int, error: Exception) -> None:
        """Reply with an error to what a shortcut took."""
        self._pending -= 1
        self._fail(Request(code, seqid, 0, 0, 0, 0, False, b"", self._connection.peer), error, 0)
        self._go_on()

    def proceed(self) -> None:
        waiting, connection = self._waiting, self._connection
        self._flushes = True
        while waiting and connection.can_write and len(self._tasks) + self._pending < MAX_IN_FLIGHT:
            self._answer(waiting.popleft())
            if self._unsent_bytes >= FLUSH_BYTES:
                self._flush()
        self._flushes = False
        self._flush()
        connection.read_on(not waiting and self._reader.error is None)
        if self.is_idle():
            self._settle()

    def _settle(self) -> None:
        if self._reader.error is not None:
            log.debug("connection closed", peer=self._connection.peer, reason=self._reader.error)
            self._connection.close()
        else:
            self._connection.settled()

    def is_idle(self) -> bool:
        return not (self._waiting or self._tasks or self._pending)

    def close(self) -> None:
        """The client is gone: what it asked for is still done, its answers go nowhere."""
        self._waiting.clear()

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
            answer = rpc.function(rpc.decode(request.arguments), request)
            if isinstance(answer, Pending):
                self._pending += 1
                answer.listener = functools.partial(self._answered, request, rpc, started)
            elif isinstance(answer, asyncio.Future):
                self._await(answer, request, rpc, started)
            elif inspect.isawaitable(answer):
                self._await(start_task(answer, name="rpc"), request, rpc, started)
            else:
                self._finish(request, rpc, answer, started)
        except Exception as error:  # noqa: BLE001 - the error boundary: a bug in one answer must not end the daemon
            self._fail(request, error, started)

    def _answered(
        self, request: Request, rpc: Rpc[Any, Any], started: int, answer: Any, error: Exception | None
    ) -> None:
        self._pending -= 1
        try:
            if error is not None:
                self._fail(request, error, started)
            else:
                self._finish(request, rpc, answer, started)
        except Exception as bug:  # noqa: BLE001 - the error boundary, as above
            self._fail(request, bug, started)
        self._go_on()

    def _go_on(self) -> None:
        if self._waiting:
            self.proceed()
        elif not (self._flushes or self._tasks or self._pending):
            self._settle()

    def _await(self, answer: asyncio.Future[Any], request: Request, rpc: Rpc[Any, Any], started: int) -> None:
        self._tasks.add(answer)

        def done(answer: asyncio.Future[Any]) -> None:
            self._tasks.discard(answer)
            try:
                self._finish(request, rpc, answer.result(), started)
            except asyncio.CancelledError:
                self._fail(request, RpcError(ErrorCode.ERR_SERVICE_NOT_ACTIVE), started)
            except Exception as error:  # noqa: BLE001 - the error boundary, as above
                self._fail(request, error, started)
            self._go_on()

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
            self._observe(request.code, len(request.arguments), len(reply), time.perf_counter_ns() - started)
        self._add(reply)

    def _add(self, reply: bytes) -> None:
        self._unsent.append(reply)
        self._unsent_bytes += len(reply)
        if not self._flushes:
            self._flushes = True
            self._flush_soon(self)

    def flush(self) -> None:
        """Send together what was answered in one turn of the loop."""
        self._flushes = False
        self._flush()
        if not (self._pending or self._waiting or self._tasks):
            self._settle()
