"""``POST /v1/source``: open, read and search."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from intake_server.auth.authorizer import Authorizer, Caller
from intake_server.catalog import descriptions
from intake_server.catalog.descriptions import DriverInfo
from intake_server.catalog.search import MalformedQuery, Query
from intake_server.concurrency.cache import LruCache
from intake_server.concurrency.thread_pool import Busy
from intake_server.errors import kind_of
from intake_server.handlers.messages import SOURCE_ID, message_of, packed, send_parts
from intake_server.serialization.control import pack, plain
from intake_server.serialization.negotiation import DATASET_FORMS, NoCompatibleFormat, Policy, WireFormat, negotiate
from intake_server.serving.catalogs import Catalogs
from intake_server.serving.contents import Contents
from intake_server.serving.lookup import LookupResult
from intake_server.sources.pool import OpenSource, SourcePool
from intake_server.sources.reads import Reads
from intake_server.sources.specs import SourceSpec
from intake_server.templates.resolution import Resolved
from shared.errors import Problem
from shared.http.app import read_body

Message = dict[str, Any]
_DIRECT_BYTES = 16 * 2**20
_LARGEST_DIRECT = 2**18
_DIRECT_S = 3600.0
DATASETS_AS = "datasets-as"
"""The request header in which a client says how its zarr takes a data set."""


class SourceHandlers:
    """The three actions."""

    def __init__(
        self,
        catalogs: Catalogs,
        contents: Contents,
        sources: SourcePool,
        reads: Reads,
        authorizer: Authorizer,
        *,
        policy: Policy,
        max_body: int,
        send_timeout_s: float,
        drivers: Mapping[str, DriverInfo],
    ) -> None:
        self._catalogs = catalogs
        self._contents = contents
        self._sources = sources
        self._reads = reads
        self._authorizer = authorizer
        self._policy = policy
        self._max_body = max_body
        self._send_timeout_s = send_timeout_s
        self._drivers = drivers
        self._direct_answers = LruCache[bytes](
            most_bytes=_DIRECT_BYTES, largest=_LARGEST_DIRECT, idle_s=_DIRECT_S, clock=time.monotonic
        )

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Dispatch on ``action``."""
        caller = await self._authorizer.connect(request.headers)
        message = message_of(await read_body(request, self._max_body))
        if "action" not in message:
            raise Problem(400, "the key 'action' is missing", code="missing_action")
        match message["action"]:
            case "open":
                return packed(await self._open(request.headers, message, caller))
            case "read":
                return await self._read(request, message, caller)
            case "search":
                return packed(await self._search(request.headers, message, caller))
            case action:
                raise Problem(400, f'"{str(action)[:60]}" not a valid source action', code="bad_action")

    async def _open(self, headers: Mapping[str, str], message: Message, caller: Caller) -> bytes:
        name = _name(message)
        parameters = _optional(message, "parameters", dict, {})
        available = _optional(message, "available_plugins", list, [])
        snapshot = await self._catalogs.snapshot(headers.get(SOURCE_ID), caller)
        result = await self._catalogs.lookup(snapshot, name, caller)
        await self._authorizer.check(caller, result.path)
        driver = self._client_driver(result, available)
        is_catalog = self._contents.is_catalog(result.entry)
        store_as = "" if driver is not None or is_catalog else self._store_as(headers)
        resolved = await self._catalogs.resolve(result.entry, parameters)
        if driver is not None:
            answer = self._direct_answer(result, driver, resolved)
            if answer:
                return answer
            store_as = self._store_as(headers)
        if is_catalog:
            return await self._open_catalog(result, resolved)
        target, resolved = await self._catalogs.follow_aliases(result, resolved, caller)
        if target is result:
            path = result.path
        elif self._contents.is_catalog(target.entry):
            return await self._open_catalog(target, resolved)
        else:  # an alias: under its own right of access as well as the target's
            path = (*result.path, target.path_entry)
        opened = await self._sources.open(resolved, target.entry)
        parent = target.snapshot.source_id
        return self._sources.answer(opened, parent, target.name, resolved, path, store_as=store_as)

    def _client_driver(self, result: LookupResult, available: list[Any]) -> str | None:
        """The driver with which the client opens the data itself, None when it should not.

        Raises:
            Problem: 400, it must, and has no such driver.
        """
        entry = result.entry
        if entry.direct_access == "forbid":
            return None
        driver = descriptions.offered(entry, self._drivers, available)
        if driver is None and entry.direct_access == "force":
            wanted = [choice.driver for choice in entry.drivers]
            raise Problem(
                400, f'client must have plugin "{wanted}" to access source "{result.name}"', code="missing_plugin"
            )
        return driver

    def _direct_answer(self, result: LookupResult, driver: str, resolved: Resolved) -> bytes:
        """The answer with which the client opens the data itself, empty when the arguments cannot travel."""
        key = (result.snapshot.catalog.generation, result.entry.digest(), result.name, driver, resolved.fingerprint)
        answer = self._direct_answers.get(key)
        if answer is None:
            answer = self._encode_direct_answer(result, driver, resolved)
            self._direct_answers.put(key, answer, len(answer) + 1024)
        return answer

    def _encode_direct_answer(self, result: LookupResult, driver: str, resolved: Resolved) -> bytes:
        answer = self._contents.describe(result.snapshot.catalog, result.entry, result.name)
        plugins = answer["plugin"]
        names = [driver, *(name for name in plugins if name != driver)] if isinstance(plugins, list) else [driver]
        arguments = plain({"metadata": resolved.metadata, **resolved.arguments}, otherwise=_Unpackable)
        if _has_unpackable(arguments):
            return b""
        return pack({**answer, "plugin": names, "driver": names, "args": arguments})

    async def _open_catalog(self, result: LookupResult, resolved: Resolved) -> bytes:
        snapshot = await self._catalogs.open_nested(result, resolved)
        metadata = {**result.entry.metadata, "catalog_dir": result.entry.scope.directory}
        return pack({"container": "catalog", "source_id": snapshot.source_id, "metadata": metadata})

    def _store_as(self, headers: Mapping[str, str]) -> str:
        """How the client's zarr takes a data set: nothing else in a request tells its version."""
        wanted = headers.get(DATASETS_AS, self._policy.datasets_as)
        if wanted not in DATASET_FORMS:
            raise Problem(
                400, f"{DATASETS_AS}: expected {' or '.join(DATASET_FORMS)}, found {wanted!r:.40}", code="bad_header"
            )
        return wanted

    async def _read(self, request: web.Request, message: Message, caller: Caller) -> web.StreamResponse:
        form = self._form(message)
        spec, opened = await self._source_of(message, caller)
        parts = await self._reads.read(opened, _partition(message), form)
        try:
            with self._reads.in_flight.sending(parts, spec.name, lambda: _abort(request)) as sending:
                return await send_parts(request, sending, self._send_timeout_s)
        except Busy as error:
            raise _busy(error) from error

    async def _source_of(self, message: Message, caller: Caller) -> tuple[SourceSpec, OpenSource]:
        """What a read is about.

        Raises:
            Problem: As `_read` answers it.
        """
        source_id = message.get("source_id")
        if not isinstance(source_id, str):
            raise Problem(400, f"source_id: expected a text, found {kind_of(source_id)}", code="missing_source_id")
        spec = await self._catalogs.spec(source_id, caller)
        await self._authorizer.check(caller, spec.path)
        if spec.query is not None or self._contents.is_catalog(spec.entry):
            raise Problem(400, "source_id: this is a catalog, which cannot be read", code="not_readable")
        resolved = await self._catalogs.resolve(spec.entry, spec.parameters)
        return spec, await self._sources.reopen(spec, resolved, spec.entry)

    def _form(self, message: Message) -> WireFormat:
        formats = _texts(message, "accepted_formats")
        compressions = _texts(message, "accepted_compression")
        try:
            return negotiate(formats, compressions, self._policy)
        except NoCompatibleFormat as error:
            raise Problem(400, str(error), code="no_compatible_format") from error

    async def _search(self, headers: Mapping[str, str], message: Message, caller: Caller) -> bytes:
        try:
            query = Query.parse(message.get("query"))
        except MalformedQuery as error:
            raise Problem(400, str(error), code="bad_query") from error
        snapshot = await self._catalogs.snapshot(headers.get(SOURCE_ID), caller)
        return pack({"source_id": await self._catalogs.search(snapshot, query, caller)})


