"""From an entry and a caller's parameters to constructor arguments (protocol §9.3 to §9.5).

Only declared parameters are accepted. A caller's text is marked before a template sees it (`caller_text`), and where
it landed decides what becomes of it (`confinement`). A text that the author lists in ``allowed`` is the author's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import msgpack
import pandas as pd

from intake_server.catalog.model import DriverChoice, Entry
from intake_server.catalog.parameters import Parameter, ParameterError
from intake_server.catalog.paths import PATH_ARGUMENTS, collapse_slashes
from intake_server.serialization.control import plain
from intake_server.templates.caller_text import has_private, holds_marked, marked, unmarked
from intake_server.templates.confinement import Misplaced, is_place, landed
from intake_server.templates.rendering import Templates

PLUGIN = "plugin"
IN_PLACE = ("catalog", "intake.catalog.base.Catalog")
"""Names of the driver whose entries are written in its own arguments."""


@dataclass(frozen=True)
class Resolved:
    """What to open, and how.

    Attributes:
        choice: The driver chosen.
        arguments: Rendered constructor arguments, without metadata.
        metadata: The entry's metadata with ``catalog_dir``.
        values: The values of all parameters, defaults expanded.
        given: What of the caller's parameters differs from the defaults: the part of a spec.
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
        """The caller's values in one order: equal ones give equal specs."""
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
    arguments = _arguments(entry, choice, given, values, templates, rules, now)
    arguments.update(overrides)
    _add_storage_options(entry, arguments)
    if entry.has_aliases and PLUGIN in parameters:
        given = {**given, PLUGIN: choice.alias}
    metadata = {**entry.metadata, "catalog_dir": entry.scope.directory}
    return Resolved(choice, arguments, metadata, values, {**given, **overrides})


def _arguments(
    entry: Entry,
    choice: DriverChoice,
    given: Mapping[str, Any],
    values: Mapping[str, Any],
    templates: Templates,
    rules: Rules,
    now: Callable[[], datetime],
) -> dict[str, Any]:
    """The constructor arguments, rendered, each text of a caller where it may be."""
    found = {**entry.arguments, **choice.arguments}
    if entry.is_literal:
        return dict(found)
    declared = {parameter.name: parameter for parameter in entry.parameters}
    sent = {name: _sent(declared[name], value, given) for name, value in values.items()}
    context = {name: _for_templates(value) for name, value in sent.items() if value is not None}
    context["CATALOG_DIR"] = entry.scope.directory
    has_callers = any(map(holds_marked, sent.values()))
    arguments: dict[str, Any] = {}
    with templates.limited():
        for key, template in found.items():
            name = str(key)
            if name == "entries" and choice.driver in IN_PLACE:
                arguments[name] = template  # templates of the entries in it, to be rendered when they are opened
                continue
            rendered, lands_in = templates.render(template, context), name
            if name in declared:
                if name in given and name not in templates.variables(template):
                    rendered, lands_in = sent[name], "urlpath" if is_place(template) else name
                else:
                    rendered = _coerced(declared[name], rendered, now)
            if not has_callers:
                arguments[name] = _tidy(name, rendered)
                continue
            try:
                arguments[name] = _tidy(name, landed(lands_in, rendered, confine=rules.confine_paths))
            except Misplaced as error:
                raise ParameterError(f"{_culprits(rendered, sent)}: {error}") from error
    return arguments


def _sent(parameter: Parameter, value: Any, given: Mapping[str, Any]) -> Any:
    """A value as templates see it: marked if a caller sent it and the author has not written it down as allowed."""
    is_sent = parameter.name in given or parameter.is_sent
    return marked(value) if is_sent and parameter.allowed is None else value


def _for_templates(value: Any) -> Any:
    return pd.Timestamp(value) if isinstance(value, datetime) else value


def _coerced(parameter: Parameter, rendered: Any, now: Callable[[], datetime]) -> Any:
    """An argument that a parameter of the same name coerces and checks (§9.4)."""
    if isinstance(rendered, str) and parameter.type in ("str", "unicode", "other"):
        return rendered
    coerced = parameter.accept(unmarked(rendered), now)
    return marked(coerced) if holds_marked(rendered) else coerced


def _culprits(rendered: Any, sent: Mapping[str, Any]) -> str:
    """The parameters whose text is in what was rendered."""
    everything = "\0".join(_texts(rendered))
    found = [
        name for name, value in sent.items() if holds_marked(value) and any(t in everything for t in _texts(value))
    ]
    names = found or [name for name, value in sent.items() if holds_marked(value)]
    return f"parameter{'s' if len(names) > 1 else ''} {', '.join(map(repr, names))}"


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
    if parameter.name in given or parameter.is_sent:
        value = parameter.accept(given.get(parameter.name, parameter.default), now)
        if any(has_private(text) for text in _texts(value)):
            raise ParameterError(f"parameter {parameter.name!r}: it has characters of a private-use plane")
        if _holds_bytes(value):
            raise ParameterError(f"parameter {parameter.name!r}: expected text, found bytes")
        return value
    expanded = templates.expand_default(parameter.default)
    if expanded is None:
        return None
    if expanded == "" and parameter.type not in ("str", "unicode"):
        return parameter.empty
    return parameter.accept(expanded, now)


def _holds_bytes(value: Any) -> bool:
    """Whether there are bytes in a value: they would be shown as text that nobody marked."""
    if isinstance(value, Mapping):
        return any(_holds_bytes(item) for pair in value.items() for item in pair)
    if isinstance(value, (list, tuple, set)):
        return any(map(_holds_bytes, value))
    return isinstance(value, (bytes, bytearray, memoryview))


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [str.__str__(value)]
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


def _add_storage_options(entry: Entry, arguments: dict[str, Any]) -> None:
    if entry.scope.storage_options and "storage_options" not in arguments and "CATALOG_DIR" in str(entry.arguments):
        arguments["storage_options"] = dict(entry.scope.storage_options)


def canonical(values: Mapping[str, Any]) -> list[list[Any]]:
    """Parameter values in one order, so that equal ones give equal specs."""
    return [[name, plain(values[name])] for name in sorted(values)]
