"""Regular ticks of one constant struct."""

from __future__ import annotations

from typing import Any

from gateway.config.models import read_span
from gateway.modules.api import Module, ModuleGateway


class Timer(Module):
    """Ticks the same value on a channel again and again, each time as a new struct.

    Args:
        channel: Where it ticks.
        value: What it ticks.
        interval: Time between ticks: seconds, or a text such as ``500ms``.
        key: Key of a basket.
    """

    def __init__(self, channel: str, value: Any = None, interval: float | str = 1.0, key: str | None = None) -> None:
        self._channel = channel
        self._value = {} if value is None else value
        self._interval = float(read_span(interval))
        self._key = key

    def connect(self, gw: ModuleGateway) -> None:
        gw.writes(self._channel, self._key)

    async def start(self, gw: ModuleGateway) -> None:
        gw.every(self._interval, lambda: gw.tick(self._channel, self._value, self._key))
