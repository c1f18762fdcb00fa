"""Who is calling: bearer tokens and API keys, compared in constant time."""

from __future__ import annotations

import hmac
import secrets

from aiohttp import web


def equal(given: str, expected: str) -> bool:
    """Compare two secrets without telling, by the time it takes, how much of them agrees."""
    return hmac.compare_digest(given.encode(), expected.encode())


def generate_key() -> str:
    """A fresh secret of 192 random bits, safe in URLs, headers and cookies."""
    return secrets.token_urlsafe(24)


def bearer_token(request: web.Request) -> str | None:
    """The credential of the ``Authorization`` header, with or without the word ``Bearer``; None if absent."""
    header = request.headers.get("Authorization", "").strip()
    scheme, _, credential = header.partition(" ")
    if scheme.lower() == "bearer" and credential.strip():
        return credential.strip()
    return header or None


def request_key(
    request: web.Request, *, query: str | None = None, header: str | None = None, cookie: str | None = None
) -> str | None:
    """The API key that a request carries, looked for in the query, then a header, then a cookie.

    Args:
        request: The request.
        query: Name of the query parameter, if the protocol has one.
        header: Name of the header, if the protocol has one.
        cookie: Name of the cookie, if the protocol has one.

    Returns:
        The first key found that is not empty, or None.
    """
    candidates = (
        request.query.get(query) if query else None,
        request.headers.get(header) if header else None,
        request.cookies.get(cookie) if cookie else None,
    )
    return next((candidate for candidate in candidates if candidate), None)
