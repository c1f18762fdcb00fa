"""Another server that speaks this protocol, gateway or csp-gateway, as a source of ticks."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import orjson
import structlog

from gateway.config.models import read_span
from gateway.modules.api import Module, ModuleGateway
from gateway.schema.invalid import InvalidInput

log = structlog.get_logger("gateway.modules")
REMEMBERED: Final = 4096


class Upstream(Module):
    """Follows channels of another server over its stream, and ticks them here with their ids.

    A broken connection is made again, with growing pauses. A gateway then sends what was missed, a csp-gateway does
    not: there, ticks of the meantime are lost.

    Args:
        url: The server, such as ``http://prices:8000``; with a path, that is the API's base instead of ``/api/v1``.
        channels: Names, or an object from the name there to the name here.
        api_key: The key, where the server needs one.
        silence: After how long without a message, heartbeats included, the connection is made anew.
        retry: The first pause before that; it doubles up to ten times as long.
    """

    def __init__(
        self,
        url: str,
        channels: list[str] | dict[str, str],
        api_key: str | None = None,
        silence: float | str = 15.0,
        retry: float | str = 0.5,
    ) -> None:
        if urlsplit(url).scheme not in ("http", "https"):
            raise ValueError(f"url: {url!r} is no http address")
        base = url.rstrip("/")
        self._stream = (base if urlsplit(base).path else f"{base}/api/v1") + "/stream"
        self._here = dict(channels) if isinstance(channels, dict) else {name: name for name in channels}
        self._api_key = api_key
        self._silence = float(read_span(silence))
        self._retry = float(read_span(retry))
        self._fields: dict[str, set[str]] = {}
        self._last: dict[tuple[str, str | None], str] = {}
        self._seen: dict[str, tuple[set[str], deque[str]]] = {name: (set(), deque()) for name in self._here}

    def connect(self, gw: ModuleGateway) -> None:
        for channel in self._here.values():
            self._fields[channel] = set(gw.fields(channel))
            for _, key in gw.paths(channel):
                gw.writes(channel, key)

    async def start(self, gw: ModuleGateway) -> None:
        gw.task(self._follow(gw))

    async def _follow(self, gw: ModuleGateway) -> None:
        pause = self._retry
        async with aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.ws_connect(
                        self._stream,
                        params={"token": self._api_key} if self._api_key else None,
                        max_msg_size=0,
                        timeout=aiohttp.ClientWSTimeout(ws_receive=self._silence),
                    ) as socket:
                        log.info("following", upstream=self._stream, channels=list(self._here))
                        for frame in self._subscriptions(gw):
                            await socket.send_str(frame.decode())
                        async for message in socket:
                            if message.type is aiohttp.WSMsgType.TEXT:
                                pause = self._retry
                                await self._receive(gw, message.data)
                    reason = f"closed with {socket.close_code}"
                except (aiohttp.ClientError, OSError, TimeoutError) as error:
                    reason = str(error) or type(error).__name__
                log.warning("the connection is lost", upstream=self._stream, reason=reason, pause_s=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, self._retry * 10)

    def _subscriptions(self, gw: ModuleGateway) -> Iterator[bytes]:
        yield orjson.dumps({"action": "subscribe", "channel": "heartbeat"})
        for there, here in self._here.items():
            for _, key in gw.paths(here):
                action: dict[str, Any] = {"action": "subscribe", "channel": there, "snapshot": True}
                if key is not None:
                    action["key"] = key
                after = self._last.get((there, key))
                if after is not None:
                    action["after"] = after
                yield orjson.dumps(action)

    async def _receive(self, gw: ModuleGateway, text: str) -> None:
        try:
            message = orjson.loads(text)
        except orjson.JSONDecodeError:
            return
        there = message.get("channel") if isinstance(message, dict) else None
        here, data = self._here.get(there or ""), message.get("data") if isinstance(message, dict) else None
        if there is None or here is None or not isinstance(data, list):
            return
        key = message.get("key")
        fresh = [self._fitting(here, item) for item in data if self._is_new(there, key, item)]
        if not fresh:
            return
        try:
            pending = gw.tick(here, fresh, key)
            if pending is not None:
                await pending
        except (InvalidInput, KeyError) as error:
            log.warning("a tick does not fit", upstream=self._stream, channel=here, key=key, reason=str(error))

    def _fitting(self, here: str, item: Any) -> Any:
        """The members that are declared here; others of the upstream server are dropped."""
        known = self._fields[here]
        return {name: value for name, value in item.items() if name in known} if isinstance(item, dict) else item

    def _is_new(self, there: str, key: str | None, item: Any) -> bool:
        """Whether a struct has not come before: after a new connection some come again."""
        record_id = item.get("id") if isinstance(item, dict) else None
        if not isinstance(record_id, str):
            return True
        self._last[there, key] = record_id
        mark = record_id if key is None else f"{key}\0{record_id}"
        seen, order = self._seen[there]
        if mark in seen:
            return False
        seen.add(mark)
        order.append(mark)
        if len(order) > REMEMBERED:
            seen.discard(order.popleft())
        return True
