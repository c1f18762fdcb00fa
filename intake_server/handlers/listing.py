"""``GET /v1/info`` and ``GET /v1/source``: lists catalogs and describes entries."""

from __future__ import annotations

from aiohttp import hdrs, web
from multidict import MultiMapping

from intake_server.auth.authorizer import Authorizer
from intake_server.catalog.listings import Page
from intake_server.handlers.messages import MSGPACK, SOURCE_ID, tagged
from intake_server.serialization.control import pack
from intake_server.serving.catalogs import Catalogs
from intake_server.serving.contents import Contents
from intake_server.serving.lookup import LookupResult, NoSuchEntry
from shared.errors import Problem

_MAX_DIGITS = 15


class ListingHandlers:
    """Lists catalogs and describes entries."""

    def __init__(self, catalogs: Catalogs, contents: Contents, authorizer: Authorizer) -> None:
        self._catalogs = catalogs
        self._contents = contents
        self._authorizer = authorizer

    async def info(self, request: web.Request) -> web.Response:
        """List a catalog, whole or by pages."""
        caller = await self._authorizer.connect(request.headers)
        size = _count(request.query, "page_size")
        offset = _count(request.query, "page_offset") if size is not None else 0
        snapshot = await self._catalogs.snapshot(request.headers.get(SOURCE_ID), caller)
        return _answer(request, await self._contents.page(snapshot, offset or 0, size, caller))

    async def source(self, request: web.Request) -> web.Response:
        """Describe one entry."""
        caller = await self._authorizer.connect(request.headers)
        names = request.query.getall("name", None)
        if names is None:
            raise Problem(400, "the query parameter 'name' is missing", code="missing_name")
        name = names[-1]
        snapshot = await self._catalogs.snapshot(request.headers.get(SOURCE_ID), caller)
        try:
            result = await self._catalogs.lookup(snapshot, name, caller)
        except NoSuchEntry as error:
            raise NoSuchEntry("No such entry") from error
        await self._authorizer.check(caller, result.path)
        return _answer(request, self._description(result, name))

    def _description(self, result: LookupResult, asked: str) -> Page:
        """The answer for one entry, under the name that was asked for."""
        if asked == result.name:
            return self._contents.listing(result.snapshot).entry_page(asked)
        return Page.of_entry(pack(self._contents.describe(result.snapshot.catalog, result.entry, asked)))


def _answer(request: web.Request, page: Page) -> web.Response:
    return tagged(request, page.body, page.etag, {hdrs.CONTENT_TYPE: MSGPACK})


def _count(query: MultiMapping[str], name: str) -> int | None:
    """A query parameter that is a number of entries; None when it is absent.

    Raises:
        Problem: 400, it is something else.
    """
    text = query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise Problem(400, f"{name}: expected a whole number, 0 or more, found {text[:40]!r}", code="bad_page")
    return int(text)
