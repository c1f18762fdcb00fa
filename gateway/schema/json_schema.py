"""JSON Schemas of structs, as they are printed (§5.1).

pydantic can emit the schema of what a validator accepts, which is another one: durations print as numbers, sets as
unique items, arrays without the null that stands for NaN. It cannot describe enumerations by name or value, limits with
a message of their own, and imported models at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from gateway.schema.field_types import (
    Array,
    DictOf,
    EnumOf,
    EnumSpec,
    EnumValue,
    FieldType,
    ListOf,
    LiteralOf,
    Nullable,
    Scalar,
    SetOf,
    StructOf,
    UnionOf,
)
from gateway.schema.structs import FieldSpec, StructSpec

Schema: TypeAlias = dict[str, Any]

_SCALARS: Mapping[str, Schema] = {
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "str": {"type": "string"},
    "bool": {"type": "boolean"},
    "datetime": {"type": "string", "format": "date-time"},
    "date": {"type": "string", "format": "date"},
    "time": {"type": "string", "format": "time"},
    "timedelta": {"type": "number"},
    "bytes": {"type": "string"},
    "object": {"type": "object", "additionalProperties": True},
    "any": {},
}
_LIMITS = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "pattern": "pattern",
}
_NULL: Schema = {"type": "null"}


class Schemas:
    """The schemas of a gateway's structs and enumerations.

    Args:
        structs: The structs.
        enums: The enumerations.
        defaults: What absent members become, by struct and field, as printed.
        root: Where references point, such as ``#/components/schemas``.
    """

    def __init__(
        self,
        structs: Iterable[StructSpec],
        enums: Iterable[EnumSpec],
        defaults: Mapping[tuple[str, str], Any],
        root: str = "#/components/schemas",
    ) -> None:
        self._structs = {spec.name: spec for spec in structs}
        self._enums = {spec.name: spec for spec in enums}
        self._defaults = defaults
        self._root = root

    def components(self) -> dict[str, Schema]:
        """Every schema, by name."""
        enums = {name: self.enum(spec) for name, spec in self._enums.items()}
        return enums | {name: self.struct(spec) for name, spec in self._structs.items()}

    def reference(self, name: str) -> Schema:
        """A reference to a struct or an enumeration."""
        return {"$ref": f"{self._root}/{name}"}

    def struct(self, spec: StructSpec) -> Schema:
        """A struct; no member is required, and those without a default may be null."""
        properties: dict[str, Schema] = {}
        if spec.implicit:
            properties["id"] = {"anyOf": [{"type": "string"}, _NULL], "title": "Id"}
            moment = {"type": "string", "format": "date-time"}
            properties["timestamp"] = {"anyOf": [moment, _NULL], "title": "Timestamp"}
        for field in spec.fields:
            properties[field.name] = self._field(spec, field)
        return {"type": "object", "title": spec.name, "additionalProperties": False, "properties": properties}

    def enum(self, spec: EnumSpec) -> Schema:
        """An enumeration, by what is printed."""
        values = list(spec.members.values() if spec.wire == "value" else spec.members)
        return {**_one_of(values), "title": spec.name}

    def key_enum(self, name: str) -> Schema:
        """The keys of a basket over an enumeration: member names."""
        return {"type": "string", "enum": list(self._enums[name].members), "title": name}

    def _field(self, struct: StructSpec, field: FieldSpec) -> Schema:
        schema = dict(self.type(field.type))
        schema |= self._limits(field)
        if not field.has_default and not isinstance(field.type, (StructOf, Nullable)) and schema:
            schema = {"anyOf": [schema, _NULL]}
        if "$ref" not in schema:
            schema["title"] = field.name.replace("_", " ").title()
        if (struct.name, field.name) in self._defaults:
            schema["default"] = self._defaults[struct.name, field.name]
        return schema

    def _limits(self, field: FieldSpec) -> Schema:
        given = field.limits.given()
        limits = {_LIMITS[name]: value for name, value in given.items() if name in _LIMITS}
        unit = "Length" if field.type in (Scalar("str"), Scalar("bytes")) else "Items"
        for name in ("min", "max"):
            if f"{name}_length" in given:
                limits[name + unit] = given[f"{name}_length"]
        return limits

    def type(self, declared: FieldType) -> Schema:
        """The schema of a field type."""
        match declared:
            case Scalar(name):
                return _SCALARS[name]
            case Array(item, rank):
                schema: Schema = dict(_SCALARS[item])
                for _ in range(rank):
                    schema = {"type": "array", "items": schema}
                return schema
            case ListOf(item_type):
                return {"type": "array", "items": self.type(item_type)}
            case SetOf(item_type):
                return {"type": "array", "items": self.type(item_type), "uniqueItems": True}
            case DictOf(value):
                return {"type": "object", "additionalProperties": self.type(value)}
            case Nullable(item_type):
                return {"anyOf": [self.type(item_type), _NULL]}
            case UnionOf(options):
                return {"anyOf": [self.type(option) for option in options]}
            case LiteralOf(values):
                return _one_of(values)
            case EnumOf(name):
                return self.reference(name)
            case StructOf(name):
                return self.reference(name)


def _one_of(values: Sequence[EnumValue]) -> Schema:
    """The schema of a few written-out values, with their type where they share one."""
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string"}
    found = {kinds[type(value)] for value in values}
    schema: Schema = {"enum": list(values)}
    return {"type": found.pop(), **schema} if len(found) == 1 else schema
