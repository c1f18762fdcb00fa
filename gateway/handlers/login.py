"""The login and logout routes: an API key becomes a cookie (protocol §6.1)."""

from __future__ import annotations

import html

from aiohttp import hdrs, web

from gateway.config.models import ApiKeys
from gateway.handlers.context import Gateway
from gateway.handlers.responses import unauthorized
from gateway.handlers.ui import HEADERS
from shared.auth import offered_keys

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="{root}/static/favicon.png"><link rel="stylesheet" href="{root}/pages/style.css">
</head><body class="login"><form method="get" action="{action}"><h1>{title}</h1>{fields}
<button type="submit" class="primary">{button}</button></form></body></html>"""


class Login:
    """Cookies, and the pages to enter a key.

    Args:
        gateway: The gateway.
        options: Its API key section.
    """

    def __init__(self, gateway: Gateway, options: ApiKeys) -> None:
        self._gateway = gateway
        self._options = options
        self._root = gateway.declared.options.server.root_path
        self._base = gateway.mounts.base

    async def log_in(self, request: web.Request) -> web.Response:
        """``GET /auth/login``: a valid key becomes a cookie."""
        access, name = self._gateway.access, self._options.name
        key = next((each for each in offered_keys(request, self._options.name) if access.is_valid(each)), None)
        if key is None:
            return self.reject(request)
        response = web.Response(status=307, headers={hdrs.LOCATION: f"{self._root}/"})
        response.set_cookie(
            name,
            key,
            max_age=int(self._options.cookie_max_age),
            domain=self._options.cookie_domain,
            httponly=True,
            samesite="lax",
            secure=request.secure,
        )
        return response

    def reject(self, request: web.Request) -> web.Response:
        """The answer to a login without a valid key: the form again for a person, an error for a program.

        Raises:
            Problem: The caller did not ask for a page.
        """
        if "text/html" not in request.headers.get(hdrs.ACCEPT, ""):
            raise unauthorized(self._options.message)
        return self.form(403, "That key is not known here." if request.query.get(self._options.name) else None)

    async def log_out(self, request: web.Request) -> web.Response:
        """``GET /auth/logout``: forget the cookie."""
        response = web.Response(status=307, headers={hdrs.LOCATION: f"{self._root}/login"})
        response.del_cookie(
            self._options.name, domain=self._options.cookie_domain, httponly=True, samesite="lax", secure=request.secure
        )
        return response

    async def login_page(self, request: web.Request) -> web.Response:
        """``GET /login``: a form; with a key in the query it goes straight on."""
        name = self._options.name
        if name in request.query:
            target = f"{self._root}{self._base}/auth/login?{request.rel_url.raw_query_string}"
            return web.Response(status=307, headers={hdrs.LOCATION: target})
        return self.form(200, error=request.query.get("error"))

    async def logout_page(self, _request: web.Request) -> web.Response:
        """``GET /logout``: a form with one button."""
        return self._page("Log out", "logout", "", "Log out", 200)

    def form(self, status: int, error: str | None = None) -> web.Response:
        """The page that asks for a key."""
        message = f'<p class="error" role="alert">{html.escape(error)}</p>' if error else ""
        name = html.escape(self._options.name)
        field = f'<label>Key <input type="password" name="{name}" autocomplete="current-password" autofocus></label>'
        return self._page("Log in", "login", message + field, "Log in", status)

    def _page(self, title: str, action: str, fields: str, button: str, status: int) -> web.Response:
        target = f"{self._root}{self._base}/auth/{action}"
        text = _PAGE.format(title=title, root=self._root, action=target, fields=fields, button=button)
        return web.Response(text=text, content_type="text/html", status=status, headers=HEADERS)
