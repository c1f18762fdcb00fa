"""The page at ``/`` with its files, and the login forms: all of it comes from the gateway."""

from __future__ import annotations

import html
import re
from importlib.resources import files
from typing import Final

from aiohttp import hdrs, web

from gateway.config.models import ApiKeySection
from gateway.handlers.context import Gateway
from gateway.handlers.responses import unauthorized
from gateway.schema.record import encode
from shared.auth import offered_keys
from shared.errors import Problem

KINDS: Final = {"css": "text/css", "js": "text/javascript"}
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    hdrs.CACHE_CONTROL: "no-cache",
}
_FORM = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="{root}/static/favicon.png"><link rel="stylesheet" href="{root}/pages/style.css">
</head><body class="login"><form method="get" action="{action}"><h1>{title}</h1>{fields}
<button type="submit" class="primary">{button}</button></form></body></html>"""


class PageHandlers:
    """The page: a frame that is filled in the browser through the API.

    Args:
        gateway: The gateway.
        key_name: What an API key is called on the wire.
    """

    def __init__(self, gateway: Gateway, key_name: str) -> None:
        self._gateway = gateway
        self._key_name = key_name
        folder = files("gateway.pages")
        self._template = folder.joinpath("index.html").read_text(encoding="utf-8")
        self._files = {
            file.name: file.read_text(encoding="utf-8")
            for file in folder.iterdir()
            if file.name.rpartition(".")[2] in KINDS
        }

    async def index(self, _request: web.Request) -> web.Response:
        """``GET /``"""
        server, groups = self._gateway.declared.options.server, self._gateway.route_groups
        settings = {
            "root": server.root_path,
            "base": groups.base,
            "stream": groups.stream_path,
            "keyName": self._key_name,
        }
        values = {"title": server.title, "root": server.root_path, "settings": encode(settings).decode()}
        text = re.sub(r"\{(title|root|settings)\}", lambda found: html.escape(values[found[1]]), self._template)
        return web.Response(text=text, content_type="text/html", headers=HEADERS)

    async def file(self, request: web.Request) -> web.Response:
        """``GET /pages/{name}``"""
        name = request.match_info["name"]
        if name not in self._files:
            raise Problem(404, "Not Found")
        return web.Response(text=self._files[name], content_type=KINDS[name.rpartition(".")[2]], headers=HEADERS)


class LoginHandlers:
    """Cookies, and the pages to enter a key.

    Args:
        gateway: The gateway.
        options: Its API key section.
    """

    def __init__(self, gateway: Gateway, options: ApiKeySection) -> None:
        self._gateway = gateway
        self._options = options
        self._root = gateway.declared.options.server.root_path
        self._base = gateway.route_groups.base

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
            Problem: The caller does not accept HTML.
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
        """The page with the key form."""
        message = f'<p class="error" role="alert">{html.escape(error)}</p>' if error else ""
        name = html.escape(self._options.name)
        field = f'<label>Key <input type="password" name="{name}" autocomplete="current-password" autofocus></label>'
        return self._page("Log in", "login", message + field, "Log in", status)

    def _page(self, title: str, action: str, fields: str, button: str, status: int) -> web.Response:
        target = f"{self._root}{self._base}/auth/{action}"
        text = _FORM.format(title=title, root=self._root, action=target, fields=fields, button=button)
        return web.Response(text=text, content_type="text/html", status=status, headers=HEADERS)
