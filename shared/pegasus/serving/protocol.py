"""What a connection and the protocol that is spoken on it know of each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = ["MAX_PARTIAL_BYTES", "Carrier", "Load", "Partial", "Speaker"]

MAX_PARTIAL_BYTES = 256 * 1024 * 1024
"""How much of requests may have arrived in part, all connections together; whoever sends beyond it is closed."""


class Speaker(Protocol):
    """The protocol that a connection turned out to speak."""

    def receive(self, data: bytes) -> None:
        """Take what has arrived."""

    def pause(self) -> None:
        """The client takes no answers at the moment."""

    def proceed(self) -> None:
        """Go on with what waits: the client takes answers again."""

    def is_idle(self) -> bool:
        """Whether everything received has been answered."""

    idle_s: float
    """How long its clients may be idle."""

    def is_partial(self) -> bool:
        """Whether a request has arrived in part."""

    def requests(self) -> int:
        """How many requests have arrived whole."""

    def ended(self) -> bool:
        """The client sends nothing more, and may be gone; whether answers to it are still to come."""

    def close(self) -> None:
        """The client is gone."""


@dataclass(slots=True)
class Load:
    """What the connections of a server hold of their clients' requests, all together.

    Attributes:
        waiting_bytes: Requests that wait for an answer.
        partial_bytes: Requests that have arrived in part.
    """

    waiting_bytes: int = 0
    partial_bytes: int = 0


class Partial:
    """What one connection holds of a request that has arrived in part, as a share of the load."""

    __slots__ = ("_bytes", "_load")

    def __init__(self, load: Load) -> None:
        self._load = load
        self._bytes = 0

    def is_too_much(self, size: int) -> bool:
        """Count what is held now; whether that is too much, with what all others hold."""
        self._load.partial_bytes += size - self._bytes
        self._bytes = size
        return size > 0 and self._load.partial_bytes > MAX_PARTIAL_BYTES


class Carrier(Protocol):
    """A connection, as its speaker sees it.

    Attributes:
        peer: Who the client is, ``host:port``.
        can_write: Whether the client takes what it is sent.
        is_ending: Whether it is closed as soon as everything received has been answered.
    """

    peer: str
    can_write: bool

    @property
    def is_ending(self) -> bool: ...

    def write(self, data: bytes) -> None:
        """Send bytes, soon."""

    def read_on(self, reads: bool) -> None:
        """Take more from the client, or let it wait."""

    def settled(self) -> None:
        """Be told that everything received has been answered."""

    def close(self) -> None:
        """Send what is left and close."""
