"""What operators call: `cmd` and `sync`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs

import orjson
from aiohttp import hdrs, web

from iserver.configuration.sync import Synchroniser
from iserver.errors import InvalidConfigurationError, UnreachableError
from iserver.handlers.client import JSON
from shared.auth import bearer_token, equal
from shared.errors import Problem, StartupError
from shared.http.app import json_response, read_body, read_json_object
from shared.http.origins import Origins


class AdminHandlers:
    """The endpoints that are not for the public."""

    def __init__(
        self,
        synchroniser: Synchroniser,
        flush_to_warehouse: Callable[[], Awaitable[int]],
        *,
        token: str | None,
        cmd_token: str | None,
        max_body_bytes: int,
    ) -> None:
        self._synchroniser = synchroniser
        self._flush_to_warehouse = flush_to_warehouse
        self._token = token
        self._cmd_token = cmd_token
        self._max_body_bytes = max_body_bytes

    async def command(self, request: web.Request) -> web.Response:
        """Retire all sessions and write them to the warehouse (§7)."""
        if self._cmd_token is not None:
            authorise(bearer_token(request), self._cmd_token)
        else:
            _reject_foreign_pages(request)
        action = (await read_json_object(request, self._max_body_bytes)).get("action")
        if action is None:
            raise Problem(400, "missing 'action': expected 'flushToWarehouse'")
        if action != "flushToWarehouse":
            raise Problem(400, f"unknown action {action!r}: expected 'flushToWarehouse'")
        try:
            sessions = await self._flush_to_warehouse()
        except (OSError, StartupError) as error:
            raise Problem(500, f"the sessions are safe but not in the warehouse yet: {error}") from error
        return web.Response(text=f"flushed {sessions} sessions to the warehouse\n")

    async def sync(self, request: web.Request) -> web.Response:
        """Fetch and apply the configuration now (§9.1)."""
        if self._token is None:
            raise Problem(403, "this server was started without --token, so sync is disabled")
        authorise(await self._sync_token(request), self._token)
        try:
            revision, changed = await self._synchroniser.sync()
        except UnreachableError as error:
            raise Problem(502, str(error)) from error
        except InvalidConfigurationError as error:
            raise Problem(422, str(error)) from error
        return json_response({"status": "ok", "revision": revision, "changed": changed}, content_type=JSON)

    async def _sync_token(self, request: web.Request) -> str | None:
        """The token, from wherever the caller put it."""
        given = bearer_token(request) or request.query.get("token")
        if given is None and request.can_read_body:
            given = _token_in(await read_body(request, self._max_body_bytes))
        return given


def authorise(given: str | None, expected: str) -> None:
    """Check a token.

    Raises:
        Problem: 401 without any, 403 with another.
    """
    if given is None:
        raise Problem(401, "a token is needed", headers={"WWW-Authenticate": "Bearer"})
    if not equal(given, expected):
        raise Problem(403, "wrong token")


def _reject_foreign_pages(request: web.Request) -> None:
    """Without a token, a page of any site could send a command through a browser on this machine.

    Raises:
        Problem: 403 when the browser's headers name another origin.
    """
    headers = request.headers
    if not Origins().may_act(headers.get(hdrs.ORIGIN), headers.get("Sec-Fetch-Site"), request.host):
        raise Problem(403, "a page of another origin may not send commands, except with --cmd-token")


def _token_in(body: bytes) -> str | None:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        fields = parse_qs(body.decode("utf-8", "replace"))
        return fields.get("token", [None])[0]
    token = value.get("token") if isinstance(value, dict) else None
    return token if isinstance(token, str) else None
