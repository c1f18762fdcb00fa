"""From syntax to meaning: resolves names, flattens imports and enforces every rule of protocol §13.3 to §13.6.

Order matters in FDL: types see earlier types only, features import earlier features, top-level events
import earlier events. So the compiler walks the definitions in four passes (types and enums, top-level
events, the session, features), each in the order of the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from iserver.fdl.diagnostics import Diagnostic, FdlError, Report
from iserver.fdl.directives import DirectiveTarget, read_directives
from iserver.fdl.features import FeatureCompiler
from iserver.fdl.fields import Fields
from iserver.fdl.model import (
    IMPRESSION_TIME,
    EnumDefinition,
    EventDefinition,
    FeatureDefinition,
    ObjectDefinition,
    Program,
    SourceFile,
)
from iserver.fdl.names import BUILT_IN_TYPES, METADATA_TABLES, RESPONSE_NAMES, is_package_name
from iserver.fdl.parser import parse
from iserver.fdl.scope import Scope
from iserver.fdl.session import SessionCompiler
from iserver.fdl.syntax import EnumNode, EventNode, FeatureNode, FileNode, ObjectNode, SessionNode, TopLevelNode

Node = TypeVar("Node", EnumNode, ObjectNode, EventNode, FeatureNode, SessionNode)


def compile_program(files: Sequence[SourceFile], *, is_stored: bool = False) -> Program:
    """Compile several files, in order, as one program.

    Args:
        files: The files.
        is_stored: Whether sessions began under this program, so that what was accepted before is accepted again.

    Raises:
        FdlError: With every error found: all syntax errors, or else all semantic ones.
    """
    program, diagnostics = _compile(files, is_stored=is_stored)
    if program is None:
        raise FdlError([item for item in diagnostics if item.is_error])
    return program


def check(files: Sequence[SourceFile]) -> list[Diagnostic]:
    """All diagnostics of a program: errors, and warnings if it can be parsed."""
    return _compile(files)[1]


def _compile(files: Sequence[SourceFile], *, is_stored: bool = False) -> tuple[Program | None, list[Diagnostic]]:
    documents: list[FileNode] = []
    syntax_errors: list[Diagnostic] = []
    for file in files:
        try:
            documents.append(parse(file))
        except FdlError as error:
            syntax_errors.extend(error.diagnostics)
    if syntax_errors:
        return None, syntax_errors
    compiler = _Compiler(documents, is_stored=is_stored)
    program = compiler.program(files)
    if compiler.report.errors:
        return None, compiler.report.diagnostics
    return program, compiler.report.diagnostics


class _Compiler:
    """One compilation."""

    def __init__(self, documents: Sequence[FileNode], *, is_stored: bool) -> None:
        self.documents = documents
        self.report = Report(is_stored=is_stored)
        self.definitions: list[TopLevelNode] = [item for document in documents for item in document.definitions]
        self.fields = Fields(self.report)

    def program(self, files: Sequence[SourceFile]) -> Program:
        namespace = self.namespace()
        self.claim_names()
        enums, types = self.types()
        self.fields.types = {**enums, **types, IMPRESSION_TIME.name: IMPRESSION_TIME}
        events, offline_events = self.top_level_events()
        session = SessionCompiler(self.fields, self.report, events, self.of(FeatureNode)).session(self.of(SessionNode))
        features = self.features(events, session.persistent_key.name)
        self.check_elapsed_paths(features, events, session.events.values())
        return Program(namespace, types, enums, session, features, events, offline_events, tuple(files))

    def of(self, kind: type[Node]) -> list[Node]:
        return [item for item in self.definitions if isinstance(item, kind)]

    def namespace(self) -> str | None:
        """The namespace becomes the package of generated code; only the first file can state it."""
        for document in self.documents[1:]:
            if document.namespace is not None:
                self.report.error(document.namespace.position, "Only the first file can have a namespace")
        node = self.documents[0].namespace if self.documents else None
        if node is None:
            return None
        if not is_package_name(node.value):
            self.report.error(node.position, f"The namespace '{node.value}' is not a package name")
        return str(node.value)

    def claim_names(self) -> None:
        scope = Scope(self.report)
        scope.reserve(BUILT_IN_TYPES, "a built in type")
        scope.reserve(["Session"], "the session")
        for table in sorted(METADATA_TABLES):
            scope.reserve([table], f"the table {table}")
        for node in self.definitions:
            if not isinstance(node, SessionNode):
                scope.claim(node.name, node.position)
            if isinstance(node, FeatureNode) and node.name in RESPONSE_NAMES:
                message = (
                    f"The feature '{node.name}' is only for clients that send 'reqs': answers to others use that name"
                )
                self.report.warning(node.position, message)

    def types(self) -> tuple[dict[str, EnumDefinition], dict[str, ObjectDefinition]]:
        enums: dict[str, EnumDefinition] = {}
        types: dict[str, ObjectDefinition] = {}
        for node in self.definitions:
            if isinstance(node, EnumNode):
                enums[node.name] = self.enum(node)
            elif isinstance(node, ObjectNode):
                self.fields.types = {**enums, **types, IMPRESSION_TIME.name: IMPRESSION_TIME}
                types[node.name] = self.object_type(node)
        return enums, types

    def enum(self, node: EnumNode) -> EnumDefinition:
        scope = Scope(self.report)
        read_directives(node.directives, DirectiveTarget.ENUM, None, self.report)
        for value in node.values:
            read_directives(value.directives, DirectiveTarget.ENUM_VALUE, None, self.report)
            scope.claim(value.name, value.position)
        return EnumDefinition(node.name, tuple(value.name for value in node.values), node.description)

    def object_type(self, node: ObjectNode) -> ObjectDefinition:
        read_directives(node.directives, DirectiveTarget.TYPE, None, self.report)
        fields = self.fields.read(node.fields, DirectiveTarget.MEMBER, Scope(self.report))
        return ObjectDefinition(node.name, tuple(fields), node.description)

    def top_level_events(self) -> tuple[dict[str, EventDefinition], dict[str, EventDefinition]]:
        events: dict[str, EventDefinition] = {}
        offline_events: dict[str, EventDefinition] = {}
        for node in self.of(EventNode):
            event = self.fields.event(node, DirectiveTarget.TOP_EVENT_FIELD, events)
            if not node.offline:
                events[node.name] = event
                continue
            offline_events[node.name] = event
            split_keys = sum(item.split_key for item in event.fields)
            if split_keys == 0:
                self.report.error(node.position, f"The offline event {node.name} needs a field with @split_key")
            elif split_keys > 1:
                self.report.warning(node.position, "Only the first @split_key is used")
        return events, offline_events

    def features(self, events: dict[str, EventDefinition], persistent_key: str) -> dict[str, FeatureDefinition]:
        features: dict[str, FeatureDefinition] = {}
        for node in self.of(FeatureNode):
            compiler = FeatureCompiler(self.fields, self.report, events, features, persistent_key)
            features[node.name] = compiler.feature(node)
        return features

    def check_elapsed_paths(
        self,
        features: dict[str, FeatureDefinition],
        events: dict[str, EventDefinition],
        session_events: Iterable[EventDefinition],
    ) -> None:
        """Every name in the path of an `until` is a feature, `Feature.Event` or an abstract event (§11.5)."""
        known = {*features, *events, *(event.name for event in session_events)}
        known |= {f"{feature.name}.{event}" for feature in features.values() for event in feature.events}
        for position, path in self.fields.elapsed_paths:
            for name in path:
                if name not in known:
                    self.report.error(
                        position, f"Unknown name in the path of @elapsed: '{name}' is no feature or event"
                    )
