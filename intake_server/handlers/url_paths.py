"""Entries by URL path: ``/data/sub/inner.csv`` is the entry ``inner`` of the catalog ``sub``, as CSV."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from aiohttp import hdrs, web

from intake_server.auth.authorizer import Authorizer, Caller
from intake_server.export import formats
from intake_server.export.formats import Format
from intake_server.handlers.messages import tagged
from intake_server.serving.catalogs import Catalogs
from intake_server.serving.contents import Contents
from intake_server.serving.lookup import CatalogSnapshot, LookupResult, NoSuchEntry
from intake_server.sources.pool import OpenSource, SourcePool
from shared.errors import Problem

SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    hdrs.CACHE_CONTROL: "private, no-cache",
}
"""Headers of every answer that has text of catalogs or data in it: no browser may run it or cache it unverified."""


class UrlPaths:
    """Finds what URL paths mean, with the same checks as the Intake protocol."""

    def __init__(self, catalogs: Catalogs, contents: Contents, sources: SourcePool, authorizer: Authorizer) -> None:
        self._catalogs = catalogs
        self._contents = contents
        self._sources = sources
        self._authorizer = authorizer

    async def connect(self, request: web.Request) -> Caller:
        """The caller of a request.

        Raises:
            Problem: 403, the caller may not connect.
        """
        return await self._authorizer.connect(request.headers)

    async def catalog(self, names: Sequence[str], caller: Caller) -> CatalogSnapshot:
        """The catalog of a path, the root for an empty one.

        Raises:
            Problem: 400 not a catalog, or one that cannot be read; 403; 404; 503.
        """
        root = await self._catalogs.root()
        if not names:
            return root
        result = await self._lookup(root, names, caller)
        if not self._contents.is_catalog(result.entry):
            raise Problem(400, f"{names[-1]}: this is not a catalog", code="not_a_catalog")
        return await self._catalogs.open_nested(result)

    async def entry(self, names: Sequence[str], caller: Caller) -> LookupResult:
        """The entry of a path.

        Raises:
            Problem: 403; 404 there is none; 503.
        """
        if not names:
            raise NoSuchEntry("No such entry")
        return await self._lookup(await self._catalogs.root(), names, caller)

    async def entry_and_format(self, names: Sequence[str], caller: Caller) -> tuple[LookupResult, Format | None]:
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

    async def _lookup(self, root: CatalogSnapshot, names: Sequence[str], caller: Caller) -> LookupResult:
        try:
            result = await self._catalogs.lookup(root, list(names), caller)
        except NoSuchEntry as error:
            raise NoSuchEntry("No such entry") from error
        await self._authorizer.check(caller, result.path)
        return result

    async def opened(self, result: LookupResult, parameters: Mapping[str, Any], caller: Caller) -> OpenSource:
        """The source of an entry, opened with parameters.

        Raises:
            Problem: 400 it is a catalog, cannot be opened, or a parameter does not fit; 403; 503.
        """
        if result.entry.direct_access == "force":
            raise Problem(403, f"{result.name}: clients must read this entry themselves", code="direct_only")
        resolved = await self._catalogs.resolve(result.entry, parameters)
        target, resolved = await self._catalogs.follow_aliases(result, resolved, caller)
        if self._contents.is_catalog(target.entry):
            raise Problem(400, f"{result.name}: this is a catalog, which has no data", code="not_readable")
        if target.entry.direct_access == "force":
            raise Problem(403, f"{result.name}: clients must read this entry themselves", code="direct_only")
        return await self._sources.open(resolved, target.entry)


def names_of(request: web.Request) -> list[str]:
    """The names that a request's path gives, each as it is in its catalog, whatever characters it has."""
    resource = request.match_info.route.resource
    fixed, has_rest, _ = ("" if resource is None else resource.canonical).partition("{")
    if not has_rest:
        return []
    *_, rest = request.rel_url.raw_path.split("/", fixed.count("/"))
    return [unquote(part) for part in rest.split("/") if part]


def safe(request: web.Request, body: bytes, content_type: str) -> web.Response:
    """A whole answer with an entity tag of its content, and headers that keep browsers from running it."""
    etag = f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'
    return tagged(request, body, etag, {hdrs.CONTENT_TYPE: content_type, **SAFE})
