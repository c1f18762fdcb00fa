"""A channel file from the source text of csp-gateway channels: it is parsed, never executed.

Classes are followed through the files that the first one imports from, as far as these lie beside it. What a module
does in ``connect`` (which channels can be sent to, states, staging, keys of baskets) is found by its calls.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any, Final

from gateway.commands.importers.connections import add_connections, state_of
from gateway.commands.importers.draft import Draft, Location
from gateway.commands.importers.json_types import is_pattern
from gateway.commands.importers.source_tree import (
    KINDS,
    SourceTree,
    alternatives,
    annotated,
    evaluated,
    is_none,
    is_validator,
    items_of,
    last_word,
)

_SCALARS: Final[Mapping[str, str]] = {
    "int": "int", "float": "float", "str": "str", "bool": "bool", "datetime": "datetime", "date": "date",
    "time": "time", "timedelta": "timedelta", "bytes": "bytes", "Any": "any", "object": "any", "dict": "object",
    "Dict": "object", "list": "list[any]", "List": "list[any]", "set": "set[any]", "Set": "set[any]",
}  # fmt: skip
_LISTS: Final = ("list", "List", "Sequence", "deque")
_SETS: Final = ("set", "Set", "frozenset", "FrozenSet")
_DICTS: Final = ("dict", "Dict", "Mapping")
_LIMITS: Final = ("ge", "gt", "le", "lt", "min_length", "max_length", "pattern")
_LIMIT_CLASSES: Final = {"Ge": "ge", "Gt": "gt", "Le": "le", "Lt": "lt", "MinLen": "min_length", "MaxLen": "max_length"}
_MOMENTS: Final = ("now", "utcnow", "today")
_VALIDATED: Final = "its validators are Python: a module adds them with add_validator"
_MODULES: Final = "Modules, routes, controls and API keys are not part of the channels: see the documentation."


def draft_of_source(path: Path, name: str | None) -> Draft:
    """A channel file with the channels of a class in a file.

    Args:
        path: The Python file.
        name: The subclass of GatewayChannels in it; None where it has only one.

    Raises:
        ValueError: There is no such class, or the text is not Python.
        OSError: The file cannot be read.
    """
    sources = SourceTree(path)
    cls = sources.channels_class(name)
    draft = Draft(f"the source text {path}:{cls.name}", {"enums": {}, "structs": {}, "channels": {}})
    draft.note((), _MODULES)
    _Reader(sources, draft).channels(cls)
    if not draft.value["channels"]:
        raise ValueError(f"{path}: {cls.name} declares no channel")
    add_connections(draft, sources.files)
    return draft


class _Reader:
    """Turns classes into the sections of a draft."""

    def __init__(self, sources: SourceTree, draft: Draft) -> None:
        self._sources = sources
        self._draft = draft

    def channels(self, cls: ast.ClassDef) -> None:
        self._unknown_bases(cls, ())
        for name, annotation, default in self._members(cls):
            element = _Element.of(annotation)
            if element is None:
                self._static(name, default)
            elif name != "controls":
                self._channel(name, element)

    def _channel(self, name: str, element: _Element) -> None:
        struct = self._sources.classes.get(last_word(element.struct))
        if struct is None or self._sources.kind(struct) not in ("struct", "model"):
            shown = ast.unparse(element.struct)
            self._draft.note(("channels",), f"{name!r} is left out: the source of {shown} is not here")
            return
        options: dict[str, Any] = {"type": self._struct(struct)} | ({"list": True} if element.is_list else {})
        if element.keys is not None:
            enum = self._sources.classes.get(last_word(element.keys))
            options["keys"] = [] if enum is None else self._enum(enum)
        states = []
        for marker in element.markers:
            if isinstance(marker, ast.Call) and last_word(marker.func) == "State":
                states.append(state_of(marker, 0, name))
            elif last_word(marker.func if isinstance(marker, ast.Call) else marker) == "Stage":
                options["stage"] = True
        if states:
            options["state"] = states[0] if len(states) == 1 else states
        self._draft.section("channels")[name] = options

    def _static(self, name: str, default: ast.expr | None) -> None:
        try:
            value = None if default is None else ast.literal_eval(default)
        except ValueError:
            self._draft.note((), f"{name!r} is neither a channel nor a plain value: left out.")
            return
        self._draft.section("fields")[name] = value

    def _struct(self, cls: ast.ClassDef) -> str:
        structs = self._draft.section("structs")
        if cls.name in structs:
            return cls.name
        options: dict[str, Any] = {"fields": {}}
        structs[cls.name] = options
        place = ("structs", cls.name)
        if self._sources.kind(cls) == "model":
            options["implicit"] = False
        if cls.name in self._sources.omitted:
            options["lookup"] = False
        self._unknown_bases(cls, place)
        if any(is_validator(node) for each in self._sources.lineage(cls) for node in each.body):
            self._draft.note(place, _VALIDATED)
        for name, annotation, default in self._members(cls):
            if name not in ("id", "timestamp"):
                options["fields"][name] = self._field((*place, name), annotation, default)
        return cls.name

    def _members(self, cls: ast.ClassDef) -> list[tuple[str, ast.expr, ast.expr | None]]:
        members: dict[str, tuple[str, ast.expr, ast.expr | None]] = {}
        for each in self._sources.lineage(cls):
            for node in each.body:
                if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                    name = node.target.id
                    if (
                        not name.startswith("_")
                        and name != "model_config"
                        and "ClassVar" not in ast.unparse(node.annotation)
                    ):
                        members[name] = name, evaluated(node.annotation), node.value
        return list(members.values())

    def _unknown_bases(self, cls: ast.ClassDef, place: Location) -> None:
        for each in self._sources.lineage(cls):
            for base in each.bases:
                name = last_word(base)
                if name not in self._sources.classes and name not in KINDS and name != "CspEnum":
                    self._draft.note(place, f"the source of {name} is not here: its members are missing")

    def _field(self, place: Location, annotation: ast.expr, default: ast.expr | None) -> dict[str, Any]:
        options: dict[str, Any] = {}
        inner, markers = annotated(annotation)
        written = default.keywords if isinstance(default, ast.Call) and last_word(default.func) == "Field" else []
        given = {each.arg: each.value for each in written if each.arg is not None}
        if isinstance(default, ast.Call) and last_word(default.func) == "Field":
            default = default.args[0] if default.args else given.get("default", given.get("default_factory"))
            default = None if isinstance(default, ast.Constant) and default.value is ... else default
        options |= self._type_options(place, inner)
        for marker in markers:
            self._marker(place, marker, options)
        self._limits(place, given, options)
        if default is not None:
            self._default(place, default, options)
        return options

    def _marker(self, place: Location, marker: ast.expr, options: dict[str, Any]) -> None:
        if not isinstance(marker, ast.Call):
            return
        kind = last_word(marker.func)
        if kind == "Field":
            self._limits(place, {each.arg: each.value for each in marker.keywords if each.arg is not None}, options)
        elif kind in _LIMIT_CLASSES and marker.args:
            self._limits(place, {_LIMIT_CLASSES[kind]: marker.args[0]}, options)
        elif kind.endswith("Validator"):
            self._draft.note(place, _VALIDATED)

    def _limits(self, place: Location, given: Mapping[str, ast.expr], options: dict[str, Any]) -> None:
        for name in _LIMITS:
            if name not in given:
                continue
            try:
                value = ast.literal_eval(given[name])
            except ValueError:
                self._draft.note(place, f"{name}={ast.unparse(given[name])} is no plain value")
                continue
            if name == "pattern" and not is_pattern(str(value)):
                self._draft.note(place, f"the pattern {value!r} is none of those that are known here")
                continue
            options[name] = value

    def _default(self, place: Location, default: ast.expr, options: dict[str, Any]) -> None:
        if any(isinstance(node, ast.Attribute) and node.attr in _MOMENTS for node in ast.walk(default)):
            options["default_now"] = "start"
            return
        try:
            value = self._value(default)
        except (ValueError, TypeError):
            self._draft.note(place, f"the default {ast.unparse(default)} is no plain value")
            return
        if value is None and "type" in options and not options["type"].endswith(("?", "any")):
            options["type"] += "?"
        options["default"] = value

    def _value(self, node: ast.expr) -> Any:
        """The JSON of an expression that is a plain value or makes a known thing.

        Raises:
            ValueError: It is something else.
        """
        if isinstance(node, ast.Attribute) and last_word(node.value) in self._sources.classes:
            enum = self._sources.classes[last_word(node.value)]
            member = self._members_of_enum(enum).get(node.attr)
            if member is None:
                raise ValueError(node.attr)
            return node.attr if self._sources.kind(enum) == "csp enum" else member
        if isinstance(node, ast.Lambda):
            return self._value(node.body)
        if isinstance(node, ast.Name):
            return self._value(ast.Call(node, [], []))  # a default_factory
        if isinstance(node, ast.Call):
            return self._made(node)
        value = ast.literal_eval(node)
        if isinstance(value, bytes):
            return value.decode()
        return (
            sorted(value) if isinstance(value, (set, frozenset)) else list(value) if isinstance(value, tuple) else value
        )

    def _made(self, call: ast.Call) -> Any:
        name = last_word(call.func)
        arguments = [self._value(each) for each in call.args]
        named = {each.arg: self._value(each.value) for each in call.keywords if each.arg is not None}
        if name in self._sources.classes and not arguments:
            return named
        match name:
            case "list" | "List" | "set" | "Set" | "array" if not arguments or isinstance(arguments[0], list):
                return arguments[0] if arguments else []
            case "dict" | "Dict":
                return named
            case "str" | "int" | "float" | "bool" if not arguments:
                return {"str": "", "int": 0, "float": 0.0, "bool": False}[name]
            case "timedelta":
                return timedelta(*arguments, **named).total_seconds()
            case "datetime" | "date" | "time":
                kinds: Mapping[str, Any] = {"datetime": datetime, "date": date, "time": time}
                return kinds[name](*arguments, **named).isoformat()
        raise ValueError(name)

    def _type_options(self, place: Location, node: ast.expr) -> dict[str, Any]:
        if isinstance(node, ast.Subscript) and last_word(node.value) == "Literal":
            try:
                return {"literal": [ast.literal_eval(each) for each in items_of(node.slice)]}
            except ValueError:
                pass
        return {"type": self._type(place, node)}

    def _type(self, place: Location, node: ast.expr) -> str:
        node = evaluated(node)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            return self._union(place, [node.left, node.right])
        if isinstance(node, ast.Subscript):
            return self._generic(place, node)
        name = last_word(node)
        if name in self._sources.classes:
            cls = self._sources.classes[name]
            kind = self._sources.kind(cls)
            if kind in ("struct", "model"):
                return self._struct(cls)
            if kind in ("enum", "csp enum"):
                return self._enum(cls)
        if name in _SCALARS:
            return _SCALARS[name]
        self._draft.note(place, f"{ast.unparse(node)} is no type that is known here: any value")
        return "any"

    def _generic(self, place: Location, node: ast.Subscript) -> str:
        name, items = last_word(node.value), items_of(node.slice)
        if name == "Optional":
            return self._union(place, [*items, ast.Constant(None)])
        if name == "Union":
            return self._union(place, items)
        if name == "Annotated":
            return self._type(place, items[0])
        if name == "Numpy1DArray":
            return "int[]" if last_word(items[0]) == "int" else "float[]"
        if name in _LISTS:
            return f"list[{self._type(place, items[0])}]"
        if name in _SETS:
            return f"set[{self._type(place, items[0])}]"
        if name in _DICTS and len(items) == 2:
            if last_word(items[0]) != "str":
                self._draft.note(place, f"its keys are {ast.unparse(items[0])} there, texts here")
            return f"dict[str, {self._type(place, items[1])}]"
        self._draft.note(place, f"{ast.unparse(node)} is no type that is known here: any value")
        return "any"

    def _union(self, place: Location, options: list[ast.expr]) -> str:
        flat = [each for option in options for each in alternatives(option)]
        rest = [self._type(place, each) for each in flat if not is_none(each)]
        if len(rest) < len(flat) and rest and not rest[-1].endswith("?"):
            rest[-1] += "?"
        return " | ".join(rest) or "any"

    def _members_of_enum(self, cls: ast.ClassDef) -> dict[str, Any]:
        members: dict[str, Any] = {}
        for node in (each for base in self._sources.lineage(cls) for each in base.body):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                name = node.targets[0].id
                is_auto = isinstance(node.value, ast.Call) and last_word(node.value.func) == "auto"
                try:
                    members[name] = len(members) + 1 if is_auto else ast.literal_eval(node.value)
                except ValueError:
                    members[name] = name
        return members

    def _enum(self, cls: ast.ClassDef) -> str:
        members = self._members_of_enum(cls)
        wire = "name" if self._sources.kind(cls) == "csp enum" else "value"
        self._draft.section("enums")[cls.name] = {"members": members, "wire": wire}
        return cls.name


@dataclass
class _Element:
    """What ticks on a channel: ``ts[Struct]``, ``ts[list[Struct]]``, or a dict of them by key."""

    struct: ast.expr
    is_list: bool = False
    keys: ast.expr | None = None
    markers: list[ast.expr] = field(default_factory=list)

    @classmethod
    def of(cls, annotation: ast.expr) -> _Element | None:
        inner, markers = annotated(annotation)
        inner = next((each for each in alternatives(inner) if not is_none(each)), inner)
        if not isinstance(inner, ast.Subscript):
            return None
        items = items_of(inner.slice)
        if last_word(inner.value) in _DICTS and len(items) == 2:
            element = cls.of(items[1])
            return None if element is None else cls(element.struct, element.is_list, items[0], markers)
        if last_word(inner.value) != "ts":
            return None
        ticked = evaluated(items[0])
        if isinstance(ticked, ast.Subscript) and last_word(ticked.value) in _LISTS:
            return cls(items_of(ticked.slice)[0], True, None, markers)
        return cls(ticked, False, None, markers)
