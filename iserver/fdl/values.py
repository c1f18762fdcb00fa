"""From JSON to typed values: what a client may send for a declared type (protocol §13.4).

Reading values is on the path of every request, so nothing is interpreted there: a type becomes a
chain of closures once, when a program is loaded, and reading calls them.

Values must come from a JSON reader that rejects `NaN`, `Infinity` and broken text, as orjson does.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from math import isfinite
from typing import Any, TypeAlias

from iserver.fdl.model import (
    EnumType,
    FieldDefinition,
    JsonValue,
    ListType,
    ObjectType,
    Scalar,
    ScalarType,
    TypeRef,
)

INT_MIN, INT_MAX = -(2**63), 2**63 - 1

Reader: TypeAlias = Callable[[Any], Any]


class InvalidValueError(ValueError):
    """A JSON value does not have the declared type. The message is fit for a client."""


class MissingArgumentError(InvalidValueError):
    """A required value is absent.

    Attributes:
        name: The FDL name of the value.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"missing required argument '{name}'")


def reader(type_: TypeRef, name: str) -> Reader:
    """Compile a type to a function from a JSON value to a checked value.

    The checked value is fit for JSON again: a Float is always a `float`, an object has exactly its
    declared members in declaration order.

    Args:
        type_: The declared type.
        name: What messages call the value.

    Returns:
        A function that raises `InvalidValueError` for a value that does not fit, `null` for `T!` included.
    """
    read = _not_null_reader(type_, name)
    if not type_.nullable:
        return read

    def read_nullable(value: Any) -> Any:
        return None if value is None else read(value)

    return read_nullable


def _not_null_reader(type_: TypeRef, name: str) -> Reader:
    match type_:
        case ScalarType(scalar=Scalar.INT):
            return _int_reader(name)
        case ScalarType(scalar=Scalar.FLOAT):
            return _float_reader(name)
        case ScalarType(scalar=Scalar.BOOLEAN):
            return _instance_reader(bool, f"Expecting a boolean for {name}")
        case ScalarType():
            return _instance_reader(str, f"Expecting a string for {name}")
        case EnumType(definition=definition):
            return _enum_reader(definition.values, name)
        case ListType(element=element):
            return _list_reader(reader(element, name), name)
        case ObjectType(definition=definition):
            return _object_reader(definition.fields, name)


def _instance_reader(expected: type, message: str) -> Reader:
    def read(value: Any) -> Any:
        if type(value) is expected:
            return value
        raise InvalidValueError(message)

    return read


def _int_reader(name: str) -> Reader:
    message = f"Expecting an integer for {name}"

    def read(value: Any) -> int:
        if type(value) is int and INT_MIN <= value <= INT_MAX:  # a bool is an int, but not to FDL
            return value
        raise InvalidValueError(message)

    return read


def _float_reader(name: str) -> Reader:
    message = f"Expecting float for {name}"

    def read(value: Any) -> float:
        if type(value) is int:
            try:
                return float(value)
            except OverflowError:
                raise InvalidValueError(message) from None
        if type(value) is float and isfinite(value):
            return value
        raise InvalidValueError(message)

    return read


def _enum_reader(values: Sequence[str], name: str) -> Reader:
    known = frozenset(values)
    expected = f"invalid value for {name}: expecting one of {', '.join(values)}"

    def read(value: Any) -> str:
        if type(value) is str and value in known:
            return value
        raise InvalidValueError(expected)

    return read


def _list_reader(read_element: Reader, name: str) -> Reader:
    message = f"Expecting a list for {name}"

    def read(value: Any) -> list[JsonValue]:
        if type(value) is list:
            return [read_element(item) for item in value]
        raise InvalidValueError(message)

    return read


def _object_reader(fields: Sequence[FieldDefinition], name: str) -> Reader:
    members = [(item.name, reader(item.type, f"{name}.{item.name}"), item.type.nullable) for item in fields]
    message = f"Malformed request: expecting an object for {name}"

    def read(value: Any) -> dict[str, JsonValue]:
        if type(value) is not dict:
            raise InvalidValueError(message)
        result: dict[str, JsonValue] = {}
        for member, read_member, nullable in members:
            item = value.get(member)
            if item is None and not nullable:
                raise InvalidValueError(f"Malformed request: {name}.{member} is missing")
            result[member] = read_member(item)
        return result

    return read


class Arguments:
    """The declared args of a feature, an event or a session, ready to read from JSON objects.

    `@elapsed` fields are measured by the server, so they are never read here.
    """

    __slots__ = ("_fields", "_freezers")

    def __init__(self, fields: Sequence[FieldDefinition]) -> None:
        given = [item for item in fields if item.elapsed is None]
        self._fields = [
            (item.name, reader(item.type, item.name), item.type.nullable, item.default, item.required) for item in given
        ]
        self._freezers = [(item.name, _is_nested(item.type)) for item in given]

    def read(self, given: Mapping[str, Any]) -> dict[str, JsonValue]:
        """Check what a client sent and apply the defaults.

        Args:
            given: The JSON object; members that are not declared are ignored, and `null` for a
                nullable arg is the same as leaving it out.

        Returns:
            The args that have a value, in declaration order.

        Raises:
            MissingArgumentError: A required arg is absent.
            InvalidValueError: A value has the wrong type.
        """
        result: dict[str, JsonValue] = {}
        for name, read, nullable, default, required in self._fields:
            value = given.get(name)
            if value is not None:
                result[name] = read(value)
            elif required and name not in given:
                raise MissingArgumentError(name)
            elif name in given and not nullable:
                read(None)
            elif default is not None:
                result[name] = default
        return result

    def key(self, args: Mapping[str, Any]) -> Hashable:
        """The canonical form by which two requests are the same (§10.3).

        Args:
            args: What `read` returned.
        """
        return tuple([_freeze(args.get(name)) if nested else args.get(name) for name, nested in self._freezers])


def _is_nested(type_: TypeRef) -> bool:
    return isinstance(type_, ListType | ObjectType)


def _freeze(value: Any) -> Hashable:
    if type(value) is list:
        return tuple([_freeze(item) for item in value])
    if type(value) is dict:
        return tuple([_freeze(item) for item in value.values()])
    return value  # type: ignore[no-any-return]
