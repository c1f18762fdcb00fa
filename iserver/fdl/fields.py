"""Compiles fields and events, which look the same wherever they stand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from iserver.fdl.diagnostics import Report
from iserver.fdl.directives import DirectiveTarget, read_directives
from iserver.fdl.literals import LiteralError, json_value
from iserver.fdl.model import (
    EnumDefinition,
    EnumType,
    EventDefinition,
    FieldDefinition,
    JsonValue,
    ListType,
    ObjectDefinition,
    ObjectType,
    Scalar,
    ScalarType,
    TypeRef,
)
from iserver.fdl.names import EVENT_SYSTEM_NAMES, snake_case
from iserver.fdl.scope import Scope
from iserver.fdl.syntax import BlockNode, EventNode, FieldNode, ImportNode, Position, TypeNode

_SCALARS = {scalar.value: scalar for scalar in Scalar}
_NEED_DEFAULT = {DirectiveTarget.FEATURE_OUTPUT, DirectiveTarget.FEATURE_PLUGIN, DirectiveTarget.SESSION_PLUGIN}


class Fields:
    """Compiles fields of one program.

    Attributes:
        types: The types and enums that fields may refer to at this point of the program.
        elapsed_paths: Where each `@elapsed(kind: "until")` stands, and its path.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self.types: Mapping[str, EnumDefinition | ObjectDefinition] = {}
        self.elapsed_paths: list[tuple[Position, tuple[str, ...]]] = []

    def read(self, nodes: Iterable[FieldNode], place: DirectiveTarget, scope: Scope) -> list[FieldDefinition]:
        """Compile fields that stand in one place; those with errors are skipped."""
        return [field for node in nodes if (field := self.field(node, place, scope)) is not None]

    def field(self, node: FieldNode, place: DirectiveTarget, scope: Scope) -> FieldDefinition | None:
        """Compile one field and claim its name."""
        claimed = scope.claim(node.name, node.position)
        type_ = self.type(node.type)
        if place is DirectiveTarget.TOP_EVENT_FIELD and isinstance(type_, EnumType) and node.default is not None:
            self._report.later_rule(
                node.position, f"'{node.name}' of a top-level event is an enum and cannot have a default"
            )
        if type_ is None:
            return None
        marks = read_directives(node.directives, place, type_, self._report)
        if marks.elapsed and marks.elapsed.kind == "until":
            self.elapsed_paths.append((node.position, marks.elapsed.path))
        default = self.default(node, type_)
        if place in _NEED_DEFAULT and not (type_.nullable or node.default or marks.elapsed):
            self._report.error(node.position, f"The non nullable output '{node.name}' needs a default value")
        if not claimed:
            return None
        return FieldDefinition(
            name=node.name,
            type=type_,
            column=scope.column(node.name),
            default=default,
            has_default=node.default is not None,
            persistent_key=marks.persistent_key,
            session_key=marks.session_key,
            mutable=marks.mutable,
            split_key=marks.split_key,
            per=marks.per,
            external=marks.external,
            elapsed=marks.elapsed,
            is_default_of=marks.is_default_of,
            hint_length=marks.hint_length,
            description=node.description,
            deprecated=marks.deprecated,
        )

    def type(self, node: TypeNode) -> TypeRef | None:
        """Resolve a type reference, or report that it is unknown."""
        if node.element is not None:
            element = self.type(node.element)
            return None if element is None else ListType(element, node.nullable)
        if node.name in _SCALARS:
            return ScalarType(_SCALARS[node.name], node.nullable)
        match self.types.get(node.name):
            case EnumDefinition() as enum:
                return EnumType(enum, node.nullable)
            case ObjectDefinition() as definition:
                return ObjectType(definition, node.nullable)
        self._report.error(node.position, f"Unknown type: '{node.name}'")
        return None

    def default(self, node: FieldNode, type_: TypeRef) -> JsonValue:
        """The JSON value of the default, `None` without one or with a wrong one."""
        if node.default is None:
            return None
        try:
            return json_value(node.default, type_)
        except LiteralError as error:
            self._report.error(error.position, error.message)
            return None

    def event(
        self, node: EventNode, place: DirectiveTarget, importable: Mapping[str, EventDefinition]
    ) -> EventDefinition:
        """Compile an event: imported fields first, then its own, then those of its plugin.

        Args:
            importable: The events it may import.
        """
        marks = read_directives(node.directives, DirectiveTarget.EVENT, None, self._report)
        scope = Scope(self._report)
        scope.reserve(EVENT_SYSTEM_NAMES, "a system field of events")
        parts = _EventParts()
        for item in node.items:
            if isinstance(item, ImportNode):
                self._import_event(item, importable, scope, parts)
        own = self.read((item for item in node.items if isinstance(item, FieldNode)), place, scope)
        plugins = [item for item in node.items if isinstance(item, BlockNode)]
        if len(plugins) > 1:
            self._report.error(plugins[1].position, "Only one plugin is allowed per event")
        filled = [field for block in plugins for field in self.read(block.fields, DirectiveTarget.EVENT_PLUGIN, scope)]
        return EventDefinition(
            name=node.name,
            column=snake_case(node.name),
            fields=(*parts.fields, *own),
            plugin_fields=(*parts.plugin_fields, *filled),
            columns=(*parts.columns, *own, *filled),
            imports=tuple(dict.fromkeys(parts.imports)),
            offline=node.offline,
            description=node.description,
            deprecated=marks.deprecated,
        )

    def _import_event(
        self, node: ImportNode, importable: Mapping[str, EventDefinition], scope: Scope, parts: _EventParts
    ) -> None:
        event = importable.get(node.name)
        if event is None:
            self._report.error(node.position, f"Unknown import: '{node.name}' is no event defined before")
            return
        for field in event.columns:
            scope.claim(field.name, node.position, imported=True)
        parts.fields.extend(event.fields)
        parts.plugin_fields.extend(event.plugin_fields)
        parts.columns.extend(event.columns)
        parts.imports.extend((event.name, *event.imports))


def imported_event(event: EventDefinition) -> EventDefinition:
    """`import E` in a feature or in the session, which is short for `event E { import E }` (§13.3)."""
    return replace(event, imports=(event.name, *event.imports))


class _EventParts:
    """What an event got from its imports so far."""

    def __init__(self) -> None:
        self.fields: list[FieldDefinition] = []
        self.plugin_fields: list[FieldDefinition] = []
        self.columns: list[FieldDefinition] = []
        self.imports: list[str] = []
