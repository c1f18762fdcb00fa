"""Ticks written to a file and ticked again from it (§8.4).

One JSON object a line, as the reference's JSON replay has it: members are channel names with a struct, a list of
structs or, for baskets, an object by key; ``csp_engine_timestamp`` is the moment, in UTC.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeAlias

import orjson
import structlog

from gateway.engine.channels import Tick
from gateway.modules.api import Module, ModuleGateway
from gateway.schema.invalid import InvalidInput

log = structlog.get_logger("gateway.modules")
MOMENT: Final = "csp_engine_timestamp"
READ_BYTES: Final = 1 << 20
Line: TypeAlias = dict[str, Any]


class RecordJson(Module):
    """Appends every tick of some channels to a file, simultaneous ones in one line.

    Args:
        path: The file.
        channels: Which; all when they are not named.
        flush: How often what has ticked is written, in seconds; the rest at the end.
    """

    def __init__(self, path: str, channels: list[str] | None = None, flush: float = 1.0) -> None:
        self._path = Path(path)
        self._channels = channels
        self._flush_s = flush
        self._lines: list[bytes] = []
        self._writing = asyncio.Lock()

    def connect(self, gw: ModuleGateway) -> None:
        def note(ticks: Sequence[Tick]) -> None:
            self._lines += [encode_line(line) for line in _lines(ticks)]

        gw.on_group(set(self._channels or dict(gw.paths())), note)
        gw.every(self._flush_s, self._flush)

    async def start(self, gw: ModuleGateway) -> None:  # noqa: ARG002 - the interface gives it
        await asyncio.to_thread(self._path.touch)  # a file that cannot be written fails the start, not the first tick

    async def stop(self, gw: ModuleGateway) -> None:  # noqa: ARG002 - the interface gives it
        await self._flush()

    async def _flush(self) -> None:
        async with self._writing:
            lines, self._lines = self._lines, []
            if lines:
                await asyncio.to_thread(self._append, b"".join(lines))

    def _append(self, text: bytes) -> None:
        with self._path.open("ab") as file:
            file.write(text)


def _lines(ticks: Sequence[Tick]) -> list[Line]:
    """Simultaneous ticks as lines: one, or more where a channel ticked several times."""
    lines: list[Line] = []
    for tick in ticks:
        channel, key = tick.feed.channel, tick.feed.key
        value = orjson.Fragment(tick.encoded if channel.spec.is_list else tick.encoded[1:-1])
        if not lines or (channel.name in lines[-1] and (key is None or key in lines[-1][channel.name])):
            lines.append({MOMENT: tick.at})
        if key is None:
            lines[-1][channel.name] = value
        else:
            lines[-1].setdefault(channel.name, {})[key] = value
    return lines


def encode_line(line: Line) -> bytes:
    """A line, the moment last, as the reference has it."""
    return orjson.dumps({**{k: v for k, v in line.items() if k != MOMENT}, MOMENT: line[MOMENT]}, option=_LINE_OPTIONS)


_LINE_OPTIONS: Final = orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE


class ReplayJson(Module):
    """Ticks what a file has recorded.

    Args:
        path: The file.
        speed: How many times faster than it was; 0 as fast as it goes.
        channels: Which; all when they are not named.
        loop: Begin again at the end.
        keep_ids: Keep the ids and timestamps of the file; otherwise every struct gets new ones.
    """

    def __init__(
        self,
        path: str,
        speed: float = 1.0,
        channels: list[str] | None = None,
        loop: bool = False,
        keep_ids: bool = True,
    ) -> None:
        if speed < 0:
            raise ValueError("speed is negative")
        self._path = Path(path)
        self._speed = speed
        self._channels = channels
        self._loop = loop
        self._keep_ids = keep_ids

    def connect(self, gw: ModuleGateway) -> None:
        if not self._path.is_file():
            raise ValueError(f"there is no file {self._path}")
        for channel, key in gw.paths():
            if self._takes(channel):
                gw.writes(channel, key)

    async def start(self, gw: ModuleGateway) -> None:
        gw.task(self._replay(gw))

    def _takes(self, channel: str) -> bool:
        return self._channels is None or channel in self._channels

    async def _replay(self, gw: ModuleGateway) -> None:
        while True:
            await self._replay_once(gw)
            if not self._loop:
                return

    async def _replay_once(self, gw: ModuleGateway) -> None:
        clock = asyncio.get_running_loop().time
        first: tuple[datetime, float] | None = None
        number = 0
        with await asyncio.to_thread(self._path.open, "rb") as file:
            while lines := await asyncio.to_thread(file.readlines, READ_BYTES):
                for text in lines:
                    number += 1
                    line = self._read(text, number)
                    moment = None if line is None else _moment(line)
                    if line is None:
                        continue
                    if moment is not None and self._speed:
                        first = first or (moment, clock())
                        due = first[1] + (moment - first[0]).total_seconds() / self._speed
                        await asyncio.sleep(max(0.0, due - clock()))
                    await self._tick(gw, line, number)
                    await asyncio.sleep(0)

    def _read(self, text: bytes, number: int) -> Line | None:
        if not text.strip():
            return None
        try:
            line = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            log.warning("a line is no JSON", path=str(self._path), line=number, reason=str(error))
            return None
        if not isinstance(line, dict):
            log.warning("a line is no object", path=str(self._path), line=number)
            return None
        return line

    async def _tick(self, gw: ModuleGateway, line: Line, number: int) -> None:
        ticks: list[tuple[str, str | None, Any]] = []
        known = set(gw.paths())
        for channel, value in line.items():
            if channel == MOMENT or value is None or not self._takes(channel):
                continue
            if (channel, None) in known:
                ticks.append((channel, None, self._value(value)))
            elif isinstance(value, dict):
                ticks += [(channel, key, self._value(item)) for key, item in value.items() if (channel, key) in known]
        try:
            pending = gw.tick_together(ticks)
            if pending is not None:
                await pending
        except InvalidInput as invalid:
            log.warning("a line does not fit", path=str(self._path), line=number, errors=invalid.errors)

    def _value(self, value: Any) -> Any:
        if self._keep_ids:
            return value
        if isinstance(value, list):
            return [self._value(item) for item in value]
        return {name: item for name, item in value.items() if name not in ("id", "timestamp")}


def _moment(line: Line) -> datetime | None:
    try:
        moment = datetime.fromisoformat(line[MOMENT])
    except (KeyError, TypeError, ValueError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
