"""Which records a query selects, and in which order.

A query is compiled against the columns of a struct into predicates whose literals already have the column's own kind.
`gateway.state.filters` evaluates them.
"""

from __future__ import annotations

import heapq
import math
import operator
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from fractions import Fraction
from itertools import chain, islice
from typing import Any, Final, TypeAlias

from pydantic import TypeAdapter

from gateway.schema.field_types import EnumSpec
from gateway.schema.record import Record
from gateway.state.columns import Column, Columns, Kind, as_text, microseconds_of, microseconds_of_day
from gateway.state.query import Condition, Filter, Membership, Operator, Query
from gateway.state.slices import run_at_once


@dataclass(frozen=True, slots=True)
class Compare:
    """A column against a literal of its kind; a null column never matches."""

    column: Column
    where: Operator
    literal: Any


@dataclass(frozen=True, slots=True)
class CompareColumns:
    """Two columns of comparable kinds; a null on either side never matches."""

    left: Column
    where: Operator
    right: Column


@dataclass(frozen=True, slots=True)
class OneOf:
    """A column among literals of its kind."""

    column: Column
    literals: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class IsNull:
    """A column that is null or absent, or one that is not."""

    column: Column
    is_null: bool


@dataclass(frozen=True, slots=True)
class Never:
    """A comparison that failed: no record passes."""


Predicate: TypeAlias = Compare | CompareColumns | OneOf | IsNull | Never


@dataclass(frozen=True, slots=True)
class Selection:
    """A query compiled for one struct.

    Attributes:
        query: The query.
        predicates: All must hold.
        sort: Columns to sort by, with whether the order is descending.
        warnings: What was ignored or failed, for people.
    """

    query: Query
    predicates: tuple[Predicate, ...] = ()
    sort: tuple[tuple[Column, bool], ...] = ()
    warnings: tuple[str, ...] = field(default=())

    def arrange(self, records: list[Record]) -> list[Record]:
        """Sort, skip and cut records that are in the default order already; nulls come first."""
        return run_at_once(self.arrangement(records))

    def arrangement(self, records: list[Record]) -> Generator[None, None, list[Record]]:
        """`arrange` as work for `gateway.state.slices`."""
        query = self.query
        end = None if query.limit is None else query.offset + query.limit
        for number, (column, descending) in reversed(list(enumerate(self.sort))):
            records = yield from _sorted(records, column, descending, end if number == 0 else None)
        records = records[query.offset : end]
        if query.fields is None:
            return records
        wanted = [name for name in query.fields if name]
        chosen: list[Record] = []
        for start in range(0, len(records), RUN_LENGTH):
            chosen += [
                Record(record.struct, {name: record.values[name] for name in wanted if name in record.values})
                for record in records[start : start + RUN_LENGTH]
            ]
            yield
        return chosen


RUN_LENGTH: Final = 4096
_Keyed: TypeAlias = tuple[Any, Record]


def _sorted(
    records: list[Record], column: Column, descending: bool, most: int | None
) -> Generator[None, None, list[Record]]:
    """Records by one column, equal ones in the order in which they were: short runs are sorted, then merged."""
    by_value: Callable[[_Keyed], Any] = operator.itemgetter(0)
    nulls: list[Record] = []
    runs: list[list[_Keyed]] = []
    for start in range(0, len(records), RUN_LENGTH):
        run: list[_Keyed] = []
        for record in records[start : start + RUN_LENGTH]:
            value = column.value(record)
            if value is None:
                nulls.append(record)
            else:
                run.append((value, record))
        run.sort(key=by_value, reverse=descending)
        runs.append(run)
        yield
    merged: Iterable[_Keyed] = heapq.merge(*runs, key=by_value, reverse=descending) if len(runs) > 1 else chain(*runs)
    merged = iter(merged)
    ordered: list[Record] = []
    while (most is None or len(ordered) < most) and (part := list(islice(merged, RUN_LENGTH))):
        ordered += [record for _, record in part]
        yield
    return ordered + nulls if descending else nulls + ordered


def compile_query(query: Query, columns: Columns) -> Selection:
    """Compile a query for a struct.

    Filters that cannot apply are ignored, comparisons that cannot be made never match; both add a warning.
    """
    predicates: list[Predicate] = []
    warnings: list[str] = []
    for number, item in enumerate(query.filters):
        predicate, warning = _compile_filter(item, columns)
        if warning:
            warnings.append(f"filter {number}: {warning}")
        if predicate is not None:
            predicates.append(predicate)
    sort: list[tuple[Column, bool]] = []
    for path, direction in query.sort:
        column = columns.get(path)
        if column is None:
            warnings.append(f"sort: {_cannot_use(path, columns)}")
        else:
            sort.append((column, direction == "desc"))
    warnings += [f"fields: unknown field {name}" for name in query.fields or () if not columns.has(name)]
    return Selection(query, tuple(predicates), tuple(sort), tuple(warnings))


