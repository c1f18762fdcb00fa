"""Entries by URL path: ``/data/sub/inner.csv`` is the entry ``inner`` of the catalog ``sub``, as CSV."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from aiohttp import hdrs, web

from intake_server.auth.authorizer import Caller, Guard
from intake_server.export import formats
from intake_server.export.formats import Format
from intake_server.export.ranges import names_tag
from intake_server.serving.catalogs import Catalogs
from intake_server.serving.lookup import Located, NoSuchEntry, View
from intake_server.sources.pool import OpenSource, Sources
from shared.errors import Problem

SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    hdrs.CACHE_CONTROL: "private, no-cache",
}
"""Headers of every answer that has text of catalogs or data in it: no browser may run it or keep it unasked."""


class Addresses:
    """Finds what URL paths mean, with the same checks as the Intake protocol."""

    def __init__(self, catalogs: Catalogs, sources: Sources, guard: Guard) -> None:
        self._catalogs = catalogs
        self._sources = sources
        self._guard = guard

    async def connect(self, request: web.Request) -> Caller:
        """The caller of a request.

        Raises:
            Problem: 403, the caller may not connect.
        """
        return await self._guard.connect(request.headers)

    async def catalog(self, names: Sequence[str], caller: Caller) -> View:
        """The catalog of a path, the root for an empty one.

        Raises:
            Problem: 400 not a catalog, or one that cannot be read; 403; 404; 503.
        """
        root = await self._catalogs.root()
        if not names:
            return root
        located = await self._locate(root, names, caller)
        if not self._catalogs.is_catalog(located.entry):
            raise Problem(400, f"{names[-1]}: this is not a catalog", code="not_a_catalog")
        return await self._catalogs.enter(located, {})

    async def entry(self, names: Sequence[str], caller: Caller) -> Located:
        """The entry of a path.

        Raises:
            Problem: 403; 404 there is none; 503.
        """
        if not names:
            raise NoSuchEntry("No such entry")
        return await self._locate(await self._catalogs.root(), names, caller)

    async def entry_and_format(self, names: Sequence[str], caller: Caller) -> tuple[Located, Format | None]:
        """The entry of a path whose last part may end with the suffix of a format.

        An entry that has exactly this name goes before one that has it without the suffix.

        Raises:
            Problem: As `entry`.
        """
        try:
            return await self.entry(names, caller), None
        except NoSuchEntry:
            named = formats.by_suffix(names[-1]) if names else None
            if named is None:
                raise
        return await self.entry([*names[:-1], named[0]], caller), named[1]

    async def _locate(self, root: View, names: Sequence[str], caller: Caller) -> Located:
        try:
            located = await self._catalogs.locate(root, list(names), caller)
        except NoSuchEntry as error:
            raise NoSuchEntry("No such entry") from error
        await self._guard.check(caller, located.steps)
        return located

    async def opened(self, located: Located, parameters: Mapping[str, Any], caller: Caller) -> OpenSource:
        """The source of an entry, opened with parameters.

        Raises:
            Problem: 400 it is a catalog, cannot be opened, or a parameter does not fit; 403; 503.
        """
        if located.entry.direct_access == "force":
            raise Problem(403, f"{located.name}: clients must read this entry themselves", code="direct_only")
        resolved = await self._catalogs.resolve(located.entry, parameters)
        target, resolved = await self._catalogs.target(located, resolved, caller)
        if self._catalogs.is_catalog(target.entry):
            raise Problem(400, f"{located.name}: this is a catalog, which has no data", code="not_readable")
        if target.entry.direct_access == "force":
            raise Problem(403, f"{located.name}: clients must read this entry themselves", code="direct_only")
        return await self._sources.open(resolved, target.entry)


def names_of(request: web.Request) -> list[str]:
    """The names that a request's path gives, each as it is in its catalog, whatever characters it has."""
    resource = request.match_info.route.resource
    fixed, has_rest, _ = ("" if resource is None else resource.canonical).partition("{")
    if not has_rest:
        return []
    *_, rest = request.rel_url.raw_path.split("/", fixed.count("/"))
    return [unquote(part) for part in rest.split("/") if part]


def tagged(request: web.Request, body: bytes, content_type: str) -> web.Response:
    """A whole answer with an entity tag: 304 when the client has it already."""
    etag = f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'
    if names_tag(request.headers.get(hdrs.IF_NONE_MATCH), etag):
        return web.Response(status=304, headers={hdrs.ETAG: etag, **SAFE})
    return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type, hdrs.ETAG: etag, **SAFE})
