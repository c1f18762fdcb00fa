"""Filters: which rows pass the predicates of a query, evaluated over columns as numpy arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from gateway.schema.record import Record
from gateway.state.columns import Column, Kind
from gateway.state.selection import Compare, CompareColumns, IsNull, Never, OneOf, Predicate, columns_of

if TYPE_CHECKING:  # takes long to load, and gateways without filters do not need it
    import numpy as np
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]
    Mask: TypeAlias = NDArray[np.bool_]

_SPARE: Final = 2000
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


class ColumnValues:
    """One column of a state: the value of every slot, and whether it has one."""

    def __init__(self, column: Column) -> None:
        import numpy as np

        self.column = column
        self.filled = 0
        self._array: Array = np.zeros(0, _TYPES[column.kind])
        self._validity: Mask = np.zeros(0, np.bool_)
        self._null: Any = "" if column.kind in ("text", "enum") else 0

    @property
    def values(self) -> Array:
        """The values, with a stand-in where there is none."""
        return self._array[: self.filled]

    @property
    def is_valid(self) -> Mask:
        """Where there is a value."""
        return self._validity[: self.filled]

    def fill(self, rows: Sequence[Record | None], end: int) -> None:
        """Add the rows from the first that is missing up to `end`."""
        import numpy as np

        if end > len(self._array):
            more = max(len(self._array), end) - len(self._array) + len(self._array) // 2 + _SPARE
            self._array = np.concatenate([self._array, np.full(more, self._null, self._array.dtype)])
            self._validity = np.concatenate([self._validity, np.zeros(more, np.bool_)])
        self._put(slice(self.filled, end), rows[self.filled : end])
        self.filled = end

    def update(self, rows: Sequence[Record | None], slots: Sequence[int]) -> None:
        """Read the rows of slots that have changed; those that are still missing are added by `fill`."""
        known = [slot for slot in slots if slot < self.filled]
        self._put(known, [rows[slot] for slot in known])

    def _put(self, where: list[int] | slice, records: Sequence[Record | None]) -> None:
        found = [None if record is None else self.column.value(record) for record in records]
        values = [self._null if value is None else value for value in found]
        try:
            self._array[where] = values
        except OverflowError:  # an integer beyond 64 bits: from now on as Python has them
            self._array = self._array.astype(object)
            self._array[where] = values
        self._validity[where] = [value is not None for value in found]


def passing(predicates: Sequence[Predicate], columns: Mapping[Column, ColumnValues], count: int) -> list[int]:
    """The slots that pass every predicate.

    Args:
        predicates: The predicates.
        columns: The values of every column that they name.
        count: How many slots there are.
    """
    import numpy as np

    found = np.ones(count, np.bool_)
    for predicate in predicates:
        found &= _mask(predicate, columns, count)
    slots: list[int] = np.flatnonzero(found).tolist()
    return slots


def passes(predicates: Sequence[Predicate], record: Record) -> bool:
    """Whether one record passes every predicate."""
    if not predicates:
        return True
    columns = {column: ColumnValues(column) for column in columns_of(predicates)}
    for values in columns.values():
        values.fill([record], 1)
    return bool(passing(predicates, columns, 1))


def _mask(predicate: Predicate, columns: Mapping[Column, ColumnValues], count: int) -> Mask:
    import numpy as np

    match predicate:
        case Compare(column, where, literal):
            values = columns[column]
            return _compare(where, values.values, literal) & values.is_valid
        case CompareColumns(left, where, right):
            mine, others = columns[left], columns[right]
            a, b = mine.values, others.values
            if a.dtype != b.dtype:  # exactly, and not as floats of 53 bits
                a, b = a.astype(object), b.astype(object)
            return _compare(where, a, b) & mine.is_valid & others.is_valid
        case OneOf(column, literals):
            values, wanted = columns[column], set(literals)
            among = (value in wanted for value in values.values.tolist())
            return np.fromiter(among, np.bool_, values.filled) & values.is_valid
        case IsNull(column, is_null):
            values = columns[column]
            return ~values.is_valid if is_null else values.is_valid
        case Never():
            return np.zeros(count, np.bool_)


def _compare(where: str, values: Array, others: Any) -> Mask:
    import numpy as np

    if values.dtype == object and not isinstance(others, np.ndarray):  # else numpy would make a type of its own of it
        literal = np.empty((), object)
        literal[()] = others
        others = literal
    compared: Mask = getattr(np, _OPERATORS[where])(values, others)
    return compared
