"""The middleware that every request passes before its handler (§6.1).

Two things are checked here and nowhere else: that a request which changes something does not come from a web page of
another origin, and that it carries a valid key.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from gateway.config.models import ApiKeySection
from gateway.engine.channels import Channels
from gateway.handlers.context import Gateway
from gateway.handlers.requests import RIGHTS
from gateway.handlers.responses import unauthorized
from gateway.handlers.ui import LoginHandlers
from shared.auth import bearer_token, offered_keys
from shared.errors import Problem
from shared.http.origins import Origins

_READING: Final = (hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS)


class SlashRedirects:
    """Sends requests for a path without a route to the same path with a slash more or less, if that has one (§0).

    Args:
        root_path: The path before every other, for the outside.
        base: What every route of the API begins with.
        channels: The channels, or None when their names are not public.
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


class AccessMiddleware:
    """Redirects, checks the origin, authenticates.

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
        options: ApiKeySection,
        login: LoginHandlers,
        origins: Origins,
        redirects: SlashRedirects,
        public_paths: Collection[str],
    ) -> None:
        self._access = gateway.access
        self._api = gateway.route_groups.api_root
        self._base = gateway.route_groups.base
        self._options = options
        self._login = login
        self._origins = origins
        self._redirects = redirects
        self._public_paths = frozenset(public_paths)

    def middleware(self) -> Middleware:
        """The aiohttp middleware, inside the one that turns errors into answers."""

        @web.middleware
        async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
            missing = request.match_info.http_exception
            if missing is not None and missing.status == 404 and hdrs.UPGRADE not in request.headers:
                return await self._redirects.other_slash(request) or await handler(request)
            if request.method not in _READING or hdrs.UPGRADE in request.headers:
                self._require_same_origin(request)
            if self._access.is_open:
                return await handler(request)
            rights = self._access.identify(offered_keys(request, self._options.name), request.remote)
            if rights is None and not self._is_public(request):
                return self._reject(request)
            request[RIGHTS] = rights or self._access.anonymous
            return await handler(request)

        return check

    def _require_same_origin(self, request: web.Request) -> None:
        headers = request.headers
        origin = headers.get(hdrs.ORIGIN)
        if self._origins.may_act(origin, headers.get("Sec-Fetch-Site"), request.host) or self._has_explicit_key(
            request
        ):
            return
        shown = f"Origin {origin!r}" if origin is not None else "a page of another site"
        raise Problem(
            403,
            f"{shown} may not send this request, expected the gateway's own page; "
            "server.cors_origins in the channel file allows further origins",
        )

    def _has_explicit_key(self, request: web.Request) -> bool:
        """Whether the request carries a valid key other than a cookie, which a browser adds to requests of any page."""
        if self._access.is_open:
            return False
        name = self._options.name
        given = (request.query.get(name), request.headers.get(name), bearer_token(request))
        return any(self._access.is_valid(key) for key in given)

    def _is_public(self, request: web.Request) -> bool:
        return request.match_info.http_exception is not None or request.path in self._public_paths

    def _reject(self, request: web.Request) -> web.Response:
        path = request.path
        if path == f"{self._base}/auth/login":
            return self._login.reject(request)
        if path == self._api or path.startswith(self._api + "/") or path.endswith(".json"):
            raise unauthorized(self._options.message)
        return self._login.form(403)
