"""Prints what a GatewayChannels class declares, as the sections of a channel file in JSON.

usage: python -c TEXT MODULE CLASS

This text is run by the interpreter that has csp-gateway and the module, so it imports nothing of the gateway itself.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import json
import sys
import types
import typing
from datetime import date, datetime, time, timedelta
from typing import Any

MARK = "entrepot-channel-file:"
SCALARS = {
    int: "int", float: "float", str: "str", bool: "bool", datetime: "datetime", date: "date", time: "time",
    timedelta: "timedelta", bytes: "bytes", object: "any", Any: "any", dict: "object", list: "list[any]",
}  # fmt: skip
LIMITS = ("ge", "gt", "le", "lt", "min_length", "max_length", "pattern")
IMPLICIT = ("id", "timestamp")
UNKNOWN = object()


class Description:
    """The sections that are found, and notes by place."""

    def __init__(self) -> None:
        self.value: dict[str, Any] = {"enums": {}, "structs": {}, "channels": {}}
        self.notes: list[tuple[list[str], str]] = []
        self.files: list[str] = []
        self._names: dict[Any, str] = {}

    def channels(self, cls: Any) -> None:
        """The channels of a class, and its static fields."""
        states = getattr(cls, "_declared_states", {})
        stages = getattr(cls, "_declared_stages", [])
        self._add_file(cls)
        for name, info in cls.model_fields.items():
            element, keys = self._element(info.annotation)
            if element is None:
                self._static(name, info)
                continue
            if name == "controls":
                continue
            is_list = typing.get_origin(element) is list
            struct = typing.get_args(element)[0] if is_list else element
            if not hasattr(struct, "model_fields"):
                self.notes.append((["channels"], f"{name!r} is left out: {_shown(element)} is no struct"))
                continue
            options: dict[str, Any] = {"type": self._struct(struct)} | ({"list": True} if is_list else {})
            if keys is not UNKNOWN:
                options["keys"] = self._enum(keys) if _is_enum(keys) else []
            if name in stages:
                options["stage"] = True
            of_channel = [(alias, spec) for alias, spec in states.items() if spec.source_field == name]
            found = [
                {"keyby": list(spec.keyby)} | ({} if alias == name else {"alias": alias}) for alias, spec in of_channel
            ]
            if found:
                options["state"] = found[0] if len(found) == 1 else found
            self.value["channels"][name] = options

    def _element(self, annotation: Any) -> tuple[Any, Any]:
        """What ticks on a channel, and the type of a basket's keys; None for what is no channel."""
        if hasattr(annotation, "typ"):  # csp's ts[T]
            return annotation.typ, UNKNOWN
        arguments = typing.get_args(annotation)
        if typing.get_origin(annotation) is dict and hasattr(arguments[1], "typ"):
            return arguments[1].typ, arguments[0]
        return None, UNKNOWN

    def _static(self, name: str, info: Any) -> None:
        try:
            self.value.setdefault("fields", {})[name] = json.loads(json.dumps(info.default))
        except (TypeError, ValueError):
            self.notes.append(([], f"{name!r} is neither a channel nor a JSON value: left out."))

    def _struct(self, cls: Any) -> str:
        if cls in self._names:
            return self._names[cls]
        name = self._names[cls] = self._free(cls.__name__)
        fields: dict[str, Any] = {}
        options: dict[str, Any] = {"python_type": f"{cls.__module__}.{cls.__qualname__}", "fields": fields}
        if not all(field in cls.model_fields for field in IMPLICIT):
            options["implicit"] = False
        if getattr(cls, "_include_in_lookup", True) is False:
            options["lookup"] = False
        self.value["structs"][name] = options
        self._add_file(cls)
        decorators = getattr(cls, "__pydantic_decorators__", None)
        own = [*decorators.field_validators, *decorators.model_validators] if decorators is not None else []
        if [each for each in own if each != "_mint_identity"]:
            self.notes.append((["structs", name], "its validators are Python: a module adds them with add_validator"))
        without_default = getattr(cls, "__gateway_implicit_fields__", ())
        for field, info in cls.model_fields.items():
            if field not in IMPLICIT or options.get("implicit") is False:
                fields[field] = self._field(["structs", name, field], info, field in without_default)
        return name

    def _field(self, place: list[str], info: Any, is_without_default: bool) -> dict[str, Any]:
        annotation, metadata = info.annotation, list(info.metadata)
        if is_without_default:  # csp-gateway has made it Optional[Annotated[type, metadata]] = None
            inner = [each for each in typing.get_args(annotation) if each is not type(None)]
            annotation = inner[0] if len(inner) == 1 and type(None) in typing.get_args(annotation) else annotation
            if typing.get_origin(annotation) is typing.Annotated:
                annotation, *more = typing.get_args(annotation)
                metadata += more
        options = self._type_options(place, annotation)
        for meta in metadata:
            meta_items = getattr(meta, "metadata", None)  # Field(ge=0) inside of Annotated
            metadata += meta_items if isinstance(meta_items, list) else []
            given = {limit: getattr(meta, limit) for limit in LIMITS if getattr(meta, limit, None) is not None}
            options |= given
            if not given and hasattr(meta, "func"):
                self.notes.append((place, f"the validator {getattr(meta.func, '__name__', meta.func)} is Python: "
                                   "a module adds it with add_validator"))  # fmt: skip
        if info.is_required():
            self.notes.append((place, "a value is required there; here it may be absent"))
        elif not is_without_default:
            default = info.default_factory() if info.default_factory is not None else info.default
            try:
                options["default"] = _plain(default)
            except (TypeError, ValueError):
                self.notes.append((place, f"the default {default!r} has no JSON form"))
            if default is None and not str(options.get("type", "?")).endswith(("?", "any")):
                options["type"] += "?"
            if isinstance(default, (date, datetime)):
                self.notes.append((place, "if the default is the time of the start, write default_now: start"))
        return options

    def _type_options(self, place: list[str], annotation: Any) -> dict[str, Any]:
        arguments = typing.get_args(annotation)
        if typing.get_origin(annotation) is typing.Literal and all(isinstance(each, (str, int)) for each in arguments):
            return {"literal": list(arguments)}
        return {"type": self._type(place, annotation)}

    def _type(self, place: list[str], annotation: Any) -> str:
        origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
        if getattr(origin or annotation, "__name__", "") == "Numpy1DArray":
            return "int[]" if arguments == (int,) else "float[]"
        if origin is typing.Annotated:
            return self._type(place, arguments[0])
        if origin in (typing.Union, types.UnionType):
            inner = [self._type(place, each) for each in arguments if each is not type(None)]
            if len(inner) == 1:
                return f"{inner[0].removesuffix('?')}?" if type(None) in arguments else inner[0]
            if type(None) in arguments:
                inner[-1] += "?"
            return " | ".join(inner)
        if origin in (list, set, frozenset) and arguments:
            return f"{'list' if origin is list else 'set'}[{self._type(place, arguments[0])}]"
        if origin is dict and arguments:
            return f"dict[str, {self._type(place, arguments[1])}]"
        if _is_enum(annotation):
            return self._enum(annotation)
        if isinstance(annotation, type) and hasattr(annotation, "model_fields"):
            return self._struct(annotation)
        try:
            return SCALARS[annotation]
        except (KeyError, TypeError):
            self.notes.append((place, f"{_shown(annotation)} is no type here: any value"))
            return "any"

    def _enum(self, cls: Any) -> str:
        if cls not in self._names:
            name = self._names[cls] = self._free(cls.__name__)
            values = {member.name: member.value for member in cls.__members__.values()}
            if not all(isinstance(value, (str, int, float, bool)) for value in values.values()):
                self.notes.append((["enums", name], "its values have no JSON form: here they are the names"))
                values = {member: member for member in values}
            self.value["enums"][name] = {"members": values, "wire": "name" if _is_csp_enum(cls) else "value"}
        return self._names[cls]

    def _free(self, wanted: str) -> str:
        clean = "".join(c if c.isalnum() or c == "_" else "_" for c in wanted).strip("_")
        taken = {*self.value["structs"], *self.value["enums"]}
        return next(name for name in [clean, *(f"{clean}_{n}" for n in range(2, 9999))] if name not in taken)

    def _add_file(self, cls: Any) -> None:
        try:
            file = inspect.getfile(cls)
        except (TypeError, OSError):
            return
        if file not in self.files:
            self.files.append(file)


