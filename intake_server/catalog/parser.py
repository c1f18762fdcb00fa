"""The grammar of V1 catalog files (protocol §9.1).

Text in, a `Catalog` or every mistake at once out. Nothing is imported, opened or rendered here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from intake_server.catalog.model import Catalog, DriverChoice, Entry, Scope
from intake_server.catalog.parameters import TYPES, Parameter, ParameterError
from intake_server.errors import kind_of

OBSOLETE_TEMPLATE_TAG = "!template "
_DIRECT_ACCESS = ("forbid", "allow", "force")


class CatalogError(Exception):
    """A catalog file is not valid.

    Attributes:
        mistakes: One line each, with the line number where it is known.
    """

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("; ".join(mistakes))
        self.mistakes = mistakes


@dataclass(frozen=True, slots=True)
class ParsedCatalog:
    """What a catalog file says.

    Attributes:
        catalog: The catalog.
        modules: Modules whose drivers the catalog wants imported.
        warnings: What is tolerated but should be changed, one line each.
    """

    catalog: Catalog
    modules: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The safe loader, plus tuples, minus duplicate keys."""


def _construct_tuple(loader: _Loader, node: yaml.SequenceNode) -> tuple[Any, ...]:
    return tuple(loader.construct_sequence(node, deep=True))


def _construct_map(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    own_keys = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
    seen: set[Any] = set()
    for key_node in own_keys:
        key = loader.construct_object(key_node, deep=True)
        try:
            repeated = key in seen
            seen.add(key)
        except TypeError as error:
            raise yaml.constructor.ConstructorError(
                None, None, "a key is a map or a list", key_node.start_mark
            ) from error
        if repeated:
            raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key!r}", key_node.start_mark)
    loader.flatten_mapping(node)
    return {
        loader.construct_object(key, deep=True): loader.construct_object(value, deep=True) for key, value in node.value
    }


_Loader.add_constructor("tag:yaml.org,2002:python/tuple", _construct_tuple)
_Loader.add_constructor("tag:yaml.org,2002:map", _construct_map)


def parse(text: str, scope: Scope, name: str = "") -> ParsedCatalog:
    """Read one catalog file.

    Args:
        text: The file's text.
        scope: Where it was read, with the parameters it inherits.
        name: The catalog's name if the text gives none.

    Raises:
        CatalogError: The text is not a valid catalog; every mistake is listed.
    """
    warnings = []
    if OBSOLETE_TEMPLATE_TAG in text:
        text = text.replace(OBSOLETE_TEMPLATE_TAG, "")
        warnings.append("the tag '!template' is obsolete and ignored")
    document, lines = _load(text)
    return _Reader(document, lines, scope, name, warnings).read(text)


def _load(text: str) -> tuple[Any, dict[tuple[str, ...], int]]:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        document = None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise CatalogError([f"{line}{error.problem or error.context}"]) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CatalogError([f"not YAML: {str(error) or 'nested too deep'}"]) from error
    finally:
        loader.dispose()
    return document, _line_numbers(node)


def _line_numbers(node: Any) -> dict[tuple[str, ...], int]:
    """Where the keys of the first four levels stand, by their path."""
    lines: dict[tuple[str, ...], int] = {}

    def walk(at: Any, path: tuple[str, ...]) -> None:
        if isinstance(at, yaml.MappingNode) and len(path) < 4:
            for key, value in at.value:
                inner = (*path, str(key.value))
                lines[inner] = key.start_mark.line + 1
                walk(value, inner)

    walk(node, ())
    return lines


