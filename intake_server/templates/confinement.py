"""Where callers' text may land in the arguments of an entry (protocol §9.5).

Rendered arguments still tell which of their characters a caller sent (`caller_text`). Here each text becomes plain
again: escaped where that keeps it data, and refused where it would lead somewhere the catalog's author did not name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from intake_server.catalog.paths import PATH_ARGUMENTS, escapes
from intake_server.templates.caller_text import is_marked, marks, unmarked

_INSIDE = frozenset({"component", "consolidated", "group"})
"""Arguments that name a part of a store: relative to it, and nowhere else."""
_DATA = frozenset({"csv_kwargs", "columns", "filters", "dtype", "schema", "chunks", "mapping"})
"""Arguments whose texts are no places, whatever they look like."""
_CODE = frozenset({"decoder", "preprocess", "transform", "func"})
_SQL = frozenset({"sql", "sql_expr", "query", "statement"})
_GLOB = frozenset("*?[]{}")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")
_LABEL = re.compile(r"[A-Za-z0-9_-]*")
_BUCKET = re.compile(r"[A-Za-z0-9._-]*")
_BUCKETS = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci", "r2", "memory"})
_LOCAL = frozenset({"", "file", "local"})
_ARCHIVES = frozenset({"zip", "tar", "libarchive", "reference"})
_ESCAPED = frozenset({"http", "https"})
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


class Misplaced(Exception):  # noqa: N818 - the caller's mistake, answered as 400
    """A caller's text would lead somewhere else; the text says where, without naming the parameter."""


def landed(name: str, value: Any, *, confine: bool = True) -> Any:
    """A rendered argument as plain values.

    Args:
        name: The argument.
        value: What its template gave, with callers' text marked.
        confine: Whether callers' text is kept from leading elsewhere; otherwise it is only made plain.

    Raises:
        Misplaced: A caller's text does not fit where it landed.
    """
    if isinstance(value, str):
        return _text(name, value, confine) if is_marked(value) else str.__str__(value)
    if isinstance(value, Mapping):
        if confine and name not in _DATA and any(isinstance(key, str) and is_marked(key) for key in value):
            raise Misplaced(f"cannot name what is in {name!r}")
        return {
            unmarked(key): landed(name if name in _DATA else str(key), item, confine=confine)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple, set)):
        return type(value)(landed(name, item, confine=confine) for item in value)
    return value


def is_place(template: Any) -> bool:
    """Whether an argument as its author wrote it is a path or a URL, whatever its name."""
    return isinstance(template, str) and ("/" in template or "CATALOG_DIR" in template)


def _text(name: str, text: str, confine: bool) -> str:
    plain: str = unmarked(text)
    if not confine or name in _DATA:
        return plain
    theirs = marks(text)
    if name in _CODE:
        raise Misplaced(f"cannot choose the code that {name!r} names")
    if name in _SQL:
        _check_statement(plain, theirs)
        return plain
    if name in _INSIDE:
        _check_path(plain, theirs)
        if theirs[0]:
            _check_start(plain)
        return plain
    if name in PATH_ARGUMENTS or _has_place(plain, theirs):
        return _place(plain, theirs)
    if theirs[0]:
        _check_start(plain)
    return plain


def _has_place(plain: str, theirs: list[bool]) -> bool:
    """Whether the author's part of a text says that it is a path or a URL: it has a slash before a caller's text."""
    slash = plain.find("/")
    return slash >= 0 and not theirs[slash]


def _check_start(plain: str) -> None:
    if escapes(plain):
        raise Misplaced(f"{_short(plain)} would leave the data set's folder")


def _place(plain: str, theirs: list[bool]) -> str:
    """A path, or a URL, or a chain of URLs with ``::`` between them."""
    if theirs[0]:
        _check_start(plain)
        raise Misplaced(f"{_short(plain)} is a whole path: the entry names no folder or host to keep it in")
    for found in re.finditer("::|://", plain):
        if any(theirs[found.start() : found.end()]):
            raise Misplaced(f"{found.group()!r} would leave the data set's folder")
    if ":" in plain and any(theirs[n] for n in _positions(plain, ":") if n < (plain + "/").find("/")):
        raise Misplaced("':' before the first '/' would leave the data set's folder")
    result, start = "", 0
    for link in plain.split("::"):
        result += ("::" if start else "") + _link(link, theirs[start : start + len(link)])
        start += len(link) + 2
    return result


