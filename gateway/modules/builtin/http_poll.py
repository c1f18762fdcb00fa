"""A JSON document that is fetched again and again, as ticks."""

from __future__ import annotations

from typing import Any, Final

import aiohttp
import orjson
import structlog

from gateway.config.models import read_span
from gateway.modules.api import Module, ModuleGateway
from gateway.schema.invalid import InvalidInput
from gateway.schema.record import at_path

log = structlog.get_logger("gateway.modules")
MOST_BYTES: Final = 16 * 2**20


class HttpPoll(Module):
    """Fetches a JSON document regularly and ticks what is in it, when it has changed.

    Args:
        url: The document.
        channel: Where it ticks.
        interval: Time between requests: seconds, or a text such as ``30s``.
        key: Key of a basket.
        items: Dotted path of the object, or of the list of objects, in the document; by default the whole.
        fields: For every member of the struct, a dotted path in the object; by default the members of both.
        headers: Request headers, such as ``Authorization``.
        timeout: How long one request may take.
        only_changes: Tick only when the document differs from the one before.
    """

    def __init__(
        self,
        url: str,
        channel: str,
        interval: float | str = 10.0,
        key: str | None = None,
        items: str | None = None,
        fields: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        timeout: float | str = 10.0,
        only_changes: bool = True,
    ) -> None:
        self._url = url
        self._channel = channel
        self._interval = float(read_span(interval))
        self._key = key
        self._items = tuple(items.split(".")) if items else ()
        self._fields = fields
        self._headers = headers or {}
        self._timeout = aiohttp.ClientTimeout(total=float(read_span(timeout)))
        self._only_changes = only_changes
        self._paths: dict[str, tuple[str, ...]] = {}
        self._session: aiohttp.ClientSession | None = None
        self._etag: str | None = None
        self._before: bytes | None = None

    def connect(self, gw: ModuleGateway) -> None:
        gw.writes(self._channel, self._key)
        known = gw.fields(self._channel)
        for name in self._fields or ():
            if name not in known:
                raise ValueError(f"fields: {name!r} is not a member of {self._channel}")
        given = self._fields or {name: name for name in known}
        self._paths = {name: tuple(path.split(".")) for name, path in given.items()}

        async def again() -> None:
            await self.poll(gw)

        gw.every(self._interval, again)

    async def start(self, gw: ModuleGateway) -> None:
        self._session = aiohttp.ClientSession(timeout=self._timeout, headers=self._headers)
        gw.task(self.poll(gw))

    async def stop(self, gw: ModuleGateway) -> None:  # noqa: ARG002 - the interface gives it
        if self._session is not None:
            await self._session.close()

    async def poll(self, gw: ModuleGateway) -> None:
        """Fetch once, and tick what is new."""
        assert self._session is not None
        headers = {"If-None-Match": self._etag} if self._etag else {}
        try:
            async with self._session.get(self._url, headers=headers) as answer:
                if answer.status == 304:
                    return
                if answer.status != 200:
                    log.warning("no document", url=self._url, status=answer.status)
                    return
                body = await answer.content.read(MOST_BYTES + 1)
                while len(body) <= MOST_BYTES and (more := await answer.content.read(MOST_BYTES)):
                    body += more
                etag = answer.headers.get("ETag")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            log.warning("no document", url=self._url, reason=str(error) or type(error).__name__)
            return
        if len(body) > MOST_BYTES:
            log.warning("the document is too large", url=self._url, limit=MOST_BYTES)
            return
        await self._tick(gw, body)
        self._etag = etag if self._only_changes else None

    async def _tick(self, gw: ModuleGateway, body: bytes) -> None:
        if self._only_changes and body == self._before:
            return
        try:
            found = at_path(orjson.loads(body), self._items) if self._items else orjson.loads(body)
            objects = found if isinstance(found, list) else [found]
            structs = [self._struct(item) for item in objects if isinstance(item, dict)]
            if len(structs) < len(objects):
                log.warning("the document has no objects there", url=self._url, items=".".join(self._items))
            pending = gw.tick(self._channel, structs, self._key) if structs else None
            if pending is not None:
                await pending
        except orjson.JSONDecodeError as error:
            log.warning("the document is no JSON", url=self._url, reason=str(error))
        except InvalidInput as invalid:
            log.warning("the document does not fit", url=self._url, channel=self._channel, errors=invalid.errors)
        else:
            self._before = body

    def _struct(self, item: dict[str, Any]) -> dict[str, Any]:
        found = {name: at_path(item, path) for name, path in self._paths.items()}
        return {name: value for name, value in found.items() if value is not None}
