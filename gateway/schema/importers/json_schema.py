"""Fields of structs from elsewhere: JSON Schemas and pydantic models (protocol §8.2)."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from gateway.schema.field_types import (
    DictOf,
    FieldType,
    ListOf,
    LiteralOf,
    Nullable,
    Scalar,
    ScalarName,
    SetOf,
    UnionOf,
    nullable,
)
from gateway.schema.structs import ABSENT, FieldSpec, Limits

_PYTHON: Mapping[Any, ScalarName] = {
    int: "int",
    float: "float",
    str: "str",
    bool: "bool",
    datetime: "datetime",
    date: "date",
    time: "time",
    timedelta: "timedelta",
    bytes: "bytes",
}
_FORMATS: Mapping[str, ScalarName] = {
    "date-time": "datetime",
    "date": "date",
    "time": "time",
    "duration": "timedelta",
}


def fields_of_model(model: type[BaseModel]) -> tuple[FieldSpec, ...]:
    """The fields of a pydantic model; what the type language cannot say is ``any`` here, the model still checks it."""
    specs = []
    for name, info in model.model_fields.items():
        default: Any = ABSENT
        if info.default is not PydanticUndefined:
            default = info.default
        specs.append(FieldSpec(name, _of_annotation(info.annotation), default))
    return tuple(specs)


def _of_annotation(annotation: Any) -> FieldType:
    if annotation in _PYTHON:
        return Scalar(_PYTHON[annotation])
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _of_annotation(arguments[0])
    if origin in (typing.Union, types.UnionType):
        rest = [_of_annotation(each) for each in arguments if each is not type(None)]
        inner = rest[0] if len(rest) == 1 else UnionOf(tuple(rest))
        return Nullable(inner) if type(None) in arguments else inner
    if origin is typing.Literal:
        return LiteralOf(arguments)
    if origin in (list, set, frozenset) and arguments:
        return ListOf(_of_annotation(arguments[0]))
    if origin is dict and arguments:
        return DictOf(_of_annotation(arguments[1]))
    return Scalar("any")


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