def _link(plain: str, theirs: list[bool]) -> str:
    if not any(theirs):
        return plain
    found = _SCHEME.match(plain)
    scheme = found.group(1).lower() if found else ""
    if found is None or scheme in _LOCAL:
        begin = found.end() if found else 0
        if theirs[begin : begin + 1] == [True]:
            raise Misplaced(f"{_short(plain[begin:])} is a whole path: the entry names no folder to keep it in")
        _check_path(plain, theirs)
        _check_literal(plain, theirs)
        return plain
    if scheme in _ARCHIVES:
        _check_path(plain[found.end() :], theirs[found.end() :])
        _check_literal(plain, theirs)
        return plain
    end = next(
        (n for n in range(found.end(), len(plain)) if plain[n] == "/" or (plain[n] in "?#" and not theirs[n])),
        len(plain),
    )
    _check_authority(plain[found.end() : end], theirs[found.end() : end], is_bucket=scheme in _BUCKETS)
    _check_path(plain[end:], theirs[end:])
    if scheme in _ESCAPED:
        return plain[:end] + "".join(_quoted(c) if t else c for c, t in zip(plain[end:], theirs[end:], strict=True))
    _check_literal(plain, theirs)
    return plain


def _quoted(character: str) -> str:
    return character if character == "/" or _UNRESERVED.fullmatch(character) else quote(character, safe="")


def _check_authority(plain: str, theirs: list[bool], *, is_bucket: bool) -> None:
    """A caller's text may be a bucket, a port, a credential, or a label of a host name that ends as the author says."""
    if is_bucket:
        if not all(_BUCKET.fullmatch(c) for c, t in zip(plain, theirs, strict=True) if t) or ".." in plain:
            raise Misplaced(f"{_short(plain)} is not the name of a bucket")
        return
    position = 0
    while position < len(plain):
        end = position
        while end < len(plain) and theirs[end] == theirs[position]:
            end += 1
        if theirs[position]:
            part, before, after = plain[position:end], plain[:position], plain[end : end + 1]
            is_port = before.endswith(":") and not after and part.isascii() and part.isdigit()
            if not is_port and not (_LABEL.fullmatch(part) and after and after in ".-_:@" and _ends_fixed(plain[end:])):
                raise Misplaced(f"{_short(part)} would change the host")
        position = end


def _ends_fixed(rest: str) -> bool:
    """Whether what follows a caller's text in an authority still fixes the host: its domain, or all behind an ``@``."""
    return "@" in rest or re.match(r"[\w-]*\.[\w-]+\.[\w-]+", rest) is not None


def _check_path(plain: str, theirs: list[bool]) -> None:
    start = 0
    for segment in re.split(r"[/\\]", plain):
        if segment == ".." and any(theirs[start : start + 2]):
            raise Misplaced("'..' would leave the data set's folder")
        start += len(segment) + 1
    for character, is_theirs in zip(plain, theirs, strict=True):
        if is_theirs and (character < " " or character == "\x7f" or "\ud800" <= character <= "\udfff"):
            raise Misplaced(f"{character!r} cannot be in the path of a folder or file")


def _check_literal(plain: str, theirs: list[bool]) -> None:
    """Where a path is not escaped, a caller's text must mean itself."""
    for position, (character, is_theirs) in enumerate(zip(plain, theirs, strict=True)):
        if is_theirs and character in _GLOB:
            raise Misplaced(f"{character!r} would match other files than the one in the data set's folder")
        if is_theirs and character in "/\\~" and plain[position - 1] in "/\\":
            raise Misplaced(f"{_short(plain[position:])} would leave the data set's folder")


def _check_statement(plain: str, theirs: list[bool]) -> None:
    """In SQL a caller's text is a number or a word, or stays within the quotes that the author put around it."""
    in_quotes = False
    for character, is_theirs in zip(plain, theirs, strict=True):
        if not is_theirs:
            in_quotes ^= character == "'"
        elif character in "'\\\0" if in_quotes else not re.fullmatch(r"[\w.]", character):
            raise Misplaced(f"{character!r} could change the statement")


def _positions(text: str, sign: str) -> list[int]:
    return [position for position, character in enumerate(text) if character == sign]


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
