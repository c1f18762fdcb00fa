"""Paths and URLs in catalogs: folders, doubled slashes, confinement, and reasons without server paths (§3.6, §9.2)."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

PATH_ARGUMENTS = frozenset(
    {"urlpath", "path", "paths", "uri", "url", "root", "file", "filename", "component", "table_uri", "consolidated"}
)
_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")
_LOCAL_PATH = re.compile(r"(?<![\w/:.}])/(?:[\w.@+~-]+/)+[^\s'\",:;()\[\]]*")
MAX_REASON = 300
_LONGEST_TEXT = 4096


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


def public_reason(text: str, directories: Iterable[str] = ()) -> str:
    """An error text as it may be sent: one printable ASCII line of at most 300 characters, without server paths.

    Args:
        text: The text as raised.
        directories: Catalog folders; each becomes ``{CATALOG_DIR}``.
    """
    for directory in sorted({d.rstrip("/") for d in directories if len(d.rstrip("/")) > 1}, key=len, reverse=True):
        text = text.replace(directory, "{CATALOG_DIR}")
    text = text[:_LONGEST_TEXT]
    text = _LOCAL_PATH.sub(lambda found: "{...}/" + posixpath.basename(found.group().rstrip("/")), text)
    text = _UNPRINTABLE.sub("?", " ".join(text.split()))
    return text if len(text) <= MAX_REASON else text[: MAX_REASON - 3] + "..."
