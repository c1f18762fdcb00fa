"""Simple filters on the rows of a frame: ``price>=10``, ``city in Rome,Oslo``, ``note is null``.

A condition is parsed without knowing the data. Against a schema it becomes an Arrow expression, and against the
smallest and largest value of a piece of the data it tells whether that piece has to be read at all.
"""

from __future__ import annotations

import csv
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_QUOTED = re.compile(r'"((?:[^"]|"")+)"\s*')
_OPERATOR = re.compile(
    r"(?P<null>\bis\s+(?P<not>not\s+)?null$)|(?P<in>\bin\b)|(?P<sign>==|!=|<=|>=|=|<|>)", re.IGNORECASE
)
_SIGNS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_EXAMPLES = "column>=5, column in a,b or column is null"


class ConditionError(ValueError):
    """A condition cannot be read, or does not fit the data; the text says why."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition on one column.

    Attributes:
        column: The column.
        sign: ``= != < <= > >=``, ``in``, ``null`` or ``not null``.
        values: What the column is compared with, as written: one text, several for ``in``, none for the others.
    """

    column: str
    sign: str
    values: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read a condition.

        Raises:
            ConditionError: It is not one.
        """
        column, found = _split(text.strip())
        if found is None:
            raise ConditionError(f"where: expected something like {_EXAMPLES}, found {text[:80]!r}")
        value = found.string[found.end() :].strip()
        if found["null"]:
            return cls(column, "not null" if found["not"] else "null")
        if found["in"]:
            values = next(csv.reader([value], skipinitialspace=True), [])
            if not values:
                raise ConditionError(f"where: {column} in: there is nothing to compare with")
            return cls(column, "in", tuple(values))
        return cls(column, "=" if found["sign"] == "==" else found["sign"], (_unquoted(value),))

    def canonical(self) -> str:
        """Equal for equal conditions."""
        return repr((self.column, self.sign, self.values))


def _split(text: str) -> tuple[str, re.Match[str] | None]:
    """The column of a condition, and where its operator is: the first one after at least one sign of a name."""
    if (quoted := _QUOTED.match(text)) is not None:
        return quoted[1].replace('""', '"'), _OPERATOR.match(text, quoted.end())
    found = _OPERATOR.search(text, 1)
    column = "" if found is None else text[: found.start()].rstrip()
    return column, None if set('"!=<>').intersection(column[:1] + column.replace('"', "")) else found


def _unquoted(text: str) -> str:
    return text[1:-1].replace('""', '"') if len(text) > 1 and text[0] == text[-1] == '"' else text


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions that fit a schema; a row must meet all of them.

    Attributes:
        expression: All of them as an Arrow expression; None when there is none.
        tests: Each with the values as the column has them.
    """

    expression: pc.Expression | None
    tests: tuple[tuple[Condition, tuple[Any, ...]], ...] = ()

    @classmethod
    def of(cls, conditions: Sequence[Condition], schema: pa.Schema) -> Filter:
        """Fit conditions to a schema.

        Raises:
            ConditionError: There is no such column, or a value is not of the column's type.
        """
        expression, tests = None, []
        for condition in conditions:
            kind = _type_of(condition.column, schema)
            scalars = [_scalar(text, kind, condition.column) for text in condition.values]
            one = _expression(condition, scalars, schema.field(condition.column).type)
            expression = one if expression is None else expression & one
            tests.append((condition, tuple(scalar.as_py() for scalar in scalars)))
        return cls(expression, tuple(tests))

    def may_match(self, bounds: Callable[[str], Bounds | None]) -> bool:
        """Whether a piece of the data can have a row that meets all conditions.

        Args:
            bounds: What is known of a column in that piece, None for nothing.
        """
        for condition, values in self.tests:
            known = bounds(condition.column)
            if known is not None and not _within(condition.sign, values, known):
                return False
        return True


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is known of one column in a piece of the data.

    Attributes:
        smallest: The smallest value, None when unknown.
        largest: The largest value, None when unknown.
        missing: How many values are missing, None when unknown.
        rows: How many rows there are.
    """

    smallest: Any
    largest: Any
    missing: int | None
    rows: int


def _type_of(column: str, schema: pa.Schema) -> pa.DataType:
    positions = schema.get_all_field_indices(column)
    if len(positions) != 1:
        raise ConditionError(f"where: there is no column {column!r}")
    kind = schema.field(positions[0]).type
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _scalar(text: str, kind: pa.DataType, column: str) -> pa.Scalar:
    try:
        if pa.types.is_timestamp(kind) and kind.tz is not None:
            return _moment(text, kind)
        return pa.scalar(text).cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise ConditionError(f"where: column {column!r} holds {kind}, which {text[:60]!r} is not") from error


def _moment(text: str, kind: pa.DataType) -> pa.Scalar:
    """A moment with its offset as written, or else in the column's own time zone."""
    try:
        return pa.scalar(text).cast(kind)
    except pa.ArrowInvalid:
        naive = pa.scalar(text).cast(pa.timestamp(kind.unit))
        return pc.assume_timezone(naive, kind.tz)


def _expression(condition: Condition, scalars: Sequence[pa.Scalar], stored: pa.DataType) -> pc.Expression:
    field = pc.field(condition.column)
    if condition.sign == "null":
        return field.is_null()
    if condition.sign == "not null":
        return field.is_valid()
    if pa.types.is_dictionary(stored):
        field = field.cast(stored.value_type)
    if condition.sign == "in":
        return field.isin(pa.array([scalar.as_py() for scalar in scalars], type=scalars[0].type))
    return _SIGNS[condition.sign](field, scalars[0])


def _within(sign: str, values: Sequence[Any], known: Bounds) -> bool:
    """Whether a column with these bounds can meet a comparison."""
    if sign == "null":
        return known.missing is None or known.missing > 0
    if known.missing is not None and known.missing == known.rows:
        return False
    if sign in ("not null", "!=") or known.smallest is None or known.largest is None:
        return True
    try:
        if sign in ("=", "in"):
            return any(known.smallest <= value <= known.largest for value in values)
        bound = known.smallest if sign in ("<", "<=") else known.largest
        return bool(_SIGNS[sign](bound, values[0]))
    except TypeError:
        return True  # bounds of another kind than the column's values tell nothing
