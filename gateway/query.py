"""The state query language: reading a query, and what it asks of a struct's columns (specification §3).

A query is read into plain data, then compiled against the columns of a struct into predicates whose literals already
have the column's own kind. Predicates are all that the two evaluators need: the Python one here, and the one that
runs in DuckDB. Both give the same answers.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, WrapValidator
from pydantic_core import ErrorDetails

from gateway.fields import EnumOf, EnumSpec, FieldType, LiteralOf, Nullable, Scalar, StructOf
from gateway.invalid import Invalid, error_item
from gateway.records import Record, at_path
from gateway.structs import StructSpec

Path: TypeAlias = tuple[str, ...]
Kind = Literal["int", "float", "bool", "text", "moment", "time", "duration", "enum"]
Operator = Literal["==", "!=", "<", "<=", ">", ">="]

_EXTRA: Final = ("in", "is_null", "not_null")
_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


# --- what a client sends ---------------------------------------------------------------------------------------------


def _keep_bool(value: Any, read: Callable[[Any], Any]) -> Any:
    return value if isinstance(value, bool) else read(value)


class Condition(BaseModel):
    """The right-hand side of a filter: a value, a time or another field."""

    model_config = ConfigDict(extra="ignore")

    value: Annotated[float | int | str | None, WrapValidator(_keep_bool)] = None
    when: datetime | None = None
    attr: str = ""
    where: Operator = "=="


class Membership(BaseModel):
    """The filters that go beyond the reference: one of several values, null, not null."""

    model_config = ConfigDict(extra="ignore")

    value: list[Annotated[float | int | str | None, WrapValidator(_keep_bool)]] = Field(default_factory=list)
    where: Literal["in", "is_null", "not_null"]


def _read_condition(value: Any, read: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict) and value.get("where") in _EXTRA:
        if value["where"] != "in":
            value = {"where": value["where"]}
        return Membership.model_validate(value)
    return read(value)


class Filter(BaseModel):
    """One filter; all filters of a query must hold."""

    model_config = ConfigDict(extra="ignore")

    attr: str = ""
    by: Annotated[Condition, WrapValidator(_read_condition)]


def _none_is_empty(value: Any) -> Any:
    return [] if value is None else value


class Query(BaseModel):
    """A whole query."""

    model_config = ConfigDict(extra="ignore")

    filters: Annotated[list[Filter], BeforeValidator(_none_is_empty)] = Field(default_factory=list)
    sort: list[tuple[str, Literal["asc", "desc"]]] = Field(default_factory=list)
    limit: Annotated[int, Field(ge=0)] | None = None
    offset: Annotated[int, Field(ge=0)] = 0
    fields: list[str] | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it asks for every record, as they are."""
        return not (self.filters or self.sort or self.offset or self.fields) and self.limit is None


class BadQuery(Exception):  # noqa: N818 - an answer to a client, not a failure of the program
    """The query is JSON, but of the wrong shape: a 400 with a list of errors."""

    def __init__(self, errors: Sequence[ErrorDetails] | Sequence[dict[str, Any]]) -> None:
        super().__init__("; ".join(str(error["msg"]) for error in errors))
        self.errors = [dict(error) for error in errors]


_QUERY: TypeAdapter[Query | None] = TypeAdapter(Query | None)
NO_FILTER: Final = Query()


def read_query(text: str | None) -> Query:
    """Read the ``query`` parameter.

    Raises:
        Invalid: The text is no JSON.
        BadQuery: The JSON is no query.
    """
    if text is None:
        return NO_FILTER
    if text.strip() == "null":
        return NO_FILTER
    try:
        return Query.model_validate_json(text)
    except ValidationError as error:
        errors = error.errors()
        if errors[0]["type"] == "json_invalid":
            message = str(errors[0]["msg"])
            context = {"error": message.removeprefix("Invalid JSON: ")}
            raise Invalid([error_item("json_invalid", ("query", "query"), message, text, context)]) from None
        raise BadQuery(errors) from None


