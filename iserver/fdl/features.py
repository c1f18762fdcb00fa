"""Compiles features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from iserver.fdl.diagnostics import Report
from iserver.fdl.directives import DirectiveTarget, read_directives
from iserver.fdl.fields import Fields, imported_event
from iserver.fdl.model import EventDefinition, FeatureDefinition, FieldDefinition
from iserver.fdl.names import FEATURE_SYSTEM_NAMES, PARTITION_COLUMNS, snake_case
from iserver.fdl.scope import Scope
from iserver.fdl.syntax import BlockNode, EventNode, FeatureNode, FieldNode, ImportNode, Position


class FeatureCompiler:
    """Compiles one feature: its own args, its imports in order, its own outputs, plugin outputs and events."""

    def __init__(
        self,
        fields: Fields,
        report: Report,
        events: Mapping[str, EventDefinition],
        features: Mapping[str, FeatureDefinition],
        persistent_key: str,
    ) -> None:
        self._fields = fields
        self._report = report
        self._importable_events = events
        self._importable_features = features
        self._scope = Scope(report)
        self._scope.reserve(FEATURE_SYSTEM_NAMES, "a system defined name")
        self._scope.reserve_columns(PARTITION_COLUMNS, "a partition column")
        self._scope.reserve_columns(["session_id", snake_case(persistent_key)], "in every feature's table")
        self.args: list[FieldDefinition] = []
        self.outputs: list[FieldDefinition] = []
        self.plugin_outputs: list[FieldDefinition] = []
        self.columns: list[FieldDefinition] = []
        self.events: dict[str, EventDefinition] = {}
        self.imports: list[str] = []

    def feature(self, node: FeatureNode) -> FeatureDefinition:
        """Compile it."""
        marks = read_directives(node.directives, DirectiveTarget.FEATURE, None, self._report)
        self.args += self._fields.read(_fields_of(node, "args"), DirectiveTarget.FEATURE_ARG, self._scope)
        for item in (item for item in node.items if isinstance(item, ImportNode)):
            self.import_(item)
        self.outputs += self.own(_fields_of(node, "output"), DirectiveTarget.FEATURE_OUTPUT)
        self.check_plugins(node)
        self.plugin_outputs += self.own(_fields_of(node, "plugin"), DirectiveTarget.FEATURE_PLUGIN)
        for event in (item for item in node.items if isinstance(item, EventNode)):
            if self._scope.claim(event.name, event.position):
                compiled = self._fields.event(event, DirectiveTarget.EVENT_FIELD, self._importable_events)
                self.events[event.name] = replace(compiled, column=self._scope.column(event.name))
        return FeatureDefinition(
            name=node.name,
            table=snake_case(node.name),
            args=tuple(self.args),
            outputs=tuple(self.outputs),
            plugin_outputs=tuple(self.plugin_outputs),
            columns=(*self.args, *self.columns),
            events=self.events,
            no_gate=marks.no_gate,
            off_by_default=marks.off_by_default,
            abstract=node.abstract,
            imports=tuple(dict.fromkeys(self.imports)),
            description=node.description,
            deprecated=marks.deprecated,
        )

    def own(self, nodes: list[FieldNode], place: DirectiveTarget) -> list[FieldDefinition]:
        """Outputs or plugin outputs of the feature itself."""
        result: list[FieldDefinition] = []
        for node in nodes:
            field = self._fields.field(node, place, self._scope)
            if field is None:
                continue
            result.append(field)
            self.columns.append(field)
            self.check_is_default(node, field)
        return result

    def check_is_default(self, node: FieldNode, field: FieldDefinition) -> None:
        """`@is_default(out: …)` names an output or plugin output that is already declared, or itself."""
        target = field.is_default_of
        if target is not None and all(column.name != target for column in self.columns):
            self._report.error(node.position, f"There is no output '{target}' before '{node.name}'")

    def check_plugins(self, node: FeatureNode) -> None:
        plugins = [item for item in node.items if isinstance(item, BlockNode) and item.kind == "plugin"]
        if len(plugins) > 1:
            self._report.error(plugins[1].position, "Only one plugin is allowed per feature")

    def import_(self, node: ImportNode) -> None:
        """Copy an earlier feature's fields and events, or take an event."""
        feature = self._importable_features.get(node.name)
        event = self._importable_events.get(node.name)
        if feature is not None:
            self.import_feature(node.position, feature)
        elif event is None:
            self._report.error(node.position, f"Unknown name for import: '{node.name}'")
        elif self._scope.claim(event.name, node.position, imported=True):
            self.events[event.name] = replace(imported_event(event), column=self._scope.column(event.name))

    def import_feature(self, position: Position, feature: FeatureDefinition) -> None:
        known_args = {arg.name: arg for arg in self.args}
        for arg in feature.args:
            known = known_args.get(arg.name)
            if known is not None and known.type == arg.type:
                continue
            if self._scope.claim(arg.name, position, imported=True):
                self.args.append(arg)
        for field in feature.columns[len(feature.args) :]:
            self._scope.claim(field.name, position, imported=True)
            self.columns.append(field)
        for event in feature.events.values():
            if self._scope.claim(event.name, position, imported=True):
                self.events[event.name] = event
        self.outputs += feature.outputs
        self.plugin_outputs += feature.plugin_outputs
        self.imports += (feature.name, *feature.imports)


def _fields_of(node: FeatureNode, kind: Literal["args", "output", "plugin"]) -> list[FieldNode]:
    blocks = (item for item in node.items if isinstance(item, BlockNode) and item.kind == kind)
    return [field for block in blocks for field in block.fields]
