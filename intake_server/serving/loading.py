"""Loads catalogs and keeps them fresh: the published one, and entries that are catalogs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog

from intake_server.catalog.model import Catalog, Entry, Scope
from intake_server.catalog.parser import CatalogError, parse
from intake_server.concurrency.cache import LruCache
from intake_server.concurrency.thread_pool import Busy, ThreadPool, TookTooLong
from intake_server.drivers import third_party_catalogs
from intake_server.drivers.base import Unopenable
from intake_server.drivers.registry import DriverRegistry
from intake_server.drivers.third_party_catalogs import UnreadableForeignCatalog
from intake_server.serving.files import CatalogLocation, Loaded, UnreadableCatalog, load
from intake_server.serving.live import CatalogState, LiveCatalog
from intake_server.settings import Settings
from intake_server.templates.resolution import Resolved
from shared.errors import Problem

log = structlog.get_logger("intake_server.catalogs")
Load = Callable[[Any], tuple[Catalog, Any]]
_MAX_NESTED = 1000
_MAX_NESTED_ENTRIES = 200_000
"""Entries of all nested catalogs that are kept: callers' values make as many of a catalog as they like."""


class CatalogLoader:
    """The catalogs that are loaded now.

    Args:
        settings: The operator's settings.
        drivers: The drivers.
        threads: Reads catalogs.
        import_modules: Imports the driver modules that catalog files name; blocks.
    """

    def __init__(
        self,
        settings: Settings,
        drivers: DriverRegistry,
        threads: ThreadPool,
        import_modules: Callable[[Sequence[str]], None],
    ) -> None:
        self._settings = settings
        self._drivers = drivers
        self._threads = threads
        self._import_modules = import_modules
        self.location = CatalogLocation.of(settings.catalogs, flatten=settings.flatten)
        self.root = self._live(self._reader(self.location), name=" ".join(settings.catalogs))
        self._nested = LruCache[LiveCatalog](most=_MAX_NESTED, most_bytes=_MAX_NESTED_ENTRIES)

    async def current(self, live: LiveCatalog) -> CatalogState:
        """The present state of a catalog.

        Raises:
            Problem: 400, it cannot be read; 503, not now.
        """
        try:
            return await live.current()
        except UnreadableCatalog as error:
            raise Problem(400, str(error), code="unopenable") from error
        except (Busy, TookTooLong) as error:
            raise Problem(503, f"the catalog cannot be read now: {error}", headers={"Retry-After": "2"}) from error

    async def nested(self, entry: Entry, resolved: Resolved) -> CatalogState:
        """The present state of an entry that is a catalog.

        Raises:
            Problem: As `current`; 400, its arguments are wrong.
        """
        key = entry.digest() + resolved.packed_values
        live = self._nested.get(key)
        if live is None:
            scope = Scope(entry.scope.directory, entry.scope.storage_options, _inherited(entry, resolved))
            live = self._live(self._nested_reader(entry, resolved, scope), f"{entry.scope.directory}:{entry.name}")
            self._nested.put(key, live)
        state = await self.current(live)
        self._nested.put(key, live, len(state.catalog))
        return state

    def entry_count(self) -> int:
        """How many entries the published catalog has."""
        state = self.root.last_good
        return 0 if state is None else len(state.catalog)

    def problems(self) -> Iterator[str]:
        """What is wrong with catalogs now, one line each."""
        for live in (self.root, *self._nested):
            if live.problem:
                yield live.problem

    def _live(self, read: Load, name: str) -> LiveCatalog:
        return LiveCatalog(
            read,
            self._threads,
            ttl_s=self._settings.ttl_s,
            wait_s=self._settings.catalog_wait_s,
            timeout_s=self._settings.open_timeout_s,
            name=name,
        )

    def _reader(self, location: CatalogLocation) -> Load:
        return lambda before: self._read(location, before)

    def _read(self, location: CatalogLocation, before: Loaded | None) -> tuple[Catalog, Loaded]:
        loaded = load(location, before)
        if loaded is not before:
            for warning in loaded.warnings:
                log.warning("catalog", warning=warning)
            self._import_modules(loaded.modules)
            named = (choice.driver for entry in loaded.catalog.entries.values() for choice in entry.drivers)
            self._drivers.learn_again(named)
            if before is not None and loaded.catalog.generation == before.catalog.generation:
                loaded = replace(loaded, catalog=before.catalog)
        return loaded.catalog, loaded

    def _nested_reader(self, entry: Entry, resolved: Resolved, scope: Scope) -> Load:
        info = self._drivers.learn(resolved.choice.driver)
        try:
            name = info.name if info else resolved.choice.driver
            made = nested_reader(name, entry, resolved, scope, self._drivers.driver)
        except Unopenable as error:
            raise Problem(400, str(error), code="unopenable") from error
        return self._reader(made) if isinstance(made, CatalogLocation) else made


