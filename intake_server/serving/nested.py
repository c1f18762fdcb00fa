"""How entries that are catalogs become catalogs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from intake_server.catalog.model import Catalog, Entry, Scope
from intake_server.catalog.parser import CatalogError, parse
from intake_server.drivers import third_party_catalogs
from intake_server.drivers.base import Unopenable
from intake_server.drivers.third_party_catalogs import UnreadableForeignCatalog
from intake_server.serving.files import CatalogPlace, UnreadableCatalog
from intake_server.templates.resolution import Resolved

Load = Callable[[Any], tuple[Catalog, Any]]


def catalog_loader(
    driver: str, entry: Entry, resolved: Resolved, scope: Scope, find: Callable[[str], Any]
) -> Load | CatalogPlace:
    """What reads a nested catalog: files at a place, or a function.

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


def _files(arguments: Mapping[str, Any], scope: Scope, metadata: Mapping[str, Any], *, several: bool) -> CatalogPlace:
    path = arguments.get("path") or arguments.get("urlpath")
    paths = [path] if isinstance(path, str) else path
    if not isinstance(paths, (list, tuple)) or not paths or not all(isinstance(item, str) for item in paths):
        raise Unopenable("a catalog of files needs the argument 'path'")
    if any(item.startswith("intake://") for item in paths):
        raise Unopenable("catalogs on other servers are not followed")
    return CatalogPlace(
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
