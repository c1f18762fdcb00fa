"""Compiles the session block."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from iserver.fdl.diagnostics import Report
from iserver.fdl.directives import DirectiveTarget, read_directives
from iserver.fdl.fields import Fields, imported_event
from iserver.fdl.model import EventDefinition, FieldDefinition, Scalar, ScalarType, SessionDefinition
from iserver.fdl.names import LAST_FLUSH_TIME, PARTITION_COLUMNS, SESSION_SYSTEM_NAMES
from iserver.fdl.scope import Scope
from iserver.fdl.syntax import BlockNode, EventNode, FeatureNode, ImportNode, Position, SessionNode

IMPLIED_KEY = FieldDefinition("deviceId", ScalarType(Scalar.ID, nullable=False), "device_id", persistent_key=True)
"""The persistent key of a program that declares none."""


class SessionCompiler:
    """Compiles the session of one program."""

    def __init__(
        self,
        fields: Fields,
        report: Report,
        importable: Mapping[str, EventDefinition],
        features: Iterable[FeatureNode],
    ) -> None:
        self._fields = fields
        self._report = report
        self._importable = importable
        self._features = {node.name for node in features}
        self._scope = Scope(report)
        self._scope.reserve(SESSION_SYSTEM_NAMES, "a system defined name")
        self._scope.reserve_columns(PARTITION_COLUMNS, "a partition column")

    def session(self, nodes: Sequence[SessionNode]) -> SessionDefinition:
        """Compile the only session block, or imply one."""
        for extra in nodes[1:]:
            self._report.error(extra.position, "'session' may be specified only once")
        if not nodes:
            return SessionDefinition(IMPLIED_KEY)
        node = nodes[0]
        read_directives(node.directives, DirectiveTarget.SESSION, None, self._report)
        args = self.block(node, "args", DirectiveTarget.SESSION_ARG)
        persistent_key = self.persistent_key(node, args)
        events = self.imported_events(node)
        self.reject_outputs(node)
        plugin_outputs = self.block(node, "plugin", DirectiveTarget.SESSION_PLUGIN)
        for event in (item for item in node.items if isinstance(item, EventNode)):
            if self._scope.claim(event.name, event.position):
                compiled = self._fields.event(event, DirectiveTarget.EVENT_FIELD, self._importable)
                events[event.name] = replace(compiled, column=self._scope.column(event.name))
        return SessionDefinition(
            persistent_key=persistent_key,
            session_keys=tuple(arg for arg in args if arg.session_key and not arg.persistent_key),
            args=tuple(arg for arg in args if not (arg.session_key or arg.persistent_key)),
            plugin_outputs=tuple(plugin_outputs),
            events=events,
            description=node.description,
        )

    def block(self, node: SessionNode, kind: str, place: DirectiveTarget) -> list[FieldDefinition]:
        """The fields of all blocks of one kind, and the names of their histories."""
        blocks = [item for item in node.items if isinstance(item, BlockNode) and item.kind == kind]
        if kind == "plugin" and len(blocks) > 1:
            self._report.error(blocks[1].position, "Only one plugin is allowed in the session")
        result: list[FieldDefinition] = []
        for item in (item for block in blocks for item in block.fields):
            field = self._fields.field(item, place, self._scope)
            if field is None:
                continue
            result.append(field)
            if field.name == LAST_FLUSH_TIME:
                self._report.warning(item.position, f"'{field.name}' hides the time of the last flush from clients")
            if field.mutable:
                self.claim_history(field, item.position)
        return result

    def claim_history(self, field: FieldDefinition, position: Position) -> None:
        """The warehouse has the history of a mutable beside it, under a name of its own (§12.4)."""
        history = f"{field.name}History"
        if not self._scope.is_free(history):
            self._report.error(position, f"The history of '{field.name}' needs the name '{history}'")
        self._scope.reserve([history], f"the history of '{field.name}'")

    def persistent_key(self, node: SessionNode, args: Sequence[FieldDefinition]) -> FieldDefinition:
        declared = [arg for arg in args if arg.persistent_key]
        if len(declared) > 1:
            self._report.error(
                node.position, "@persistent_key is on more than one argument; there is one only, see @session_key"
            )
        if sum(arg.split_key for arg in args) > 1:
            self._report.warning(node.position, "Only the first @split_key is used")
        if declared:
            return declared[0]
        if any(arg.name == IMPLIED_KEY.name for arg in args):
            self._report.error(node.position, "The session's deviceId must be marked as @persistent_key")
        else:
            self._scope.claim(IMPLIED_KEY.name, node.position)
        return IMPLIED_KEY

    def imported_events(self, node: SessionNode) -> dict[str, EventDefinition]:
        events: dict[str, EventDefinition] = {}
        for item in (item for item in node.items if isinstance(item, ImportNode)):
            event = self._importable.get(item.name)
            if item.name in self._features:
                self._report.error(item.position, "The session cannot import features")
            elif event is None:
                self._report.error(item.position, f"Unknown name for import: '{item.name}'")
            elif self._scope.claim(event.name, item.position, imported=True):
                events[event.name] = replace(imported_event(event), column=self._scope.column(event.name))
        return events

    def reject_outputs(self, node: SessionNode) -> None:
        for item in node.items:
            if isinstance(item, BlockNode) and item.kind == "output":
                self._report.error(item.position, "The session cannot have outputs")
