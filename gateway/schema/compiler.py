"""Struct types compiled into pydantic-core validators, once for each struct."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from pydantic import BaseModel
from pydantic_core import PydanticKnownError, SchemaError, SchemaValidator, ValidationError
from pydantic_core import core_schema as cs

from gateway.schema.field_types import (
    Array,
    DictOf,
    EnumOf,
    EnumSpec,
    FieldType,
    ListOf,
    LiteralOf,
    Nullable,
    Scalar,
    SetOf,
    StructOf,
    UnionOf,
    spell_type,
)
from gateway.schema.record import Members, printable_time
from gateway.schema.structs import FieldSpec, StructSpec


class FieldError(ValueError):
    """A field contradicts itself.

    Attributes:
        struct: Its struct.
        field: Its name.
        reason: How.
    """

    def __init__(self, struct: str, field: str, reason: str) -> None:
        super().__init__(f"struct {struct!r}: field {field!r}: {reason}")
        self.struct = struct
        self.field = field
        self.reason = reason


def reason_of(error: SchemaError) -> str:
    """The reason in pydantic's message about a schema: its last line, without the picture of the place."""
    return str(error).strip().splitlines()[-1].strip().removeprefix("error: ")


class Compiler:
    """Compiles one struct with everything it contains; a struct inside itself becomes a reference."""

    def __init__(
        self,
        specs: Mapping[str, StructSpec],
        enums: Mapping[str, EnumSpec],
        next_id: Callable[[], str],
        now: Callable[[], datetime],
        started: datetime,
    ) -> None:
        self._specs = specs
        self._enums = enums
        self._next_id = next_id
        self._now = now
        self._started = started
        self._open: list[str] = []
        self._recursive: set[str] = set()
        self._definitions: dict[str, cs.CoreSchema] = {}

    def validator(self, schema: cs.CoreSchema) -> SchemaValidator:
        if self._definitions:
            schema = cs.definitions_schema(schema, list(self._definitions.values()))
        return SchemaValidator(schema)

    def struct(self, spec: StructSpec) -> cs.CoreSchema:
        if spec.name in self._open:
            self._recursive.add(spec.name)
            return cs.definition_reference_schema(spec.name)
        if spec.name in self._definitions:
            return cs.definition_reference_schema(spec.name)
        self._open.append(spec.name)
        schema = self._imported(spec, spec.model) if spec.model else self._declared(spec)
        self._open.pop()
        if spec.name in self._recursive:
            self._definitions[spec.name] = cast(cs.CoreSchema, {**schema, "ref": spec.name})
            return cs.definition_reference_schema(spec.name)
        return schema

    def _declared(self, spec: StructSpec) -> cs.CoreSchema:
        fields = self._implicit() if spec.implicit else {}
        for declared in spec.fields:
            try:
                fields[declared.name] = cs.typed_dict_field(self._field(declared), required=False)
            except FieldError:
                raise  # of a struct inside
            except ValueError as error:
                raise FieldError(spec.name, declared.name, str(error)) from None
        return cs.typed_dict_schema(fields, extra_behavior="forbid")

    def _implicit(self) -> dict[str, cs.TypedDictField]:
        now = self._now
        text = cs.nullable_schema(cs.str_schema(coerce_numbers_to_str=True))
        moment = cs.nullable_schema(cs.no_info_after_validator_function(naive_utc, cs.datetime_schema()))
        return {
            "id": cs.typed_dict_field(cs.with_default_schema(text, default_factory=self._next_id), required=False),
            "timestamp": cs.typed_dict_field(
                cs.with_default_schema(moment, default_factory=lambda: now().replace(tzinfo=None)), required=False
            ),
        }

    def _imported(self, spec: StructSpec, model: type[BaseModel]) -> cs.CoreSchema:
        own = {"id", "timestamp"} - set(model.model_fields) if spec.implicit else set()
        implicit = {name: schema for name, schema in self._implicit().items() if name in own}
        leading = SchemaValidator(cs.typed_dict_schema(implicit, extra_behavior="ignore"))

        def validate(value: Any) -> Members:
            if not isinstance(value, dict):
                raise PydanticKnownError("model_attributes_type")
            members: Members = leading.validate_python(value)
            rest = {name: item for name, item in value.items() if name not in own}
            members.update(model.model_validate(rest).model_dump())
            return members

        return cs.no_info_plain_validator_function(validate)

    def _field(self, spec: FieldSpec) -> cs.CoreSchema:
        schema = self._limited(spec)
        if spec.default_now == "start":
            return cs.with_default_schema(schema, default=self._moment(spec, self._started))
        if spec.default_now == "tick":
            now = self._now
            return cs.with_default_schema(schema, default_factory=lambda: self._moment(spec, now()))
        if spec.has_default:
            return self._with_default(schema, spec)
        if isinstance(spec.type, (StructOf, Nullable)):
            return schema
        return cs.nullable_schema(schema)

    def _with_default(self, schema: cs.CoreSchema, spec: FieldSpec) -> cs.CoreSchema:
        default = spec.default
        if _is_empty(spec) and not spec.limits.given():
            # nothing to check, and a struct inside itself could not be checked before it is complete
            return cs.with_default_schema(schema, default_factory=lambda: default)
        validator = self.validator(schema)
        try:
            value = validator.validate_python(default)
            again = validator.validate_python(default)
        except ValidationError as error:
            raise ValueError(f"default {default!r}: {error.errors(include_url=False)[0]['msg']}") from None
        if value == again:
            return cs.with_default_schema(schema, default_factory=lambda: value)  # shared: records never change
        return cs.with_default_schema(schema, default_factory=lambda: validator.validate_python(default))

    @staticmethod
    def _moment(spec: FieldSpec, at: datetime) -> Any:
        bare = spec.type.item if isinstance(spec.type, Nullable) else spec.type
        if bare == Scalar("datetime"):
            return at
        if bare == Scalar("date"):
            return at.date()
        raise ValueError(f"default_now needs a datetime or a date, not {spell_type(spec.type)}")

    def _limited(self, spec: FieldSpec) -> cs.CoreSchema:
        limits = spec.limits.given()
        if not limits:
            return self._type(spec.type)
        bare = spec.type.item if isinstance(spec.type, Nullable) else spec.type
        allowed = _allowed_limits(bare)
        for name in limits:
            if name not in allowed:
                raise ValueError(f"{name} does not apply to {spell_type(spec.type)}")
        if spec.limits.pattern is not None:
            _pattern_test(spec.limits.pattern)
        if spec.message is None:
            schema = self._type(bare, limits)
        else:
            check = _limit_check(limits, spec.message)
            schema = cs.no_info_after_validator_function(check, self._type(bare))
        return cs.nullable_schema(schema) if isinstance(spec.type, Nullable) else schema

    def _type(self, declared: FieldType, limits: Mapping[str, Any] | None = None) -> cs.CoreSchema:
        given: dict[str, Any] = dict(limits or {})
        match declared:
            case Scalar(name):
                return _scalar_schema(name, given)
            case Array(item, rank):
                number = cs.float_schema() if item == "float" else cs.int_schema()
                schema: cs.CoreSchema = cs.nullable_schema(number) if item == "float" else number
                for level in range(rank):
                    schema = cs.list_schema(schema, **(given if level == rank - 1 else {}))
                    if item == "float" and level == 0:
                        schema = cs.no_info_after_validator_function(_null_is_nan, schema)
                return schema
            case ListOf(item_type):
                return cs.list_schema(self._type(item_type), **given)
            case SetOf(item_type):
                inner = cs.list_schema(self._type(item_type), **given)
                return cs.no_info_after_validator_function(_distinct, inner)
            case DictOf(value):
                return cs.dict_schema(cs.str_schema(), self._type(value), **given)
            case Nullable(item_type):
                return cs.nullable_schema(self._type(item_type))
            case UnionOf(options):
                return cs.union_schema([self._type(option) for option in options])
            case LiteralOf(values):
                return cs.literal_schema(list(values))
            case EnumOf(name):
                return cs.no_info_plain_validator_function(enum_reader(self._enums[name]))
            case StructOf(name):
                return self.struct(self._specs[name])


