"""JSON Schemas of a csp-gateway as structs, enumerations and field types of a channel file.

Schemas are those that csp-gateway writes: nested structs stand in their parent or behind a ``$ref``, an enumeration
shows what it prints, a field without a default is ``anyOf`` its type and null, and numeric arrays are ``{}``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from pydantic_core import SchemaError, SchemaValidator, core_schema

from gateway.commands.importers.draft import Draft, Location, as_name
from gateway.schema.field_types import (
    Array,
    DictOf,
    EnumOf,
    FieldType,
    ListOf,
    LiteralOf,
    Nullable,
    Scalar,
    ScalarName,
    SetOf,
    StructOf,
    UnionOf,
    nullable,
    spell_type,
)

Schema: TypeAlias = Mapping[str, Any]

_FORMATS: Mapping[str, ScalarName] = {
    "date-time": "datetime",
    "date": "date",
    "time": "time",
    "duration": "timedelta",
    "binary": "bytes",
}
_SCALARS: Mapping[str, ScalarName] = {"integer": "int", "number": "float", "boolean": "bool"}
_LIMITS = {
    "minimum": "ge",
    "exclusiveMinimum": "gt",
    "maximum": "le",
    "exclusiveMaximum": "lt",
    "minLength": "min_length",
    "minItems": "min_length",
    "maxLength": "max_length",
    "maxItems": "max_length",
    "pattern": "pattern",
}
_ANY = Scalar("any")
_OF_LITERALS: Mapping[type, Scalar] = {str: Scalar("str"), int: Scalar("int"), bool: Scalar("bool")}
_IMPLICIT = ("id", "timestamp")
_ENUM_WORDS = "An enumeration of "  # how csp describes an enumeration that prints names
_NULL = {"type": "null"}


class JsonTypes:
    """Reads schemas into the structs and enumerations of a draft.

    Args:
        draft: Where they are put.
        components: The schemas that references lead to, by name.
        examples: Records by the title of their struct, which show the rank of numeric arrays.
    """

    def __init__(
        self, draft: Draft, components: Mapping[str, Schema], examples: Mapping[str, list[Mapping[str, Any]]]
    ) -> None:
        self._draft = draft
        self._components = components
        self._examples = examples
        self._local: list[Mapping[str, Schema]] = []
        self._structs: dict[str, str] = {}
        self._enums: dict[str, str] = {}

    def struct(self, schema: Schema) -> str:
        """The name of the struct that a schema describes; a new one is put into the draft.

        Args:
            schema: An object with properties, or a reference to one.
        """
        schema = self._resolved(schema)
        properties: Mapping[str, Schema] = schema.get("properties", {})
        shape = json.dumps([schema.get("title"), list(properties)])
        if shape in self._structs:
            return self._structs[shape]
        name = self._free_name("structs", as_name(str(schema.get("title", "Struct"))))
        self._structs[shape] = name
        options: dict[str, Any] = {"fields": {}}
        self._draft.section("structs")[name] = options
        own = {field: given for field, given in properties.items() if field not in _IMPLICIT}
        if not all(field in properties for field in _IMPLICIT):
            options |= {"implicit": False}
            own = dict(properties)
        if schema.get("additionalProperties", True) is not False:
            self._draft.note(("structs", name), "members that are not declared were ignored; here they are an error")
        self._local.append(schema.get("$defs", {}))
        seen = self._examples.get(str(schema.get("title")), [])
        for field in schema.get("required", []):
            self._draft.note(("structs", name, field), "a value is required there; here it may be absent")
        for field, given in own.items():
            values = [record[field] for record in seen if field in record]
            if as_name(field) != field:
                self._draft.note(("structs", name), f"the field {field!r} is left out: that is no name here")
                continue
            options["fields"][field] = self._field(("structs", name, field), given, values)
        self._local.pop()
        return name

    def enum(self, schema: Schema, members: Iterable[str] | None = None) -> str | None:
        """The name of the enumeration that a schema describes, or None when it describes none.

        Args:
            schema: The schema.
            members: Names of its members, when they are known.
        """
        resolved = self._resolved(schema)
        described = str(resolved.get("description", ""))
        by_name = described.startswith(_ENUM_WORDS)
        if "enum" not in resolved or not (by_name or "$ref" in schema):
            return None
        values = list(resolved["enum"])
        title = as_name(described.removeprefix(_ENUM_WORDS) if by_name else str(resolved.get("title", "Enum")))
        shape = json.dumps([title, values])
        if shape in self._enums:
            name = self._enums[shape]
        else:
            name = self._enums[shape] = self._free_name("enums", title)
            guessed = {_member(value): value for value in values}
            self._draft.section("enums")[name] = {"members": guessed, "wire": "name" if by_name else "value"}
            if not by_name:
                self._draft.note(("enums", name), "the document has the values alone: give the members their names")
        given = list(members or ())
        if len(given) == len(values) and all(as_name(member) == member for member in given):
            self._draft.section("enums")[name]["members"] = dict(zip(given, values, strict=True))
            self._draft.notes.pop(("enums", name), None)
        return name

    def _field(self, place: Location, schema: Schema, values: list[Any]) -> dict[str, Any]:
        declared = self._type(place, schema)
        resolved = self._resolved(schema)
        has_default = "default" in schema
        if not has_default and isinstance(declared, Nullable):
            declared = declared.item  # without a default a field may be absent or null anyway
        if declared == Scalar("any") and not resolved.get("type"):
            declared = self._array(place, values)
        literal = declared.item if isinstance(declared, Nullable) else declared
        options: dict[str, Any] = {"type": spell_type(declared)}
        if isinstance(literal, LiteralOf):
            options = {"literal": list(literal.values)}
        if has_default and not (schema["default"] is None and "literal" in options):
            options["default"] = schema["default"]
        options |= self._limits(place, resolved)
        if declared in (Scalar("datetime"), Scalar("date")) and has_default:
            self._draft.note(place, "if the default was the time of the start, write default_now: start in its place")
        return options

    def _limits(self, place: Location, schema: Schema) -> dict[str, Any]:
        inner = [each for each in schema.get("anyOf", []) if each != _NULL]
        given = inner[0] if len(inner) == 1 else schema
        limits = {
            _LIMITS[key]: int(value) if isinstance(value, float) and value.is_integer() else value
            for key, value in given.items()
            if key in _LIMITS and "enum" not in given
        }
        if "pattern" in limits and not is_pattern(str(limits["pattern"])):
            self._draft.note(place, f"the pattern {limits.pop('pattern')!r} is none of those that are known here")
        return limits

    def _array(self, place: Location, values: list[Any]) -> FieldType:
        """The type of a field of which the schema says nothing, from its values."""
        ranks = {_rank(value) for value in values if value is not None}
        if len(ranks) == 1 and (rank := ranks.pop()):
            self._draft.note(place, "the document says nothing of it; its last value is an array of numbers")
            return Array("float", rank)
        self._draft.note(place, "the document says nothing of it; if it is an array of numbers, write float[]")
        return Scalar("any")

    def _type(self, place: Location, schema: Schema) -> FieldType:
        enum = self.enum(schema)
        if enum is not None:
            return EnumOf(enum)
        schema = self._resolved(schema)
        if "enum" in schema or "const" in schema:
            return LiteralOf(tuple(schema.get("enum", [schema.get("const")])))
        if "anyOf" in schema or "oneOf" in schema:
            return self._union(place, schema.get("anyOf", schema.get("oneOf")))
        match schema.get("type"):
            case "string":
                is_bytes = schema.get("contentMediaType") == "application/octet-stream"
                return Scalar("bytes" if is_bytes else _FORMATS.get(schema.get("format", ""), "str"))
            case "array":
                if "prefixItems" in schema:
                    self._draft.note(place, "a tuple there; here any list")
                items = self._inner(place, schema.get("items", {}))
                return SetOf(items) if schema.get("uniqueItems") else ListOf(items)
            case "object" if schema.get("properties"):
                return StructOf(self.struct(schema))
            case "object":
                values = schema.get("additionalProperties")
                return DictOf(self._inner(place, values)) if isinstance(values, dict) and values else Scalar("object")
            case str(kind) if kind in _SCALARS:
                return Scalar(_SCALARS[kind])
            case None:
                return Scalar("any")
        self._draft.note(place, f"the type {schema['type']!r} is unknown; here any value")
        return Scalar("any")

    def _union(self, place: Location, options: list[Schema]) -> FieldType:
        rest = [each for each in options if each != _NULL]
        if len(rest) == 1:
            return Nullable(self._type(place, rest[0])) if len(rest) < len(options) else self._type(place, rest[0])
        union = UnionOf(tuple(self._inner(place, each) for each in rest))
        return nullable(union) if len(rest) < len(options) else union

    def _inner(self, place: Location, schema: Any) -> FieldType:
        """The type of a part of a field, where a few written-out values cannot stand."""
        declared = self._type(place, schema if isinstance(schema, dict) else {})
        if isinstance(declared, LiteralOf):
            self._draft.note(place, f"only the values {list(declared.values)} were allowed in it")
            kinds = {type(value) for value in declared.values}
            return _OF_LITERALS.get(kinds.pop(), _ANY) if len(kinds) == 1 else _ANY
        return declared

    def _resolved(self, schema: Schema) -> Schema:
        """What a reference leads to, with what stands beside it."""
        reference = str(schema.get("$ref", ""))
        kind, _, name = reference.rpartition("/")
        if not kind:
            return schema
        places = [*reversed(self._local), self._components] if kind == "#/$defs" else [self._components, *self._local]
        found = next((known[name] for known in places if name in known), {})
        return {**found, **{key: value for key, value in schema.items() if key != "$ref"}}

    def _free_name(self, section: str, wanted: str) -> str:
        taken = {*self._draft.section("structs"), *self._draft.section("enums")}
        name = next(each for each in (wanted, *(f"{wanted}_{number}" for number in range(2, 10_000)))
                    if each not in taken)  # fmt: skip
        if name != wanted:
            self._draft.note((section, name), f"another {wanted} has other members")
        return name


def _member(value: Any) -> str:
    """A name for a member of an enumeration that is known by its value."""
    text = str(value)
    return text if as_name(text) == text and isinstance(value, str) else as_name(f"VALUE_{text}")


def _rank(value: Any) -> int:
    """How deep a numeric array is nested; 0 for anything else."""
    if not isinstance(value, list) or not value:
        return 0
    if all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in value):
        return 1
    inner = {_rank(item) for item in value}
    return 1 + inner.pop() if len(inner) == 1 and 0 not in inner else 0


def is_pattern(text: str) -> bool:
    """Whether a text is one of the regular expressions that a channel file takes."""
    try:
        SchemaValidator(core_schema.str_schema(pattern=text))
    except SchemaError:
        return False
    return True
