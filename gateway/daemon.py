"""The life cycle of a gateway: serve, reload, close connections."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

from aiohttp import web

from gateway.app import Parts, build
from gateway.config.declared import Declared, needs_restart
from gateway.handlers.context import Gateway
from gateway.settings import Settings, access_of, read_declared
from shared.daemon import WebService
from shared.errors import StartupError
from shared.file_watch import file_changes


def service(settings: Settings, declared: Declared) -> WebService:
    """A gateway as the daemon's service."""
    folder = None if settings.channel_file is None else settings.channel_file.resolve().parent
    parts = build(declared, folder=folder, journal=settings.journal, bus=settings.bus)

    async def close_streams() -> None:
        for channel in parts.gateway.engine.channels:
            for waiters in (channel.waiters, *(feed.waiters for feed in channel.feeds)):
                for waiter in list(waiters):
                    waiter(b"[]")
        await parts.events.close()
        await parts.stream.close()

    async def reload() -> None:
        reload_declared(parts.gateway, await asyncio.to_thread(read_declared, settings))

    if settings.channel_file is not None:
        _follow(parts, settings.channel_file)
    return _Service(parts.gateway, parts.app, reload=reload, before_drain=close_streams, handler_cancellation=True)


class _Service(WebService):
    """A gateway as a service; one that had to stop ends with an error, so that it is restarted."""

    def __init__(self, gateway: Gateway, app: web.Application, **options: Any) -> None:
        super().__init__(app, **options)
        self._gateway = gateway

    async def drain(self) -> None:
        await super().drain()
        if self._gateway.failure is not None:
            raise StartupError(self._gateway.failure)


def reload_declared(gateway: Gateway, declared: Declared) -> None:
    """Apply a channel file that was read again.

    Raises:
        StartupError: Something changed that needs a restart; nothing is changed then.
    """
    fixed = needs_restart(gateway.declared, declared)
    if fixed:
        raise StartupError(f"only a restart can change {', '.join(fixed)}")
    before, after = gateway.declared.options.auth.api_key, declared.options.auth.api_key
    gateway.reload(declared, gateway.access if before == after else access_of(after))


def _follow(parts: Parts, file: Path) -> None:
    """Reload, as SIGHUP does, whenever the channel file has changed."""

    async def follow() -> None:
        async for _ in file_changes([file]):
            signal.raise_signal(signal.SIGHUP)

    async def begin(_app: web.Application) -> None:
        parts.tasks.loop("channel file", follow, is_critical=False)

    parts.app.on_startup.append(begin)
