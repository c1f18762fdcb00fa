"""First values of channels, ticked once after the start."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.config.models import read_span
from gateway.modules.api import Module, ModuleGateway


class Initialize(Module):
    """Ticks constants once.

    Args:
        values: By channel: a struct, a list of structs, or for a basket an object of those by key.
        delay: How long after the start: seconds, or a text such as ``2s``; 0 ticks before the first request.
    """

    def __init__(self, values: dict[str, Any], delay: float | str = 0.0) -> None:
        self._values = values
        self._delay = float(read_span(delay))

    def connect(self, gw: ModuleGateway) -> None:
        for channel, key, _ in self._ticks(gw):
            gw.writes(channel, key)

    async def start(self, gw: ModuleGateway) -> None:
        if self._delay > 0:
            gw.task(self._later(gw))
        else:
            self._tick(gw)

    async def _later(self, gw: ModuleGateway) -> None:
        await asyncio.sleep(self._delay)
        self._tick(gw)

    def _tick(self, gw: ModuleGateway) -> None:
        for channel, key, value in self._ticks(gw):
            gw.tick(channel, value, key)

    def _ticks(self, gw: ModuleGateway) -> list[tuple[str, str | None, Any]]:
        ticks: list[tuple[str, str | None, Any]] = []
        for channel, value in self._values.items():
            keys = [key for _, key in gw.paths(channel) if key is not None]
            ticks += [(channel, key, value[key]) for key in value] if keys else [(channel, None, value)]
        return ticks
