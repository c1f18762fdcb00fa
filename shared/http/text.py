"""Text at the edge: what a client sent becomes text here, once, and can be encoded again anywhere."""

from __future__ import annotations

import json


def header_text(value: str) -> str:
    """The value of a header as text without lone surrogates.

    aiohttp decodes headers as UTF-8 with surrogates for what is not; such a value is ISO-8859-1 (RFC 9110 §5.5).
    """
    if value.isascii():
        return value
    raw = value.encode("utf-8", "surrogateescape")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def without_lone_surrogates(document: bytes) -> bytes:
    r"""A JSON document in which each half of a surrogate pair, such as `"\ud83d"`, has become U+FFFD.

    JavaScript cuts strings between the halves and escapes what is left; as UTF-8, browsers would send U+FFFD for it.

    Raises:
        ValueError: It is not JSON.
        RecursionError: It is nested too deeply.
    """
    text = json.dumps(json.loads(document.decode()), ensure_ascii=False)
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()
