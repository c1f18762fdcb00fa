"""The background work on metrics: percentiles, and entities that went away (specification §7.5, §7.6)."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

from shared.pegasus.metrics import Registry


async def keep(registry: Registry, interval_s: Callable[[], float], retirement_s: Callable[[], float]) -> None:
    """Compute percentiles at an interval, and let retired entities disappear, until cancelled.

    Args:
        registry: The daemon's metrics.
        interval_s: Seconds between two computations, asked every time so that a changed setting acts at once.
        retirement_s: Seconds that an entity stays after its object went away.
    """
    await asyncio.sleep(random.random() * interval_s())
    while True:
        for _ in registry.compute_percentiles():
            await asyncio.sleep(0)  # requests come first
        registry.sweep(time.monotonic(), retirement_s())
        await asyncio.sleep(interval_s())
