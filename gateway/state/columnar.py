"""Filters over large states: the comparable columns of a state as numpy arrays, one cell for each slot.

Columns are filled the first time a query needs them and afterwards follow the rows that change. Long work is done in
slices, others being served in between; whatever slice a query reaches before its client leaves is kept for the next
one. The last changes, the evaluation and the choice of the rows are done in one go, so an answer is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from gateway.schema.record import Record
from gateway.state.columns import Column, Kind
from gateway.state.selection import Compare, CompareColumns, IsNull, Never, OneOf, Predicate, Selection, columns_of
from gateway.state.slices import in_turns, next_turn
from gateway.state.store import State

if TYPE_CHECKING:  # takes long to load, and small gateways do not need it
    import numpy as np
    from numpy.typing import NDArray

    Cells: TypeAlias = NDArray[Any]
    Mask: TypeAlias = NDArray[np.bool_]

SCAN_UP_TO: Final = 1500
_SLICE: Final = 2000
_TYPES: Final[dict[Kind, str]] = {
    "int": "int64",
    "float": "float64",
    "bool": "bool",
    "text": "object",
    "moment": "int64",
    "time": "int64",
    "duration": "float64",
    "enum": "object",
}
_OPERATORS: Final = {
    "==": "equal",
    "!=": "not_equal",
    "<": "less",
    "<=": "less_equal",
    ">": "greater",
    ">=": "greater_equal",
}


class ColumnSelector:
    """Answers selections over states: small ones row by row, large ones through their columns.

    Args:
        scan_up_to: The most rows that are looked at one by one.
    """

    def __init__(self, scan_up_to: int | None = None) -> None:
        self._scan_up_to = SCAN_UP_TO if scan_up_to is None else scan_up_to
        self._columns: dict[int, StateColumns] = {}

    async def select(self, state: State, selection: Selection) -> list[Record]:
        """The rows of a state that pass, in order."""
        found = state.find(selection)
        if found is not None:
            return found
        if not selection.predicates or len(state) <= self._scan_up_to or Never() in selection.predicates:
            found = state.matching(selection)
        else:
            columns = self._columns.setdefault(id(state), StateColumns(state))
            found = await columns.select(selection)
        return await in_turns(selection.arrangement(found))


class StateColumns:
    """The columns of one state that queries have asked for."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._cells: dict[Column, _Cells] = {}
        self._changed = state.watch_changes()

    async def select(self, selection: Selection) -> list[Record]:
        """The rows that pass, in order."""
        for column in columns_of(selection.predicates):
            if column not in self._cells:
                self._cells[column] = _Cells(column)
        while self._follow():
            await next_turn()
        return self._state.pick(self._passing(selection))

    def _follow(self) -> bool:
        """Bring some cells up to date; whether there are more."""
        rows, changed = self._state.by_slot, self._changed
        for cells in self._cells.values():
            if cells.filled < len(rows):
                cells.fill(rows, min(cells.filled + _SLICE, len(rows)))
                return True
        slots = [changed.pop() for _ in range(min(_SLICE, len(changed)))]
        for cells in self._cells.values():
            cells.update(rows, slots)
        return bool(changed)

    def _passing(self, selection: Selection) -> list[int]:
        import numpy as np

        passing = np.ones(len(self._state.by_slot), np.bool_)
        for predicate in selection.predicates:
            passing &= self._mask(predicate)
        slots: list[int] = np.flatnonzero(passing).tolist()
        return slots

    def _mask(self, predicate: Predicate) -> Mask:
        import numpy as np

        match predicate:
            case Compare(column, where, literal):
                cells = self._cells[column]
                return _compare(where, cells.values, literal) & cells.is_valid
            case CompareColumns(left, where, right):
                mine, others = self._cells[left], self._cells[right]
                a, b = mine.values, others.values
                if a.dtype != b.dtype:  # exactly, and not as floats of 53 bits
                    a, b = a.astype(object), b.astype(object)
                return _compare(where, a, b) & mine.is_valid & others.is_valid
            case OneOf(column, literals):
                cells, wanted = self._cells[column], set(literals)
                among = (value in wanted for value in cells.values.tolist())
                return np.fromiter(among, np.bool_, cells.filled) & cells.is_valid
            case IsNull(column, is_null):
                cells = self._cells[column]
                return ~cells.is_valid if is_null else cells.is_valid
            case Never():
                return np.zeros(len(self._state.by_slot), np.bool_)


def _compare(where: str, values: Cells, others: Any) -> Mask:
    import numpy as np

    if values.dtype == object and not isinstance(others, np.ndarray):  # else numpy would make a type of its own of it
        literal = np.empty((), object)
        literal[()] = others
        others = literal
    compared: Mask = getattr(np, _OPERATORS[where])(values, others)
    return compared


class _Cells:
    """One column: the value of every slot, and whether it has one."""

    def __init__(self, column: Column) -> None:
        import numpy as np

        self.column = column
        self.filled = 0
        self._room: Cells = np.zeros(0, _TYPES[column.kind])
        self._validity: Mask = np.zeros(0, np.bool_)
        self._null: Any = "" if column.kind in ("text", "enum") else 0

    @property
    def values(self) -> Cells:
        return self._room[: self.filled]

    @property
    def is_valid(self) -> Mask:
        return self._validity[: self.filled]

    def fill(self, rows: Sequence[Record | None], end: int) -> None:
        """Take over the rows from the first that is missing up to `end`."""
        import numpy as np

        if end > len(self._room):
            more = max(len(self._room), end) - len(self._room) + len(self._room) // 2 + _SLICE
            self._room = np.concatenate([self._room, np.full(more, self._null, self._room.dtype)])
            self._validity = np.concatenate([self._validity, np.zeros(more, np.bool_)])
        self._put(slice(self.filled, end), rows[self.filled : end])
        self.filled = end

    def update(self, rows: Sequence[Record | None], slots: Sequence[int]) -> None:
        """Take over the rows of slots that have changed; those that are still missing are taken over by `fill`."""
        known = [slot for slot in slots if slot < self.filled]
        self._put(known, [rows[slot] for slot in known])

    def _put(self, where: list[int] | slice, records: Sequence[Record | None]) -> None:
        found = [None if record is None else self.column.value(record) for record in records]
        values = [self._null if value is None else value for value in found]
        try:
            self._room[where] = values
        except OverflowError:  # an integer beyond 64 bits: from now on as Python has them
            self._room = self._room.astype(object)
            self._room[where] = values
        self._validity[where] = [value is not None for value in found]
