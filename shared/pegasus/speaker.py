"""What a connection and the protocol that is spoken on it know of each other."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Carrier", "Speaker"]


class Speaker(Protocol):
    """The protocol that a connection turned out to speak."""

    def receive(self, data: bytes) -> None:
        """Take what has arrived."""

    def proceed(self) -> None:
        """Go on with what waits: the client takes answers again."""

    def is_idle(self) -> bool:
        """Whether everything received has been answered."""

    def close(self) -> None:
        """The client is gone."""


class Carrier(Protocol):
    """A connection, as its speaker sees it.

    Attributes:
        peer: Who the client is, ``host:port``.
        can_write: Whether the client takes what it is sent.
    """

    peer: str
    can_write: bool

    def write(self, data: bytes) -> None:
        """Send bytes, soon."""

    def read_on(self, reads: bool) -> None:
        """Take more from the client, or let it wait."""

    def settled(self) -> None:
        """Be told that everything received has been answered."""

    def close(self) -> None:
        """Send what is left and close."""
