"""From an entry and a caller's parameters to constructor arguments (specification §9.3 to §9.5).

The security rules live here: callers' values are data, only declared parameters are accepted, and a value that
lands in a path cannot lead out of where the template points.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import msgpack

from intake_server.catalog import DriverChoice, Entry
from intake_server.encoding.control import plain
from intake_server.parameters import Parameter, ParameterError
from intake_server.paths import PATH_ARGUMENTS, collapse_slashes, escapes, parent_steps
from intake_server.templates import Templates

PLUGIN = "plugin"


@dataclass(frozen=True)
class Resolved:
    """What to open, and how.

    Attributes:
        choice: The driver chosen.
        arguments: Rendered constructor arguments, without metadata.
        metadata: The entry's metadata with ``catalog_dir``.
        values: The values of all parameters, defaults expanded.
        given: What of the caller's parameters differs from the defaults: the part of a recipe.
    """

    choice: DriverChoice
    arguments: dict[str, Any]
    metadata: dict[str, Any]
    values: dict[str, Any]
    given: dict[str, Any]

    @cached_property
    def fingerprint(self) -> bytes:
        """Equal for what would open the same data with the same metadata."""
        parts = [self.choice.driver, plain(self.arguments), plain(self.metadata)]
        return hashlib.blake2b(msgpack.packb(parts, use_bin_type=True), digest_size=16).digest()

    @cached_property
    def packed_values(self) -> bytes:
        """The caller's values in one order: equal ones give equal recipes."""
        packed: bytes = msgpack.packb(canonical(self.given), use_bin_type=True)
        return packed


@dataclass(frozen=True, slots=True)
class Rules:
    """What the operator allows callers to do (§9.5).

    Attributes:
        confine_paths: Whether callers' values are kept from leading out of a path.
        overrides: For entries by name (``*`` for all): arguments that callers may give directly.
    """

    confine_paths: bool = True
    overrides: Mapping[str, frozenset[str]] | None = None

    def may_override(self, entry: str, argument: str) -> bool:
        """Whether callers may give an argument of an entry directly."""
        if self.overrides is None:
            return False
        return argument in self.overrides.get(entry, ()) or argument in self.overrides.get("*", ())


def resolve(
    entry: Entry, parameters: Mapping[str, Any], templates: Templates, rules: Rules, now: Callable[[], datetime]
) -> Resolved:
    """Resolve an entry with the parameters that a caller sent.

    Raises:
        ParameterError: A parameter is unknown, or its value does not fit.
        TemplateError: The catalog's own template cannot be rendered.
    """
    declared = {parameter.name: parameter for parameter in entry.parameters}
    given, overrides = _sort_out(entry, parameters, declared, rules)
    choice = _choose(entry, parameters.get(PLUGIN))
    values = {name: _value(parameter, given, templates, now) for name, parameter in declared.items()}
    context = {**values, "CATALOG_DIR": entry.scope.directory}
    arguments = {}
    for key, template in {**entry.arguments, **choice.arguments}.items():
        rendered = templates.render(template, context)
        if rules.confine_paths:
            _confine(key, template, rendered, given, context, templates)
        arguments[str(key)] = _tidy(str(key), rendered)
    _apply_namesakes(arguments, declared, given, values, now)
    arguments.update(overrides)
    _add_storage_options(entry, arguments)
    if entry.has_aliases and PLUGIN in parameters:
        given = {**given, PLUGIN: choice.alias}
    metadata = {**entry.metadata, "catalog_dir": entry.scope.directory}
    return Resolved(choice, arguments, metadata, values, {**given, **overrides})


