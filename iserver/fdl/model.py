"""What an FDL program means once it is compiled.

Everything here is plain, immutable data: names are resolved, imports are flattened and the implied
persistent key is present, so that readers of a `Program` never look at FDL text again. Sequences
are in the order of the warehouse columns (§12.4) unless their attribute says otherwise.

Equality is by meaning: descriptions and deprecations take no part in it, so an edited comment does
not make a feature "changed" (§9.4).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any, Literal, TypeAlias

JsonValue: TypeAlias = "str | int | float | bool | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = "dict[str, Any]"


class Scalar(Enum):
    """The built-in types. The value is the name FDL uses."""

    INT = "Int"
    FLOAT = "Float"
    BOOLEAN = "Boolean"
    STRING = "String"
    ID = "ID"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One FDL file as it was given to the compiler.

    Attributes:
        name: What messages call the file, normally its path.
        text: Its whole content; a leading byte order mark is tolerated.
    """

    name: str
    text: str


# --- types --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ScalarType:
    """`Int`, `Float`, `Boolean`, `String` or `ID`, with or without `!`."""

    scalar: Scalar
    nullable: bool = True

    def __str__(self) -> str:
        return self.scalar.value + ("" if self.nullable else "!")


@dataclass(frozen=True, slots=True)
class EnumDefinition:
    """`enum Tone { FORMAL CASUAL }`: values are in declaration order."""

    name: str
    values: tuple[str, ...]
    description: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class EnumType:
    """A reference to an enum; its values travel as JSON strings."""

    definition: EnumDefinition
    nullable: bool = True

    def __str__(self) -> str:
        return self.definition.name + ("" if self.nullable else "!")


@dataclass(frozen=True, slots=True)
class ListType:
    """`[T]`, where T carries its own nullability."""

    element: TypeRef
    nullable: bool = True

    def __str__(self) -> str:
        return f"[{self.element}]" + ("" if self.nullable else "!")


@dataclass(frozen=True, slots=True)
class ObjectDefinition:
    """`type Doc { … }`. Types refer only to earlier types, so definitions are never recursive (§13.3)."""

    name: str
    fields: tuple[FieldDefinition, ...]
    description: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class ObjectType:
    """A reference to a `type`; its values travel as JSON objects."""

    definition: ObjectDefinition
    nullable: bool = True

    def __str__(self) -> str:
        return self.definition.name + ("" if self.nullable else "!")


TypeRef: TypeAlias = ScalarType | EnumType | ListType | ObjectType


# --- fields -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Elapsed:
    """`@elapsed(kind: …, path: […])`: a duration the server measures itself (§11.5).

    Attributes:
        kind: What ends the measurement.
        path: For `until`: names of features, `Feature.Event` or abstract events.
    """

    kind: Literal["session_end", "impression_end", "until"]
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FieldDefinition:
    """One arg, output, plugin output, event field or type member.

    Attributes:
        name: The FDL name, which is also the JSON name.
        type: Resolved type.
        column: Name in the warehouse, snake_case (§12.3).
        default: JSON value of the default; `None` when there is none and when it is `null`. Never modify it.
        has_default: Whether the FDL states a default.
        persistent_key, session_key, mutable, split_key, per: The directives of the same names (§13.5).
        external: Names of `@external(values: […])`; empty when the field is not external.
        elapsed: Set when the server measures the value itself; such a field is never read from clients.
        is_default_of: The output whose origin `@is_default(out: …)` reports.
        hint_length: `@hint(length: …)` in characters.
        deprecated: Reason of `@deprecated`, empty when it gives none; `None` when it is not deprecated.
    """

    name: str
    type: TypeRef
    column: str
    default: JsonValue = None
    has_default: bool = False
    persistent_key: bool = False
    session_key: bool = False
    mutable: bool = False
    split_key: bool = False
    per: bool = False
    external: tuple[str, ...] = ()
    elapsed: Elapsed | None = None
    is_default_of: str | None = None
    hint_length: int | None = field(default=None, compare=False)
    description: str | None = field(default=None, compare=False)
    deprecated: str | None = field(default=None, compare=False)

    @property
    def required(self) -> bool:
        """Whether a client must send a value: not nullable, no default and not measured by the server."""
        return not (self.type.nullable or self.has_default or self.elapsed)


IMPRESSION_TIME = ObjectDefinition(
    "ImpressionTime",
    (
        FieldDefinition("impressionId", ScalarType(Scalar.STRING, nullable=False), "impression_id"),
        FieldDefinition("impressionTime", ScalarType(Scalar.INT, nullable=False), "impression_time"),
    ),
)
"""The built-in type; in the warehouse its `impressionTime` is a timestamp."""


# --- definitions --------------------------------------------------------------------------------


