"""Error texts: what may be sent to a client (§3.6), and how the types of values are called."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")
_LOCAL_PATH = re.compile(r"(?<![\w/:.}])/(?:[\w.@+~-]+/)+[^\s'\",:;()\[\]]*")
MAX_REASON = 300
_LONGEST_TEXT = 4096
_KINDS: dict[type, str] = {
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "a map",
    bytes: "bytes",
}


def kind_of(value: object) -> str:
    """The kind of a value from a YAML file or a MessagePack message, such as "a list"; "nothing" for null."""
    return "nothing" if value is None else _KINDS.get(type(value), f"a {type(value).__name__}")


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