def _sort_out(
    entry: Entry, parameters: Mapping[str, Any], declared: Mapping[str, Parameter], rules: Rules
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split what the caller sent into values that differ from their defaults, and permitted overrides."""
    given, overrides = {}, {}
    for name, value in parameters.items():
        if name in declared:
            if not declared[name].is_default(value):
                given[name] = value
        elif name == PLUGIN and entry.has_aliases:
            continue
        elif rules.may_override(entry.name, name):
            overrides[name] = value
        else:
            known = ", ".join(sorted(declared)) or "none"
            raise ParameterError(f"unknown parameter {name!r}: this entry's parameters are: {known}")
    return given, overrides


def _choose(entry: Entry, alias: Any) -> DriverChoice:
    if not entry.has_aliases or alias is None:
        return entry.drivers[0]
    for choice in entry.drivers:
        if choice.alias == alias:
            return choice
    known = ", ".join(choice.alias for choice in entry.drivers)
    raise ParameterError(f"parameter 'plugin': {str(alias)[:80]!r} is not one of the drivers {known}")


def _value(parameter: Parameter, given: Mapping[str, Any], templates: Templates, now: Callable[[], datetime]) -> Any:
    if parameter.name in given:
        return parameter.accept(given[parameter.name], now)
    expanded = templates.expand_default(parameter.default)
    if expanded is None:
        return None
    if expanded == "" and parameter.type not in ("str", "unicode"):
        return parameter.empty
    return parameter.accept(expanded, now)


def _confine(
    key: str,
    template: Any,
    rendered: Any,
    given: Mapping[str, Any],
    context: Mapping[str, Any],
    templates: Templates,
) -> None:
    """Refuse a caller's value that would lead a path elsewhere than its template does."""
    if isinstance(template, Mapping):
        for inner, value in template.items():
            _confine(str(inner), value, None, given, context, templates)
        return
    if isinstance(template, (list, tuple)):
        for value in template:
            _confine(key, value, None, given, context, templates)
        return
    if not isinstance(template, str) or not (key in PATH_ARGUMENTS or "/" in template or "CATALOG_DIR" in template):
        return
    used = templates.variables(template) & given.keys()
    if not used:
        return
    for name in used:
        for text in _texts(context[name]):
            if escapes(text):
                raise ParameterError(f"parameter {name!r}: {text[:80]!r} would leave the data set's folder")
    harmless = {name: "x" if name in used else value for name, value in context.items()}
    found = rendered if isinstance(rendered, str) else templates.render(template, context)
    if parent_steps(found) > parent_steps(templates.render(template, harmless)):
        raise ParameterError(f"parameters {', '.join(sorted(used))}: together they would leave the data set's folder")


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for pair in value.items() for item in pair for text in _texts(item)]
    if isinstance(value, (list, tuple, set)):
        return [text for item in value for text in _texts(item)]
    return []


def _tidy(key: str, value: Any) -> Any:
    """Collapse the doubled slashes that ``CATALOG_DIR`` leads to, wherever a path is (§9.2)."""
    if isinstance(value, str):
        return collapse_slashes(value) if key in PATH_ARGUMENTS or value.startswith("/") else value
    if isinstance(value, (list, tuple)):
        return type(value)(_tidy(key, item) for item in value)
    return value


def _apply_namesakes(
    arguments: dict[str, Any],
    declared: Mapping[str, Parameter],
    given: Mapping[str, Any],
    values: Mapping[str, Any],
    now: Callable[[], datetime],
) -> None:
    """Where a parameter has the name of an argument, it coerces and checks the final value (§9.4)."""
    for name in declared.keys() & arguments.keys():
        arguments[name] = values[name] if name in given else declared[name].accept(arguments[name], now)


def _add_storage_options(entry: Entry, arguments: dict[str, Any]) -> None:
    if entry.scope.storage_options and "storage_options" not in arguments and "CATALOG_DIR" in str(entry.arguments):
        arguments["storage_options"] = dict(entry.scope.storage_options)


def canonical(values: Mapping[str, Any]) -> list[list[Any]]:
    """Parameter values in one order, so that equal ones give equal recipes."""
    return [[name, plain(values[name])] for name in sorted(values)]
