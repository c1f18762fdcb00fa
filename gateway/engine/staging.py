"""Staging areas: batches of structs that are built up and then released as ticks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias

from gateway.schema.record import Record

Areas: TypeAlias = dict[str, list[Record]]
StageEvent = Literal["add", "remove", "release"]
MOST_BYTES: Final = 64 * 2**20
_AREA_BYTES: Final = 1024
_RECORD_BYTES: Final = 512
StageListener: TypeAlias = Callable[[StageEvent, Areas], None]


class UnknownAreaError(ValueError):
    """There is no staging area of that id."""


class StageFullError(ValueError):
    """What is staged would take too much memory."""


class Stage:
    """The staging areas of one channel, in the order of their creation; records match by their id.

    In every method ``ids`` is None when the caller names no areas, and an empty sequence when it means all.

    Args:
        next_id: Gives the ids of areas.
        most_bytes: What all areas together may take, measured by what their records print.
    """

    def __init__(self, next_id: Callable[[], str], most_bytes: int = MOST_BYTES) -> None:
        self._next_id = next_id
        self._most_bytes = most_bytes
        self._areas: Areas = {}
        self._size_bytes = 0
        self._listeners: list[StageListener] = []

    def on_event(self, listener: StageListener) -> None:
        """Call a function after every change with what was affected."""
        self._listeners.append(listener)

    def add(self, record: Record | None, ids: Sequence[str] | None) -> Areas:
        """Open an area (no record), or put a record into areas; answers the affected areas.

        Raises:
            UnknownAreaError: One of the named areas does not exist; nothing is changed.
            StageFullError: The areas would take too much memory; nothing is changed.
            ValueError: Areas are named, but there is no record to add.
        """
        if record is None:
            if ids:
                raise ValueError("Cannot specify staging_ids without a struct to add")
            self._require_room(_AREA_BYTES)
            return self._tell("add", self._open([]))
        if ids:
            self._require(ids)
            chosen = list(dict.fromkeys(ids))
        elif ids is None:
            chosen = list(self._areas)[-1:]
        else:
            chosen = [area for area, records in self._areas.items() if _find(records, record) is None]
        self._require_room(len(chosen) * _size(record) if chosen else _AREA_BYTES + _size(record))
        return self._tell("add", self._put(record, chosen) if chosen else self._open([record]))

    def remove(self, record: Record | None, ids: Sequence[str] | None) -> Areas:
        """Drop or empty areas (no record), or take a record out of areas; answers what remains in the affected ones."""
        if record is None:
            return self._tell("remove", self._clear(ids))
        affected: Areas = {}
        for area in self._holding(record, ids):
            records = self._areas[area]
            self._size_bytes -= _size(records.pop(_find(records, record) or 0))
            affected[area] = records
        return self._tell("remove", affected)

    def release(self, ids: Sequence[str] | None) -> Areas:
        """Forget areas (all when none are named) and answer what they held, to be ticked in that order."""
        named = list(self._areas) if ids is None else [area for area in ids if area in self._areas]
        released = {area: self._areas.pop(area) for area in dict.fromkeys(named)}
        self._measure()
        return self._tell("release", released)

    def pending(self, ids: Sequence[str] | None) -> list[str]:
        """Ids of the areas: all, or those of the named ones that exist."""
        return list(self._areas) if ids is None else [area for area in ids if area in self._areas]

    def contents(self, ids: Sequence[str] | None) -> Areas:
        """What the areas hold."""
        return {area: list(self._areas[area]) for area in self.pending(ids)}

    def _open(self, records: list[Record]) -> Areas:
        area = self._next_id()
        self._areas[area] = records
        self._size_bytes += _AREA_BYTES + sum(map(_size, records))
        return {area: records}

    def _put(self, record: Record, ids: Sequence[str]) -> Areas:
        affected: Areas = {}
        for area in ids:
            records = self._areas[area]
            records.append(record)
            self._size_bytes += _size(record)
            affected[area] = records
        return affected

    def _clear(self, ids: Sequence[str] | None) -> Areas:
        if ids:
            affected: Areas = {}
            for area in ids:
                if area in self._areas:
                    affected[area] = self._areas[area] = []
            self._measure()
            return affected
        dropped = list(self._areas) if ids is not None else list(self._areas)[-1:]
        for area in dropped:
            del self._areas[area]
        self._measure()
        return {area: [] for area in dropped}

    def _holding(self, record: Record, ids: Sequence[str] | None) -> list[str]:
        named = [area for area in ids if area in self._areas] if ids else list(self._areas)
        holding = [area for area in named if _find(self._areas[area], record) is not None]
        return holding[-1:] if ids is None else holding

    def _require(self, ids: Sequence[str]) -> None:
        for area in ids:
            if area not in self._areas:
                raise UnknownAreaError(repr(f"Staging ID not found: {area}"))

    def _require_room(self, more_bytes: int) -> None:
        if self._size_bytes + more_bytes > self._most_bytes:
            raise StageFullError(
                f"the staging areas of this channel take about {self._size_bytes} bytes, this would add {more_bytes}, "
                f"and {self._most_bytes} are allowed: release or remove some"
            )

    def _measure(self) -> None:
        self._size_bytes = sum([_AREA_BYTES + sum(map(_size, records)) for records in self._areas.values()])

    def _tell(self, event: StageEvent, affected: Areas) -> Areas:
        answer = {area: list(records) for area, records in affected.items()}
        if answer:
            for listener in self._listeners:
                listener(event, answer)
        return answer


def _size(record: Record) -> int:
    return _RECORD_BYTES + len(record.encoded)


def _find(records: Sequence[Record], record: Record) -> int | None:
    record_id = record.values.get("id")
    return next((at for at, item in enumerate(records) if item.values.get("id") == record_id), None)
