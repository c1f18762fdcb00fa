"""HTTP on a connection: requests are answered one after the other, in the order they came in (protocol §2.1)."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque

import structlog

from shared.errors import Problem
from shared.pegasus.serving.deadlines import HTTP_IDLE_S
from shared.pegasus.serving.http import HttpReader, HttpRequest, Response
from shared.pegasus.serving.protocol import Carrier, Load, Partial
from shared.pegasus.serving.routes import Router
from shared.tasks import start_task

__all__ = ["HttpSpeaker"]

log = structlog.get_logger("shared.pegasus.serving.http_protocol")

MAX_WAITING_HTTP = 256


class HttpSpeaker:
    """Answers HTTP requests one after the other, in the order in which they came (§2.1)."""

    idle_s = HTTP_IDLE_S

    def __init__(self, connection: Carrier, router: Router, load: Load) -> None:
        self._connection = connection
        self._router = router
        self._partial = Partial(load)
        self._reader = HttpReader()
        self._waiting: deque[HttpRequest] = deque()
        self._task: asyncio.Task[None] | None = None
        self._current: HttpRequest | None = None

    def receive(self, data: bytes) -> None:
        self._waiting.extend(self._reader.feed(data))
        if self._partial.is_too_much(self._reader.buffered_bytes):
            log.warning("connection closed", peer=self._connection.peer, reason="too many large requests at a time")
            self._connection.close()
        if self._reader.wants_continue and not self._waiting and self._task is None:
            self._reader.wants_continue = False
            self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.proceed()

    def proceed(self) -> None:
        connection = self._connection
        if self._task is None and self._waiting and connection.can_write:
            self._task = start_task(self._answer_waiting(), name="http answers")
        elif self._task is None and self._reader.error is not None:
            log.debug("connection closed", peer=connection.peer, reason=self._reader.error)
            connection.close()
        connection.read_on(connection.can_write and len(self._waiting) < MAX_WAITING_HTTP and not self._reader.error)

    def is_idle(self) -> bool:
        return self._task is None

    def ended(self) -> None:
        """An answer that may end early ends now."""
        if self._current is not None:
            self._current.gone.set()

    def close(self) -> None:
        """The client is gone: the answer under way is finished, the rest is dropped."""
        self.ended()
        self._waiting.clear()
        self._partial.is_too_much(0)

    def is_partial(self) -> bool:
        return self._reader.is_busy

    def requests(self) -> int:
        return self._reader.taken

    async def _answer_waiting(self) -> None:
        while self._waiting and self._connection.can_write:
            request = self._current = self._waiting.popleft()
            response = await self._answer(request)
            self._connection.write(response.encode())
        self._task = None
        if self._waiting or self._reader.error:
            self.proceed()
        else:
            self._connection.settled()

    async def _answer(self, request: HttpRequest) -> Response:
        started = time.perf_counter()
        try:
            response = self._router.find(request)(request)
            if not isinstance(response, Response):
                response = await response
        except Problem as problem:
            response = Response.text(problem.message, problem.status)
        except Exception as error:
            request_id = secrets.token_hex(8)
            log.error("an HTTP call failed", path=request.path, request_id=request_id, exc_info=error)
            response = Response.text(f"internal error, request id {request_id}", 500)
        log.debug(
            "request",
            method=request.method,
            target=request.target,
            status=response.status,
            bytes=len(response.body),
            ms=round((time.perf_counter() - started) * 1000, 3),
            peer=self._connection.peer,
        )
        return response
