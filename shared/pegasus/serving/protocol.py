"""The interfaces between a connection and its protocol handler, and the limit of bytes that connections hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = ["MAX_PARTIAL_BYTES", "ClientConnection", "Load", "Partial", "ProtocolHandler"]

MAX_PARTIAL_BYTES = 256 * 1024 * 1024
"""The most bytes of incomplete requests, all connections together; one that exceeds it is closed."""


class ProtocolHandler(Protocol):
    """HTTP or RPC on one connection."""

    def receive(self, data: bytes) -> None:
        """Handle received bytes."""

    def pause(self) -> None:
        """The client does not read answers at the moment."""

    def proceed(self) -> None:
        """The client reads answers again: continue."""

    def is_idle(self) -> bool:
        """Whether everything received has been answered."""

    idle_s: float
    """How long its clients may be idle."""

    def is_partial(self) -> bool:
        """Whether a request has arrived in part."""

    def requests(self) -> int:
        """How many requests have arrived whole."""

    def ended(self) -> bool:
        """End of input: the client sends nothing more. Returns whether answers are still to come."""

    def close(self) -> None:
        """The client is gone."""


@dataclass(slots=True)
class Load:
    """Bytes of requests that all connections of a server hold.

    Attributes:
        waiting_bytes: Requests that wait for an answer.
        partial_bytes: Incomplete requests.
    """

    waiting_bytes: int = 0
    partial_bytes: int = 0


class Partial:
    """The bytes of an incomplete request that one connection holds, counted in the load."""

    __slots__ = ("_bytes", "_load")

    def __init__(self, load: Load) -> None:
        self._load = load
        self._bytes = 0

    def is_too_much(self, size: int) -> bool:
        """Set the number of bytes held; returns whether all connections together hold too many."""
        self._load.partial_bytes += size - self._bytes
        self._bytes = size
        return size > 0 and self._load.partial_bytes > MAX_PARTIAL_BYTES


class ClientConnection(Protocol):
    """A connection, as its protocol handler uses it.

    Attributes:
        peer: The client's address, ``host:port``.
        can_write: Whether the client reads what is sent.
        is_ending: Whether it is closed as soon as everything received has been answered.
    """

    peer: str
    can_write: bool

    @property
    def is_ending(self) -> bool: ...

    def write(self, data: bytes) -> None:
        """Send bytes."""

    def set_reading(self, reads: bool) -> None:
        """Pause or resume reading."""

    def all_answered(self) -> None:
        """Report that everything received has been answered."""

    def close(self) -> None:
        """Send what is left and close."""
