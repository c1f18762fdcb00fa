"""The target and the JSON body of a request, by the rules of Pegasus (§2.4, §2.7). Pure: it knows no server."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

__all__ = ["InvalidParameters", "Url", "parse_json_object", "parse_url", "percent_decode"]


class InvalidParameters(ValueError):  # noqa: N818 - the name of the answer: ERR_INVALID_PARAMETERS
    """The request target or an argument is malformed; the text is what the answer quotes (§2.4)."""


# -- targets (§2.4) ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Url:
    """A request target taken apart."""

    path: str
    args: Mapping[str, str]


_ABSOLUTE_FORM = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")


def parse_url(target: str) -> Url:
    """Take a request target apart (§2.4).

    Raises:
        InvalidParameters: A percent escape is malformed, or an argument stands twice.
    """
    target = _ABSOLUTE_FORM.sub("", target, count=1) if not target.startswith("/") else target
    target = target.partition("#")[0]
    path, _, query = target.partition("?")
    segments = (_trim(segment) for segment in _decode(path, is_path=True).split("/"))
    return Url("/".join(segment for segment in segments if segment), _parse_query(_decode(query)))


def _parse_query(query: str) -> dict[str, str]:
    args: dict[str, str] = {}
    for piece in query.split("&"):
        piece = _trim(piece)
        if not piece:
            continue
        name, equals, value = piece.partition("=")
        if name not in args:
            args[name] = value
        elif equals:
            raise InvalidParameters(f"duplicate parameter: {name}")
    return args


def _trim(piece: str) -> str:
    return piece.lstrip(" \t").rstrip(" \t\r\n\v\f")


def percent_decode(text: str) -> str:
    """Decode `%XX` escapes; bytes that are not UTF-8 survive as surrogates.

    Raises:
        InvalidParameters: An escape is cut short or is not hexadecimal.
    """
    return _decode(text)


def _decode(text: str, *, is_path: bool = False) -> str:
    if "%" not in text:
        return text
    raw = text.encode(errors="surrogateescape")
    decoded = bytearray()
    position = 0
    while position < len(raw):
        if raw[position] != 0x25:
            decoded.append(raw[position])
            position += 1
            continue
        digits = raw[position + 1 : position + 3]
        if len(digits) < (1 if is_path else 2):  # in a path, a lone %X at the end is seen as %X and NUL
            raise InvalidParameters("Encountered partial escape sequence at end of string")
        if not _HEX_PAIR.fullmatch(digits):
            rest = raw[position + 1 :].decode(errors="surrogateescape")
            raise InvalidParameters(
                f"The characters {rest} do not form a hex value. Please escape it or pass a valid hex value"
            )
        decoded.append(int(digits, 16))
        position += 3
    return decoded.decode(errors="surrogateescape")


_HEX_PAIR = re.compile(rb"[0-9A-Fa-f]{2}")


# -- JSON bodies (§2.7) -----------------------------------------------------------------------------


def parse_json_object(body: bytes, defaults: Mapping[str, str | int]) -> dict[str, Any]:
    """The known members of a JSON body, with defaults for those left out.

    Accepted iff every known member is present, or no unknown one is.

    Args:
        defaults: Every known member with the value it has when left out; its type is the one required.

    Raises:
        InvalidParameters: `invalid request structure`.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidParameters("invalid request structure") from error
    if not isinstance(value, dict):
        raise InvalidParameters("invalid request structure")
    if not (defaults.keys() <= value.keys() or value.keys() <= defaults.keys()):
        raise InvalidParameters("invalid request structure")
    known = {**defaults}
    for name, default in defaults.items():
        if name in value:
            if type(value[name]) is not type(default):
                raise InvalidParameters("invalid request structure")
            if isinstance(default, int) and not -(1 << 31) <= value[name] < 1 << 31:  # the members are int32
                raise InvalidParameters("invalid request structure")
            known[name] = value[name]
    return known
