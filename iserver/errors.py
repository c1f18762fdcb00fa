"""The reasons for which a request is refused (protocol appendix A). Handlers give them a status."""

from __future__ import annotations


class RefusalError(Exception):
    """A request that changes nothing; the message is what the client reads."""


class MalformedError(RefusalError):
    """The request does not have the shape or the types it must have."""


class UnknownError(RefusalError):
    """The request names a feature, event, field or impression that does not exist."""


class SessionGoneError(RefusalError):
    """There is no active session with these keys."""

    def __init__(self, message: str = "session not found or expired") -> None:
        super().__init__(message)


class NotStoredError(RefusalError):
    """The change was understood but could not be made durable; nothing of the request is acknowledged."""


class FencedError(Exception):
    """Another server has taken over a session: nothing was done, and it is to be done again from the start."""


class InvalidConfigurationError(Exception):
    """The configuration that was fetched is refused; the one in force stays."""


class UnreachableError(Exception):
    """The configuration could not be fetched; the one in force stays."""
