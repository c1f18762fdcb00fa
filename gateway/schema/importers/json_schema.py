"""The fields of a JSON Schema object, as a channel file imports them (§8.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.schema.field_types import (
    DictOf,
    FieldType,
    ListOf,
    LiteralOf,
    Scalar,
    ScalarName,
    SetOf,
    UnionOf,
    nullable,
)
from gateway.schema.structs import ABSENT, FieldSpec, Limits

_FORMATS: Mapping[str, ScalarName] = {
    "date-time": "datetime",
    "date": "date",
    "time": "time",
    "duration": "timedelta",
}


def fields_of_schema(schema: Mapping[str, Any]) -> tuple[FieldSpec, ...]:
    """The fields of a JSON Schema object.

    Raises:
        ValueError: It is not an object with properties.
    """
    properties = schema.get("properties")
    if not isinstance(properties, dict) or not properties:
        raise ValueError("the schema has no properties")
    specs = []
    for name, given in properties.items():
        if name in ("id", "timestamp"):
            continue
        given = {} if given is True else given  # anything at all
        declared = _of_schema(name, given)
        limits = Limits(
            given.get("minimum"),
            given.get("exclusiveMinimum"),
            given.get("maximum"),
            given.get("exclusiveMaximum"),
            given.get("minLength", given.get("minItems")),
            given.get("maxLength", given.get("maxItems")),
            given.get("pattern"),
        )
        specs.append(FieldSpec(name, declared, given.get("default", ABSENT), limits=limits))
    return tuple(specs)


def _of_schema(name: str, schema: Any) -> FieldType:
    if schema is True:
        return Scalar("any")
    if not isinstance(schema, dict):
        raise ValueError(f"property {name!r}: {schema!r} is not a schema")
    for keyword in ("enum", "anyOf"):
        if not isinstance(schema.get(keyword, [None]), list) or not schema.get(keyword, [None]):
            raise ValueError(f"property {name!r}: {keyword} is not a list of at least one item")
    if "enum" in schema:
        return LiteralOf(tuple(schema["enum"]))
    if "const" in schema:
        return LiteralOf((schema["const"],))
    if "anyOf" in schema:
        kinds = [_of_schema(name, each) for each in schema["anyOf"] if not _is_null(each)]
        if not kinds:
            raise ValueError(f"property {name!r} is null and nothing else")
        inner = kinds[0] if len(kinds) == 1 else UnionOf(tuple(kinds))
        return nullable(inner) if len(kinds) < len(schema["anyOf"]) else inner
    kind = schema.get("type")
    if isinstance(kind, list):
        rest = [each for each in kind if each != "null"]
        if not rest:
            raise ValueError(f"property {name!r} is null and nothing else")
        options = tuple(_of_schema(name, {**schema, "type": each}) for each in rest)
        inner = options[0] if len(options) == 1 else UnionOf(options)
        return nullable(inner) if "null" in kind else inner
    match kind:
        case "integer":
            return Scalar("int")
        case "number":
            return Scalar("float")
        case "boolean":
            return Scalar("bool")
        case "string":
            return Scalar(_FORMATS.get(schema.get("format", ""), "str"))
        case "array":
            items = _of_schema(name, schema.get("items", {}))
            return SetOf(items) if schema.get("uniqueItems") else ListOf(items)
        case "object":
            values = schema.get("additionalProperties")
            return DictOf(_of_schema(name, values)) if isinstance(values, dict) else Scalar("object")
        case None:
            return Scalar("any")
    raise ValueError(f"property {name!r}: unknown type {kind!r}")


def _is_null(schema: Any) -> bool:
    return isinstance(schema, dict) and schema.get("type") == "null"
