"""Cache flushes across servers: a device may be connected to one server and have its session at another.

Every flush is published; the other servers send it to the devices that are connected to them. A server that may have
missed a flush disconnects its devices: they reconnect, and `hello` says what is current.
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


class SharedDeviceListeners:
    """The connected devices of a deployment; a `DeviceListeners`."""

    def __init__(self, local: DeviceListeners, sessions: RedisSessions) -> None:
        self._local = local
        self._sessions = sessions
        self._channel = f"{sessions.prefix}flushes"
        self._tasks = Supervisor()

    async def open(self) -> None:
        """Subscribe to the flushes of other servers."""
        subscribed = asyncio.Event()
        self._tasks.loop("flushes of other servers", lambda: self._listen(subscribed))
        await subscribed.wait()

    async def close(self) -> None:
        """Unsubscribe."""
        await self._tasks.stop()

    def flush_cache(self, device: str, last_flush_ms: int) -> None:
        """Send a device the event to drop everything, wherever it is connected."""
        self._local.flush_cache(device, last_flush_ms)
        self._publish(device, last_flush_ms)

    def flush_features(self, device: str, features: Sequence[str]) -> None:
        """Send a device the event to drop some features, wherever it is connected."""
        self._local.flush_features(device, features)
        self._publish(device, list(features))

    def disconnect(self, device: str) -> None:
        """Disconnect a device; every server does so when the configuration no longer registers it."""
        self._local.disconnect(device)

    def disconnect_all(self) -> None:
        """End the connections to this server."""
        self._local.disconnect_all()

    def _publish(self, device: str, what: int | list[str]) -> None:
        self._sessions.client.command("PUBLISH", self._channel, orjson.dumps([self._sessions.server_id, device, what]))

    async def _listen(self, subscribed: asyncio.Event) -> None:
        from redis.exceptions import RedisError

        while True:
            try:
                async with self._sessions.client.redis.pubsub() as channel:
                    await channel.subscribe(self._channel)
                    while True:
                        message = await channel.get_message(timeout=LISTEN_S)
                        if message is not None and message["type"] == "subscribe":
                            subscribed.set()
                        elif message is not None and message["type"] == "message":
                            self._receive(message["data"])
            except (RedisError, OSError, TimeoutError) as error:
                subscribed.set()
                log.warning("cannot receive the flushes of other servers", reason=str(error))
                self._local.disconnect_all()
                await asyncio.sleep(RETRY_S)

    def _receive(self, data: Any) -> None:
        try:
            sender, device, what = orjson.loads(data)
        except (TypeError, ValueError) as error:
            log.warning("message is not a flush", reason=str(error))
            return
        if sender == self._sessions.server_id:
            return
        if isinstance(what, int):
            self._local.flush_cache(device, what)
        else:
            self._local.flush_features(device, what)
