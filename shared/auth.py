"""Who is calling: bearer tokens and API keys, compared in constant time."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterator

from aiohttp import web

from shared.http.text import header_text


def equal(given: str, expected: str) -> bool:
    """Compare two secrets without telling, by the time it takes, how much of them agrees."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode("utf-8", "surrogatepass"))


def generate_key() -> str:
    """A fresh secret of 192 random bits, safe in URLs, headers and cookies."""
    return secrets.token_urlsafe(24)


def bearer_token(request: web.Request) -> str | None:
    """The credential of the ``Authorization`` header, with or without the word ``Bearer``; None if absent."""
    header = header_text(request.headers.get("Authorization", "")).strip()
    scheme, _, credential = header.partition(" ")
    if scheme.lower() == "bearer" and credential.strip():
        return credential.strip()
    return header or None


def offered_keys(request: web.Request, name: str) -> Iterator[str]:
    """Every API key that a request offers, so that a wrong one in one place does not veto a right one in another.

    They come from the query parameter, the header and the cookie of that name, then from ``Authorization``.
    """
    places = (request.query.get(name), request.headers.get(name), request.cookies.get(name), bearer_token(request))
    return (key for key in places if key)