def _is_empty(spec: FieldSpec) -> bool:
    """Whether a default is null or an empty collection, and the type allows it."""
    declared = spec.type
    if spec.default is None:
        return isinstance(declared, Nullable)
    declared = declared.item if isinstance(declared, Nullable) else declared
    return (spec.default == [] and isinstance(declared, (ListOf, SetOf))) or (
        spec.default == {} and isinstance(declared, DictOf)
    )


def _scalar_schema(name: str, limits: dict[str, Any]) -> cs.CoreSchema:
    match name:
        case "int":
            return cs.int_schema(**limits)
        case "float":
            return cs.float_schema(**limits)
        case "str":
            return cs.str_schema(coerce_numbers_to_str=True, **limits)
        case "bool":
            return cs.bool_schema()
        case "datetime":
            return cs.datetime_schema()
        case "date":
            return cs.date_schema()
        case "time":
            return cs.no_info_after_validator_function(printable_time, cs.time_schema())
        case "timedelta":
            return cs.timedelta_schema()
        case "bytes":
            return cs.bytes_schema(**limits)
        case "object":
            return cs.dict_schema(cs.str_schema())
        case _:
            return cs.any_schema()


def _allowed_limits(declared: FieldType) -> Sequence[str]:
    match declared:
        case Scalar("int" | "float"):
            return ("ge", "gt", "le", "lt")
        case Scalar("str"):
            return ("min_length", "max_length", "pattern")
        case Scalar("bytes") | Array() | ListOf() | SetOf() | DictOf():
            return ("min_length", "max_length")
        case _:
            return ()


