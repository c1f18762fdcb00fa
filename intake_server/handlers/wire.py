"""Requests and answers on the wire (specification §2, §3.6)."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from aiohttp import hdrs, web

from intake_server.encoding.control import MalformedMessage, pack, unpack
from intake_server.paths import public_reason
from intake_server.service.sending import Sending
from shared.errors import Problem
from shared.web import json_response, read_body

log = structlog.get_logger("intake_server.requests")
MSGPACK = "application/msgpack"
SOURCE_ID = "source-id"
JSON_ERRORS = web.RequestKey("intake_server.json_errors", bool)
"""Set on requests whose errors are JSON whatever they accept."""
_JOINED_BYTES = 256 * 1024
_STEP_BYTES = 1 << 19


async def read_message(request: web.Request, limit: int) -> dict[str, Any]:
    """The body of a request as a map.

    Raises:
        Problem: 400 it is not one MessagePack map; 413 it is too large.
    """
    try:
        message = unpack(await read_body(request, limit))
    except MalformedMessage as error:
        raise Problem(400, str(error), code="malformed") from error
    if not isinstance(message, dict):
        raise Problem(400, f"expected a map, found {type(message).__name__}", code="malformed")
    return message


def packed_response(body: bytes, headers: dict[str, str] | None = None) -> web.Response:
    """An answer whose body is packed already."""
    return web.Response(body=body, headers={hdrs.CONTENT_TYPE: MSGPACK, **(headers or {})})


def tagged_response(request: web.Request, body: bytes, etag: str) -> web.Response:
    """A packed answer with an entity tag: 304 when the client has it already (§2)."""
    known = request.headers.get(hdrs.IF_NONE_MATCH)
    if known is not None and (
        known.strip() == "*" or etag in (tag.strip().removeprefix("W/") for tag in known.split(","))
    ):
        return web.Response(status=304, headers={hdrs.ETAG: etag})
    return web.Response(body=body, headers={hdrs.CONTENT_TYPE: MSGPACK, hdrs.ETAG: etag})


async def send_parts(request: web.Request, sending: Sending, stall_s: float) -> web.StreamResponse:
    """Send encoded data piece by piece: no copy of the whole is made, and a client that takes nothing is given up.

    Args:
        request: The request.
        sending: The data, and whom to tell that they move.
        stall_s: How long the client may take no data, in seconds.
    """
    parts = sending.parts
    if parts.size <= _JOINED_BYTES:
        return packed_response(parts.joined())
    response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: MSGPACK})
    response.content_length = parts.size
    await response.prepare(request)
    try:
        for view in parts.buffers:
            for start in range(0, view.nbytes, _STEP_BYTES):
                async with asyncio.timeout(stall_s):
                    await response.write(view[start : start + _STEP_BYTES])
                sending.moved()
        async with asyncio.timeout(stall_s):
            await response.write_eof()
    except TimeoutError:
        log.warning("a client took no data, its answer is given up", entry=sending.entry)
        sending.abort()
    return response


def error_response(request: web.Request, problem: Problem) -> web.Response:
    """A problem in this protocol's shape (§3.6): the reason phrase is what the client shows."""
    reason = public_reason(problem.message)
    error = {"error": {"code": problem.code or str(problem.status), "reason": reason}}
    if request.get(JSON_ERRORS) or "json" in request.headers.get(hdrs.ACCEPT, ""):
        response = json_response(error, problem.status, problem.headers)
    else:
        response = web.Response(
            body=pack(error), status=problem.status, headers={**problem.headers, hdrs.CONTENT_TYPE: MSGPACK}
        )
    response.set_status(problem.status, reason)
    return response
