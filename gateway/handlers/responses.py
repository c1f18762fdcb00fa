"""The form of answers: JSON that is always JSON, errors that always have a ``detail`` (protocol §0, §2.5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import hdrs, web

from gateway.auth import EVERYTHING, Rights
from gateway.engine.channels import Channel, Channels, Feed
from gateway.schema.invalid import UNREADABLE, Invalid, Unreadable
from gateway.schema.record import Record, encode, encode_list
from shared.errors import Problem
from shared.http.app import JSON

RIGHTS = web.RequestKey("gateway.rights", Rights)
_JSON_HEADERS: dict[str, str] = {hdrs.CONTENT_TYPE: JSON}


class Refused(Problem):
    """An answer whose ``detail`` is more than a text, or that has further members."""

    def __init__(self, status: int, detail: Any, more: Mapping[str, Any] | None = None) -> None:
        super().__init__(status, str(detail))
        self.detail = detail
        self.more = dict(more or {})


def json_bytes(body: bytes, headers: Mapping[str, str] | None = None) -> web.Response:
    """A successful answer from JSON that is already text."""
    return web.Response(body=body, headers=_JSON_HEADERS if headers is None else {**headers, **_JSON_HEADERS})


def json_value(value: Any) -> web.Response:
    """A successful answer from a value."""
    return web.Response(body=encode(value), headers=_JSON_HEADERS)


def records_answer(records: Sequence[Record]) -> web.Response:
    """A successful answer with records."""
    return web.Response(body=encode_list(records), headers=_JSON_HEADERS)


def error_answer(request: web.Request, problem: Problem) -> web.Response:
    """Any answer other than success: an object with ``detail``; a WebSocket on a wrong path is a bare 403 (§4.1)."""
    if problem.status == 404 and request.headers.get(hdrs.UPGRADE, "").lower() == "websocket":
        return web.Response(status=403)
    body: dict[str, Any] = {"detail": problem.message}
    if isinstance(problem, Refused):
        body = {"detail": problem.detail, **problem.more}
    return web.Response(body=encode(body), status=problem.status, headers={**problem.headers, hdrs.CONTENT_TYPE: JSON})


def unprocessable(invalid: Invalid) -> Refused:
    """What is wrong with an input, as a 422; a 400 when it could not be read at all."""
    if isinstance(invalid, Unreadable):
        return Refused(400, UNREADABLE)
    return Refused(422, invalid.errors)


def unauthorized(message: str) -> Refused:
    """No valid credential, or one without the right."""
    return Refused(403, message, {"status_code": 403})


def rights_of(request: web.Request) -> Rights:
    """What the caller may do."""
    rights: Rights = request.get(RIGHTS, EVERYTHING)
    return rights


def require_unlimited(request: web.Request) -> None:
    """Refuse callers that may see some channels only: what they ask for is about all of them."""
    if rights_of(request).is_limited:
        raise unauthorized("unauthorized")


class Redirects:
    """Sends requests for a path without a route to the same path with a slash more or less, if that has one (§0).

    Args:
        root_path: The path before every other, for the outside.
        base: What every route of the API begins with.
        channels: The channels, or None when it is nobody's business which there are.
    """

    def __init__(self, root_path: str, base: str, channels: Channels | None) -> None:
        self._root = root_path
        self._base = base
        self._channels = channels

    async def other_slash(self, request: web.Request) -> web.Response | None:
        """The redirect, with the query string kept; None when the other path has no route either."""
        url = request.rel_url
        path = url.raw_path
        other = path.rstrip("/") if path.endswith("/") else path + "/"
        if not other or not self._leads_to_a_channel(request.path):
            return None
        found = await request.app.router.resolve(request.clone(rel_url=url.with_path(other, encoded=True)))
        if found.http_exception is not None and found.http_exception.status != 405:
            return None
        query = f"?{url.raw_query_string}" if url.raw_query_string else ""
        location = f"{request.scheme}://{request.host}{self._root}{other}{query}"
        return web.Response(status=307, headers={hdrs.LOCATION: location})

    def _leads_to_a_channel(self, path: str) -> bool:
        group, _, name = path.removeprefix(self._base + "/").partition("/")
        if self._channels is None or group not in ("last", "next", "send", "lookup", "stage") or not name:
            return True
        channel = self._channels.at(name.rstrip("/"))
        if channel is not None and channel.is_basket and name.endswith("/") and group != "lookup":
            raise Problem(404, f"Channel not found: {name}")  # the empty key
        return channel is not None


def require_provided(channel: Channel, path: str) -> None:
    """Refuse channels that nothing can tick."""
    if not channel.is_provided:
        raise Problem(404, f"Channel not found: {path}")


def feed_at(channel: Channel, key: str) -> Feed:
    """The feed of a basket's key in a path."""
    feed = channel.feed(key) if channel.is_basket else None
    if feed is None:
        raise Problem(404, f"Channel not found: {channel.name}/{key}" if channel.is_basket else "Not Found")
    return feed