# --- columns ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Column:
    """A field, or a leaf of a nested struct, that can be compared.

    Attributes:
        path: Where it is in a record.
        kind: How its values are compared.
        enum: The enumeration behind a column of kind ``enum``.
    """

    path: Path
    kind: Kind
    enum: EnumSpec | None = field(default=None, compare=False)

    def value(self, record: Record) -> Any:
        """The record's value in the form in which this kind is compared; None for null and absent."""
        found = record.values.get(self.path[0]) if len(self.path) == 1 else at_path(record.values, self.path)
        return None if found is None else comparable(found, self.kind)


_SCALAR_KINDS: Mapping[str, Kind] = {
    "int": "int",
    "float": "float",
    "bool": "bool",
    "str": "text",
    "bytes": "text",
    "datetime": "moment",
    "date": "moment",
    "time": "time",
    "timedelta": "duration",
}


class Columns:
    """The comparable columns of a struct, by dotted path."""

    def __init__(self, spec: StructSpec, specs: Mapping[str, StructSpec], enums: Mapping[str, EnumSpec]) -> None:
        self._spec = spec
        self._specs = specs
        self._enums = enums
        self._found: dict[str, Column | None] = {}

    def get(self, path: str) -> Column | None:
        """The column of a dotted path; None when there is none, or its values cannot be compared."""
        if path not in self._found:
            self._found[path] = self._find(tuple(path.split(".")))
        return self._found[path]

    def has(self, path: str) -> bool:
        """Whether a path leads to a declared field, comparable or not."""
        return self._type(tuple(path.split("."))) is not None

    def _find(self, path: Path) -> Column | None:
        declared = self._type(path)
        if isinstance(declared, EnumOf):
            return Column(path, "enum", self._enums[declared.enum])
        if isinstance(declared, LiteralOf):
            kinds = {type(value) for value in declared.values}
            simple: dict[type, Kind] = {str: "text", int: "int", bool: "bool"}
            return Column(path, simple[kinds.pop()]) if len(kinds) == 1 else None
        if isinstance(declared, Scalar) and declared.name in _SCALAR_KINDS:
            return Column(path, _SCALAR_KINDS[declared.name])
        return None

    def _type(self, path: Path) -> FieldType | None:
        spec: StructSpec | None = self._spec
        declared: FieldType | None = None
        for name in path:
            if spec is None:
                return None
            if spec.implicit and name in ("id", "timestamp"):
                declared = Scalar("str" if name == "id" else "datetime")
            else:
                found = spec.field(name)
                if found is None:
                    return None
                declared = found.type
            while isinstance(declared, Nullable):
                declared = declared.item
            spec = self._specs[declared.struct] if isinstance(declared, StructOf) else None
        return declared


def comparable(value: Any, kind: Kind) -> Any:
    """A stored value in the form in which its kind is compared; None for what counts as null."""
    match kind:
        case "float":
            return value if math.isfinite(value) else None
        case "moment":
            return _moment(value)
        case "time":
            return _naive_time(value)
        case "duration":
            return value // timedelta(microseconds=1)
        case "enum":
            return _as_text(value)
        case "text":
            return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        case _:
            return value


def _moment(value: date) -> datetime:
    if not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day)
    return value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)


def _naive_time(value: time) -> time:
    offset = value.utcoffset()
    if offset is None:
        return value
    return (datetime(2000, 1, 1, tzinfo=UTC).replace(tzinfo=None) + _since_midnight(value) - offset).time()


def _since_midnight(value: time) -> timedelta:
    return timedelta(hours=value.hour, minutes=value.minute, seconds=value.second, microseconds=value.microsecond)


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


# --- predicates ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Compare:
    """A column against a literal of its kind; a null column never matches."""

    column: Column
    where: Operator
    literal: Any

    def matches(self, record: Record) -> bool:
        """Whether a record passes."""
        value = self.column.value(record)
        return value is not None and _OPERATORS[self.where](value, self.literal)


