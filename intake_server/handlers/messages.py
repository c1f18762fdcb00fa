"""Requests and answers on the wire: packed, tagged, streamed, and errors (protocol §2, §3.6)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import structlog
from aiohttp import hdrs, web

from intake_server.concurrency.backpressure import Sending
from intake_server.errors import kind_of, public_reason
from intake_server.export.ranges import names_tag
from intake_server.serialization.control import MalformedMessage, pack, unpack
from intake_server.serialization.parts import Parts
from shared.errors import Problem
from shared.http.app import JSON

log = structlog.get_logger("intake_server.requests")
MSGPACK = "application/msgpack"
SOURCE_ID = "source-id"
_LOGGED = 500
_JOINED_BYTES = 256 * 1024


def message_of(body: bytes) -> dict[str, Any]:
    """The body of a request as a map.

    Raises:
        Problem: 400, it is not one MessagePack map.
    """
    try:
        message = unpack(body)
    except MalformedMessage as error:
        raise Problem(400, str(error), code="malformed") from error
    if not isinstance(message, dict):
        raise Problem(400, f"expected a map, found {kind_of(message)}", code="malformed")
    return message


def packed(body: bytes) -> web.Response:
    """An answer that is one MessagePack value."""
    return web.Response(body=body, headers={hdrs.CONTENT_TYPE: MSGPACK})


def tagged(request: web.Request, body: bytes, etag: str, headers: Mapping[str, str]) -> web.Response:
    """A whole answer with an entity tag: 304 when the client has it already (§2)."""
    if names_tag(request.headers.get(hdrs.IF_NONE_MATCH), etag):
        kept = {name: value for name, value in headers.items() if name != hdrs.CONTENT_TYPE}
        return web.Response(status=304, headers={hdrs.ETAG: etag, **kept})
    return web.Response(body=body, headers={**headers, hdrs.ETAG: etag})


async def send_parts(request: web.Request, sending: Sending, stall_s: float) -> web.StreamResponse:
    """Send encoded data piece by piece: no copy of the whole is made, and a client that takes nothing is given up.

    Args:
        request: The request.
        sending: The data, and whom to tell that they move.
        stall_s: How long the client may take no data, in seconds.
    """
    parts = sending.parts
    if _is_small(parts):
        return packed(parts.joined())
    streamed = web.StreamResponse(headers={hdrs.CONTENT_TYPE: MSGPACK})
    streamed.content_length = parts.size
    await streamed.prepare(request)
    try:
        for view in parts.buffers:
            start = 0
            while start < view.nbytes:
                end = start + sending.step()
                async with asyncio.timeout(stall_s):
                    await streamed.write(view[start:end])
                start = end
                sending.moved()
                await asyncio.sleep(0)  # a write to a client that keeps up does not wait, so others would
        async with asyncio.timeout(stall_s):
            await streamed.write_eof()
    except TimeoutError:
        log.warning("a client took no data, its answer is given up", entry=sending.entry)
        sending.abort()
    return streamed


def _is_small(parts: Parts) -> bool:
    """Whether an answer is sent in one piece rather than streamed."""
    return parts.size <= _JOINED_BYTES


def error_responses(protocol: str) -> Callable[[web.Request, Problem], web.Response]:
    """What makes responses of problems (§3.6): as JSON for everybody but clients of the Intake protocol.

    Args:
        protocol: What the paths of the Intake protocol begin with.
    """

    def error_response(request: web.Request, problem: Problem) -> web.Response:
        """The reason phrase is what clients show."""
        _log_problem(problem)
        reason = public_reason(problem.message)
        error = {"error": {"code": problem.code or str(problem.status), "reason": reason}}
        if not request.path.startswith(protocol) or "json" in request.headers.get(hdrs.ACCEPT, ""):
            body, content_type = orjson.dumps(error), JSON
        else:
            body, content_type = pack(error), MSGPACK
        headers = {**problem.headers, hdrs.CONTENT_TYPE: content_type}
        return web.Response(body=body, headers=headers, status=problem.status, reason=reason)

    return error_response


def _log_problem(problem: Problem) -> None:
    if problem.status < 500:
        log.info("request refused", status=problem.status, code=problem.code, reason=problem.message[:_LOGGED])
    elif problem.code != "internal":
        log.warning("request failed", status=problem.status, code=problem.code, reason=problem.message[:_LOGGED])