def _compile_filter(item: Filter, columns: Columns) -> tuple[Predicate | None, str | None]:
    by: Condition | Membership = item.by
    is_noop = isinstance(by, Condition) and by.value is None and by.when is None and not by.attr
    if is_noop:
        return None, "nothing to compare with"
    column = columns.get(item.attr)
    if column is None:
        return None, _cannot_use(item.attr, columns)
    if isinstance(by, Membership):
        return _compile_membership(by, column)
    if by.value is not None or by.when is not None:
        given = by.value if by.value is not None else by.when
        return _compile_literal(column, by.where, given)
    other = columns.get(by.attr)
    if other is None:
        return None, _cannot_use(by.attr, columns)
    if _family(column.kind) != _family(other.kind):
        return Never(), f"cannot compare {item.attr} ({column.kind}) with {by.attr} ({other.kind})"
    return CompareColumns(column, by.where, other), None


def _compile_literal(column: Column, where: Operator, given: Any) -> tuple[Predicate | None, str | None]:
    try:
        if column.kind == "int":
            return _compare_int(column, where, given), None
        return Compare(column, where, literal_for(column, given)), None
    except (ValueError, OverflowError):
        return Never(), f"cannot compare {'.'.join(column.path)} ({column.kind}) with {given!r}"


def _compile_membership(by: Membership, column: Column) -> tuple[Predicate | None, str | None]:
    if by.where != "in":
        return IsNull(column, by.where == "is_null"), None
    try:
        literals = [
            _number(value) if column.kind == "int" else literal_for(column, value)
            for value in by.value
            if value is not None
        ]
    except (ValueError, OverflowError):
        return Never(), f"cannot compare {'.'.join(column.path)} ({column.kind}) with {by.value!r}"
    if column.kind == "int":
        literals = [int(value) for value in literals if value.denominator == 1]
    return OneOf(column, tuple(literals)), None


def _compare_int(column: Column, where: Operator, given: Any) -> Predicate:
    """Integers are compared exactly: ``x < 2.5`` is ``x <= 2``, and no integer equals 2.5."""
    number = _number(given)
    if number.denominator == 1:
        return Compare(column, where, int(number))
    match where:
        case "==":
            return Never()
        case "!=":
            return IsNull(column, is_null=False)
        case "<" | "<=":
            return Compare(column, "<=", math.floor(number))
        case _:
            return Compare(column, ">=", math.ceil(number))


_MOST_DIGITS: Final = 400  # more than the largest float has


def _number(given: Any) -> Fraction:
    if isinstance(given, datetime):
        raise ValueError("a time is no number")
    if not isinstance(given, str):
        return Fraction(given)
    text = given.strip()
    exponent = text.lower().partition("e")[2] or "0"
    if "/" in text or len(text) > _MOST_DIGITS or len(exponent) > 5 or abs(int(exponent)) > _MOST_DIGITS:
        raise ValueError("not a number, or one that takes too long to write out")
    return Fraction(text)


_TRUE: Final = ("true", "t", "yes", "y", "on", "1")
_FALSE: Final = ("false", "f", "no", "n", "off", "0")
_DATETIME: TypeAdapter[datetime] = TypeAdapter(datetime)
_TIME: TypeAdapter[time] = TypeAdapter(time)
_DURATION: TypeAdapter[timedelta] = TypeAdapter(timedelta)


def literal_for(column: Column, given: Any) -> Any:
    """A literal in the form in which a column's kind is compared.

    Raises:
        ValueError: It has no such form.
        OverflowError: It is too large.
    """
    match column.kind:
        case "float":
            return float(_number(given))
        case "bool":
            return _bool(given)
        case "text":
            return given.isoformat(" ") if isinstance(given, datetime) else as_text(given)
        case "moment":
            if not isinstance(given, (str, datetime)):
                raise ValueError("a number is no time")
            return microseconds_of(_DATETIME.validate_python(given))
        case "time":
            if not isinstance(given, str):
                raise ValueError("not a time of day")
            return microseconds_of_day(_TIME.validate_python(given))
        case "duration":
            if isinstance(given, datetime):
                raise ValueError("a time is no duration")
            if isinstance(given, str) and _is_number(given):
                given = float(given)
            return _DURATION.validate_python(given).total_seconds()
        case "enum":
            return _enum_text(column.enum, given)
        case _:
            return int(_number(given))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _bool(given: Any) -> bool:
    if isinstance(given, (int, float)):
        return bool(given)
    word = str(given).strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError("not a boolean")


def _enum_text(spec: EnumSpec | None, given: Any) -> str:
    text = given.isoformat(" ") if isinstance(given, datetime) else as_text(given)
    if isinstance(given, float) and given.is_integer():
        text = str(int(given))
    if spec is None:
        return text
    values = {as_text(value): name for name, value in spec.members.items()}
    if spec.wire == "value":
        return text if text in values or text not in spec.members else as_text(spec.members[text])
    return text if text in spec.members else values.get(text, text)


def _family(kind: Kind) -> str:
    if kind in ("int", "float", "bool"):
        return "number"
    return "text" if kind == "enum" else kind


def _cannot_use(path: str, columns: Columns) -> str:
    if columns.has(path):
        return f"field {path} cannot be compared"
    return f"unknown field {path}" if path else "no field named"


def columns_of(predicates: Iterable[Predicate]) -> list[Column]:
    """The columns that predicates read, each once."""
    found: dict[Column, None] = {}
    for predicate in predicates:
        match predicate:
            case CompareColumns(left, _, right):
                found[left] = None
                found[right] = None
            case Compare(column) | OneOf(column) | IsNull(column):
                found[column] = None
            case Never():
                pass
    return list(found)
