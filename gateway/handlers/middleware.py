"""The door: what every request must show before its handler is called (protocol §6.1).

Two things are checked here and nowhere else: that a request which changes something was not sent by a web page of
another origin, and that it carries a valid key.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from gateway.config.models import ApiKeys
from gateway.handlers.context import Gateway
from gateway.handlers.login import Login
from gateway.handlers.responses import RIGHTS, Redirects, unauthorized
from shared.auth import bearer_token, offered_keys
from shared.errors import Problem
from shared.http.origins import Origins

_READING: Final = (hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS)


class Door:
    """Lets requests in, or answers them itself.

    Args:
        gateway: The gateway.
        options: Its API key section.
        login: Makes the form that pages show to a visitor without a key.
        origins: The pages that may act through a visitor's browser.
        redirects: Answers paths with a slash too many or too few.
        public_paths: Paths that need no key.
    """

    def __init__(
        self,
        gateway: Gateway,
        options: ApiKeys,
        login: Login,
        origins: Origins,
        redirects: Redirects,
        public_paths: Collection[str],
    ) -> None:
        self._access = gateway.access
        self._api = gateway.mounts.api_root
        self._base = gateway.mounts.base
        self._options = options
        self._login = login
        self._origins = origins
        self._redirects = redirects
        self._public_paths = frozenset(public_paths)

    def middleware(self) -> Middleware:
        """The door as a middleware, inside the one that makes answers of errors."""

        @web.middleware
        async def door(request: web.Request, handler: Handler) -> web.StreamResponse:
            missing = request.match_info.http_exception
            if missing is not None and missing.status == 404 and hdrs.UPGRADE not in request.headers:
                return await self._redirects.other_slash(request) or await handler(request)
            if request.method not in _READING or hdrs.UPGRADE in request.headers:
                self._require_own_page(request)
            if self._access.is_open:
                return await handler(request)
            rights = self._access.identify(offered_keys(request, self._options.name), request.remote)
            if rights is None and not self._is_public(request):
                return self._turn_away(request)
            request[RIGHTS] = rights or self._access.stranger
            return await handler(request)

        return door

    def _require_own_page(self, request: web.Request) -> None:
        headers = request.headers
        origin = headers.get(hdrs.ORIGIN)
        if self._origins.may_act(origin, headers.get("Sec-Fetch-Site"), request.host) or self._knows_a_key(request):
            return
        shown = f"Origin {origin!r}" if origin is not None else "a page of another site"
        raise Problem(
            403,
            f"{shown} may not send this request, expected the gateway's own page; "
            "server.cors_origins in the channel file allows further origins",
        )

    def _knows_a_key(self, request: web.Request) -> bool:
        """Whether the sender itself gave a key; cookies are added by the browser, whoever asks for the request."""
        if self._access.is_open:
            return False
        name = self._options.name
        given = (request.query.get(name), request.headers.get(name), bearer_token(request))
        return any(self._access.is_valid(key) for key in given)

    def _is_public(self, request: web.Request) -> bool:
        return request.match_info.http_exception is not None or request.path in self._public_paths

    def _turn_away(self, request: web.Request) -> web.Response:
        path = request.path
        if path == f"{self._base}/auth/login":
            return self._login.reject(request)
        if path == self._api or path.startswith(self._api + "/") or path.endswith(".json"):
            raise unauthorized(self._options.message)
        return self._login.form(403)
