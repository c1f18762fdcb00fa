"""One connection on the fast path (`shared.http.fast_path`), from its first byte until it closes or is handed over."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, cast

from shared.errors import Problem
from shared.http.app import too_slow
from shared.http.fast_routes import HotQuery, HotRoute, Later, NotExpress
from shared.http.lifecycle import Answer, sane_request_id
from shared.http.request_head import MAX_HEAD_BYTES, HotHead
from shared.tasks import start_task

if TYPE_CHECKING:
    from shared.http.fast_path import ExpressLane

_END = b"\r\n\r\n"


class Connection(asyncio.Protocol):
    """One client in the lane; at most one of its requests is under way."""

    __slots__ = (
        *("_lane", "_loop", "_transport", "_waiting", "_head", "_request", "_answer", "_task", "_started_s"),
        *("_can_write", "_reads", "_patience", "_unfinished", "_keep_alive", "_drained"),
    )

    def __init__(self, lane: ExpressLane) -> None:
        self._lane = lane
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiting = b""
        self._head: HotHead[HotRoute | HotQuery] | None = None  # of the request under way
        self._request = b""  # all of it, while it may still go to aiohttp
        self._task: asyncio.Future[Any] | None = None
        self._answer: Answer | None = None
        self._started_s = time.perf_counter()
        self._can_write = True
        self._reads = True
        self._patience: asyncio.TimerHandle | None = None  # of an incomplete request
        self._unfinished: HotHead[HotRoute | HotQuery] | None = None  # its head, when only the body is incomplete
        self._keep_alive: asyncio.TimerHandle | None = None
        self._drained: asyncio.Future[None] | None = None

    # --- asyncio calls these ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        accepted = transport.get_extra_info("socket")
        if accepted is not None:
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if self._lane.is_draining:  # it was accepted in the last moment
            self.close()
            return
        self._lane.connections.add(self)
        self._keep_alive = self._loop.call_later(self._lane.keep_alive_s, self._close_when_idle)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._leave()
        self._transport = None
        self._waiting = self._request = b""
        if self._task is not None and self._lane.handler_cancellation:
            self._task.cancel()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._waiting = self._waiting + data if self._waiting else data
        if self._head is None and self._can_write:
            self._proceed()
        elif len(self._waiting) > self._lane.max_waiting_bytes:
            self._read_on(False)

    def pause_writing(self) -> None:
        self._can_write = False

    def resume_writing(self) -> None:
        self._can_write = True
        if self._head is None:
            self._proceed()

    # --- requests ---------------------------------------------------------------------------------

    def _proceed(self) -> None:
        """Answer what is complete, as long as the client reads the answers."""
        heads = self._lane.heads
        while self._waiting and self._head is None and self._can_write and self._transport is not None:
            waiting = self._waiting
            head_end = waiting.find(_END, 0, MAX_HEAD_BYTES)
            if head_end < 0:
                if heads.may_become_plain(waiting):
                    self._wait()
                else:
                    self._hand_over()
                return
            head = heads.read(waiting[:head_end])
            if head is None:
                self._hand_over()
                return
            begin = head_end + len(_END)
            end = begin + head.body_bytes
            if len(waiting) < end:
                self._wait_for_body(head)
                return
            self._request, self._waiting = waiting[:end], waiting[end:]
            self._begin(head, waiting[begin:end])
        if not self._reads:
            self._read_on(True)

    def _begin(self, head: HotHead[HotRoute | HotQuery], body: bytes) -> None:
        if self._patience is not None:
            self._wait_no_more()
        self._head = head
        self._started_s = time.perf_counter()
        route = head.route
        try:
            if isinstance(route, HotRoute):
                answer = route.handler(body, head.headers)
            else:
                answer = route.handler(head.query, head.headers)
        except Exception as error:  # noqa: BLE001 - the error boundary: a bug becomes an answer
            self._fail(error)
            return
        if type(answer) is Answer:
            self._send(answer)
        elif type(answer) is Later:
            self._answer = answer.answer
            self._await(answer.after)
        else:
            self._await(cast(Awaitable[Answer], answer))

    def _await(self, awaited: Awaitable[object]) -> None:
        self._task = start_task(awaited, name="request")
        self._task.add_done_callback(self._end)

    def _end(self, done: asyncio.Future[Any]) -> None:
        """The answer that was awaited is there, or what must be done before it."""
        self._task = None
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        if error is None:
            answer, self._answer = self._answer, None
            self._send(answer or done.result())
        elif isinstance(error, Exception):
            self._answer = None
            self._fail(error)
        else:  # the process ends
            self.abort()
            return
        if self._waiting:
            self._proceed()

    def _fail(self, error: Exception) -> None:
        assert self._head is not None
        if isinstance(error, NotExpress):
            if self._drained is None:
                self._decline()
                return
            error = Problem(503, "the server is stopping", headers={"Retry-After": "1"})
        request_id = sane_request_id(self._head.headers.get("X-Request-Id"))
        problem = self._lane.manners.problem(error, self._head.route.path, request_id)
        answer = self._lane.error_answer(problem, self._head.headers)
        headers = {**answer.headers, "X-Request-Id": request_id}
        self._send(Answer(answer.body, headers, answer.status, answer.reason), request_id)

    def _decline(self) -> None:
        """Give the request under way to aiohttp, and the connection with it."""
        self._head = None
        self._hand_over(self._request)
        self._request = b""

    def _send(self, answer: Answer, request_id: str | None = None) -> None:
        head, self._head = self._head, None
        assert head is not None
        self._request = b""
        path, headers = head.route.path, head.headers
        self._lane.manners.ended(
            path,
            head.route.method,
            path,
            answer.status,
            self._started_s,
            lambda: request_id or sane_request_id(headers.get("X-Request-Id")),
        )
        if self._transport is None:  # the client went away
            return
        for piece in self._lane.encoder.encode(answer, headers.get("Origin")):
            self._transport.write(piece)
        if self._drained is not None:
            self._waiting = b""
            self.close()

    # --- waiting, and leaving ---------------------------------------------------------------------

    def _wait(self) -> None:
        """Wait for the rest of a head, but not for long."""
        if self._patience is None:
            self._patience = self._loop.call_later(self._lane.patience_s, self._hand_over)
        if not self._reads:
            self._read_on(True)

    def _wait_for_body(self, head: HotHead[HotRoute | HotQuery]) -> None:
        """Wait for the rest of a body, as long as aiohttp's handlers do."""
        if self._unfinished is None:
            self._wait_no_more()
            self._unfinished = head
            lane = self._lane
            wait_s = lane.body_timeout_s if self._drained is None else lane.patience_s
            self._patience = self._loop.call_later(wait_s, self._end_unfinished)
        if not self._reads:
            self._read_on(True)

    def _wait_no_more(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._patience = self._unfinished = None

    def _end_unfinished(self) -> None:
        """Answer a request whose body does not come, and close: nobody knows where the next request would begin."""
        head, self._waiting = self._unfinished, b""
        self._wait_no_more()
        if self._drained is None and head is not None:
            self._head, self._started_s = head, time.perf_counter()
            self._fail(too_slow(self._lane.body_timeout_s))
        self.close()

    def _hand_over(self, request: bytes = b"") -> None:
        """Give the connection to aiohttp with all that is not answered yet.

        aiohttp forgets requests that come in one piece with bytes that it cannot read: so `request`, which the lane
        has read already, goes by itself.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._drained is not None:  # aiohttp takes no more connections
            transport.close()
            return
        self._leave()
        self._unfinished = None
        self._read_on(True)
        waiting, self._waiting, self._transport = self._waiting, b"", None
        protocol = self._lane.full_protocol()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if not self._can_write:
            protocol.pause_writing()
        for piece in (request, waiting):
            if piece:
                protocol.data_received(piece)

    def _leave(self) -> None:
        self._lane.connections.discard(self)
        for timer in (self._patience, self._keep_alive):
            if timer is not None:
                timer.cancel()

    def _close_when_idle(self) -> None:
        idle_s = time.perf_counter() - self._started_s
        left_s = self._lane.keep_alive_s - idle_s
        if self._head is None and not self._waiting and left_s <= 0:
            self.close()
        else:
            self._keep_alive = self._loop.call_later(max(left_s, 1.0), self._close_when_idle)

    def _read_on(self, reads: bool) -> None:
        if self._transport is not None and reads != self._reads and not self._transport.is_closing():
            self._reads = reads
            if reads:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def drain(self) -> asyncio.Future[None]:
        """Take no more requests than the one that has begun to come; done when the connection is closed."""
        self._drained = self._loop.create_future()
        if self._transport is None:
            self._drained.set_result(None)
        elif self._head is None and not self._waiting:
            self.close()
        elif (head := self._unfinished) is not None:  # the server has not as much time as the client
            self._wait_no_more()
            self._wait_for_body(head)
        return self._drained

    def close(self) -> None:
        """End the connection when everything written is sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End the connection now."""
        if self._transport is not None:
            self._transport.abort()
