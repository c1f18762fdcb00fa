"""State: the last record of every combination of some fields of a channel.

Rows are found by a hash index on the combination, and listed through an order that is kept lazily: only new
combinations change it. A filter on the whole combination is one look-up; others look at every row, here or in the
columns of `gateway.state.columnar`, which are told which rows have changed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeAlias, cast

import orjson

from gateway.schema.record import Record, at_path, encode
from gateway.state.columns import Column, Columns, comparable
from gateway.state.selection import Compare, Predicate, Selection

Key: TypeAlias = Any
Eviction = Literal["oldest_update", "reject"]
_MERGE_AFTER: Final = 1000
_SLICE: Final = 512


@dataclass(frozen=True, slots=True)
class StateSpec:
    """An accumulation over a channel: the last record of every combination of some fields.

    Attributes:
        alias: Its name in routes.
        keyby: Dotted paths of the fields.
        max_keys: How many combinations are kept, or None for all.
        evict: What happens beyond that: the combination updated longest ago goes, or new ones are not kept.
    """

    alias: str
    keyby: tuple[str, ...] = ("id",)
    max_keys: int | None = None
    evict: Eviction = "oldest_update"


class _Null:
    """The key of a null or absent value: before every other key."""

    __slots__ = ()

    def __lt__(self, other: object) -> bool:
        return other is not self

    def __gt__(self, _other: object) -> bool:
        return False

    def __repr__(self) -> str:
        return "NULL"


NULL: Final = _Null()


class _Mixed:
    """The key of a value whose type alone gives no order: booleans, numbers, texts, then anything else by its JSON.

    It depends only on the JSON, so that a value has the same key before and after it was written and read.
    """

    __slots__ = ("rank", "value")

    def __init__(self, rank: int, value: Any) -> None:
        self.rank = rank
        self.value = value

    @classmethod
    def of(cls, value: Any) -> _Mixed | _Null:
        """The key of any value."""
        if not isinstance(value, (bool, int, float, str, list, dict)):
            value = json.loads(encode(value))
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            return NULL
        if isinstance(value, bool):
            return cls(0, value)
        if isinstance(value, (int, float)):
            return cls(1, value)
        return cls(2, value) if isinstance(value, str) else cls(3, encode(value))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Mixed) and (self.rank, self.value) == (other.rank, other.value)

    def __hash__(self) -> int:
        return hash((self.rank, self.value))

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, _Mixed):
            return NotImplemented
        return (self.rank, self.value) < (other.rank, other.value)


class State:
    """The rows of one state of one feed.

    Every row has a slot, a number that it keeps for as long as it exists; slots of evicted rows are used again.
    """

    def __init__(self, spec: StateSpec, columns: Columns) -> None:
        self.spec = spec
        self.columns = columns
        self._paths = [tuple(path.split(".")) for path in spec.keyby]
        self._key_columns = [columns.get(path) for path in spec.keyby]
        self._key_of = self._single_key() if len(self._paths) == 1 else self._joint_key
        self._slots: dict[Key, int] = {}
        self._records: list[Record | None] = []
        self._keys: list[Key] = []
        self._free: list[int] = []
        self._order: list[Key] = []
        self._slots_in_order: list[int] | None = None
        self._new: list[Key] = []
        self._removed: set[Key] = set()
        self._updated: dict[int, None] = {}
        self._changed: set[int] | None = None
        self._evicted: list[Key] | None = None
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._slots)

    # --- changing ---

    def update(self, record: Record) -> bool:
        """Put a record in the row of its combination; False when a full state rejects a new one."""
        return self.put(self.key_of(record), record)

    def put(self, key: Key, record: Record) -> bool:
        """`update` with the key that `key_of` gave: it fails for no record."""
        slot = self._slots.get(key)
        if slot is None:
            if self.spec.max_keys is not None and len(self._slots) >= self.spec.max_keys:
                if self.spec.evict == "reject":
                    return False
                self._evict()
            slot = self._new_slot(key)
        else:
            before = self._records[slot]
            assert before is not None
            self.size_bytes -= len(before.encoded)
        self._records[slot] = record
        self.size_bytes += len(record.encoded)
        if self._changed is not None:
            self._changed.add(slot)
        if self.spec.max_keys is not None:
            self._updated.pop(slot, None)
            self._updated[slot] = None
        return True

    def _new_slot(self, key: Key) -> int:
        if self._free:
            slot = self._free.pop()
            self._keys[slot] = key
        else:
            slot = len(self._records)
            self._records.append(None)
            self._keys.append(key)
        self._slots[key] = slot
        self._removed.discard(key)
        self._new.append(key)
        if len(self._new) >= _MERGE_AFTER:
            self._merge()
        return slot

    def _evict(self) -> None:
        slot = next(iter(self._updated))
        del self._updated[slot]
        key, record = self._keys[slot], self._records[slot]
        assert record is not None
        self.size_bytes -= len(record.encoded)
        self._records[slot] = None
        del self._slots[key]
        self._free.append(slot)
        if self._changed is not None:
            self._changed.add(slot)
        self._removed.add(key)
        if self._evicted is not None:
            self._evicted.append(key)

    def _merge(self) -> None:
        if self._removed or self._new:
            self._slots_in_order = None
        if self._removed:
            self._order = [key for key in self._order if key not in self._removed]
            self._removed.clear()
        if self._new:
            fresh = [key for key in dict.fromkeys(self._new) if key in self._slots]
            fresh.sort()
            if len(fresh) != len(self._slots) - len(self._order):  # some were removed and came back
                known = set(self._order)
                fresh = [key for key in fresh if key not in known]
            is_behind = not self._order or not fresh or self._order[-1] < fresh[0]
            self._order += fresh
            if not is_behind:
                self._order.sort()  # two sorted runs: one merge
            self._new.clear()

    # --- reading ---

    def find(self, selection: Selection) -> list[Record] | None:
        """The rows that pass, through the hash index; None when the filters do not fix the whole combination."""
        key = self._key_in(selection.predicates)
        if key is None:
            return None
        slot = self._slots.get(key)
        record = None if slot is None else self._records[slot]
        if record is None or not selection.matches(record):
            return []
        return selection.arrange([record])

    def scan(self, selection: Selection) -> list[Record]:
        """The rows that pass, in the order of the query, by looking at every one."""
        return selection.arrange(self.matching(selection))

    def matching(self, selection: Selection) -> list[Record]:
        """The rows that pass, in the order of the state, by looking at every one."""
        records = self.rows()
        return [record for record in records if selection.matches(record)] if selection.predicates else records

    def pick(self, slots: Sequence[int]) -> list[Record]:
        """The rows of those slots, in order."""
        if len(slots) * 8 > len(self._slots):
            wanted = set(slots)
            slots_of = self._slots
            self._merge()
            picked = [slot for key in self._order if (slot := slots_of[key]) in wanted]
        else:
            keys = self._keys
            picked = sorted(slots, key=lambda slot: keys[slot])
        return [record for slot in picked if (record := self._records[slot]) is not None]

    def rows(self) -> list[Record]:
        """Every row, in order."""
        self._merge()
        if self._slots_in_order is None:
            slots = self._slots
            self._slots_in_order = [slots[key] for key in self._order]
        return cast("list[Record]", list(map(self._records.__getitem__, self._slots_in_order)))

    @property
    def encoded_size(self) -> int:
        """The length of the JSON array of every row, in bytes."""
        return self.size_bytes + max(len(self) - 1, 0) + 2

    def oldest_first(self) -> list[Record]:
        """Every row; where rows are evicted, those updated longest ago first, so that a copy evicts the same ones."""
        slots = self._updated if self.spec.max_keys is not None else self._slots.values()
        return [record for slot in slots if (record := self._records[slot]) is not None]

    def dump(self) -> tuple[int, Iterator[list[Record]]]:
        """Every row as it is now, in order, in slices that are looked up only when they are asked for.

        Returns:
            The length of the rows' text in bytes, and the slices.
        """
        self._merge()
        order, records = list(self._order), list(self._records)
        slots = self._slots if self.spec.max_keys is None else dict(self._slots)

        def slices() -> Iterator[list[Record]]:
            for start in range(0, len(order), _SLICE):
                chosen = [records[slots[key]] for key in order[start : start + _SLICE]]
                yield [record for record in chosen if record is not None]

        return self.size_bytes, slices()

    # --- for columns ---

    @property
    def by_slot(self) -> Sequence[Record | None]:
        """Every row by its slot; None where a row was evicted."""
        return self._records

    def watch_changes(self) -> set[int]:
        """The slots that change from now on; who watches takes out of the set what it has seen to."""
        if self._changed is None:
            self._changed = set()
        return self._changed

    # --- for a journal ---

    def watch_evictions(self) -> None:
        """Remember from now on which rows are evicted."""
        self._evicted = []

    def take_evicted(self) -> list[Key]:
        """The combinations that were evicted since the last call and have not come back."""
        if not self._evicted:
            return []
        evicted, self._evicted = self._evicted, []
        return [key for key in evicted if key not in self._slots]

    def key_if_held(self, record: Record) -> Key | None:
        """The combination of a record, if this very record is in its row."""
        key = self._key_of(record)
        slot = self._slots.get(key)
        return key if slot is not None and self._records[slot] is record else None

    def key_of(self, record: Record) -> Key:
        """The combination of a record."""
        return self._key_of(record)

    # --- keys ---

    def _single_key(self) -> Callable[[Record], Key]:
        path, column = self._paths[0], self._key_columns[0]
        if len(path) == 1 and column is not None and column.kind in ("int", "text"):
            name, wanted = path[0], int if column.kind == "int" else str

            def plain(record: Record) -> Key:
                value = record.values.get(name)
                return value if isinstance(value, wanted) else _key_part(value, column)

            return plain
        return lambda record: _key_part(at_path(record.values, path), column)

    def _joint_key(self, record: Record) -> Key:
        return tuple(
            _key_part(at_path(record.values, path), column)
            for path, column in zip(self._paths, self._key_columns, strict=True)
        )

    def _key_in(self, predicates: Sequence[Predicate]) -> Key | None:
        if len(predicates) < len(self._paths):
            return None
        fixed = {
            predicate.column: predicate.literal
            for predicate in predicates
            if isinstance(predicate, Compare) and predicate.where == "=="
        }
        parts = []
        for column in self._key_columns:
            if column is None or column not in fixed:
                return None
            parts.append(fixed[column])
        return parts[0] if len(parts) == 1 else tuple(parts)


class Selector(Protocol):
    """Answers selections over states, small or large."""

    async def select(self, state: State, selection: Selection) -> list[Record]:
        """The rows of a state that pass, in order."""


def _key_part(value: Any, column: Column | None) -> Key:
    if value is None:
        return NULL
    if column is None:
        return _Mixed.of(value)
    part = comparable(value, column.kind)
    return NULL if part is None else part


def row_text(key: Key) -> str:
    """A combination as a text: the same for the same combination, and another one for every other."""
    parts = key if isinstance(key, tuple) else (key,)
    return encode([_plain_part(part) for part in parts]).decode()


def _plain_part(part: Any) -> Any:
    if isinstance(part, _Null):
        return None
    if isinstance(part, _Mixed):
        value = part.value.decode() if isinstance(part.value, bytes) else _plain_part(part.value)
        return [part.rank, value]
    return int(part) if isinstance(part, float) and part.is_integer() else part


def encoded_chunks(records: Sequence[Record], size: int = 512) -> Iterator[bytes]:
    """The JSON array of many records, in pieces of some thousand bytes that can be written one by one."""
    if not records:
        yield b"[]"
        return
    for start in range(0, len(records), size):
        lead = b"[" if start == 0 else b","
        yield lead + b",".join([record.encoded for record in records[start : start + size]])
    yield b"]"


def encoded_size(records: Sequence[Record]) -> int:
    """The length of the JSON array of those records, in bytes."""
    return sum([len(record.encoded) for record in records]) + max(len(records) - 1, 0) + 2


def describe_key(spec: StateSpec) -> str:
    """``'id', 'x'``: the combination, as documents print it."""
    return ", ".join(orjson.dumps(path).decode().replace('"', "'") for path in spec.keyby)
