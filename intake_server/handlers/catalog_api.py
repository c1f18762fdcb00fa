"""The JSON API: list, search and describe what the server has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote, unquote

import orjson
import yaml
from aiohttp import web

from intake_server.auth.authorizer import Caller
from intake_server.catalog import search
from intake_server.catalog.search import MalformedQuery, Query
from intake_server.export import formats
from intake_server.export.catalog_file import Published, catalog_file
from intake_server.export.data import DataSet
from intake_server.export.selection import SelectionError, split_query
from intake_server.export.tables import json_value
from intake_server.handlers.url_paths import UrlPaths, names_of, safe
from intake_server.serialization.control import DATETIME_FORMAT, plain
from intake_server.serving.catalogs import Catalogs
from intake_server.serving.contents import Contents
from intake_server.serving.lookup import CatalogSnapshot
from intake_server.sources.pool import OpenSource
from shared.errors import Problem

JSON = "application/json"
YAML = "application/yaml"
_MAX_ENTRIES = 1000
_MAX_DIGITS = 15
_NOT_SHOWN = ("catalog_dir", "internal", "array")
"""Metadata that only the client of the classic protocol needs."""


class CatalogApi:
    """Catalogs and entries as JSON."""

    def __init__(self, paths: UrlPaths, catalogs: Catalogs, contents: Contents) -> None:
        self._paths = paths
        self._catalogs = catalogs
        self._contents = contents

    async def catalog(self, request: web.Request) -> web.Response:
        """A catalog and a page of its entries, or of those that a search finds in it."""
        caller = await self._paths.connect(request)
        names = names_of(request)
        offset, limit = _number(request, "offset", 0), _number(request, "limit", 100)
        snapshot = await self._paths.catalog(names, caller)
        wanted = request.query.get("search")
        if wanted is not None:
            snapshot = await self._searched(snapshot, wanted, _number(request, "depth", search.DEFAULT_DEPTH), caller)
        known = await self._contents.visible(snapshot, caller)
        shown = known[offset : offset + min(limit, _MAX_ENTRIES)]
        answer = {
            "path": names,
            "name": snapshot.catalog.name if not names else names[-1],
            "description": snapshot.catalog.description,
            "metadata": dict(snapshot.catalog.metadata),
            "length": len(known),
            "offset": offset,
        }
        return _json(request, answer, entries=[self._summary(snapshot, name) for name in shown])

    async def file(self, request: web.Request) -> web.Response:
        """A catalog as a catalog file, for programs that read such files and know no server."""
        caller = await self._paths.connect(request)
        names = [unquote(part) for part in request.query.get("catalog", "").split("/") if part]
        snapshot = await self._paths.catalog(names, caller)
        shown = await self._contents.visible(snapshot, caller)
        entries = {name: self._published(snapshot, name) for name in shown}
        content = catalog_file(snapshot.catalog.metadata, entries)
        body = yaml.safe_dump(_readable(plain(content)), sort_keys=False, allow_unicode=True)
        return safe(request, body.encode(), YAML)

    def _published(self, snapshot: CatalogSnapshot, name: str) -> Published:
        entry = snapshot.catalog.entries[name]
        described = self._contents.describe(snapshot.catalog, entry, name)
        is_catalog = self._contents.is_catalog(entry)
        return Published((*snapshot.names, name), described, entry.parameters, entry.scope.directory, is_catalog)

    async def _searched(self, snapshot: CatalogSnapshot, text: str, depth: int, caller: Caller) -> CatalogSnapshot:
        try:
            query = Query.parse([[text, depth], {}])
        except MalformedQuery as error:
            raise Problem(400, str(error), code="bad_query") from error
        return await self._catalogs.snapshot(await self._catalogs.search(snapshot, query, caller), caller)

    def _summary(self, snapshot: CatalogSnapshot, name: str) -> orjson.Fragment:
        """What a listing says of an entry, encoded; most of it once for each state of the catalog that holds it."""
        result = snapshot[name]
        holder = result.snapshot
        known = holder.state.derived.get(("summary", result.name))
        if known is None:
            described = self._contents.describe(holder.catalog, result.entry, result.name)
            kept = {key: described[key] for key in ("container", "driver", "description", "direct_access")}
            known = json_value({"is_catalog": self._contents.is_catalog(result.entry), **kept})
            holder.state.derived["summary", result.name] = known
        where = json_value({"name": name, "path": list(result.path_entry.names)})
        return orjson.Fragment(where[:-1] + b"," + known[1:])

    async def entry(self, request: web.Request) -> web.Response:
        """The description of an entry; with ``open``, what opening it with the given parameters tells as well."""
        caller = await self._paths.connect(request)
        result = await self._paths.entry(names_of(request), caller)
        answer = {
            "path": list(result.path_entry.names),
            "is_catalog": self._contents.is_catalog(result.entry),
            **self._contents.describe(result.snapshot.catalog, result.entry, result.name),
        }
        pairs = [(name, value) for name, value in request.query.items() if name != "open"]
        if request.query.get("open", "false").lower() in ("", "1", "true"):
            try:
                _, parameters = split_query(pairs)
            except SelectionError as error:
                raise Problem(400, str(error), code="bad_parameter") from error
            opened = await self._paths.opened(result, parameters, caller)
            answer |= _opened(opened, result.path_entry.names)
        return _json(request, answer)


def _opened(opened: OpenSource, path: Sequence[str]) -> dict[str, Any]:
    source, schema = opened.source, opened.source.schema
    address = "data/" + "/".join(quote(name, safe="") for name in path)
    return {
        "container": schema.container,
        "dtype": schema.dtype,
        "shape": None if schema.shape is None else list(schema.shape),
        "npartitions": schema.npartitions,
        "chunks": None if schema.chunks is None else [list(axis) for axis in schema.chunks],
        "metadata": {key: value for key, value in opened.metadata.items() if key not in _NOT_SHOWN},
        "formats": [] if isinstance(source, DataSet) else _formats(schema.container, address, schema.shape),
        **({"variables": _variables(source, address)} if isinstance(source, DataSet) else {}),
    }


def _formats(container: str, address: str, shape: Sequence[int | None] | None, query: str = "") -> list[dict[str, str]]:
    """The formats in which data can be had whole: CSV has two axes at most."""
    has_lines = container == "dataframe" or len(shape or ()) <= 2
    return [
        {"name": form.name, "media_type": form.media_type, "url": f"{address}.{form.name}{query}"}
        for form in formats.offered(container)
        if has_lines or form.name != "csv"
    ]


def _variables(source: DataSet, address: str) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "dimensions": list(source.dimensions[name]),
            "dtype": schema.dtype,
            "shape": list(schema.shape or ()),
            "chunks": [list(axis) for axis in schema.chunks or ()],
            "formats": _formats(schema.container, address, schema.shape, f"?variable={quote(name, safe='')}"),
        }
        for name, schema in source.variables.items()
    ]


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise Problem(400, f"{name}: expected a whole number, 0 or more, found {text[:40]!r}", code="bad_number")
    return int(text)


def _json(request: web.Request, answer: Mapping[str, Any], **encoded: Sequence[orjson.Fragment]) -> web.Response:
    return safe(request, json_value({**_readable(plain(answer)), **encoded}), JSON)


def _readable(value: Any) -> Any:
    """Plain values with times as ISO texts."""
    if isinstance(value, dict):
        if value.get("__datetime__") is True and isinstance(value.get("as_str"), str):
            return _iso(value["as_str"])
        return {key: _readable(item) for key, item in value.items()}
    return [_readable(item) for item in value] if isinstance(value, list) else value


def _iso(text: str) -> str:
    for form in (DATETIME_FORMAT, DATETIME_FORMAT.removesuffix("%z")):
        try:
            return datetime.strptime(text, form).isoformat()
        except ValueError:
            continue
    return text
