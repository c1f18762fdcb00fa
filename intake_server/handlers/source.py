"""``POST /v1/source``: open, read and search."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from intake_server.auth.authorizer import Caller, Guard
from intake_server.catalog import descriptions
from intake_server.catalog.search import MalformedQuery, Query
from intake_server.concurrency.cache import LatelyUsed
from intake_server.concurrency.thread_pool import Busy
from intake_server.errors import kind_of
from intake_server.handlers.messages import PACKED, SOURCE_ID, message_of, send_parts
from intake_server.serialization.control import pack, plain
from intake_server.serialization.negotiation import DATASET_FORMS, NoCompatibleFormat, Policy, negotiate
from intake_server.serving.catalogs import Catalogs
from intake_server.serving.lookup import Located
from intake_server.sources.pool import OpenSource, Sources
from intake_server.sources.reads import Reads
from intake_server.sources.specs import Recipe, SearchRecipe
from intake_server.templates.resolution import Resolved
from shared.errors import Problem
from shared.http.app import read_body, response
from shared.http.lifecycle import Answer

Message = dict[str, Any]
_DIRECT_BYTES = 16 * 2**20
_LARGEST_DIRECT = 2**18
_DIRECT_S = 3600.0
DATASETS_AS = "datasets-as"
"""The request header in which a client says how its zarr takes a data set."""


@dataclass(frozen=True, slots=True)
class _DirectAnswer:
    """An answer with which clients open the data themselves, empty when the arguments cannot travel."""

    packed: bytes

    @property
    def size(self) -> int:
        return len(self.packed) + 1024


class SourceHandlers:
    """The three actions."""

    def __init__(
        self,
        catalogs: Catalogs,
        sources: Sources,
        reads: Reads,
        guard: Guard,
        *,
        policy: Policy,
        max_body: int,
        send_timeout_s: float,
        infos: Any,
    ) -> None:
        self._catalogs = catalogs
        self._sources = sources
        self._reads = reads
        self._guard = guard
        self._policy = policy
        self._max_body = max_body
        self._send_timeout_s = send_timeout_s
        self._infos = infos
        self._direct: LatelyUsed[_DirectAnswer] = LatelyUsed(_DIRECT_BYTES, _LARGEST_DIRECT, _DIRECT_S, time.monotonic)
        self._actions: dict[str, Callable[[Mapping[str, str], Message, Caller], Awaitable[bytes]]] = {
            "open": self._open,
            "search": self._search,
        }

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Dispatch on ``action``."""
        caller = await self._guard.connect(request.headers)
        message = message_of(await read_body(request, self._max_body))
        if message.get("action") == "read":
            return await self._read(request, message, caller)
        return response(await self._act(request.headers, message, caller))

    async def _act(self, headers: Mapping[str, str], message: Message, caller: Caller) -> Answer:
        if "action" not in message:
            raise Problem(400, "the key 'action' is missing", code="missing_action")
        action = message["action"]
        handler = self._actions.get(action) if isinstance(action, str) else None
        if handler is None:
            raise Problem(400, f'"{str(action)[:60]}" not a valid source action', code="bad_action")
        return Answer(await handler(headers, message, caller), PACKED)

    async def _open(self, headers: Mapping[str, str], message: Message, caller: Caller) -> bytes:
        name = _name(message)
        parameters = _optional(message, "parameters", dict, {})
        available = _optional(message, "available_plugins", list, [])
        view = await self._catalogs.view(headers.get(SOURCE_ID), caller)
        located = await self._catalogs.locate(view, name, caller)
        await self._guard.check(caller, located.steps)
        if located.entry.direct_access != "forbid":
            answer = await self._open_directly(located, parameters, available)
            if answer is not None:
                return answer
        if self._catalogs.is_catalog(located.entry):
            return await self._open_catalog(located, parameters)
        return await self._open_here(located, parameters, caller, self._store_as(headers))

    async def _open_directly(self, located: Located, parameters: Message, available: list[Any]) -> bytes | None:
        """The answer with which the client opens the data itself, None when it should not."""
        entry = located.entry
        driver = descriptions.offered(entry, self._infos, available)
        if driver is None:
            if entry.direct_access == "force":
                wanted = [choice.driver for choice in entry.drivers]
                raise Problem(
                    400, f'client must have plugin "{wanted}" to access source "{located.name}"', code="missing_plugin"
                )
            return None
        resolved = await self._catalogs.resolve(entry, parameters)
        key = (located.view.catalog.generation, entry.digest(), located.name, driver, resolved.fingerprint)
        known = self._direct.look(key)
        if known is None:
            known = _DirectAnswer(self._direct_answer(located, driver, resolved))
            self._direct.put(key, known)
        return known.packed or None

    def _direct_answer(self, located: Located, driver: str, resolved: Resolved) -> bytes:
        """The encoded answer, empty when the arguments cannot travel."""
        entry = located.entry
        answer = self._catalogs.describe(located.view.catalog, entry, located.name)
        plugins = answer["plugin"]
        names = [driver, *(name for name in plugins if name != driver)] if isinstance(plugins, list) else [driver]
        arguments = plain({"metadata": resolved.metadata, **resolved.arguments}, otherwise=_Unpackable)
        if _has_unpackable(arguments):
            return b""
        return pack({**answer, "plugin": names, "driver": names, "args": arguments})

    async def _open_catalog(self, located: Located, parameters: Message) -> bytes:
        view = await self._catalogs.enter(located, parameters)
        resolved_dir = {"catalog_dir": located.entry.scope.directory}
        metadata = {**located.entry.metadata, **resolved_dir}
        return pack({"container": "catalog", "source_id": view.id, "metadata": metadata})

    def _store_as(self, headers: Mapping[str, str]) -> str:
        """How the client's zarr takes a data set: nothing else in a request tells its version."""
        wanted = headers.get(DATASETS_AS, self._policy.datasets_as)
        if wanted not in DATASET_FORMS:
            raise Problem(
                400, f"{DATASETS_AS}: expected {' or '.join(DATASET_FORMS)}, found {wanted!r:.40}", code="bad_header"
            )
        return wanted

    async def _open_here(self, located: Located, parameters: Message, caller: Caller, store_as: str) -> bytes:
        resolved = await self._catalogs.resolve(located.entry, parameters)
        target, target_resolved = await self._catalogs.target(located, resolved, caller)
        if target is not located:
            if self._catalogs.is_catalog(target.entry):
                return await self._open_catalog(target, {})
            return await self._open_target(located, target, target_resolved, store_as)
        opened = await self._sources.open(resolved, located.entry)
        return self._sources.answer(opened, located.view.id, located.name, resolved, located.steps, store_as=store_as)

    async def _open_target(self, alias: Located, target: Located, resolved: Resolved, store_as: str) -> bytes:
        """What an alias stands for, under the alias' own right of access as well as the target's."""
        opened = await self._sources.open(resolved, target.entry)
        steps = (*alias.steps[:-1], alias.step, target.step)
        return self._sources.answer(opened, target.view.id, target.name, resolved, steps, store_as=store_as)

    async def _read(self, request: web.Request, message: Message, caller: Caller) -> web.StreamResponse:
        form = self._form(message)
        recipe, opened = await self._source_of(message, caller)
        parts = await self._reads.read(opened, _partition(message), form)
        try:
            with self._reads.in_flight.sending(parts, recipe.name, lambda: _abort(request)) as sending:
                return await send_parts(request, sending, self._send_timeout_s)
        except Busy as error:
            raise _busy(error) from error

    async def _source_of(self, message: Message, caller: Caller) -> tuple[Recipe, OpenSource]:
        """What a read is about.

        Raises:
            Problem: As `_read` answers it.
        """
        source_id = message.get("source_id")
        if not isinstance(source_id, str):
            raise Problem(400, f"source_id: expected a text, found {kind_of(source_id)}", code="missing_source_id")
        recipe = await self._catalogs.recipe(source_id, caller)
        await self._guard.check(caller, recipe.trail)
        if isinstance(recipe, SearchRecipe) or self._catalogs.is_catalog(recipe.entry):
            raise Problem(400, "source_id: this is a catalog, which cannot be read", code="not_readable")
        resolved = await self._catalogs.resolve(recipe.entry, recipe.parameters)
        return recipe, await self._sources.reopen(recipe, resolved, recipe.entry)

    def _form(self, message: Message) -> Any:
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
        view = await self._catalogs.view(headers.get(SOURCE_ID), caller)
        return pack({"source_id": await self._catalogs.search(view, query, caller)})


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