def _limit_check(limits: Mapping[str, Any], message: str) -> Callable[[Any], Any]:
    matches = _pattern_test(limits["pattern"]) if "pattern" in limits else None
    ge, gt, le, lt = (limits.get(name) for name in ("ge", "gt", "le", "lt"))
    shortest, longest = limits.get("min_length", 0), limits.get("max_length")

    def check(value: Any) -> Any:
        if (
            (ge is not None and not value >= ge)
            or (gt is not None and not value > gt)
            or (le is not None and not value <= le)
            or (lt is not None and not value < lt)
            or (shortest and len(value) < shortest)
            or (longest is not None and len(value) > longest)
            or (matches is not None and not matches(value))
        ):
            raise ValueError(message)
        return value

    return check


def _pattern_test(pattern: str) -> Callable[[Any], bool]:
    """Whether a pattern is in a text, in a time that grows with both alone: pydantic's own patterns cannot backtrack.

    Raises:
        ValueError: It is no such pattern.
    """
    try:
        return SchemaValidator(cs.str_schema(pattern=pattern)).isinstance_python
    except SchemaError as error:
        raise ValueError(f"pattern {pattern!r}: {reason_of(error)}") from None


def enum_reader(spec: EnumSpec) -> Callable[[Any], Any]:
    """A function from what a client may send, name or value, to what is printed.

    The way in which the enumeration prints decides where a name and a value of another member are the same.
    """
    by_value = {enum_key(value): (value if spec.wire == "value" else name) for name, value in spec.members.items()}
    by_name = {enum_key(name): (value if spec.wire == "value" else name) for name, value in spec.members.items()}
    found = by_name | by_value if spec.wire == "value" else by_value | by_name
    shown = spec.members.values() if spec.wire == "value" else spec.members
    expected = _one_of([repr(item) for item in shown])

    def read(value: Any) -> Any:
        try:
            return found[enum_key(value)]
        except (KeyError, TypeError):
            raise PydanticKnownError("enum", {"expected": expected}) from None

    return read


def enum_key(value: Any) -> Any:
    """A member's value as a dictionary key: true is not 1."""
    return (bool, value) if isinstance(value, bool) else value


def _one_of(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} or {items[-1]}"


def _null_is_nan(numbers: list[float | None]) -> list[float | None]:
    """An array with NaN where it had null, which is what NaN prints as."""
    return [math.nan if number is None else number for number in numbers] if None in numbers else numbers


def _distinct(items: list[Any]) -> list[Any]:
    try:
        return list(dict.fromkeys(items))
    except TypeError:  # items that cannot be hashed: lists, objects
        return list({_frozen(item): item for item in reversed(items)}.values())[::-1]


def _frozen(value: Any) -> Any:
    """A value that can be hashed and is equal wherever the value is: comparing each with each would take too long."""
    if isinstance(value, list):
        return (list, *map(_frozen, value))
    if isinstance(value, dict):
        return (dict, frozenset((name, _frozen(item)) for name, item in value.items()))
    return value


def naive_utc(moment: datetime) -> datetime:
    """The same moment in UTC without an offset; a moment without one is taken as UTC already.

    Raises:
        ValueError: In UTC it is before the year 1 or after the year 9999.
    """
    try:
        return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
    except OverflowError:
        raise ValueError("a time between the years 1 and 9999 in UTC is expected") from None
