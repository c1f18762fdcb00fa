"""Why a request fails (appendix A). Handlers give each error its status."""

from __future__ import annotations


class RequestError(Exception):
    """A request that changes nothing; the message is what the client reads."""


class MalformedError(RequestError):
    """The request does not have the shape or the types it must have."""


class UnknownError(RequestError):
    """The request names a feature, event, field or impression that does not exist."""


class SessionGoneError(RequestError):
    """There is no active session with these keys."""

    def __init__(self, message: str = "session not found or expired") -> None:
        super().__init__(message)


class NotStoredError(RequestError):
    """The change was understood but could not be made durable; nothing of the request is acknowledged."""


class FencedError(Exception):
    """Another server has taken over a session: nothing was done, and it is to be done again from the start."""


class InvalidConfigurationError(Exception):
    """The configuration that was fetched is invalid; the one in force stays."""


class UnreachableError(Exception):
    """The configuration could not be fetched; the one in force stays."""
