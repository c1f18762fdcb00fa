"""The fields of a pydantic model, as a channel file imports them (§8.2)."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from gateway.schema.field_types import DictOf, FieldType, ListOf, LiteralOf, Nullable, Scalar, ScalarName, UnionOf
from gateway.schema.structs import ABSENT, FieldSpec

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


def fields_of_model(model: type[BaseModel]) -> tuple[FieldSpec, ...]:
    """The fields of a pydantic model; types without an equivalent are ``any``, and the model validates them."""
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
