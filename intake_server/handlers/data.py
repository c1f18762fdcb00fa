"""``GET /data/<entry>``: data over plain HTTP, in the format and the part that the request asks for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from urllib.parse import quote

import structlog
from aiohttp import hdrs, web

from intake_server.concurrency.backpressure import Holding
from intake_server.export import formats, ranges
from intake_server.export.formats import Format, NotAvailable
from intake_server.export.ranges import ByteRange, Unsatisfiable
from intake_server.export.selection import Selection, SelectionError, split_query
from intake_server.handlers.url_paths import SAFE, UrlPaths, names_of
from intake_server.sources.exports import Export, Exports, StoredExport, check_variable
from shared.errors import Problem

log = structlog.get_logger("intake_server.requests")
_STEP_BYTES = 1 << 20
_READ_BYTES = 1 << 22


class DataHandlers:
    """Sends exports."""

    def __init__(self, paths: UrlPaths, exports: Exports, *, send_timeout_s: float) -> None:
        self._paths = paths
        self._exports = exports
        self._send_timeout_s = send_timeout_s

    async def data(self, request: web.Request) -> web.StreamResponse:
        """The data of one entry, or the part of them that the query selects."""
        caller = await self._paths.connect(request)
        try:
            selecting, parameters = split_query(list(request.query.items()))
            selection = Selection.parse(selecting)
            result, named = await self._paths.entry_and_format(names_of(request), caller)
            named = _named(selecting.get("format", []), named)
            opened = await self._paths.opened(result, parameters, caller)
            container = opened.source.schema.container
            form = formats.choose(container, named, request.headers.get(hdrs.ACCEPT, ""))
            selection.check(container)
            check_variable(opened, selection)
        except SelectionError as error:
            raise Problem(400, str(error), code="bad_selection") from error
        except NotAvailable as error:
            raise Problem(406, str(error), code="not_acceptable") from error
        export = Export(opened, selection, form, form.is_text and _wants_gzip(request))
        headers = _headers(export, result.name)
        if ranges.names_tag(request.headers.get(hdrs.IF_NONE_MATCH), export.etag):
            return web.Response(status=304, headers=headers)
        can_stream = form.name == "npy" or not form.is_stored
        if can_stream and request.method == "GET" and hdrs.RANGE not in request.headers:
            return await self._send_streamed(request, export, headers)
        try:
            return await self._send_stored(request, export, headers)
        except Problem as problem:
            if request.method != "HEAD" or problem.status != 413 or not can_stream:
                raise
            return web.Response(headers={**headers, hdrs.ACCEPT_RANGES: "none"})  # too large but for a stream

    async def _send_streamed(self, request: web.Request, export: Export, headers: dict[str, str]) -> web.StreamResponse:
        with self._exports.in_flight.holding(export.opened.name, lambda: _abort(request)) as held:
            pieces = self._exports.streamed(export, held)
            try:
                first = await anext(pieces, b"")
                response = web.StreamResponse(headers=headers)
                await response.prepare(request)
                await self._send(request, response, first, pieces, held)
            finally:
                await pieces.aclose()
            return response

    async def _send_stored(self, request: web.Request, export: Export, headers: dict[str, str]) -> web.StreamResponse:
        stored = await self._exports.stored(export)
        part = _wanted(request, stored, export.etag)
        if part is not None:
            headers[hdrs.CONTENT_RANGE] = f"bytes {part.start}-{part.stop - 1}/{stored.size}"
        response = web.StreamResponse(status=200 if part is None else 206, headers=headers)
        part = part or ByteRange(0, stored.size)
        response.content_length = len(part)
        await response.prepare(request)
        if request.method == "GET":
            with self._exports.in_flight.holding(export.opened.name, lambda: _abort(request)) as held:
                await self._exports.in_flight.reserve(held, min(len(part), _READ_BYTES))
                held.moved()
                await self._send(request, response, b"", _read(stored, part), held)
        return response

    async def _send(
        self,
        request: web.Request,
        response: web.StreamResponse,
        first: bytes,
        pieces: AsyncGenerator[bytes],
        held: Holding,
    ) -> None:
        """Send pieces as they come; a client that takes none for too long is given up, and an error ends the line."""
        try:
            await self._write(response, first, held)
            del first
            async for piece in pieces:
                await self._write(response, piece, held)
            async with asyncio.timeout(self._send_timeout_s):
                await response.write_eof()
        except TimeoutError:
            log.warning("a client took no data, its answer is given up", path=request.path)
            _abort(request)
        except (Problem, ConnectionError) as error:
            log.warning("an answer was broken off", path=request.path, reason=str(error))
            _abort(request)

    async def _write(self, response: web.StreamResponse, piece: bytes | memoryview, held: Holding) -> None:
        """Send one piece, a large one in path, each of which the client must take in time."""
        view = memoryview(piece)
        for start in range(0, len(view), _STEP_BYTES):
            async with asyncio.timeout(self._send_timeout_s):
                await response.write(view[start : start + _STEP_BYTES])
            held.moved()
            await asyncio.sleep(0)  # a write to a client that keeps up does not wait, so others would


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


async def _read(stored: StoredExport, part: ByteRange) -> AsyncGenerator[bytes]:
    for start in range(part.start, part.stop, _READ_BYTES):
        length = min(_READ_BYTES, part.stop - start)
        piece = await stored.read(start, length)
        if len(piece) < length:
            raise ConnectionError(f"{stored.export.opened.name}: the file was cut short while it was sent")
        yield piece


def _named(names: list[str], by_suffix: Format | None) -> Format | None:
    """The format that the query or the address names; the query goes first."""
    if len(names) > 1:
        raise SelectionError("format: this is given twice")
    return formats.by_name(names[0]) if names else by_suffix


def _wants_gzip(request: web.Request) -> bool:
    """Whether the answer is compressed: never a range, which fsspec counts in bytes of the data themselves."""
    if hdrs.RANGE in request.headers:
        return False
    for part in request.headers.get(hdrs.ACCEPT_ENCODING, "").lower().split(","):
        coding, _, parameters = part.partition(";")
        if coding.strip() == "gzip":
            return parameters.replace(" ", "") not in ("q=0", "q=0.0")
    return False


def _headers(export: Export, name: str) -> dict[str, str]:
    form = export.form
    charset = "; charset=utf-8" if form.media_type.startswith("text/") else ""
    if export.selection.variable is not None:
        name = f"{name}-{export.selection.variable}"
    headers = {
        hdrs.CONTENT_TYPE: form.media_type + charset,
        hdrs.ETAG: export.etag,
        hdrs.VARY: "Accept, Accept-Encoding",
        hdrs.CONTENT_DISPOSITION: f"inline; filename*=UTF-8''{quote(f'{name}.{form.name}', safe='')}",
        hdrs.ACCEPT_RANGES: "bytes",
        **SAFE,
    }
    if export.is_gzipped:
        headers[hdrs.CONTENT_ENCODING] = "gzip"
    return headers


def _wanted(request: web.Request, stored: StoredExport, etag: str) -> ByteRange | None:
    if not ranges.range_applies(request.headers.get(hdrs.IF_RANGE), etag):
        return None
    try:
        return ranges.wanted(request.headers.get(hdrs.RANGE), stored.size)
    except Unsatisfiable as error:
        headers: dict[str, str] = {hdrs.CONTENT_RANGE: f"bytes */{stored.size}"}
        raise Problem(416, f"the range begins behind the end, at {stored.size}", headers=headers) from error
