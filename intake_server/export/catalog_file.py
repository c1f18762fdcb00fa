"""A catalog as a catalog file: for programs that read such files, but have no client of ours.

Every entry leads to its data over plain HTTP, so that the file works with any release of intake. UrlPaths are
relative to where the file was had from, which its reader calls ``CATALOG_DIR``: they hold behind any proxy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from intake_server.catalog.parameters import Parameter
from intake_server.export.selection import PARAMETER_PREFIX, QUERY

_HERE = "{{ CATALOG_DIR }}"
_DIRECTORY = re.compile(r"\{\{\s*CATALOG_DIR\s*\}\}/?")
_ON_THE_SERVER = re.compile(r"\s*(env|shell)\(")
_READERS: Mapping[str | None, tuple[Any, str, str]] = {
    "dataframe": ("csv", "urlpath", "csv"),
    "ndarray": ("numpy", "path", "npy"),
    "python": (["json", "jsonfiles"], "urlpath", "json"),
}
"""By container: the driver that every release has, its argument, and the format that it reads."""


@dataclass(frozen=True, slots=True)
class Published:
    """One entry, as a catalog file needs it.

    Attributes:
        path: The names of catalogs that lead to it, and its own.
        described: Its description as listings have it (§3.1).
        parameters: Its effective parameters.
        directory: The folder of its own catalog file.
        is_catalog: Whether it is a catalog.
    """

    path: Sequence[str]
    described: Mapping[str, Any]
    parameters: Sequence[Parameter]
    directory: str
    is_catalog: bool


def catalog_file(metadata: Mapping[str, Any], entries: Mapping[str, Published]) -> dict[str, Any]:
    """The content of a catalog file; entries that no driver of every release reads are left out of it."""
    sources = {name: source for name, entry in entries.items() if (source := _source(entry)) is not None}
    kept = {key: value for key, value in metadata.items() if key != "parameters"}
    return {"metadata": {"version": 1, **kept}, "sources": sources}


def _source(entry: Published) -> dict[str, Any] | None:
    described = entry.described
    known: dict[str, Any] = {"description": described["description"], "metadata": described["metadata"]}
    if entry.is_catalog:
        inside = quote("/".join(quote(name, safe="") for name in entry.path), safe="")
        return {**known, "driver": "yaml_file_cat", "args": {"path": f"{_HERE}/catalog.yml?catalog={inside}"}}
    if described["direct_access"] == "force":
        arguments = _rooted(described["args"], entry.directory)
        return {**known, "driver": described["driver"], "args": arguments, **_parameters(entry.parameters)}
    if described["container"] not in _READERS:
        return None
    driver, argument, form = _READERS[described["container"]]
    chosen = [parameter for parameter in entry.parameters if not _is_looked_up(parameter)]
    address = "/".join([_HERE, "data", *(quote(name, safe="") for name in entry.path)])
    query = "&".join(f"{_query_name(one.name)}={{{{ {one.name} | string | urlencode }}}}" for one in chosen)
    arguments = {argument: f"{address}.{form}{'?' if query else ''}{query}"}
    return {**known, "driver": driver, "args": arguments, **_parameters(chosen)}


def _query_name(name: str) -> str:
    return PARAMETER_PREFIX + name if name in QUERY else name


def _is_looked_up(parameter: Parameter) -> bool:
    """Whether the default is an ``env()`` or ``shell()`` of the server, which only the server can evaluate."""
    return isinstance(parameter.default, str) and _ON_THE_SERVER.match(parameter.default) is not None


def _parameters(parameters: Sequence[Parameter]) -> dict[str, Any]:
    declared = {
        one.name: {key: value for key, value in one.describe().items() if key != "name" and value is not None}
        for one in parameters
    }
    return {"parameters": declared} if declared else {}


def _rooted(value: Any, directory: str) -> Any:
    """Arguments in which the folder of the catalog that has them is named, as the file is read somewhere else."""
    if isinstance(value, Mapping):
        return {key: _rooted(item, directory) for key, item in value.items()}
    if isinstance(value, list):
        return [_rooted(item, directory) for item in value]
    if isinstance(value, str):
        return _DIRECTORY.sub(lambda _: directory.rstrip("/") + "/", value)
    return value
