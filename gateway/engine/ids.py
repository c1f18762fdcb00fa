"""Identifiers of structs: decimal strings that never repeat and sort by age at equal length."""

from __future__ import annotations


class IdCounter:
    """One counter for a whole gateway.

    It starts at the epoch in nanoseconds, so a restarted gateway continues above every id it ever gave, as long as
    it creates fewer than a thousand million structs a second. A journal passes `resume` what it has seen. Gateways
    that are joined by a bus `share` the numbers: each gives only those of its own remainder.
    """

    __slots__ = ("_step", "_value")

    def __init__(self, epoch_ns: int) -> None:
        self._value = epoch_ns
        self._step = 1

    def next(self) -> str:
        """The next identifier."""
        self._value += self._step
        return str(self._value)

    @property
    def value(self) -> int:
        """The number that was last given."""
        return self._value

    def resume(self, seen: int) -> None:
        """Never give a number up to this one again."""
        if seen > self._value:
            self._value += -(-(seen - self._value) // self._step) * self._step

    def share(self, member: int, members: int) -> None:
        """From now on give only numbers that leave the remainder `member` when divided by `members`."""
        self._step = members
        self._value = (self._value // members + 1) * members + member
