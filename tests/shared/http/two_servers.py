"""One application, served by aiohttp alone and with the fast path before it, on transports in memory."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from shared.errors import Problem
from shared.http.app import Cors, apply_conventions, read_body, response
from shared.http.fast_path import FastPath, FastRoute
from shared.http.lifecycle import Answer, Deferred, json_object
from shared.metrics import Metrics

LIMIT = 2000
TEXT = {"Content-Type": "text/plain"}

_DATE = re.compile(rb"\r\nDate: [^\r]*")
_REQUEST_ID = re.compile(rb"[0-9a-f]{16}")


class MemoryTransport(asyncio.Transport):
    """Keeps what a protocol writes, and notes what it wants of the connection."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.protocol = protocol
        self.written = b""
        self.reads = True
        self.is_closed = False
        protocol.connection_made(self)

    def receive(self, data: bytes) -> None:
        if not self.is_closed:
            self.protocol.data_received(data)

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.protocol

    def write(self, data: Any) -> None:
        assert not self.is_closed
        self.written += bytes(data)

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    @property
    def answers(self) -> bytes:
        """What was written, without what differs from one second or request to the next."""
        return _REQUEST_ID.sub(b"ID", _DATE.sub(b"", self.written))


@dataclass(slots=True)
class Servers:
    """Both ways to one application."""

    fast_path: FastPath
    server: Any
    metrics: Metrics
    gate: asyncio.Event

    def fast(self) -> MemoryTransport:
        """A connection that begins on the fast path."""
        return MemoryTransport(self.fast_path.before(self.server)())

    def full(self) -> MemoryTransport:
        """A connection that begins at aiohttp."""
        return MemoryTransport(self.server())


@asynccontextmanager
async def two_servers(**options: Any) -> AsyncIterator[Servers]:
    """An application with fast routes that answer at once, later, when a gate opens, with an error and with a bug."""
    gate = asyncio.Event()
    metrics = Metrics("subject")

    def echo(body: bytes, headers: Mapping[str, str]) -> Answer:
        return Answer(body + headers.get("x-suffix", "").encode(), TEXT)

    def later(body: bytes, _headers: Mapping[str, str]) -> Deferred:
        return Deferred(Answer(body, TEXT), asyncio.sleep(0))

    def gated(body: bytes, _headers: Mapping[str, str]) -> Deferred:
        return Deferred(Answer(body, TEXT), asyncio.ensure_future(gate.wait()))

    async def coroutine(body: bytes, _headers: Mapping[str, str]) -> Answer:
        await asyncio.sleep(0)
        return Answer(str(json_object(body)).encode(), TEXT)

    def reject(_body: bytes, _headers: Mapping[str, str]) -> Answer:
        raise Problem(422, "colour: found 'blu'", headers={"X-Hint": "blue"})

    def fail_later(_body: bytes, _headers: Mapping[str, str]) -> Deferred:
        async def fail() -> None:
            raise ZeroDivisionError("a secret detail")

        return Deferred(Answer(), fail())

    def explain(error: Exception) -> Problem | None:
        return Problem(410, "gone") if isinstance(error, LookupError) else None

    def own(_body: bytes, _headers: Mapping[str, str]) -> Answer:
        raise LookupError

    def error_answer(problem: Problem) -> Answer:
        return Answer(problem.message.encode(), {**problem.headers, **TEXT}, problem.status)

    async def other(request: web.Request) -> web.Response:
        return web.Response(body=b"other " + await read_body(request, LIMIT))

    handlers = {"echo": echo, "later": later, "gated": gated, "coroutine": coroutine}
    errors = {"reject": reject, "bug": fail_later, "own": own}
    fast = [FastRoute(f"/{name}", handler) for name, handler in (handlers | errors).items()]
    app = web.Application()
    cors = Cors(origins=frozenset(["http://a.example"]))
    lifecycle = apply_conventions(
        app,
        error_response=lambda _request, problem: response(error_answer(problem)),
        cors=cors,
        metrics=metrics,
        explain=explain,
    )
    app.add_routes([*(route.full(LIMIT) for route in fast), web.route("*", "/other", other)])
    fast_path = FastPath(fast, lifecycle, error_answer=error_answer, cors_headers=cors.headers, **options)
    app.on_shutdown.append(lambda _app: fast_path.drain(timeout_s=10))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
    await runner.setup()
    yield Servers(fast_path, runner.server, metrics, gate)
    gate.set()
    await runner.cleanup()


async def settle() -> None:
    """Let everything happen that needs no time."""
    for _ in range(30):
        await asyncio.sleep(0)


def get(target: str, *headers: str) -> bytes:
    """A plain request without a body."""
    return "\r\n".join([f"GET {target} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


def post(path: str, body: bytes = b"", *headers: str) -> bytes:
    """A plain request."""
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body
