"""What the directives allow and mean (protocol §13.5).

`ALLOWED` says where each may stand; the functions below read one field's or definition's directives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from iserver.fdl.diagnostics import Report
from iserver.fdl.model import Elapsed, EnumType, Scalar, ScalarType, TypeRef
from iserver.fdl.syntax import DirectiveNode, ValueNode


class DirectiveTarget(Enum):
    """Where a directive can stand. The value is how messages name it."""

    SESSION_ARG = "a session argument"
    SESSION_PLUGIN = "a session plugin output"
    FEATURE_ARG = "a feature argument"
    FEATURE_OUTPUT = "a feature output"
    FEATURE_PLUGIN = "a feature plugin output"
    EVENT_FIELD = "an event field"
    EVENT_PLUGIN = "an event plugin field"
    TOP_EVENT_FIELD = "a field of a top-level event"
    MEMBER = "a member of a type"
    FEATURE = "a feature"
    SESSION = "the session"
    EVENT = "an event"
    TYPE = "a type"
    ENUM = "an enum"
    ENUM_VALUE = "an enum value"


_OUTPUTS = {DirectiveTarget.FEATURE_OUTPUT, DirectiveTarget.FEATURE_PLUGIN}

ALLOWED: dict[str, set[DirectiveTarget]] = {
    "persistent_key": {DirectiveTarget.SESSION_ARG},
    "session_key": {DirectiveTarget.SESSION_ARG},
    "mutable": {DirectiveTarget.SESSION_ARG, DirectiveTarget.SESSION_PLUGIN},
    "split_key": {DirectiveTarget.SESSION_ARG, DirectiveTarget.TOP_EVENT_FIELD, DirectiveTarget.EVENT_FIELD},
    "per": {DirectiveTarget.SESSION_ARG, DirectiveTarget.SESSION_PLUGIN, DirectiveTarget.TOP_EVENT_FIELD},
    "external": {*_OUTPUTS, DirectiveTarget.SESSION_PLUGIN},
    "elapsed": {
        *_OUTPUTS,
        DirectiveTarget.SESSION_PLUGIN,
        DirectiveTarget.EVENT_FIELD,
        DirectiveTarget.TOP_EVENT_FIELD,
    },
    "is_default": _OUTPUTS,
    "hint": {*_OUTPUTS, DirectiveTarget.FEATURE_ARG, DirectiveTarget.SESSION_ARG, DirectiveTarget.SESSION_PLUGIN},
    "no_gate": {DirectiveTarget.FEATURE, DirectiveTarget.SESSION},
    "off_by_default": {DirectiveTarget.FEATURE, DirectiveTarget.SESSION},
    "deprecated": set(DirectiveTarget),
}

_PARAMETERS: dict[str, tuple[str, ...]] = {
    "external": ("values",),
    "elapsed": ("kind", "path"),
    "is_default": ("out",),
    "hint": ("length",),
    "deprecated": ("reason",),
}


@dataclass(slots=True)
class Marks:
    """What the directives of one field or definition say; the attributes are those of the model."""

    persistent_key: bool = False
    session_key: bool = False
    mutable: bool = False
    split_key: bool = False
    per: bool = False
    external: tuple[str, ...] = ()
    elapsed: Elapsed | None = None
    is_default_of: str | None = None
    hint_length: int | None = None
    no_gate: bool = False
    off_by_default: bool = False
    deprecated: str | None = None


def read_directives(
    directives: Sequence[DirectiveNode], place: DirectiveTarget, type_: TypeRef | None, report: Report
) -> Marks:
    """Check the directives that stand in one place and collect what they say.

    Args:
        type_: Type of the field they belong to; `None` for definitions and enum values.
    """
    marks = Marks()
    for directive in directives:
        allowed = ALLOWED.get(directive.name)
        if place is DirectiveTarget.SESSION and place not in (allowed or ()):
            report.warning(directive.position, f"The session ignores '@{directive.name}'")
        elif allowed is None:
            report.error(directive.position, f"Unknown directive '@{directive.name}'")
        elif place not in allowed:
            report.error(directive.position, f"@{directive.name} does not apply to {place.value}")
        elif _parameters_are_known(directive, report):
            _Reading(directive, place, type_, marks, report).apply()
    return marks


def _parameters_are_known(directive: DirectiveNode, report: Report) -> bool:
    known = _PARAMETERS.get(directive.name, ())
    for argument in directive.arguments:
        if not known:
            report.error(directive.position, f"@{directive.name} does not take arguments")
            return False
        if argument.name not in known:
            if directive.name == "external" and any(item.name == "values" for item in directive.arguments):
                report.warning(argument.position, f"@external ignores '{argument.name}'")
                continue
            report.error(
                argument.position,
                f"Unknown @{directive.name} parameter '{argument.name}', expecting {' or '.join(known)}",
            )
            return False
    return True


@dataclass(slots=True)
class _Reading:
    """One directive being read."""

    directive: DirectiveNode
    place: DirectiveTarget
    type: TypeRef | None
    marks: Marks
    report: Report

    def apply(self) -> None:
        match self.directive.name:
            case "persistent_key":
                self.persistent_key()
            case "session_key":
                self.string_type_or_error()
                self.marks.session_key = True
            case "per":
                self.per()
            case "external":
                self.external()
            case "elapsed":
                self.elapsed()
            case "is_default":
                self.is_default()
            case "hint":
                self.hint()
            case "deprecated":
                self.marks.deprecated = self.text("reason") or ""
            case flag:
                setattr(self.marks, flag, True)

    def error(self, message: str) -> None:
        self.report.error(self.directive.position, message)

    def string_type_or_error(self) -> None:
        if not _is_text(self.type):
            self.error(f"@{self.directive.name} must be on a string type")

    def persistent_key(self) -> None:
        if self.marks.persistent_key:
            self.error("@persistent_key is given twice")
        self.string_type_or_error()
        if self.type is not None and self.type.nullable:
            self.error("@persistent_key must be on a non nullable argument")
        self.marks.persistent_key = True

    def per(self) -> None:
        if not _is_text(self.type) and not isinstance(self.type, EnumType):
            message = "@per makes a metric grouping of string types only"
            if self.place is DirectiveTarget.TOP_EVENT_FIELD:
                self.report.warning(self.directive.position, message)
                return
            self.error(message)
        self.marks.per = True

    def external(self) -> None:
        if self.type is not None and not self.type.nullable:
            self.error("@external must be on a nullable type")
        self.marks.external = self.texts("values")

    def elapsed(self) -> None:
        if self.type != ScalarType(Scalar.INT, nullable=False):
            self.error("@elapsed must be on the type Int!")
        kind, path = self.text("kind"), self.texts("path")
        in_event = self.place in (DirectiveTarget.EVENT_FIELD, DirectiveTarget.TOP_EVENT_FIELD)
        kinds = ("session_end", "until") if in_event else ("session_end", "impression_end")
        if kind is None:
            self.error("@elapsed needs a kind")
        elif kind not in kinds:
            self.error(f"Unknown @elapsed kind '{kind}' for {self.place.value}, expecting {' or '.join(kinds)}")
        elif (kind == "until") != bool(path):
            self.error("@elapsed needs a path exactly when its kind is until")
        else:
            self.marks.elapsed = Elapsed(kind, path)  # type: ignore[arg-type]  # one of the kinds

    def is_default(self) -> None:
        if self.type != ScalarType(Scalar.BOOLEAN):
            self.error("@is_default must be on a nullable Boolean")
        self.marks.is_default_of = self.text("out")
        if self.marks.is_default_of is None:
            self.error("@is_default needs the name of an output: out")

    def hint(self) -> None:
        if not _is_text(self.type):
            self.error("@hint must be on a string type")
        value = self.value("length")
        if value is None or value.kind != "int":
            self.error("@hint needs an integer length")
        elif value.value < 1:
            self.report.warning(value.position, f"@hint ignores the length {value.value}")
        else:
            self.marks.hint_length = value.value

    def value(self, name: str) -> ValueNode | None:
        """The last argument of that name."""
        found = [item.value for item in self.directive.arguments if item.name == name]
        return found[-1] if found else None

    def text(self, name: str) -> str | None:
        value = self.value(name)
        if value is None:
            return None
        return self.string(value)

    def texts(self, name: str) -> tuple[str, ...]:
        value = self.value(name)
        if value is None:
            return ()
        if value.kind != "list":
            self.report.error(value.position, "Expecting a list value")
            return ()
        return tuple(dict.fromkeys(self.string(item) for item in value.value))

    def string(self, value: ValueNode) -> str:
        content: Any = value.value
        if value.kind != "string":
            self.report.error(value.position, "Expecting a string")
            return ""
        return str(content)


def _is_text(type_: TypeRef | None) -> bool:
    return isinstance(type_, ScalarType) and type_.scalar in (Scalar.STRING, Scalar.ID)
