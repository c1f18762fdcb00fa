"""Telling devices on every server what to drop: a device may listen at one server and have its session at another.

What a server flushes it publishes; every other server tells the devices that listen there. A server that may have
missed something hangs up on its devices: they come back, and `hello` tells them what counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
import structlog

from iserver.configuration.invalidation import DeviceListeners
from iserver.storage.redis.sessions import RedisSessions
from shared.tasks import Supervisor

log = structlog.get_logger("iserver.redis")

LISTEN_S = 1.0
RETRY_S = 0.5


class SharedStreams:
    """The connected devices of a deployment; a `DeviceListeners`."""

    def __init__(self, streams: DeviceListeners, sessions: RedisSessions) -> None:
        self._streams = streams
        self._sessions = sessions
        self._channel = f"{sessions.prefix}flushes"
        self._tasks = Supervisor()

    async def open(self) -> None:
        """Begin to hear of the other servers."""
        heard = asyncio.Event()
        self._tasks.loop("flushes of other servers", lambda: self._listen(heard))
        await heard.wait()

    async def close(self) -> None:
        """Hear no more."""
        await self._tasks.stop()

    def flush_cache(self, device: str, last_flush_ms: int) -> None:
        """Tell a device to drop everything, wherever it is connected."""
        self._streams.flush_cache(device, last_flush_ms)
        self._publish(device, last_flush_ms)

    def flush_features(self, device: str, features: Sequence[str]) -> None:
        """Tell a device to drop some features, wherever it is connected."""
        self._streams.flush_features(device, features)
        self._publish(device, list(features))

    def dismiss(self, device: str) -> None:
        """Hang up on a device; every server does so when it hears that the device is not registered any more."""
        self._streams.dismiss(device)

    def disconnect_all(self) -> None:
        """End the connections to this server."""
        self._streams.disconnect_all()

    def _publish(self, device: str, what: int | list[str]) -> None:
        self._sessions.link.command("PUBLISH", self._channel, orjson.dumps([self._sessions.me, device, what]))

    async def _listen(self, heard: asyncio.Event) -> None:
        from redis.exceptions import RedisError

        while True:
            try:
                async with self._sessions.link.redis.pubsub() as channel:
                    await channel.subscribe(self._channel)
                    while True:
                        message = await channel.get_message(timeout=LISTEN_S)
                        if message is not None and message["type"] == "subscribe":
                            heard.set()
                        elif message is not None and message["type"] == "message":
                            self._hear(message["data"])
            except (RedisError, OSError, TimeoutError) as error:
                heard.set()
                log.warning("cannot hear what other servers flush", reason=str(error))
                self._streams.disconnect_all()
                await asyncio.sleep(RETRY_S)

    def _hear(self, data: Any) -> None:
        try:
            sender, device, what = orjson.loads(data)
        except (TypeError, ValueError) as error:
            log.warning("not a flush of a server", reason=str(error))
            return
        if sender == self._sessions.me:
            return
        if isinstance(what, int):
            self._streams.flush_cache(device, what)
        else:
            self._streams.flush_features(device, what)
