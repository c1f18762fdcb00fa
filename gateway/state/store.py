"""State: the last record of every combination of some fields of a channel.

Rows are found by a hash index on their key, and listed through an order that is updated lazily: only new keys change
it. A filter that fixes the whole key is one index lookup. Other filters are evaluated over columns, which are filled
the first time a query needs them and afterwards follow the rows that change, in slices: whatever slice a query reaches
before its client leaves serves the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, cast

import orjson

from gateway.schema.record import Record, at_path
from gateway.state.columns import Column, Columns
from gateway.state.filters import ColumnValues, passes, passing
from gateway.state.keys import Key, key_part
from gateway.state.selection import Compare, Never, Predicate, Selection, columns_of

Eviction = Literal["oldest_update", "reject"]
_MERGE_AFTER: Final = 1000
_MERGE_SHARE: Final = 16
"""New rows are put in order once there is one for so many old ones, so that filling a state takes n log n."""
_SLICE: Final = 512
_VALUES_SLICE: Final = 2000


@dataclass(frozen=True, slots=True)
class StateSpec:
    """An accumulation over a channel: the last record of every combination of some fields.

    Attributes:
        alias: Its name in routes.
        keyby: Dotted paths of the fields.
        max_keys: The most keys, or None for no limit.
        evict: Beyond that, evict the key updated longest ago, or reject new ones.
    """

    alias: str
    keyby: tuple[str, ...] = ("id",)
    max_keys: int | None = None
    evict: Eviction = "oldest_update"


class State:
    """The rows of one state of one feed.

    Every row has a slot, a fixed number; slots of evicted rows are reused.
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
        self._values: dict[Column, ColumnValues] = {}
        self._changed: set[int] = set()
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
        if self._values:
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
        if len(self._new) >= _MERGE_AFTER and len(self._new) * _MERGE_SHARE >= len(self._order):
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
        if self._values:
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

    def select(self, selection: Selection) -> Generator[None, None, list[Record]]:
        """The rows that pass, in the order of the query, as work for `gateway.state.slices`."""
        found = self.find(selection)
        if found is not None:
            return found
        if Never() in selection.predicates:
            return []
        if not selection.predicates:
            return (yield from selection.arrangement(self.rows()))
        for column in columns_of(selection.predicates):
            if column not in self._values:
                self._values[column] = ColumnValues(column)
        while self._update_values():
            yield
        slots = passing(selection.predicates, self._values, len(self._records))
        return (yield from selection.arrangement(self._pick(slots)))

    def find(self, selection: Selection) -> list[Record] | None:
        """The rows that pass, through the hash index; None when the filters do not fix the whole key."""
        key, others = self._key_in(selection.predicates)
        if key is None:
            return None
        slot = self._slots.get(key)
        record = None if slot is None else self._records[slot]
        if record is None or not passes(others, record):
            return []
        return selection.arrange([record])

    def _update_values(self) -> bool:
        """Bring a slice of the columns up to date; whether more is to do."""
        records, changed = self._records, self._changed
        for values in self._values.values():
            if values.filled < len(records):
                values.fill(records, min(values.filled + _VALUES_SLICE, len(records)))
                return True
        slots = [changed.pop() for _ in range(min(_VALUES_SLICE, len(changed)))]
        if slots:
            for values in self._values.values():
                values.update(records, slots)
        return bool(changed)

    def _pick(self, slots: Sequence[int]) -> list[Record]:
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
        """Every row as it is now, in order, in slices that are read lazily.

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
                return value if isinstance(value, wanted) else key_part(value, column)

            return plain
        return lambda record: key_part(at_path(record.values, path), column)

    def _joint_key(self, record: Record) -> Key:
        return tuple(
            key_part(at_path(record.values, path), column)
            for path, column in zip(self._paths, self._key_columns, strict=True)
        )

    def _key_in(self, predicates: Sequence[Predicate]) -> tuple[Key | None, Sequence[Predicate]]:
        """The key that predicates fix, or None, and the other predicates."""
        if len(predicates) < len(self._paths):
            return None, predicates
        fixed = {
            predicate.column: predicate
            for predicate in predicates
            if isinstance(predicate, Compare) and predicate.where == "=="
        }
        used = []
        for column in self._key_columns:
            if column is None or column not in fixed:
                return None, predicates
            used.append(fixed[column])
        parts = [predicate.literal for predicate in used]
        others = [predicate for predicate in predicates if not any(predicate is each for each in used)]
        return parts[0] if len(parts) == 1 else tuple(parts), others


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