class _Unpackable:
    """Stands for an argument that cannot travel."""

    def __init__(self, _value: Any) -> None:
        """What it was does not matter."""


def _has_unpackable(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_unpackable(item) for item in value.values())
    if isinstance(value, list):
        return any(_has_unpackable(item) for item in value)
    return isinstance(value, _Unpackable)


def _name(message: Message) -> str | list[str]:
    name = message.get("name")
    if isinstance(name, str):
        return name
    if isinstance(name, list) and name and all(isinstance(part, str) for part in name):
        return name
    raise Problem(400, f"name: expected a text or a list of texts, found {kind_of(name)}", code="missing_name")


def _optional(message: Message, key: str, kind: type, default: Any) -> Any:
    value = message.get(key)
    if value is None:
        return default
    if not isinstance(value, kind):
        expected = "a map" if kind is dict else "a list"
        raise Problem(400, f"{key}: expected {expected}, found {kind_of(value)}", code="malformed")
    return value


def _texts(message: Message, key: str) -> list[str] | None:
    value = _optional(message, key, list, None)
    return None if value is None else [item for item in value if isinstance(item, str)]


def _partition(message: Message) -> Any:
    """The partition that a message names, as something that can be compared.

    Raises:
        Problem: 400, it is neither an integer nor a list of integers and texts.
    """
    value = message.get("partition")
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, list) and all(isinstance(item, (int, str)) and not isinstance(item, bool) for item in value):
        return tuple(value)
    raise Problem(
        400, f"partition: expected an integer or a list of integers, found {value!r:.60}", code="bad_partition"
    )


def _busy(error: Busy) -> Problem:
    return Problem(503, str(error), code="busy", headers={"Retry-After": "1"})


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
