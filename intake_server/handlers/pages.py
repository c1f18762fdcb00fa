"""The browse page and the page of the API: fixed files, nothing from elsewhere, and nothing that may run but them."""

from __future__ import annotations

from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from aiohttp import hdrs, web

from intake_server.export.tables import json_value
from intake_server.handlers.openapi import document
from intake_server.handlers.url_paths import safe
from shared.errors import Problem

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
DOCS_POLICY = POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'").replace("blob:", "data:")
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_BROWSE = (
    "browse.css",
    "browse.js",
    "chart.js",
    "dom.js",
    "entry.js",
    "icon.svg",
    "index.html",
    "server.js",
    "tree.js",
)
_SWAGGER = ("swagger-ui.css", "swagger-ui-bundle.js")


class PageHandlers:
    """Sends the files of the pages; they hold no data, so anybody may have them."""

    def __init__(self) -> None:
        pages = files("intake_server.pages")
        self._browse = {name: (pages / name).read_bytes() for name in _BROWSE}
        self._docs = {name: (pages / name).read_bytes() for name in ("docs.html", "docs.js")}
        self._openapi = json_value(document())
        found = find_spec("aiohttp_swagger3")
        vendor = Path(next(iter(found.submodule_search_locations or ()), "")) if found else Path()
        self._swagger = {name: vendor / "swagger_ui" / name for name in _SWAGGER}

    async def root(self, request: web.Request) -> web.Response:
        """Browsers are sent to the browse page; for others there is nothing here (§2)."""
        if "text/html" not in request.headers.get(hdrs.ACCEPT, ""):
            raise Problem(404, "Not Found")
        return web.Response(status=303, headers={hdrs.LOCATION: "browse/"})

    async def without_slash(self, _request: web.Request) -> web.Response:
        """The page's own addresses need the slash."""
        return web.Response(status=308, headers={hdrs.LOCATION: "browse/"})

    async def browse(self, request: web.Request) -> web.Response:
        """The browse page and what it consists of."""
        return _sent(request, self._browse, request.match_info["file"] or "index.html", POLICY)

    async def docs(self, request: web.Request) -> web.StreamResponse:
        """The page of the API."""
        name = request.match_info.get("file", "docs.html")
        if name in self._swagger:
            headers = {hdrs.CONTENT_TYPE: _kind(name), **_headers(DOCS_POLICY)}
            return web.FileResponse(self._swagger[name], headers=headers)
        return _sent(request, self._docs, name, DOCS_POLICY)

    async def openapi(self, request: web.Request) -> web.Response:
        """The OpenAPI document."""
        return safe(request, self._openapi, "application/json")


def _sent(request: web.Request, known: dict[str, bytes], name: str, policy: str) -> web.Response:
    if name not in known:
        raise Problem(404, "Not Found")
    response = safe(request, known[name], _kind(name))
    response.headers.update(_headers(policy))
    return response


def _kind(name: str) -> str:
    return _KINDS[Path(name).suffix] + "; charset=utf-8"


def _headers(policy: str) -> dict[str, str]:
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        hdrs.CACHE_CONTROL: "no-cache",
    }
