"""Time, chance, the network and disks of a simulated cluster: one seed decides everything that happens."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


class World:
    """A clock and a heap of what will happen.

    Args:
        seed: Decides every choice.

    Attributes:
        now: Seconds since the beginning.
        chance: Where every random choice comes from.
        trace: What happened, a line each, while `is_traced`.
    """

    def __init__(self, seed: int, *, is_traced: bool = False) -> None:
        self.now = 0.0
        self.chance = random.Random(seed)
        self.trace: list[str] = []
        self.is_traced = is_traced
        self.steps = 0
        self._number = 0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do something later."""
        self._number += 1
        heapq.heappush(self._heap, (self.now + delay_s, self._number, action))

    def run(self, until: float) -> None:
        """Let time pass."""
        while self._heap and self._heap[0][0] <= until:
            self.now, _, action = heapq.heappop(self._heap)
            self.steps += 1
            action()
        self.now = until

    def say(self, *words: object) -> None:
        """Add a line to the trace."""
        if self.is_traced:
            self.trace.append(f"{self.now:9.3f}  " + " ".join(map(str, words)))


@dataclass
class Network:
    """Carries messages between named places, or does not.

    Attributes:
        loss: The probability that a message is lost.
        twice: The probability that it arrives twice.
        delay_s: The longest usual delay.
        cut: Pairs of places of which the first does not reach the second.
        spared: Places whose messages are not lost by chance.
    """

    world: World
    loss: float = 0.0
    twice: float = 0.0
    delay_s: float = 0.01
    cut: set[tuple[str, str]] = field(default_factory=set)
    spared: set[str] = field(default_factory=set)

    def send(
        self, sender: str, to: str, deliver: Callable[[Any], None], message: Any, *, is_request: bool = False
    ) -> None:
        """Send a message; `deliver` is called with it when it arrives. A client's request never arrives twice."""
        chance = self.world.chance
        is_lost = chance.random() < self.loss and not self.spared & {sender, to}
        if is_lost or (sender, to) in self.cut:
            self.world.say(f"{sender} -x {to}", message)
            return
        for _ in range(2 if chance.random() < self.twice and not is_request else 1):
            delay = chance.uniform(0.0005, self.delay_s)
            if chance.random() < 0.02:
                delay *= 20

            def arrive() -> None:
                if (sender, to) in self.cut:
                    return
                self.world.say(f"{sender} -> {to}", message)
                deliver(message)

            self.world.after(delay, arrive)


@dataclass
class Disk:
    """What a node has written and what of it is synced; a crash loses the rest, but for a random part.

    Attributes:
        records: Synced records, in order.
    """

    world: World
    records: list[Any] = field(default_factory=list)
    pending: list[tuple[Any, Callable[[], None]]] = field(default_factory=list)
    is_syncing: bool = False
    is_slow: bool = False

    def append(self, record: Any, then: Callable[[], None]) -> None:
        """Write a record; `then` is called when it is synced."""
        self.pending.append((record, then))
        if not self.is_syncing:
            self._sync()

    def _sync(self) -> None:
        self.is_syncing = True
        batch = list(self.pending)

        def done() -> None:
            if self.pending[: len(batch)] != batch:
                return  # a crash came between
            del self.pending[: len(batch)]
            self.is_syncing = False
            self.records += [record for record, _ in batch]
            for _, then in batch:
                then()
            if self.pending and not self.is_syncing:
                self._sync()

        delay = self.world.chance.uniform(0.0002, 0.008)
        self.world.after(delay * (100 if self.is_slow else 1), done)

    def crash(self) -> None:
        """Lose what is not synced, but for a random number of its first records."""
        survivors = self.world.chance.randint(0, len(self.pending))
        self.records += [record for record, _ in self.pending[:survivors]]
        self.pending = []
        self.is_syncing = False
