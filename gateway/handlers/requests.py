"""What handlers take from a request: the caller's rights, and the JSON body in whichever Unicode encoding it came."""

from __future__ import annotations

import json

from aiohttp import hdrs, web

from gateway.auth import EVERYTHING, Rights
from gateway.handlers.responses import unauthorized, unprocessable
from gateway.schema.invalid import UNREADABLE, not_a_struct
from shared.errors import Problem
from shared.http.app import JSON, read_body

RIGHTS = web.RequestKey("gateway.rights", Rights)


def rights_of(request: web.Request) -> Rights:
    """What the caller may do."""
    rights: Rights = request.get(RIGHTS, EVERYTHING)
    return rights


def require_unlimited(request: web.Request) -> None:
    """Reject callers that are limited to some channels: the answer would be about all of them."""
    if rights_of(request).is_limited:
        raise unauthorized("unauthorized")


async def read_json_text(request: web.Request, limit: int) -> bytes:
    """The body of a request as JSON text in UTF-8; not parsed yet.

    Raises:
        Problem: 400 when it is not in the encoding in which it seems to be, 422 when it has another content type, and
            as `read_body`.
    """
    body = await read_body(request, limit)
    if request.headers.get(hdrs.CONTENT_TYPE) != JSON:
        _require_json(request, body)
    if body[:1] in (b"{", b"[") and body[1:2] != b"\0":
        return body
    return _in_utf8(body)


def _require_json(request: web.Request, body: bytes) -> None:
    kind = request.content_type
    if body and kind != JSON and not kind.endswith("+json"):
        raise unprocessable(not_a_struct(body.decode("utf-8", "replace"), ("body",)))


def _in_utf8(body: bytes) -> bytes:
    encoding = json.detect_encoding(body)
    if encoding == "utf-8":
        return body
    try:
        return body.decode(encoding).encode()
    except UnicodeError:
        raise Problem(400, UNREADABLE) from None
