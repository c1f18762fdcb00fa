"""Staging areas: batches of structs that are built up and then released as ticks (specification §2.8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from gateway.records import Record

Areas: TypeAlias = dict[str, list[Record]]
StageEvent = Literal["add", "remove", "release"]
StageListener: TypeAlias = Callable[[StageEvent, Areas], None]


class UnknownAreaError(ValueError):
    """There is no staging area of that id."""


class Stage:
    """The staging areas of one channel, in the order of their creation; records match by their id.

    In every method ``ids`` is None when the caller names no areas, and an empty sequence when it means all.
    """

    def __init__(self, next_id: Callable[[], str]) -> None:
        self._next_id = next_id
        self._areas: Areas = {}
        self._listeners: list[StageListener] = []

    def on_event(self, listener: StageListener) -> None:
        """Call a function after every change with what was affected."""
        self._listeners.append(listener)

    def add(self, record: Record | None, ids: Sequence[str] | None) -> Areas:
        """Open an area (no record), or put a record into areas; answers the affected areas.

        Raises:
            UnknownAreaError: One of the named areas does not exist; nothing is changed.
            ValueError: Areas are named, but there is no record to add.
        """
        if record is None:
            if ids:
                raise ValueError("Cannot specify staging_ids without a struct to add")
            return self._tell("add", self._open([]))
        if ids:
            self._require(ids)
            affected = self._put(record, ids)
        elif ids is None:
            affected = self._put(record, [next(reversed(self._areas))]) if self._areas else self._open([record])
        else:
            lacking = [area for area, records in self._areas.items() if _find(records, record) is None]
            affected = self._put(record, lacking) if lacking else self._open([record])
        return self._tell("add", affected)

    def remove(self, record: Record | None, ids: Sequence[str] | None) -> Areas:
        """Drop or empty areas (no record), or take a record out of areas; answers what remains in the affected ones."""
        if record is None:
            return self._tell("remove", self._clear(ids))
        affected: Areas = {}
        for area in self._holding(record, ids):
            records = self._areas[area]
            del records[_find(records, record) or 0]
            affected[area] = records
        return self._tell("remove", affected)

    def release(self, ids: Sequence[str] | None) -> Areas:
        """Forget areas (all when none are named) and answer what they held, to be ticked in that order."""
        named = list(self._areas) if ids is None else [area for area in ids if area in self._areas]
        return self._tell("release", {area: self._areas.pop(area) for area in dict.fromkeys(named)})

    def pending(self, ids: Sequence[str] | None) -> list[str]:
        """Ids of the areas: all, or those of the named ones that exist."""
        return list(self._areas) if ids is None else [area for area in ids if area in self._areas]

    def contents(self, ids: Sequence[str] | None) -> Areas:
        """What the areas hold."""
        return {area: list(self._areas[area]) for area in self.pending(ids)}

    def _open(self, records: list[Record]) -> Areas:
        area = self._next_id()
        self._areas[area] = records
        return {area: records}

    def _put(self, record: Record, ids: Sequence[str]) -> Areas:
        affected: Areas = {}
        for area in ids:
            records = self._areas[area]
            at = _find(records, record)
            if at is None:
                records.append(record)
            else:
                records[at] = record
            affected[area] = records
        return affected

    def _clear(self, ids: Sequence[str] | None) -> Areas:
        if ids:
            affected: Areas = {}
            for area in ids:
                if area in self._areas:
                    affected[area] = self._areas[area] = []
            return affected
        dropped = list(self._areas) if ids is not None else list(self._areas)[-1:]
        for area in dropped:
            del self._areas[area]
        return {area: [] for area in dropped}

    def _holding(self, record: Record, ids: Sequence[str] | None) -> list[str]:
        named = [area for area in ids if area in self._areas] if ids else list(self._areas)
        holding = [area for area in named if _find(self._areas[area], record) is not None]
        return holding[-1:] if ids is None else holding

    def _require(self, ids: Sequence[str]) -> None:
        for area in ids:
            if area not in self._areas:
                raise UnknownAreaError(repr(f"Staging ID not found: {area}"))

    def _tell(self, event: StageEvent, affected: Areas) -> Areas:
        answer = {area: list(records) for area, records in affected.items()}
        if answer:
            for listener in self._listeners:
                listener(event, answer)
        return answer


def _find(records: Sequence[Record], record: Record) -> int | None:
    record_id = record.values.get("id")
    return next((at for at, item in enumerate(records) if item.values.get("id") == record_id), None)
