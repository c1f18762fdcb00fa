"""An impression server that shares its sessions with others through a common store.

A session is in the memory of one server at a time, its owner, and requests are decided there as ever. A request
for a session that is not in memory takes it over first. The previous owner is not involved: it finds out when
the store rejects its next change, drops its copy, and retries. So sticky routing makes
this fast, and nothing makes it wrong.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import structlog

from iserver.configuration.compiled import Configuration
from iserver.configuration.invalidation import Flush
from iserver.engine.engine import Engine
from iserver.engine.interfaces import EngineEnvironment, SharedSessionStore
from iserver.errors import FencedError, NotStoredError, RequestError
from iserver.fdl.model import JsonObject
from iserver.protocol.feature_requests import Origin
from iserver.sessions.registry import Keys
from iserver.sessions.session import Session

log = structlog.get_logger("iserver.engine.shared")

T = TypeVar("T")
MOST_TRIES = 24
OVERDUE_MS = 5000
"""How long an expired session is left to its owner; the clocks of servers must agree better than this."""


class SharedEngine(Engine):
    """One of several impression servers with the same sessions.

    Args:
        store: Where the sessions are.
        back_off: Waits a little, longer and more at random the more often something was tried.
    """

    def __init__(
        self,
        configuration: Configuration,
        store: SharedSessionStore,
        environment: EngineEnvironment,
        *,
        back_off: Callable[[int], Awaitable[None]],
    ) -> None:
        super().__init__(configuration, store, environment)
        self._shared_store = store
        self._back_off = back_off

    # --- requests ---------------------------------------------------------------------------------

    def features(self, body: JsonObject, origin: Origin) -> Awaitable[bytes]:
        """Answer `features` (§3), whichever server owns the session."""
        names = self.configuration.definition.keys
        keys = self._keys(body.get("args")) or [*origin.keys(names).items()]
        return self._carry_out(keys, lambda: Engine.features(self, body, origin))

    def signal(self, body: JsonObject) -> Awaitable[None]:
        """Carry out `signal` (§4), whichever server owns the session."""
        given = body if body.get("id") is None else body["id"]
        return self._carry_out(self._keys(given), lambda: Engine.signal(self, body))

    def external(self, body: JsonObject) -> Awaitable[None]:
        """Carry out `external` (§5), whichever server owns the session."""
        given = body if body.get("id") is None else body["id"]
        return self._carry_out(self._keys(given), lambda: Engine.external(self, body))

    async def refresh(self, persistent_id: str) -> None:
        """Make sure that what is known here of a device's session is what is stored."""
        await self._shared_store.find([(self.configuration.definition.persistent_key, persistent_id)])

    def _keys(self, given: object) -> list[tuple[str, str]]:
        if not isinstance(given, Mapping):
            return []
        pairs = ((name, given.get(name)) for name in self.configuration.definition.keys)
        return [(name, value) for name, value in pairs if isinstance(value, str)]

    def _is_here(self, keys: Keys) -> bool:
        """Whether a lookup by these keys needs no other server's knowledge: the persistent key decides alone."""
        if not keys or keys[0][0] != self.configuration.definition.persistent_key:
            return not keys
        return self.sessions.by_persistent_id(keys[0][1], self._clock_ms()) is not None

    async def _carry_out(self, keys: Keys, call: Callable[[], Awaitable[T]]) -> T:
        """Do something with the session that keys lead to, again and again until no other server has interfered.

        An error counts only when it was decided on what is stored: a copy may be older.
        """
        is_trusting = self._is_here(keys)
        for number in range(MOST_TRIES):
            if not is_trusting:
                await self._shared_store.find(keys)
            losses = self._shared_store.losses
            try:
                return await call()
            except FencedError:
                await self._back_off(number)
                is_trusting = self._is_here(keys)
            except NotStoredError:
                raise
            except RequestError:
                if not keys or (not is_trusting and losses == self._shared_store.losses) or number == MOST_TRIES - 1:
                    raise
                is_trusting = False
        raise NotStoredError("too many servers want this session at the same time")

    # --- ends of sessions -------------------------------------------------------------------------

    async def adopt_overdue(self) -> None:
        """Take over what is over and was not finished by its owner, who may be dead.

        Raises:
            NotStoredError: The store does not answer.
        """
        taken = await self._take_due(self._clock_ms() - OVERDUE_MS)
        alive = [session for session in taken if self.sessions.holds(session)]
        try:
            await self._shared_store.store(*alive)  # by the limits in force they are not over yet: so let it be known
        except FencedError:
            log.debug("sessions are taken over from both sides")
        if taken:
            log.info("sessions of another server taken over", sessions=len(taken))

    async def retire_all(self) -> None:
        """End every active session of every server (§7).

        Raises:
            NotStoredError: As `sweep`, or other servers took sessions again and again.
        """
        for number in range(MOST_TRIES):
            await self._take_due(None)
            try:
                await super().retire_all()
            except FencedError:
                await self._back_off(number)
            else:
                return
        raise NotStoredError("other servers take sessions faster than they can be ended")

    @property
    def set_aside_count(self) -> int:
        """Sessions that cannot be finished, or not even be read."""
        return super().set_aside_count + self._shared_store.unreadable_count

    async def _take_due(self, latest_ms: int | None) -> list[Session]:
        taken, after = await self._shared_store.take_due(latest_ms, after=None)
        while after is not None:
            found, after = await self._shared_store.take_due(latest_ms, after=after)
            taken += found
        return taken

    # --- configuration ----------------------------------------------------------------------------

    async def _flush(self, flush: Flush) -> None:
        for number in range(MOST_TRIES):
            try:
                await self.refresh(flush.device)
                await super()._flush(flush)
            except FencedError:
                await self._back_off(number)
            else:
                return
