"""The demo: a counter that fills every kind of channel once a second (§10.2)."""

from __future__ import annotations

import random
from importlib.resources import files
from string import ascii_lowercase

from gateway.config.models import read_span
from gateway.modules.api import Module, ModuleGateway

PLAIN = ("example", "example_list", "example_with_state", "example_with_state_multiple", "example_with_stage")
BASKETS = (("basket", ("A", "B", "C")), ("str_basket", ("a", "b", "c")))


def demo_file() -> str:
    """The text of the channel file that belongs to the demo."""
    return files("gateway.modules.builtin").joinpath("demo.yml").read_text(encoding="utf-8")


class Demo(Module):
    """Ticks one `ExampleData` on the plain channels and three more on the baskets, all at the same moment.

    Args:
        interval: Time between ticks: seconds, or a text such as ``1s``.
        seed: Makes the random parts repeatable.
    """

    def __init__(self, interval: float | str = 1.0, seed: int | None = None) -> None:
        self._interval = float(read_span(interval))
        self._random = random.Random(seed)
        self._x = 0

    def connect(self, gw: ModuleGateway) -> None:
        for channel in PLAIN:
            gw.writes(channel)
        for basket, keys in BASKETS:
            for key in keys:
                gw.writes(basket, key)

    async def start(self, gw: ModuleGateway) -> None:
        gw.every(self._interval, lambda: self.tick(gw))

    def tick(self, gw: ModuleGateway) -> None:
        """Tick everything once."""
        self._x += 1
        same = gw.record("ExampleData", self._example(3))
        ticks = [(channel, None, same) for channel in PLAIN]
        for times in (1, 2, 3):
            keyed = gw.record("ExampleData", self._example(times))
            ticks += [(basket, keys[times - 1], keyed) for basket, keys in BASKETS]  # type: ignore[misc]
        gw.tick_together(ticks)

    def _example(self, times: int) -> dict[str, object]:
        return {
            "x": self._x,
            "y": str(self._x) * times,
            "z": self._random.choice(ascii_lowercase),
            "data": [self._random.random() for _ in range(10)],
            "mapping": {str(self._x): self._x},
        }
