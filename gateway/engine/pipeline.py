"""How ticks reach the engine: at once, or through a journal or a bus that must agree first."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Protocol

from gateway.engine.channels import Feed
from gateway.engine.engine import Change, Engine
from gateway.schema.memory_estimate import LARGE
from gateway.schema.record import Record
from gateway.state.slices import next_turn
from shared.errors import Problem


class Journal(Protocol):
    """Makes applied ticks durable.

    Attributes:
        is_full: Whether so much waits for the disk that no more may tick.
    """

    @property
    def is_full(self) -> bool: ...

    def commit(self) -> Awaitable[None] | None:
        """What to await until every tick applied so far is durable; None when there is nothing to wait for."""


class Bus(Protocol):
    """Orders the ticks of several gateways; applies its own and theirs to the engine."""

    is_ready: bool

    def publish(self, groups: Sequence[Sequence[Change]]) -> Awaitable[None]:
        """Hand over groups of simultaneous ticks, to be applied in that order; done when they have been."""


class Pipeline:
    """The one way in for ticks of clients and modules.

    Args:
        engine: The engine.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.journal: Journal | None = None
        self.bus: Bus | None = None

    def submit(self, changes: Sequence[Change]) -> Awaitable[None] | None:
        """Tick feeds one after the other.

        Returns:
            None when all is done, else what to await until the ticks may be acknowledged.
        """
        if self.bus is not None:
            self._engine.check(changes)  # what fails, fails here and not in every gateway
            return self.bus.publish([[change] for change in changes]) if changes else None
        self.require_room()
        for change in changes:
            self._engine.apply((change,))
        return None if self.journal is None or not changes else self.journal.commit()

    async def submit_in_slices(self, changes: Sequence[Change]) -> None:
        """Tick many feeds one after the other, others being served in between; done when all may be acknowledged."""
        for start in range(0, len(changes), LARGE):
            pending = self.submit(changes[start : start + LARGE])
            if pending is not None:
                await pending
            await next_turn()

    def submit_together(self, changes: Sequence[Change]) -> Awaitable[None] | None:
        """Tick several feeds at the same moment, as a whole basket is."""
        if not changes:
            return None
        if self.bus is not None:
            self._engine.check(changes)
            return self.bus.publish([changes])
        self.require_room()
        self._engine.apply(changes)
        return None if self.journal is None else self.journal.commit()

    def require_room(self) -> None:
        """Raise `Problem` 503 when the journal can take no more at present."""
        if self.journal is not None and self.journal.is_full:
            raise Problem(503, "too much waits to be written to the journal: the disk does not keep up")

    def tick(self, feed: Feed, records: Sequence[Record]) -> Awaitable[None] | None:
        """Tick one feed with records that are one tick."""
        return self.submit_together([(feed, records)])