def _is_enum(value: Any) -> bool:
    return isinstance(value, type) and (issubclass(value, enum.Enum) or _is_csp_enum(value))


def _is_csp_enum(cls: type) -> bool:
    """Whether a class is one of csp's own enumerations, which print the names of their members."""
    return any(base.__module__.startswith("csp.") and base.__name__ == "Enum" for base in cls.__mro__)


def _plain(value: Any) -> Any:
    """A default as JSON."""
    if _is_enum(type(value)):
        return value.name if _is_csp_enum(type(value)) else value.value
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if hasattr(value, "model_fields_set"):
        return {name: _plain(getattr(value, name)) for name in value.model_fields_set if name not in IMPLICIT}
    if isinstance(value, (set, frozenset, tuple, list)):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, bytes):
        return value.decode()
    json.dumps(value)
    return value


def _shown(annotation: Any) -> str:
    return str(getattr(annotation, "__name__", annotation))


def main(module: str, name: str) -> None:
    """Import the class and print what it declares, on one line behind a mark."""
    cls: Any = importlib.import_module(module)
    for part in name.split("."):
        cls = getattr(cls, part)
    if "_declared_states" not in dir(cls) or not hasattr(cls, "model_fields"):
        raise SystemExit(f"{name} is no subclass of GatewayChannels")
    description = Description()
    description.channels(cls)
    shown = {"value": description.value, "notes": description.notes, "files": description.files}
    print(f"\n{MARK}{json.dumps(shown)}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
