"""The documents and the pages that show them: everything local, nothing from elsewhere."""

from __future__ import annotations

import html
import json
import mimetypes
import secrets
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from aiohttp import hdrs, web

from gateway.config.declared import Declared
from gateway.config.route_groups import route_groups_of
from gateway.handlers.context import Gateway
from gateway.handlers.requests import rights_of
from gateway.handlers.responses import json_bytes, json_value
from gateway.handlers.ui import HEADERS
from gateway.openapi.asyncapi import asyncapi_document
from gateway.openapi.openapi import OpenApi
from gateway.schema.json_schema import Schemas
from gateway.schema.record import encode
from shared.errors import Problem

ASSETS = {
    "swagger-ui.css": "swagger_ui/swagger-ui.css",
    "swagger-ui-bundle.js": "swagger_ui/swagger-ui-bundle.js",
    "redoc.standalone.js": "redoc_ui/redoc.standalone.js",
}
_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="{root}/static/favicon.png">"""
_POLICY = (
    "default-src 'none'; script-src 'self' 'nonce-{nonce}'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self' data:; connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""Both pages build their styles in the browser, and ReDoc searches in a worker; nothing comes from elsewhere."""
_SWAGGER = (
    _HEAD
    + """
<link rel="stylesheet" href="{root}/static/swagger-ui.css"></head>
<body><div id="docs"></div><script src="{root}/static/swagger-ui-bundle.js"></script>
<script nonce="{nonce}">
SwaggerUIBundle({{url: {spec}, dom_id: "#docs", deepLinking: true, validatorUrl: null}})
</script>
</body></html>"""
)
_REDOC = (
    _HEAD
    + """
<style>body{{margin:0}}</style></head>
<body><div id="docs"></div><script src="{root}/static/redoc.standalone.js"></script>
<script nonce="{nonce}">Redoc.init({spec}, {{disableGoogleFont: true}}, document.getElementById("docs"))</script>
</body></html>"""
)
_GRAPH = (
    _HEAD
    + """
<style>body{{font:15px system-ui;margin:2rem}}td,th{{padding:.3rem .8rem;text-align:left;border-bottom:1px solid #ccc}}
code{{background:#8882;padding:0 .3em;border-radius:3px}}</style></head><body><h1>Channels</h1>
<p>Who provides each channel, and who reads it.</p>
<table><thead><tr><th>provided by<th>channel<th>read by</tr></thead><tbody>{rows}</tbody></table></body></html>"""
)


class DocumentHandlers:
    """``/openapi.json``, ``/asyncapi.json``, ``/docs``, ``/redoc``, ``/channels_graph`` and their assets."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._root = gateway.declared.options.server.root_path
        self._openapi: dict[frozenset[str] | None, bytes] = {}
        self._openapi_of = gateway.declared
        spec = find_spec("aiohttp_swagger3")
        self._vendor = Path(next(iter(spec.submodule_search_locations or ()))) if spec else None

    async def openapi(self, request: web.Request) -> web.Response:
        """``GET /openapi.json``: without what the caller may not see."""
        if self._openapi_of is not self._gateway.declared:
            self._openapi, self._openapi_of = {}, self._gateway.declared
        channels = rights_of(request).channels
        if channels not in self._openapi:
            self._openapi[channels] = encode(self.openapi_document(channels))
        return json_bytes(self._openapi[channels])

    def openapi_document(self, channels: frozenset[str] | None = None) -> dict[str, Any]:
        """The OpenAPI document as a value, of some channels or of all."""
        declared, key = self._gateway.declared.visible_to(channels), self._gateway.declared.options.auth.api_key
        key_name = None if self._gateway.access.is_open or key is None else key.name
        return OpenApi(declared, route_groups_of(declared), self._schemas(declared), key_name).document()

    async def asyncapi(self, request: web.Request) -> web.Response:
        """``GET /asyncapi.json``: without what the caller may not see."""
        declared = self._gateway.declared.visible_to(rights_of(request).channels)
        return json_value(asyncapi_document(declared, route_groups_of(declared), self._schemas(declared)))

    async def docs(self, request: web.Request) -> web.Response:
        """``GET /docs``: Swagger UI."""
        return self._page(_SWAGGER, request)

    async def redoc(self, request: web.Request) -> web.Response:
        """``GET /redoc``: ReDoc."""
        return self._page(_REDOC, request)

    async def graph(self, request: web.Request) -> web.Response:
        """``GET /channels_graph``: who provides and who reads each channel, as a table."""
        rows, rights = [], rights_of(request)
        for channel in self._gateway.engine.channels:
            if not rights.may_read(channel.name):
                continue
            cells = [_names(channel.setters), f"<code>{html.escape(channel.name)}</code>", _names(channel.getters)]
            rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
        text = _GRAPH.format(title="Channels", root=html.escape(self._root), rows="".join(rows))
        return web.Response(text=text, content_type="text/html")

    async def static(self, request: web.Request) -> web.StreamResponse:
        """``GET /static/{name}``"""
        name = request.match_info["name"]
        if name == "favicon.png":
            return self._favicon()
        if name not in ASSETS or self._vendor is None:
            raise Problem(404, "Not Found")
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        headers = {hdrs.CONTENT_TYPE: kind, hdrs.CACHE_CONTROL: "public, max-age=604800"}
        return web.FileResponse(self._vendor / ASSETS[name], headers=headers)

    async def favicon(self, _request: web.Request) -> web.Response:
        """``GET /favicon.ico``"""
        return self._favicon()

    async def ui_config(self, _request: web.Request) -> web.Response:
        """``GET /ui-config``: settings that browser user interfaces read first."""
        server = self._gateway.declared.options.server
        return json_value(
            {
                "title": server.title,
                "description": server.description,
                "headerLogo": "",
                "footerLogo": "",
                "customCss": [],
                "customJs": [],
                "basePath": self._root,
            }
        )

    def _favicon(self) -> web.Response:
        body = files("gateway").joinpath("assets/favicon.png").read_bytes()
        return web.Response(body=body, content_type="image/png", headers={hdrs.CACHE_CONTROL: "public, max-age=604800"})

    def _schemas(self, declared: Declared) -> Schemas:
        return Schemas(declared.structs, declared.enums, self._defaults(declared))

    def _defaults(self, declared: Declared) -> dict[tuple[str, str], Any]:
        """What absent members become, as printed: read off an empty struct of every type."""
        found: dict[tuple[str, str], Any] = {}
        for spec in declared.structs:
            if spec.model is not None:
                continue
            printed = json.loads(self._gateway.engine.types[spec.name].take_one({}).encoded)
            for field in spec.fields:
                if field.has_default and field.default_now != "tick" and field.name in printed:
                    found[spec.name, field.name] = printed[field.name]
        return found

    def _page(self, template: str, request: web.Request) -> web.Response:
        query = f"?{request.rel_url.raw_query_string}" if request.rel_url.raw_query_string else ""
        url = json.dumps(f"{self._root}/openapi.json{query}").replace("<", "\\u003c")
        title = html.escape(self._gateway.declared.options.server.title)
        nonce = secrets.token_urlsafe(16)
        text = template.format(title=title, root=html.escape(self._root), spec=url, nonce=nonce)
        headers = {**HEADERS, "Content-Security-Policy": _POLICY.format(nonce=nonce)}
        return web.Response(text=text, content_type="text/html", headers=headers)


def _names(names: list[str]) -> str:
    return "<br>".join(html.escape(name) for name in names)
