"""Paths as clients make them: base URLs joined with too many slashes (specification §2)."""

from __future__ import annotations

import re

from aiohttp import web
from aiohttp.typedefs import Handler

_SLASHES = re.compile("//+")


@web.middleware
async def forgive_paths(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Serve a path with duplicate or trailing slashes like the one that is meant."""
    if request.match_info.http_exception is None:
        return await handler(request)
    path = request.rel_url.raw_path
    meant = _SLASHES.sub("/", path).rstrip("/") or "/"
    if meant == path:
        return await handler(request)
    match = await request.app.router.resolve(request.clone(rel_url=request.rel_url.with_path(meant, encoded=True)))
    request.match_info.update(match)  # what the path of the route has in braces
    return await match.handler(request)
