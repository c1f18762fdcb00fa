"""FDL literals as JSON values of a declared type (protocol §13.4).

Literals are stricter than JSON from clients: a Float needs a float token, an enum a bare name.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

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
from iserver.fdl.syntax import ArgumentNode, Position, ValueNode
from iserver.fdl.values import INT_MAX, INT_MIN


class LiteralError(Exception):
    """A literal does not have the declared type.

    Attributes:
        position: Of the part that is wrong.
        message: What was expected.
    """

    def __init__(self, position: Position, message: str) -> None:
        self.position = position
        self.message = message
        super().__init__(message)


def json_value(node: ValueNode, type_: TypeRef) -> JsonValue:
    """The JSON value of a literal.

    Raises:
        LiteralError: It does not have that type.
    """
    if node.kind == "null" and type_.nullable:
        return None
    match type_:
        case ScalarType(scalar=scalar):
            return _scalar(node, scalar)
        case EnumType(definition=definition):
            if node.kind != "name":
                raise LiteralError(node.position, f"Expecting a value of the enum {definition.name}")
            if node.value not in definition.values:
                raise LiteralError(node.position, f"'{node.value}' is not a value of {definition.name}")
            return str(node.value)
        case ListType(element=element):
            if node.kind != "list":
                raise LiteralError(node.position, "Expecting a list value")
            return [json_value(item, element) for item in node.value]
        case ObjectType(definition=definition):
            if node.kind != "object":
                raise LiteralError(node.position, f"Expecting an object of the type {definition.name}")
            return _object(node.position, node.value, definition.fields)


_SCALAR_KINDS = {
    Scalar.INT: ("int", "Expecting an integer"),
    Scalar.FLOAT: ("float", "Expecting a floating point number such as 1.0"),
    Scalar.BOOLEAN: ("boolean", "Expecting a boolean"),
    Scalar.STRING: ("string", "Expecting a string"),
    Scalar.ID: ("string", "Expecting a string"),
}


def _scalar(node: ValueNode, scalar: Scalar) -> JsonValue:
    kind, message = _SCALAR_KINDS[scalar]
    if node.kind != kind:
        raise LiteralError(node.position, message)
    value = node.value
    if kind == "int" and not INT_MIN <= value <= INT_MAX:
        raise LiteralError(node.position, f"{value} does not fit into 64 bits")
    if kind == "float" and not isfinite(value):
        raise LiteralError(node.position, "the number is too large for a Float")
    return value  # type: ignore[no-any-return]


def _object(
    position: Position, members: Sequence[ArgumentNode], fields: Sequence[FieldDefinition]
) -> dict[str, JsonValue]:
    given = {member.name: member for member in members}
    known = {item.name for item in fields}
    for member in members:
        if member.name not in known:
            raise LiteralError(member.position, f"Unknown field '{member.name}'")
    result: dict[str, JsonValue] = {}
    for item in fields:
        if item.name in given:
            result[item.name] = json_value(given[item.name].value, item.type)
        elif item.type.nullable:
            result[item.name] = None
        else:
            raise LiteralError(position, f"No value for the required field '{item.name}'")
    return result
