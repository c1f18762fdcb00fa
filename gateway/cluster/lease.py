"""Which gateway of a bus runs the modules: a lease in Redis, held by one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import structlog

from gateway.cluster.redis_scripts import HOLD, RELEASE
from shared.errors import StartupError

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = structlog.get_logger("gateway.bus")
LEASE_MS: Final = 6000


class Lease:
    """Acquires a lease and renews it.

    Args:
        redis: The connection.
        key: The lease.
        owner: Who wants it.
        failures: The exceptions of a connection that is broken.
        lease_ms: How long it lasts when it is not renewed, in milliseconds; it is renewed three times as often.
    """

    def __init__(
        self,
        redis: Redis,
        key: str,
        owner: str,
        failures: tuple[type[BaseException], ...],
        lease_ms: int = LEASE_MS,
    ) -> None:
        self._key = key
        self._owner = owner
        self._failures = failures
        self._lease_ms = lease_ms
        self._hold = redis.register_script(HOLD)
        self._release = redis.register_script(RELEASE)
        self.is_held = False

    async def live(self, begin: Callable[[], Awaitable[None]], end: Callable[[], Awaitable[None]]) -> None:
        """Call `begin` whenever the lease has been won and `end` whenever it has been lost, until cancelled."""
        try:
            while True:
                await self._step(begin, end)
                await asyncio.sleep(self._lease_ms / 3000)
        finally:
            await self._lose(end)

    async def _step(self, begin: Callable[[], Awaitable[None]], end: Callable[[], Awaitable[None]]) -> None:
        try:
            async with asyncio.timeout(self._lease_ms / 2000):
                is_ours = bool(await self._hold(keys=[self._key], args=[self._owner, self._lease_ms]))
        except self._failures as error:
            log.warning("cannot renew the lease on the modules", reason=str(error))
            is_ours = False
        if is_ours and not self.is_held:
            self.is_held = True
            log.info("this gateway runs the modules now")
            try:
                await begin()
            except StartupError as error:
                log.error("the modules do not start here", reason=str(error))
                await self._lose(end)
        elif self.is_held and not is_ours:
            self.is_held = False
            log.warning("this gateway does not run the modules any more")
            await end()

    async def _lose(self, end: Callable[[], Awaitable[None]]) -> None:
        if not self.is_held:
            return
        self.is_held = False
        await end()
        try:
            await self._release(keys=[self._key], args=[self._owner])
        except self._failures as error:
            log.warning("the lease on the modules is left to run out", reason=str(error))