@dataclass
class _Reader:
    """Checks one loaded document and builds the catalog from it."""

    document: Any
    lines: Mapping[tuple[str, ...], int]
    scope: Scope
    name: str
    warnings: list[str]
    mistakes: list[str] = field(default_factory=list)

    def read(self, text: str) -> ParsedCatalog:
        document = self.document
        if document is None:
            raise CatalogError(["the file is empty: expected a map with the key 'sources'"])
        if not isinstance(document, dict):
            raise CatalogError([f"expected a map with the key 'sources', found {kind_of(document)}"])
        metadata = self._map(document, "metadata", ())
        scope = replace(self.scope, parameters=self.scope.parameters + self._catalog_parameters(metadata))
        modules = self._modules(document)
        entries = self._entries(document, scope)
        if self.mistakes:
            raise CatalogError(self.mistakes)
        catalog = Catalog(
            name=str(document.get("name") or self.name),
            description=str(document.get("description") or ""),
            metadata=metadata,
            entries=entries,
            scope=scope,
            generation=hashlib.blake2b(f"{scope!r}\0{text}".encode(), digest_size=12).hexdigest(),
        )
        return ParsedCatalog(catalog, modules, tuple(self.warnings))

    def _mistake(self, path: tuple[str, ...], text: str) -> None:
        line = next((self.lines[path[:size]] for size in range(len(path), 0, -1) if path[:size] in self.lines), None)
        self.mistakes.append(f"line {line}: {text}" if line else text)

    def _map(self, holder: Mapping[Any, Any], key: str, path: tuple[str, ...]) -> dict[Any, Any]:
        value = holder.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self._mistake((*path, key), f"{_where((*path, key))} must be a map, found {kind_of(value)}")
            return {}
        return value

    def _catalog_parameters(self, metadata: Mapping[Any, Any]) -> tuple[Parameter, ...]:
        return self._parameters(self._map(metadata, "parameters", ("metadata",)), ("metadata", "parameters"))

    def _modules(self, document: Mapping[Any, Any]) -> tuple[str, ...]:
        if "plugins" not in document:
            return ()
        plugins = document["plugins"]
        if not isinstance(plugins, dict):
            self._mistake(("plugins",), f"'plugins' must be a map, found {kind_of(plugins)}")
            return ()
        items = plugins.get("source")
        if not isinstance(items, list):
            self._mistake(("plugins",), f"'plugins' needs a list 'source', found {kind_of(items)}")
            return ()
        modules = []
        for item in items:
            if isinstance(item, dict) and isinstance(item.get("module"), str):
                modules.append(item["module"])
            elif isinstance(item, dict) and "dir" in item:
                self._mistake(("plugins", "source"), "'plugins': folders of drivers ('dir') are not accepted")
            else:
                self._mistake(
                    ("plugins", "source"), "every item of 'plugins: source' needs the key 'module' with a text"
                )
        return tuple(modules)

    def _entries(self, document: Mapping[Any, Any], scope: Scope) -> dict[str, Entry]:
        if "sources" not in document:
            self.mistakes.append("the key 'sources' is missing")
            return {}
        sources = document["sources"]
        if isinstance(sources, list):
            self._mistake(
                ("sources",), "'sources' is a list, which is the obsolete syntax: expected a map from names to entries"
            )
            return {}
        if not isinstance(sources, dict):
            self._mistake(("sources",), f"'sources' must be a map from names to entries, found {kind_of(sources)}")
            return {}
        entries = {}
        for name, definition in sources.items():
            if not isinstance(name, str):
                self._mistake(("sources", str(name)), f"entry name {name!r} must be a text, found {kind_of(name)}")
                continue
            entry = self._entry(name, definition, scope)
            if entry is not None:
                entries[name] = entry
        return entries

    def _entry(self, name: str, definition: Any, scope: Scope) -> Entry | None:
        path = ("sources", name)
        before = len(self.mistakes)
        if not isinstance(definition, dict):
            self._mistake(path, f"entry {name!r} must be a map, found {kind_of(definition)}")
            return None
        for forbidden in ("cls", "remote"):
            if definition.get(forbidden):
                self._mistake((*path, forbidden), f"entry {name!r}: the key {forbidden!r} is refused: use 'driver'")
        if "description" in definition and not isinstance(definition["description"], str):
            found = kind_of(definition["description"])
            self._mistake((*path, "description"), f"entry {name!r}: 'description' must be a text, found {found}")
        access = definition.get("direct_access", "forbid")
        if access not in _DIRECT_ACCESS:
            self._mistake(
                (*path, "direct_access"),
                f"entry {name!r}: 'direct_access' must be one of forbid, allow, force, found {access!r}",
            )
        if "cache" in definition:
            if not isinstance(definition["cache"], list):
                found = kind_of(definition["cache"])
                self._mistake((*path, "cache"), f"entry {name!r}: 'cache' must be a list, found {found}")
            self.warnings.append(f"entry {name!r}: 'cache' is ignored")
        drivers = self._drivers(name, definition, path)
        arguments = self._map(definition, "args", path)
        metadata = self._map(definition, "metadata", path)
        parameters = self._parameters(self._map(definition, "parameters", path), (*path, "parameters"))
        if len(self.mistakes) > before:
            return None
        return Entry(
            name=name,
            drivers=drivers,
            has_aliases=isinstance(definition["driver"], dict),
            scope=scope,
            arguments=arguments,
            description=definition.get("description", ""),
            metadata=metadata,
            direct_access=access,
            own_parameters=parameters,
        )

    def _drivers(self, name: str, definition: Mapping[Any, Any], path: tuple[str, ...]) -> tuple[DriverChoice, ...]:
        given = definition.get("driver")
        if not given:
            self._mistake(path, f"entry {name!r}: the key 'driver' is missing")
            return ()
        if isinstance(given, str):
            return (DriverChoice(given, given),)
        if isinstance(given, list) and all(isinstance(driver, str) for driver in given):
            return tuple(DriverChoice(driver, driver) for driver in given)
        if isinstance(given, dict) and all(isinstance(choice, (dict, str)) for choice in given.values()):
            return tuple(
                choice for alias, value in given.items() if (choice := self._aliased(name, str(alias), value, path))
            )
        self._mistake(
            (*path, "driver"),
            f"entry {name!r}: 'driver' must be a name, a list of names or a map of aliases, found {kind_of(given)}",
        )
        return ()

    def _aliased(self, name: str, alias: str, value: Any, path: tuple[str, ...]) -> DriverChoice | None:
        if isinstance(value, str):
            return DriverChoice(alias, value)
        driver = value.get("class", value.get("driver", alias))
        arguments = value.get("args") or {}
        if not isinstance(driver, str) or not isinstance(arguments, dict):
            self._mistake(
                (*path, "driver", alias), f"entry {name!r}: driver {alias!r} needs a text 'class' and a map 'args'"
            )
            return None
        return DriverChoice(alias, driver, arguments)

    def _parameters(self, definitions: Mapping[Any, Any], path: tuple[str, ...]) -> tuple[Parameter, ...]:
        declared = [self._parameter(name, definition, path) for name, definition in definitions.items()]
        return tuple(parameter for parameter in declared if parameter is not None)

    def _parameter(self, name: Any, definition: Any, path: tuple[str, ...]) -> Parameter | None:
        where = (*path, str(name))
        owner = f"{_where(path)}: parameter {name!r}"
        if not isinstance(name, str):
            self._mistake(where, f"{owner}: the name must be a text, found {kind_of(name)}")
            return None
        if not isinstance(definition, dict):
            self._mistake(where, f"{owner} must be a map, found {kind_of(definition)}")
            return None
        before = len(self.mistakes)
        if not isinstance(definition.get("description"), str):
            self._mistake(where, f"{owner}: the text 'description' is missing")
        kind = definition.get("type", "str")
        if not isinstance(kind, str) or kind not in TYPES:
            self._mistake(where, f"{owner}: unknown type {kind!r}, expected one of {', '.join(sorted(TYPES))}")
        allowed = definition.get("allowed")
        if allowed is not None and not isinstance(allowed, (list, tuple)):
            self._mistake(where, f"{owner}: 'allowed' must be a list, found {kind_of(allowed)}")
        if len(self.mistakes) > before:
            return None
        parameter = Parameter.declare(name, definition)
        return parameter if self._limits_fit(parameter, where, owner) else None

    def _limits_fit(self, parameter: Parameter, where: tuple[str, ...], owner: str) -> bool:
        bare = replace(parameter, minimum=None, maximum=None, allowed=None)
        allowed = parameter.allowed or () if parameter.type != "mlist" else ()
        for key, limit in [("min", parameter.minimum), ("max", parameter.maximum), *(("allowed", a) for a in allowed)]:
            try:
                if limit is not None:
                    bare.accept(limit)
            except ParameterError as error:
                self._mistake(where, f"{owner}: {key!r} does not fit its type: {error}")
                return False
        return True


def _where(path: tuple[str, ...]) -> str:
    if len(path) >= 2 and path[0] == "sources":
        rest = ".".join(path[2:])
        return f"entry {path[1]!r}" + (f": {rest!r}" if rest else "")
    return repr(".".join(path))