def _inherited(entry: Entry, resolved: Resolved) -> tuple[Any, ...]:
    """The catalog-level parameters of a nested catalog: values given at its opening are its entries' defaults."""
    return tuple(
        parameter.with_sent(resolved.values[parameter.name]) if parameter.name in resolved.given else parameter
        for parameter in entry.scope.parameters
    )


def nested_reader(
    driver: str, entry: Entry, resolved: Resolved, scope: Scope, find: Callable[[str], Any]
) -> Load | CatalogLocation:
    """What reads a nested catalog: files at a location, or a function.

    Args:
        driver: Our name of its driver.
        entry: The entry as written.
        resolved: Its rendered arguments and metadata.
        scope: What it inherits.
        find: Finds a driver by its name, and raises `Unopenable` when there is none; blocks.

    Raises:
        Unopenable: Its arguments are wrong, or there is no such driver.
    """
    arguments = resolved.arguments
    metadata = resolved.metadata
    if driver == "yaml_file_cat":
        return _files(arguments, scope, metadata, several=False)
    if driver == "yaml_files_cat":
        return _files(arguments, scope, metadata, several=True)
    if driver == "catalog":
        return _in_place(entry, scope, metadata)
    if driver == "zarr_cat":
        return _zarr_group(entry, resolved, scope)
    if driver == "intake_remote":
        raise Unopenable("catalogs on other servers are not followed")
    return _foreign(entry, resolved, scope, find)


def _foreign(entry: Entry, resolved: Resolved, scope: Scope, find: Callable[[str], Any]) -> Load:
    """A catalog whose class another package has; it lists anew whenever it is looked at."""

    def load(before: Any) -> tuple[Catalog, Any]:
        try:
            kind = getattr(find(resolved.choice.driver), "kind", None)
            if kind is None:
                raise UnreadableCatalog(f"{entry.name}: {resolved.choice.driver!r} is no catalog")
            catalog = third_party_catalogs.load(kind, entry, resolved.arguments, resolved.metadata, scope)
        except (UnreadableForeignCatalog, Unopenable) as error:
            raise UnreadableCatalog(str(error)) from error
        if before is not None and before.generation == catalog.generation:
            return before, before
        return catalog, catalog

    return load


def _files(
    arguments: Mapping[str, Any], scope: Scope, metadata: Mapping[str, Any], *, several: bool
) -> CatalogLocation:
    path = arguments.get("path") or arguments.get("urlpath")
    paths = [path] if isinstance(path, str) else path
    if not isinstance(paths, (list, tuple)) or not paths or not all(isinstance(item, str) for item in paths):
        raise Unopenable("a catalog of files needs the argument 'path'")
    if any(item.startswith("intake://") for item in paths):
        raise Unopenable("catalogs on other servers are not followed")
    return CatalogLocation(
        paths=tuple(paths),
        flatten=bool(arguments.get("flatten", True)),
        several=several,
        storage_options=arguments.get("storage_options") or {},
        parameters=scope.parameters,
        name=str(arguments.get("name") or ""),
        metadata=metadata,
    )


def _zarr_group(entry: Entry, resolved: Resolved, scope: Scope) -> Load:
    try:
        from intake_server.drivers.zarr_groups import UnreadableGroup, group_loader
    except ImportError as error:
        raise Unopenable(f"the driver 'zarr_cat' needs a package that is not installed: {error.name}") from error
    read = group_loader(resolved.arguments, scope, resolved.metadata, entry.name)

    def load(before: Any) -> tuple[Catalog, Any]:
        try:
            catalog = read(before)
        except UnreadableGroup as error:
            raise UnreadableCatalog(str(error)) from error
        if before is not None and before.generation == catalog.generation:
            return before, before
        return catalog, catalog

    return load


def _in_place(entry: Entry, scope: Scope, metadata: Mapping[str, Any]) -> Load:
    """A catalog whose entries are written in the entry itself."""
    import yaml

    entries = entry.arguments.get("entries") or {}  # not rendered: the templates in it are its entries' own
    if not isinstance(entries, dict):
        raise Unopenable("a catalog needs the argument 'entries' with a map of entries")
    text = yaml.safe_dump({"sources": entries, "metadata": {}}, sort_keys=False)

    def load(before: Any) -> tuple[Catalog, Any]:
        if before is not None:
            return before, before
        try:
            catalog = replace(parse(text, scope, entry.name).catalog, metadata=dict(metadata))
        except CatalogError as error:
            raise UnreadableCatalog(str(error)) from error
        return catalog, catalog

    return load
