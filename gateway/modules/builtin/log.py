"""Ticks as log lines, or printed on standard output."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Literal

import structlog

from gateway.modules.api import Module, ModuleGateway
from gateway.schema.record import encode


class Log(Module):
    """Logs every tick of some channels.

    Args:
        channels: Their names; all channels without it.
        level: The level of the lines.
        to: ``log`` writes log entries, ``stdout`` prints one JSON object a line.
    """

    def __init__(
        self,
        channels: Sequence[str] | None = None,
        level: Literal["debug", "info", "warning"] = "info",
        to: Literal["log", "stdout"] = "log",
    ) -> None:
        if level not in ("debug", "info", "warning") or to not in ("log", "stdout"):
            raise ValueError("level is debug, info or warning, and to is log or stdout")
        self._channels = channels
        self._level = level
        self._to = to
        self._log = structlog.get_logger("gateway.ticks")

    def connect(self, gw: ModuleGateway) -> None:
        every = list(dict.fromkeys(name for name, _ in gw.paths()))
        for channel in every if self._channels is None else self._channels:
            self._follow(gw, channel)

    def _follow(self, gw: ModuleGateway, channel: str) -> None:
        @gw.on(channel)
        def note(tick: Any, key: str | None = None) -> None:
            records = tick if isinstance(tick, list) else [tick]
            entry = {"channel": channel} | ({} if key is None else {"key": key}) | {"data": records}
            text = encode(entry).decode()
            if self._to == "stdout":
                sys.stdout.write(text + "\n")
                sys.stdout.flush()
            else:
                getattr(self._log, self._level)("tick", tick=text)


class Print(Log):
    """`Log` on standard output."""

    def __init__(self, channels: Sequence[str] | None = None) -> None:
        super().__init__(channels, to="stdout")
