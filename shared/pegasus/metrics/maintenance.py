"""The background work on metrics: percentiles, and entities that went away."""

from __future__ import annotations

import asyncio
import random
import time

from shared.metrics import Metrics
from shared.pegasus.metrics.entities import Registry
from shared.pegasus.settings.flags import Flags
from shared.tasks import Supervisor


def start(tasks: Supervisor, registry: Registry, flags: Flags) -> None:
    """Compute percentiles at an interval, and let retired entities disappear.

    Args:
        tasks: Runs it.
        registry: The daemon's metrics.
        flags: The settings of the process; a changed one acts at once.
    """

    async def run() -> None:
        await asyncio.sleep(random.random() * flags.integer("counter_computation_interval_seconds"))
        while True:
            for _ in registry.compute_percentiles():
                await asyncio.sleep(0)  # requests come first
            registry.sweep(time.monotonic(), flags.integer("entity_retirement_delay_ms") / 1000)
            await asyncio.sleep(flags.integer("counter_computation_interval_seconds"))

    tasks.loop("metrics", run)


def supervisor(registry: Registry, metrics: Metrics) -> Supervisor:
    """Background tasks whose failures are counted in the daemon's metrics, those of Pegasus and those of Prometheus."""

    def count(task: str) -> None:
        registry.server().counter("background_task_failed_count").value += 1
        metrics.count_task_failure(task)

    return Supervisor(count)