@dataclass(frozen=True, slots=True)
class CompareColumns:
    """Two columns of comparable kinds; a null on either side never matches."""

    left: Column
    where: Operator
    right: Column

    def matches(self, record: Record) -> bool:
        """Whether a record passes."""
        left, right = self.left.value(record), self.right.value(record)
        return left is not None and right is not None and _OPERATORS[self.where](left, right)


@dataclass(frozen=True, slots=True)
class OneOf:
    """A column among literals of its kind."""

    column: Column
    literals: tuple[Any, ...]

    def matches(self, record: Record) -> bool:
        """Whether a record passes."""
        value = self.column.value(record)
        return value is not None and value in self.literals


@dataclass(frozen=True, slots=True)
class IsNull:
    """A column that is null or absent, or one that is not."""

    column: Column
    is_null: bool

    def matches(self, record: Record) -> bool:
        """Whether a record passes."""
        return (self.column.value(record) is None) == self.is_null


@dataclass(frozen=True, slots=True)
class Never:
    """A comparison that failed: no record passes."""

    def matches(self, record: Record) -> bool:  # noqa: ARG002 - the same form as its siblings
        """Whether a record passes."""
        return False


Predicate: TypeAlias = Compare | CompareColumns | OneOf | IsNull | Never


@dataclass(frozen=True, slots=True)
class Selection:
    """A query compiled for one struct.

    Attributes:
        query: What was asked.
        predicates: All must hold.
        sort: Columns to sort by, with whether the order is descending.
        warnings: What was ignored or failed, for people.
    """

    query: Query
    predicates: tuple[Predicate, ...] = ()
    sort: tuple[tuple[Column, bool], ...] = ()
    warnings: tuple[str, ...] = field(default=())

    def matches(self, record: Record) -> bool:
        """Whether a record passes every predicate."""
        return all(predicate.matches(record) for predicate in self.predicates)

    def arrange(self, records: list[Record]) -> list[Record]:
        """Sort, skip and cut records that are in the default order already; nulls come first."""
        for column, descending in reversed(self.sort):
            records.sort(key=lambda record: _null_first(column.value(record)), reverse=descending)
        query = self.query
        end = None if query.limit is None else query.offset + query.limit
        records = records[query.offset : end]
        if query.fields is None:
            return records
        wanted = [name for name in query.fields if name]
        return [
            Record(record.struct, {name: record.values[name] for name in wanted if name in record.values})
            for record in records
        ]


def _null_first(value: Any) -> tuple[bool, Any]:
    return (value is not None, value)


def compile_query(query: Query, columns: Columns) -> Selection:
    """What a query asks of a struct.

    Filters that cannot apply are left out, comparisons that cannot be made never match; both leave a warning.
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


def _number(given: Any) -> Fraction:
    if isinstance(given, datetime):
        raise ValueError("a time is no number")
    if isinstance(given, str) and "/" in given:
        raise ValueError("not a number")
    return Fraction(given.strip() if isinstance(given, str) else given)


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
            return given.isoformat(" ") if isinstance(given, datetime) else _as_text(given)
        case "moment":
            if not isinstance(given, (str, datetime)):
                raise ValueError("a number is no time")
            return _moment(_DATETIME.validate_python(given))
        case "time":
            if not isinstance(given, str):
                raise ValueError("not a time of day")
            return _naive_time(_TIME.validate_python(given))
        case "duration":
            if isinstance(given, datetime):
                raise ValueError("a time is no duration")
            if isinstance(given, str) and _is_number(given):
                given = float(given)
            return _DURATION.validate_python(given) // timedelta(microseconds=1)
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
    text = given.isoformat(" ") if isinstance(given, datetime) else _as_text(given)
    if isinstance(given, float) and given.is_integer():
        text = str(int(given))
    if spec is None:
        return text
    values = {_as_text(value): name for name, value in spec.members.items()}
    if spec.wire == "value":
        return text if text in values or text not in spec.members else _as_text(spec.members[text])
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
    """The columns that predicates look at, each once."""
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
