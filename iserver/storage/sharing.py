"""The parts of a server that shares its sessions through Redis, put together."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import structlog

from iserver.configuration import Configuration
from iserver.plugins import PluginRunner, SessionTurns
from iserver.sharing import SharedServer
from iserver.storage.redis_finished import FinishedQueue, SharedEtl
from iserver.storage.redis_flushes import SharedStreams
from iserver.storage.redis_link import Link
from iserver.storage.redis_sessions import RedisSessions, pause
from iserver.storage.tables import Tables
from iserver.streams import Streams
from iserver.upkeep import give_way

log = structlog.get_logger("iserver.redis")

CLOCKS_MS = 2000
"""How much the clock of a server may differ from that of Redis without a word: less than half of `OVERDUE_MS`."""


class Sharing:
    """What a server shares with others.

    Attributes:
        sessions: The sessions in Redis.
        server: The server.
        etl: Writes what any of the servers has finished.
    """

    def __init__(self, sessions: RedisSessions, server: SharedServer, etl: SharedEtl, listeners: SharedStreams) -> None:
        self.sessions = sessions
        self.server = server
        self.etl = etl
        self._listeners = listeners

    @classmethod
    async def open(
        cls,
        link: Link,
        url: str,
        prefix: str,
        configuration: Configuration,
        streams: Streams,
        open_warehouse: Callable[[], Tables],
        *,
        clock_ms: Callable[[], int],
        new_id: Callable[[], str],
        plugins: PluginRunner | None,
        logs_sessions: bool,
    ) -> Sharing:
        """Join the servers with a prefix.

        Raises:
            NotStoredError: Redis does not answer.
        """
        sessions = RedisSessions(link, prefix, secrets.token_hex(8), clock_ms)
        await _compare_clocks(link, clock_ms)
        await sessions.keep_definition(configuration.definition)
        listeners = SharedStreams(streams, sessions)
        server = SharedServer(
            configuration,
            sessions,
            listeners=listeners,
            clock_ms=clock_ms,
            new_id=new_id,
            turns=SessionTurns(),
            give_way=give_way,
            pause=pause,
            plugins=plugins,
            logs_sessions=logs_sessions,
        )
        sessions.serve(server)
        await listeners.open()
        etl = SharedEtl(FinishedQueue(sessions, url), open_warehouse, clock_ms=clock_ms, new_id=new_id)
        return cls(sessions, server, etl, listeners)

    async def tend(self) -> None:
        """Care for what servers that died have left behind."""
        await self.sessions.look()
        await self.server.adopt_overdue()

    async def close(self) -> None:
        """Leave. The sessions stay where they are, for the others."""
        await self._listeners.close()
        await self.sessions.close()


async def _compare_clocks(link: Link, clock_ms: Callable[[], int]) -> None:
    """Say it when sessions would be over here at another time than elsewhere."""
    before_ms = clock_ms()
    seconds, microseconds = await link.command("TIME")
    redis_ms, after_ms = int(seconds) * 1000 + int(microseconds) // 1000, clock_ms()
    difference_ms = max(before_ms - redis_ms, redis_ms - after_ms)  # it was some time in between
    if difference_ms > CLOCKS_MS:
        log.warning("the clock differs from that of Redis", redis=link.shown, seconds=round(difference_ms / 1000, 1))
