"""The page at ``/`` and its files: everything from here, nothing from elsewhere."""

from __future__ import annotations

import html
import re
from importlib.resources import files
from typing import Final

from aiohttp import hdrs, web

from gateway.handlers.context import Gateway
from gateway.schema.record import encode
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


class Page:
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
        server, mounts = self._gateway.declared.options.server, self._gateway.mounts
        settings = {
            "root": server.root_path,
            "base": mounts.base,
            "stream": mounts.stream_path,
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