@dataclass(frozen=True)
class EventDefinition:
    """An event of the session or of a feature, or a top-level (abstract or offline) event.

    Attributes:
        name: The FDL name used in signals.
        column: Name of its warehouse column, and of its view when it is abstract.
        fields: What clients send plus `@elapsed` fields: imported fields first, then its own.
        plugin_fields: What a plugin fills in.
        columns: Both kinds in the order of the warehouse struct, after the three system fields.
        imports: Names of every abstract event it imports, directly or through another.
    """

    name: str
    column: str
    fields: tuple[FieldDefinition, ...]
    plugin_fields: tuple[FieldDefinition, ...] = ()
    columns: tuple[FieldDefinition, ...] = ()
    imports: tuple[str, ...] = ()
    offline: bool = False
    description: str | None = field(default=None, compare=False)
    deprecated: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class SessionDefinition:
    """The session block, or the implied one when there is none (§1).

    Attributes:
        persistent_key: The arg that identifies the device; `deviceId: ID!` when none is declared.
        session_keys: Args marked `@session_key`, in declaration order.
        args: The remaining args, in declaration order. Keys are not repeated here.
        plugin_outputs: Values a session plugin fills in.
        events: Session events by name; imported ones first.
    """

    persistent_key: FieldDefinition
    session_keys: tuple[FieldDefinition, ...] = ()
    args: tuple[FieldDefinition, ...] = ()
    plugin_outputs: tuple[FieldDefinition, ...] = ()
    events: Mapping[str, EventDefinition] = field(default_factory=dict)
    description: str | None = field(default=None, compare=False)

    @cached_property
    def keys(self) -> tuple[FieldDefinition, ...]:
        """Persistent key first, then the session keys."""
        return (self.persistent_key, *self.session_keys)

    @cached_property
    def split_key(self) -> FieldDefinition:
        """The field traffic is split on: `@split_key` if there is one, else the persistent key.

        When its value is null the persistent key's value is used instead (§10).
        """
        return next((arg for arg in (*self.keys, *self.args) if arg.split_key), self.persistent_key)

    @cached_property
    def mutables(self) -> Mapping[str, FieldDefinition]:
        """Args and plugin outputs whose value may change and whose history is kept (§11.4)."""
        return {item.name: item for item in (*self.keys, *self.args, *self.plugin_outputs) if item.mutable}


@dataclass(frozen=True)
class FeatureDefinition:
    """A feature.

    Attributes:
        name: The FDL name used in requests.
        table: Name of its warehouse table.
        args: Own args, then imported ones.
        outputs: Imported outputs, then its own.
        plugin_outputs: Imported plugin outputs, then its own.
        columns: All of them in the order of the warehouse table, after its system columns (§12.4).
        events: Imported events first, then its own, by name.
        no_gate: It can never be gated off.
        off_by_default: It is off until configured on.
        abstract: It has no table, and requesting it answers UNKNOWN.
        imports: Names of every feature it imports, directly or through another.
    """

    name: str
    table: str
    args: tuple[FieldDefinition, ...] = ()
    outputs: tuple[FieldDefinition, ...] = ()
    plugin_outputs: tuple[FieldDefinition, ...] = ()
    columns: tuple[FieldDefinition, ...] = ()
    events: Mapping[str, EventDefinition] = field(default_factory=dict)
    no_gate: bool = False
    off_by_default: bool = False
    abstract: bool = False
    imports: tuple[str, ...] = ()
    description: str | None = field(default=None, compare=False)
    deprecated: str | None = field(default=None, compare=False)

    @cached_property
    def fields(self) -> Mapping[str, FieldDefinition]:
        """Args, outputs and plugin outputs by name."""
        return {item.name: item for item in (*self.args, *self.outputs, *self.plugin_outputs)}


@dataclass(frozen=True)
class Program:
    """A compiled FDL program: one or several files in a given order.

    Attributes:
        namespace: Text of `namespace "…"`, or `None`.
        types: `type` definitions by name, in declaration order.
        enums: Enums by name, in declaration order.
        session: The session block.
        features: Features by name, in declaration order, abstract ones included.
        events: Top-level events that others import, by name.
        offline_events: Top-level `offline event`s; no client can signal them (§13.6).
        sources: The files it was compiled from.
    """

    namespace: str | None = field(compare=False)
    types: Mapping[str, ObjectDefinition]
    enums: Mapping[str, EnumDefinition]
    session: SessionDefinition
    features: Mapping[str, FeatureDefinition]
    events: Mapping[str, EventDefinition]
    offline_events: Mapping[str, EventDefinition] = field(default_factory=dict)
    sources: tuple[SourceFile, ...] = field(default=(), compare=False, repr=False)

    @cached_property
    def fingerprint(self) -> str:
        """Identifies the sources: the hexadecimal SHA-256 of their names and texts, in order."""
        digest = hashlib.sha256()
        for source in self.sources:
            for part in (source.name, source.text):
                encoded = part.encode("utf-8", "surrogatepass")
                digest.update(len(encoded).to_bytes(8, "big"))
                digest.update(encoded)
        return digest.hexdigest()
