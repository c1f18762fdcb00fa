"""``GET /v1/info`` and ``GET /v1/source``: what there is (specification §3.1, §3.2)."""

from __future__ import annotations

import hashlib

from aiohttp import web

from intake_server.encoding.control import pack
from intake_server.handlers.wire import SOURCE_ID, tagged_response
from intake_server.service.catalogs import Catalogs
from intake_server.service.guard import Guard
from intake_server.service.views import Located, NoSuchEntry
from shared.errors import Problem

_MOST_DIGITS = 15


class ListingHandlers:
    """Lists catalogs and describes entries."""

    def __init__(self, catalogs: Catalogs, guard: Guard) -> None:
        self._catalogs = catalogs
        self._guard = guard

    async def info(self, request: web.Request) -> web.Response:
        """List a catalog, whole or by pages."""
        caller = await self._guard.connect(request.headers)
        size = _count(request, "page_size")
        offset = _count(request, "page_offset") if size is not None else 0
        view = await self._catalogs.view(request.headers.get(SOURCE_ID), caller)
        page = await self._catalogs.page(view, offset or 0, size, caller)
        return tagged_response(request, page.body, page.etag)

    async def source(self, request: web.Request) -> web.Response:
        """Describe one entry."""
        caller = await self._guard.connect(request.headers)
        names = request.query.getall("name", None)
        if names is None:
            raise Problem(400, "the query parameter 'name' is missing", code="missing_name")
        name = names[-1]
        view = await self._catalogs.view(request.headers.get(SOURCE_ID), caller)
        try:
            located = await self._catalogs.locate(view, name, caller)
        except NoSuchEntry as error:
            raise NoSuchEntry("No such entry") from error
        await self._guard.check(caller, located.steps)
        body, etag = self._described(located, name)
        return tagged_response(request, body, etag)

    def _described(self, located: Located, asked: str) -> tuple[bytes, str]:
        """The answer for one entry and its entity tag: made once for each state of the catalog that holds it."""
        if asked != located.name:
            return _tagged(pack(self._catalogs.describe(located.view.catalog, located.entry, asked)))
        derived = located.view.state.derived
        known: tuple[bytes, str] | None = derived.get(("described", asked))
        if known is None:
            known = _tagged(self._catalogs.listing(located.view).entry(asked))
            derived["described", asked] = known
        return known


def _tagged(packed: bytes) -> tuple[bytes, str]:
    body = b"\x81" + pack("source") + packed
    return body, f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'


def _count(request: web.Request, name: str) -> int | None:
    """A query parameter that is a number of entries; None when it is absent.

    Raises:
        Problem: 400, it is something else.
    """
    text = request.query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        raise Problem(400, f"{name}: expected a whole number, 0 or more, found {text[:40]!r}", code="bad_page")
    return int(text)
