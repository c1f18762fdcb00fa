"""Paths and URLs in catalogs: folders, doubled slashes, and what leads out of a folder (§9.2, §9.5)."""

from __future__ import annotations

import posixpath
import re

PATH_ARGUMENTS = frozenset(
    {"urlpath", "path", "paths", "uri", "url", "root", "file", "filename", "component", "table_uri", "consolidated"}
)
_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")


def is_url(path: str) -> bool:
    """Whether a path names a file system other than the local one (chained URLs included)."""
    return (bool(_SCHEME.match(path)) and not path.startswith("file://")) or "::" in path


def catalog_directory(path: str) -> str:
    """``CATALOG_DIR`` of a catalog file: with a trailing slash for local files, without for URLs (§9.2)."""
    if is_url(path):
        return path.rsplit("/", 1)[0]
    return posixpath.dirname(path).rstrip("/") + "/"


def collapse_slashes(path: str) -> str:
    """Make ``//`` a single slash in the path part of a local path; URLs are left alone (§9.2)."""
    if is_url(path):
        return path
    scheme, path = ("file://", path[7:]) if path.startswith("file://") else ("", path)
    return scheme + re.sub(r"/{2,}", "/", path)


def parent_steps(path: str) -> int:
    """How many ``..`` segments a path has."""
    return sum(segment == ".." for segment in re.split(r"[/\\]", path))


def escapes(value: str) -> bool:
    """Whether a caller's text, put into a path, could lead out of where the template points (§9.5, rule 3)."""
    return (
        parent_steps(value) > 0
        or value.startswith(("/", "\\", "~"))
        or "\0" in value
        or "::" in value
        or bool(re.match(r"^[A-Za-z][A-Za-z0-9+.-]*:", value))
    )
