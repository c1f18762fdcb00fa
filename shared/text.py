"""Text at the edge: what a client sent becomes text here, once, and can be encoded again anywhere."""

from __future__ import annotations


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
