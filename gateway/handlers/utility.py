"""Static fields, the channel graph, and the log browser (specification §2.9)."""

from __future__ import annotations

import html
from pathlib import Path

from aiohttp import web

from gateway.handlers.answers import json_value, rights_of
from gateway.runtime import Gateway
from shared.errors import Problem

_CHUNK = 64 * 1024
_TREE_LIMIT = 5000


class Utility:
    """Routes beside the channels."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def fields(self, _request: web.Request) -> web.Response:
        """``GET /field``"""
        return json_value(sorted(self._gateway.declared.options.fields))

    async def field(self, request: web.Request) -> web.Response:
        """``GET /field/{name}``"""
        name = request.match_info["name"]
        fields = self._gateway.declared.options.fields
        if name not in fields:
            raise Problem(404, "Not Found")
        return json_value(fields[name])

    async def graph(self, request: web.Request) -> web.Response:
        """``GET /channels_graph``: who reads and who provides each channel."""
        rights = rights_of(request)
        return json_value(
            {
                channel.name: {"getters": sorted(channel.getters), "setters": list(channel.setters)}
                for channel in self._gateway.engine.channels
                if rights.may_read(channel.name)
            }
        )


class Outputs:
    """``/outputs``: the files of one folder, to be read in a browser.

    Args:
        root: The folder.
        prefix: The path before it, for links.
    """

    def __init__(self, root: Path, prefix: str) -> None:
        self._root = root.resolve()
        self._prefix = prefix

    async def browse(self, request: web.Request) -> web.StreamResponse:
        """``GET /outputs/{path}``: a folder as links, a file as it is."""
        found = self._inside(request.match_info.get("path", ""))
        if found.is_dir():
            return self._folder(found, request.rel_url.raw_query_string)
        response = web.FileResponse(found)
        if found.suffix in (".log", ".txt"):
            response.headers["Content-Type"] = "text/plain; charset=utf-8"
        return response

    async def tree(self, _request: web.Request) -> web.Response:
        """``GET /outputs/_tree``: the paths of all files."""
        paths: list[str] = []
        for path in sorted(self._root.rglob("*")):
            if path.is_file() and path.resolve().is_relative_to(self._root):
                paths.append(path.relative_to(self._root).as_posix())
            if len(paths) > _TREE_LIMIT:
                break
        return json_value({"paths": paths[:_TREE_LIMIT], "truncated": len(paths) > _TREE_LIMIT})

    async def chunk(self, request: web.Request) -> web.Response:
        """``GET /outputs/_chunk?path=&start=&end=``: a part of a file, its end by default."""
        path = request.query.get("path", "")
        found = self._inside(path)
        if not found.is_file():
            raise Problem(404, "Not Found")
        size = found.stat().st_size
        try:
            end = min(int(request.query.get("end", size)), size)
            start = max(int(request.query.get("start", max(end - _CHUNK, 0))), 0)
        except ValueError:
            raise Problem(422, "start and end are numbers of bytes") from None
        with found.open("rb") as file:
            file.seek(start)
            text = file.read(max(end - start, 0)).decode("utf-8", "replace")
        return json_value({"path": path, "size": size, "start": start, "end": end, "text": text})

    def _inside(self, path: str) -> Path:
        try:
            found = (self._root / path.lstrip("/")).resolve()
        except (OSError, ValueError):
            raise Problem(404, "Not Found") from None
        if not found.is_relative_to(self._root) or not found.exists():
            raise Problem(404, "Not Found")
        return found

    def _folder(self, folder: Path, query: str) -> web.Response:
        suffix = f"?{query}" if query else ""
        links = []
        for path in sorted(folder.iterdir()):
            name = path.name + ("/" if path.is_dir() else "")
            target = f"{self._prefix}/outputs/{path.relative_to(self._root).as_posix()}{suffix}"
            links.append(f'<li><a href="{html.escape(target)}">{html.escape(name)}</a></li>')
        title = html.escape(f"/{folder.relative_to(self._root).as_posix()}".replace("/.", "/"))
        text = f"<!doctype html><meta charset=utf-8><title>{title}</title><h1>{title}</h1><ul>{''.join(links)}</ul>"
        return web.Response(text=text, content_type="text/html")
