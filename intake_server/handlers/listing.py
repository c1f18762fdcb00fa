"""``GET /v1/info`` and ``GET /v1/source``: what there is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from aiohttp import web
from multidict import MultiMapping

from intake_server.auth.authorizer import Guard
from intake_server.catalog.listings import Page
from intake_server.handlers.messages import SOURCE_ID, tagged, tagged_response
from intake_server.serialization.control import pack
from intake_server.serving.catalogs import Catalogs
from intake_server.serving.lookup import Located, NoSuchEntry
from shared.errors import Problem
from shared.http.lifecycle import Answer

Query = MultiMapping[str]
_MOST_DIGITS = 15


class ListingHandlers:
    """Lists catalogs and describes entries."""

    def __init__(self, catalogs: Catalogs, guard: Guard) -> None:
        self._catalogs = catalogs
        self._guard = guard
        self._last: tuple[Page, Answer] | None = None

    async def info(self, request: web.Request) -> web.Response:
        """List a catalog, whole or by pages."""
        return tagged_response(request, await self._list(request.query, request.headers))

    async def source(self, request: web.Request) -> web.Response:
        """Describe one entry."""
        return tagged_response(request, await self._describe(request.query, request.headers))

    async def _list(self, query: Query, headers: Mapping[str, str]) -> Answer:
        caller = await self._guard.connect(headers)
        size = _count(query, "page_size")
        offset = _count(query, "page_offset") if size is not None else 0
        view = await self._catalogs.view(headers.get(SOURCE_ID), caller)
        page = await self._catalogs.page(view, offset or 0, size, caller)
        return self._page_answer(page)

    def _page_answer(self, page: Page) -> Answer:
        """The answer for a page; the last one is kept, since clients ask for the whole listing most of the time."""
        if self._last is None or self._last[0] is not page:
            self._last = (page, tagged(page.body, page.etag))
        return self._last[1]

    async def _describe(self, query: Query, headers: Mapping[str, str]) -> Answer:
        caller = await self._guard.connect(headers)
        names = query.getall("name", None)
        if names is None:
            raise Problem(400, "the query parameter 'name' is missing", code="missing_name")
        name = names[-1]
        view = await self._catalogs.view(headers.get(SOURCE_ID), caller)
        try:
            located = await self._catalogs.locate(view, name, caller)
        except NoSuchEntry as error:
            raise NoSuchEntry("No such entry") from error
        await self._guard.check(caller, located.steps)
        return self._described(located, name)

    def _described(self, located: Located, asked: str) -> Answer:
        """The answer for one entry: made once for each state of the catalog that holds it."""
        if asked != located.name:
            return _tagged(pack(self._catalogs.describe(located.view.catalog, located.entry, asked)))
        derived = located.view.state.derived
        known: Answer | None = derived.get(("described", asked))
        if known is None:
            known = _tagged(self._catalogs.listing(located.view).entry(asked))
            derived["described", asked] = known
        return known


def _tagged(packed: bytes) -> Answer:
    body = b"\x81" + pack("source") + packed
    return tagged(body, f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"')


def _count(query: Query, name: str) -> int | None:
    """A query parameter that is a number of entries; None when it is absent.

    Raises:
        Problem: 400, it is something else.
    """
    text = query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        raise Problem(400, f"{name}: expected a whole number, 0 or more, found {text[:40]!r}", code="bad_page")
    return int(text)
