"""Catalog files on disk or behind a URL: one file, several, a folder or a glob.

Everything here blocks and runs in worker threads. Reading again parses only the files that changed, and a file that
has become unreadable keeps its last good version.
"""

# ruff: noqa: PTH100, PTH111, PTH113, PTH116, PTH118, PTH207
# Paths stay the texts that the operator gave: a Path would drop slashes that globs and URLs need.
from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import fsspec
import structlog

from intake_server.catalog.model import Catalog, DriverChoice, Entry, Scope
from intake_server.catalog.parser import CatalogError, ParsedCatalog, parse
from intake_server.catalog.paths import catalog_directory, collapse_slashes, is_url
from intake_server.drivers.base import cause

log = structlog.get_logger("intake_server.catalogs")
SUFFIXES = (".yml", ".yaml")
_MAGIC = re.compile(r"[*?\[]")
MAX_BYTES = 64 * 2**20


class UnreadableCatalog(Exception):  # noqa: N818 - reported to the operator or the caller
    """A catalog cannot be read at all; the text names the file and says why."""


@dataclass(frozen=True, slots=True)
class CatalogLocation:
    """Where a catalog is.

    Attributes:
        paths: Files, folders, globs or URLs.
        flatten: Whether several files become one name space; otherwise each is a nested catalog.
        several: Whether the paths may mean several files even if they name one now.
        storage_options: Options for the file systems of URLs.
        parameters: Parameters inherited from the catalogs above.
        name: The catalog's name if its file gives none.
        metadata: Metadata of the entry that names the catalog; the file's own win.
    """

    paths: tuple[str, ...]
    flatten: bool = True
    several: bool = False
    storage_options: Mapping[str, Any] = field(default_factory=dict)
    parameters: tuple[Any, ...] = ()
    name: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, arguments: Sequence[str], *, flatten: bool = True, **more: Any) -> CatalogLocation:
        """Read command-line arguments: one file, or whatever may be several (§5)."""
        several = len(arguments) != 1 or not is_single_file(arguments[0])
        return cls(tuple(arguments), flatten=flatten, several=several, **more)


@dataclass(frozen=True, slots=True)
class LoadedFile:
    """One parsed file and what it was parsed from."""

    path: str
    stamp: str
    parsed: ParsedCatalog


@dataclass(frozen=True, slots=True)
class Loaded:
    """A catalog as last read.

    Attributes:
        catalog: The catalog.
        files: Every file in it.
        modules: Modules whose drivers it wants imported.
        warnings: What its files should change.
        state: A fingerprint of everything that was looked at, also of what could not be read.
    """

    catalog: Catalog
    files: tuple[LoadedFile, ...]
    modules: tuple[str, ...]
    warnings: tuple[str, ...]
    state: str


def is_single_file(path: str) -> bool:
    """Whether an argument means exactly one catalog file."""
    return path.endswith(SUFFIXES) and not _MAGIC.search(path)


def load(location: CatalogLocation, previous: Loaded | None = None) -> Loaded:
    """Read a catalog, or give back the previous state if nothing changed.

    Args:
        location: Where it is.
        previous: What was read last time.

    Raises:
        UnreadableCatalog: A single file cannot be read, or flattened files use a name twice.
    """
    found = _stamps(location)
    state = hashlib.blake2b(repr(found).encode("utf-8", "replace"), digest_size=12).hexdigest()
    if previous is not None and previous.state == state:
        return previous
    known = {file.path: file for file in previous.files} if previous else {}
    files, problems = [], []
    for path, stamp in found:
        if stamp and path in known and known[path].stamp == stamp:
            files.append(known[path])
            continue
        try:
            files.append(LoadedFile(path, stamp, _parse(location, path)))
        except UnreadableCatalog as error:
            if not location.several:
                raise
            problems.append(str(error))
            if path in known:
                files.append(known[path])
    catalog = _combine(location, files, problems)
    modules = tuple(dict.fromkeys(module for file in files for module in file.parsed.modules))
    warnings = tuple(f"{file.path}: {warning}" for file in files for warning in file.parsed.warnings)
    return Loaded(catalog, tuple(files), modules, warnings, state)


def _stamps(location: CatalogLocation) -> list[tuple[str, str]]:
    """Every file that the location means now, with a stamp that changes when it does; empty when it cannot be read."""
    if not location.several:
        path = location.paths[0] if is_url(location.paths[0]) else os.path.abspath(location.paths[0])
        return [(path, _stamp(location, path))]
    paths = [path for given in location.paths for path in _expand(location, given)]
    return [(path, _stamp(location, path)) for path in dict.fromkeys(paths)]


