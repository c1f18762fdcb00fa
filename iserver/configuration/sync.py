"""Keeping the configuration current: on demand, by polling, and when files change."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

import structlog

from iserver.configuration.compiled import Configuration
from shared.tasks import start_task

log = structlog.get_logger("iserver.configuration")


class ConfigurationLoader(Protocol):
    """Loads the configuration; see `iserver.configuration.sources`."""

    async def load(self) -> Configuration:
        """The configuration as it is now; the same object as before when nothing has changed."""


class ConfigurationTarget(Protocol):
    """What configurations are put in force in."""

    @property
    def configuration(self) -> Configuration:
        """The configuration in force."""

    async def apply(self, configuration: Configuration) -> None:
        """Put a configuration in force."""


class Synchroniser:
    """Loads configurations and puts them in force. Calls that come together share one load.

    Attributes:
        checked_at_s: `time.monotonic()` of the last successful load.
    """

    def __init__(self, loader: ConfigurationLoader, engine: ConfigurationTarget) -> None:
        self._loader = loader
        self._engine = engine
        self._under_way: asyncio.Task[tuple[str, bool]] | None = None
        self.checked_at_s = time.monotonic()

    async def sync(self) -> tuple[str, bool]:
        """Make the configuration current.

        A load that began before this call may have read an older state, so a call that comes during one
        waits for another, which it shares with all who wait like it.

        Returns:
            The revision now in force, and whether it changed.

        Raises:
            UnreachableError: It cannot be fetched; the old one stays in force.
            InvalidConfigurationError: It is invalid; the old one stays in force.
        """
        earlier = self._under_way
        if earlier is not None and not earlier.done():
            await asyncio.wait({earlier})
        if self._under_way is earlier:
            self._under_way = start_task(self._sync(), name="configuration")
        assert self._under_way is not None
        return await asyncio.shield(self._under_way)

    async def _sync(self) -> tuple[str, bool]:
        started = time.monotonic()
        configuration = await self._loader.load()
        self.checked_at_s = time.monotonic()
        if configuration is self._engine.configuration:
            return configuration.revision, False
        await self._engine.apply(configuration)
        log.info(
            "configuration applied",
            revision=configuration.revision,
            features=len(configuration.features),
            experiments=len(configuration.experiments),
            devices=len(configuration.devices),
            seconds=round(time.monotonic() - started, 3),
        )
        return configuration.revision, True
