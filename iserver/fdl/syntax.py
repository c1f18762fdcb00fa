"""The shape of FDL text: what the parser hands to the compiler (protocol §13.2).

Nodes say what was written and where. They do not know whether it makes sense.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class Position:
    """Where a node starts; lines are counted from 1 and columns from 0."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"File {self.file}, Line {self.line}, Column {self.column}"


@dataclass(frozen=True, slots=True)
class ValueNode:
    """A literal.

    Attributes:
        value: A Python value for the simple kinds, the name for `name` and `variable`, a tuple of
            `ValueNode` for `list`, a tuple of `ArgumentNode` for `object`.
    """

    position: Position
    kind: Literal["int", "float", "string", "boolean", "null", "name", "variable", "list", "object"]
    value: Any


@dataclass(frozen=True, slots=True)
class ArgumentNode:
    """`name: value` in a directive or in an object."""

    position: Position
    name: str
    value: ValueNode


@dataclass(frozen=True, slots=True)
class DirectiveNode:
    """`@name` or `@name(argument…)`; the grammar allows no empty parentheses."""

    position: Position
    name: str
    arguments: tuple[ArgumentNode, ...]


@dataclass(frozen=True, slots=True)
class TypeNode:
    """A type reference: `name` for a named type, `element` for a list."""

    position: Position
    name: str
    element: TypeNode | None
    nullable: bool


@dataclass(frozen=True, slots=True)
class FieldNode:
    """An arg, an output, a plugin output, an event field or a member of a `type`."""

    position: Position
    name: str
    type: TypeNode
    default: ValueNode | None
    directives: tuple[DirectiveNode, ...]
    description: str | None


@dataclass(frozen=True, slots=True)
class ImportNode:
    """`import Name`."""

    position: Position
    name: str


@dataclass(frozen=True, slots=True)
class BlockNode:
    """`args { … }`, `output { … }` or `plugin { … }`."""

    position: Position
    kind: Literal["args", "output", "plugin"]
    fields: tuple[FieldNode, ...]


@dataclass(frozen=True, slots=True)
class EventNode:
    """An event, wherever it stands."""

    position: Position
    name: str
    offline: bool
    directives: tuple[DirectiveNode, ...]
    items: tuple[ImportNode | BlockNode | FieldNode, ...]
    description: str | None


Item: TypeAlias = ImportNode | BlockNode | EventNode


@dataclass(frozen=True, slots=True)
class FeatureNode:
    """A feature."""

    position: Position
    name: str
    abstract: bool
    directives: tuple[DirectiveNode, ...]
    items: tuple[Item, ...]
    description: str | None


@dataclass(frozen=True, slots=True)
class SessionNode:
    """The session block."""

    position: Position
    directives: tuple[DirectiveNode, ...]
    items: tuple[Item, ...]
    description: str | None


@dataclass(frozen=True, slots=True)
class ObjectNode:
    """`type Name { … }`."""

    position: Position
    name: str
    directives: tuple[DirectiveNode, ...]
    fields: tuple[FieldNode, ...]
    description: str | None


@dataclass(frozen=True, slots=True)
class EnumValueNode:
    """One value of an enum."""

    position: Position
    name: str
    directives: tuple[DirectiveNode, ...]


@dataclass(frozen=True, slots=True)
class EnumNode:
    """`enum Name { … }`."""

    position: Position
    name: str
    directives: tuple[DirectiveNode, ...]
    values: tuple[EnumValueNode, ...]
    description: str | None


TopLevelNode: TypeAlias = ObjectNode | EnumNode | EventNode | FeatureNode | SessionNode


@dataclass(frozen=True, slots=True)
class FileNode:
    """One parsed file.

    Attributes:
        namespace: Its text and position, if the file states one.
    """

    namespace: ValueNode | None
    definitions: tuple[TopLevelNode, ...]
