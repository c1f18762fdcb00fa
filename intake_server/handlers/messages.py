"""Requests and answers on the wire (protocol §2, §3.6)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import structlog
from aiohttp import hdrs, web

from intake_server.concurrency.backpressure import Sending
from intake_server.errors import kind_of, public_reason
from intake_server.serialization.control import MalformedMessage, pack, unpack
from intake_server.serialization.parts import Parts
from shared.errors import Problem
from shared.http.app import JSON, response
from shared.http.lifecycle import Answer

log = structlog.get_logger("intake_server.requests")
MSGPACK = "application/msgpack"
SOURCE_ID = "source-id"
_LOGGED = 500
_JOINED_BYTES = 256 * 1024


PACKED: Mapping[str, str] = {hdrs.CONTENT_TYPE: MSGPACK}
"""The headers of an answer that is packed."""


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


def tagged(body: bytes, etag: str) -> Answer:
    """A packed answer with an entity tag."""
    return Answer(body, {hdrs.CONTENT_TYPE: MSGPACK, hdrs.ETAG: etag})


def tagged_response(request: web.Request, answer: Answer) -> web.Response:
    """An answer with an entity tag: 304 when the client has it already (§2)."""
    etag = answer.headers[hdrs.ETAG]
    known = request.headers.get(hdrs.IF_NONE_MATCH)
    if known is not None and (
        known.strip() == "*" or etag in (tag.strip().removeprefix("W/") for tag in known.split(","))
    ):
        return web.Response(status=304, headers={hdrs.ETAG: etag})
    return response(answer)


async def send_parts(request: web.Request, sending: Sending, stall_s: float) -> web.StreamResponse:
    """Send encoded data piece by piece: no copy of the whole is made, and a client that takes nothing is given up.

    Args:
        request: The request.
        sending: The data, and whom to tell that they move.
        stall_s: How long the client may take no data, in seconds.
    """
    parts = sending.parts
    if is_small(parts):
        return response(Answer(parts.joined(), PACKED))
    streamed = web.StreamResponse(headers=PACKED)
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


def is_small(parts: Parts) -> bool:
    """Whether an answer is sent in one piece rather than streamed."""
    return parts.size <= _JOINED_BYTES


def error_answer(problem: Problem, headers: Mapping[str, str], *, as_json: bool = False) -> Answer:
    """A problem in this protocol's shape (§3.6): the reason phrase is what the client shows.

    Args:
        problem: What is wrong.
        headers: Of the request.
        as_json: Whether it is JSON whatever the request accepts.
    """
    reason = public_reason(problem.message)
    if problem.status < 500:
        log.info("request refused", status=problem.status, code=problem.code, reason=problem.message[:_LOGGED])
    elif problem.code != "internal":
        log.warning("request failed", status=problem.status, code=problem.code, reason=problem.message[:_LOGGED])
    error = {"error": {"code": problem.code or str(problem.status), "reason": reason}}
    if as_json or "json" in headers.get(hdrs.ACCEPT, ""):
        body, content_type = orjson.dumps(error), JSON
    else:
        body, content_type = pack(error), MSGPACK
    return Answer(body, {**problem.headers, hdrs.CONTENT_TYPE: content_type}, problem.status, reason)


def error_responses(protocol: str) -> Callable[[web.Request, Problem], web.Response]:
    """The same in the form of aiohttp: as JSON for everybody but clients of the Intake protocol.

    Args:
        protocol: What the paths of the Intake protocol begin with.
    """

    def error_response(request: web.Request, problem: Problem) -> web.Response:
        return response(error_answer(problem, request.headers, as_json=not request.path.startswith(protocol)))

    return error_response
