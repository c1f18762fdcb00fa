"""``/outputs``: the log browser."""

from __future__ import annotations

import asyncio
import html
import os
from itertools import islice
from pathlib import Path
from urllib.parse import quote

from aiohttp import web

from gateway.handlers.requests import require_unlimited
from gateway.handlers.responses import json_value
from shared.errors import Problem

_CHUNK = 64 * 1024
_MOST = 1024 * 1024
TREE_LIMIT = 5000
TREE_ENTRIES = 50_000


class OutputHandlers:
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
        require_unlimited(request)
        found = self._inside(request.match_info.get("path", ""))
        if found.is_dir():
            query = request.rel_url.raw_query_string
            text = await asyncio.to_thread(self._folder, found, f"?{query}" if query else "")
            return web.Response(text=text, content_type="text/html")
        response = web.FileResponse(found)
        if found.suffix in (".log", ".txt"):
            response.headers["Content-Type"] = "text/plain; charset=utf-8"
        return response

    async def tree(self, request: web.Request) -> web.Response:
        """``GET /outputs/_tree``: the paths of all files."""
        require_unlimited(request)
        paths, is_whole = await asyncio.to_thread(self._paths)
        return json_value({"paths": paths, "truncated": not is_whole})

    async def chunk(self, request: web.Request) -> web.Response:
        """``GET /outputs/_chunk?path=&start=&end=``: a part of a file, its end by default; 1 MiB at most."""
        require_unlimited(request)
        path = request.query.get("path", "")
        if not path:
            raise Problem(422, "path: missing, expected that of a file in outputs")
        found = self._inside(path)
        if not found.is_file():
            raise Problem(404, "Not Found")
        size = found.stat().st_size
        end = min(_bytes(request, "end", size), size)
        start = max(_bytes(request, "start", end - _CHUNK), 0)
        end = min(end, start + _MOST)
        text = (await asyncio.to_thread(_read, found, start, end)).decode("utf-8", "replace")
        return json_value({"path": path, "size": size, "start": start, "end": end, "text": text})

    def _inside(self, path: str) -> Path:
        try:
            found = (self._root / path.lstrip("/")).resolve()
        except (OSError, ValueError):
            raise Problem(404, "Not Found") from None
        if not found.is_relative_to(self._root) or not found.exists():
            raise Problem(404, "Not Found")
        return found

    def _leads_inside(self, path: Path) -> bool:
        return path.resolve().is_relative_to(self._root)

    def _paths(self) -> tuple[list[str], bool]:
        """The paths of the first files in order, and whether those are all."""
        paths: list[str] = []
        seen = 0
        waiting = [self._root]
        while waiting and len(paths) < TREE_LIMIT and seen < TREE_ENTRIES:
            path = waiting.pop()
            if (path.is_dir() and not path.is_symlink()) or path == self._root:
                names = _names_in(path, TREE_ENTRIES - seen)
                seen += len(names)
                waiting += [path / name for name in reversed(names)]
            elif path.is_file() and self._leads_inside(path):
                paths.append(path.relative_to(self._root).as_posix())
        return paths, not waiting and seen < TREE_ENTRIES

    def _folder(self, folder: Path, suffix: str) -> str:
        """A page with a link to each file and folder; links repeat the query of the request."""
        links = []
        names = _names_in(folder, TREE_LIMIT)
        for path in filter(self._leads_inside, (folder / name for name in names)):
            name = path.name + ("/" if path.is_dir() else "")
            target = f"{self._prefix}/outputs/{quote(os.fsencode(path.relative_to(self._root)))}{suffix}"
            links.append(f'<li><a href="{html.escape(target)}">{html.escape(name)}</a></li>')
        if len(names) == TREE_LIMIT:
            links.append(f"<li>… the first {TREE_LIMIT} entries</li>")
        title = html.escape(f"/{folder.relative_to(self._root).as_posix()}".replace("/.", "/"))
        text = f"<!doctype html><meta charset=utf-8><title>{title}</title><h1>{title}</h1><ul>{''.join(links)}</ul>"
        return text.encode("utf-8", "replace").decode()  # names of files may be no text


def _bytes(request: web.Request, name: str, default: int) -> int:
    given = request.query.get(name, default)
    try:
        return int(given)
    except ValueError:
        raise Problem(422, f"{name}: found {given!r}, expected a number of bytes") from None


def _names_in(folder: Path, most: int) -> list[str]:
    """The names in a folder, in order; of a large folder, of the first `most` entries."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in islice(entries, most))
    except OSError:  # it may not be read, or is gone by now
        return []


def _read(path: Path, start: int, end: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(max(end - start, 0))