def _expand(location: CatalogLocation, given: str) -> list[str]:
    if is_url(given):
        return _expand_url(location, given)
    path = os.path.abspath(os.path.expanduser(given))
    if _MAGIC.search(path):
        found = sorted(glob.glob(path))
    elif path.endswith(SUFFIXES):
        return [path]
    else:
        found = sorted(glob.glob(os.path.join(glob.escape(path), "*.y*ml")))
    return [name for name in found if os.path.isfile(name) and name.endswith(SUFFIXES)]


def _expand_url(location: CatalogLocation, url: str) -> list[str]:
    if url.endswith(SUFFIXES) and not _MAGIC.search(url):
        return [url]
    pattern = url if _MAGIC.search(url) else url.rstrip("/") + "/*.y*ml"
    try:
        filesystem, path = fsspec.core.url_to_fs(pattern, **location.storage_options)
        filesystem.invalidate_cache()
        return [filesystem.unstrip_protocol(name) for name in sorted(filesystem.glob(path)) if name.endswith(SUFFIXES)]
    except (OSError, ValueError, ImportError) as error:
        log.warning("cannot list catalogs", url=url, reason=cause(error))
        return []


def _stamp(location: CatalogLocation, path: str) -> str:
    try:
        if is_url(path):
            filesystem, inner = fsspec.core.url_to_fs(path, **location.storage_options)
            filesystem.invalidate_cache()
            info = filesystem.info(inner)
            return repr([info.get(key) for key in ("size", "mtime", "ETag", "etag", "LastModified", "created")])
        status = os.stat(path)
    except (OSError, ValueError, ImportError):
        return ""
    return f"{status.st_mtime_ns:x}.{status.st_size:x}.{status.st_ino:x}"


def _parse(location: CatalogLocation, path: str) -> ParsedCatalog:
    try:
        text = _read(location, path)
    except (OSError, ValueError, ImportError) as error:
        raise UnreadableCatalog(f"{path}: {cause(error).lower()}") from error
    options = dict(location.storage_options) or None
    scope = Scope(catalog_directory(path), options if is_url(path) else None, location.parameters)
    try:
        return parse(text, scope, location.name or Path(path).stem)
    except CatalogError as error:
        raise UnreadableCatalog(f"{path}: {error}") from error


def _read(location: CatalogLocation, path: str) -> str:
    if is_url(path):
        with fsspec.open(path, "rb", **location.storage_options) as opened:
            data = opened.read(MAX_BYTES + 1)
    else:
        with Path(path).open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES} bytes")
    return str(data, "utf-8")


def _combine(location: CatalogLocation, files: Sequence[LoadedFile], problems: Sequence[str]) -> Catalog:
    if not location.several:
        catalog = files[0].parsed.catalog
        return replace(catalog, metadata={**location.metadata, **catalog.metadata})
    entries = _flattened(files) if location.flatten else _nested(location, files)
    metadata: dict[str, Any] = dict(location.metadata)
    for file in files if location.flatten else ():
        metadata.update(file.parsed.catalog.metadata)
    generation = hashlib.blake2b(digest_size=12)
    for file in files:
        generation.update(f"{file.path}\0{file.parsed.catalog.generation}\0".encode("utf-8", "replace"))
    directory = catalog_directory(location.paths[0]) if location.paths else "/"
    return Catalog(
        name=location.name,
        entries=entries,
        scope=Scope(directory, None, location.parameters),
        metadata=metadata,
        generation=generation.hexdigest(),
        problems=tuple(problems),
    )


def _flattened(files: Sequence[LoadedFile]) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    owners: dict[str, str] = {}
    for file in files:
        for name, entry in file.parsed.catalog.entries.items():
            if name in entries:
                raise UnreadableCatalog(f"{file.path}: the entry {name!r} is already in {owners[name]}")
            entries[name] = entry
            owners[name] = file.path
    return entries


def _nested(location: CatalogLocation, files: Sequence[LoadedFile]) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for file in files:
        catalog = file.parsed.catalog
        name = re.sub(r"\.ya?ml$", "", file.path.rsplit("/", 1)[-1])
        if name in entries:
            raise UnreadableCatalog(f"{file.path}: there is already a catalog {name!r}")
        scope = Scope(catalog_directory(file.path), catalog.scope.storage_options, location.parameters)
        arguments: dict[str, Any] = {"path": collapse_slashes(file.path)}
        if location.storage_options and is_url(file.path):
            arguments["storage_options"] = dict(location.storage_options)
        entries[name] = Entry(
            name=name,
            drivers=(DriverChoice("yaml_file_cat", "yaml_file_cat"),),
            scope=scope,
            arguments=arguments,
            description=catalog.description,
            metadata=catalog.metadata,
            is_literal=True,
        )
    return entries
