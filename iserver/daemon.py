"""The life cycle of an iserver: start, reload, drain, and its background tasks in between."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from iserver.app import make_http
from iserver.components import Components, open_components
from iserver.errors import InvalidConfigurationError, UnreachableError
from iserver.handlers.sse import HEARTBEAT_S
from iserver.settings import ServerSettings
from iserver.storage.journal import Journal
from shared.daemon import WebService
from shared.errors import StartupError
from shared.file_watch import file_changes

SWITCH_S = 0.0005
"""The thread that commits needs the interpreter only for moments; it must not wait for it longer than for the disk."""

PREPARE_AFTER_S = 1.0
"""The warehouse's libraries take their time to load, so the first requests go before."""

EXPIRY_INTERVAL_S = 0.5
PROBE_INTERVAL_S = 1.0
ORPHANS_INTERVAL_S = 1.0
GC_INTERVAL_S = 0.25
GC_SESSIONS, GC_IDLE_RUNS = 2000, 240
YOUNG_OBJECTS, MIDDLE_COLLECTIONS, NO_FULL_COLLECTIONS = 5000, 20, 1_000_000
FEW_OBJECTS = 100_000
"""So many objects, six thousand sessions or so beside the server itself, are looked through in less than 0.1 s."""


class Daemon:
    """An iserver from start to drain (`shared.daemon.Service`)."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._is_draining = False
        self._components: Components | None = None
        self._web: WebService | None = None

    async def start(self, sockets: Sequence[socket.socket], tls: ssl.SSLContext | None) -> None:
        """Build the components, serve, and start the background tasks."""
        sys.setswitchinterval(SWITCH_S)
        self._components = components = await open_components(self._settings)
        http = make_http(components, self._settings, is_draining=lambda: self._is_draining)
        self._web = WebService(http.app, reload=self._reload, before_drain=self._before_drain, fast_path=http.fast_path)
        await self._web.start(sockets, tls)
        start_background_tasks(components, self._settings)

    async def drain(self) -> None:
        """Serve on for `--drain-seconds`, then retire all sessions, upload, and close."""
        if self._web is not None:
            await self._web.drain()

    async def reload(self) -> None:
        """Load the configuration again."""
        if self._web is not None:
            await self._web.reload()

    async def _reload(self) -> None:
        assert self._components is not None
        try:
            await self._components.synchroniser.sync()
        except (UnreachableError, InvalidConfigurationError) as error:
            raise StartupError(str(error)) from error

    async def _before_drain(self) -> None:
        self._is_draining = True
        await asyncio.sleep(self._settings.drain_s)


def start_background_tasks(components: Components, settings: ServerSettings) -> None:
    """Start the background tasks: session expiry, ETL, configuration polling, heartbeats."""
    tasks = components.tasks

    async def send_heartbeats() -> None:
        components.streams.send_heartbeat()

    collection = GarbageCollection(lambda: components.engine.sessions.begun)
    collection.begin()
    tasks.periodic("garbage collection", GC_INTERVAL_S, collection.collect)
    tasks.once(
        "warehouse preparation",
        lambda: components.etl.prepare(components.engine.configuration),
        after_s=PREPARE_AFTER_S,
    )
    tasks.periodic("session expiry", EXPIRY_INTERVAL_S, components.engine.sweep_all)
    if isinstance(components.store, Journal):
        tasks.periodic("journal probe", PROBE_INTERVAL_S, components.store.probe)
    tasks.periodic("ETL", settings.etl_interval_s, components.run_etl)
    if components.shared is not None:
        tasks.periodic("orphaned sessions", ORPHANS_INTERVAL_S, components.shared.adopt_orphans)
    if components.telemetry is not None:
        tasks.periodic("metrics export", settings.otel_interval_s, components.telemetry.export, is_critical=False)
    tasks.periodic("heartbeats", HEARTBEAT_S, send_heartbeats)
    files = [*settings.fdl_files, *([settings.config_file] if settings.config_file is not None else [])]
    if files:
        tasks.loop("configuration files", lambda: _follow(files, components), is_critical=False)
    if settings.config_server is not None:
        tasks.periodic("configuration", settings.sync_interval_s, components.synchroniser.sync, is_critical=False)


class GarbageCollection:
    """Keeps the garbage collector from looking through all sessions again and again.

    Sessions hold no reference cycles, so what is alive is set aside (`gc.freeze`, which costs a microsecond) as it
    grows: the collector looks only at what is new. A full collection with 200,000 sessions takes about a second, and
    one with a million five. What was set aside and has become garbage in a cycle since, as connections and replaced
    configurations do, is collected after a while without many new sessions, when there is little to look through.

    Args:
        begun_count: How many sessions have begun so far.
    """

    def __init__(self, begun_count: Callable[[], int]) -> None:
        self._begun_count = begun_count
        self._seen = 0
        self._idle = 0

    def begin(self) -> None:
        """Set aside what there is, and leave full collections to `collect`."""
        gc.set_threshold(YOUNG_OBJECTS, MIDDLE_COLLECTIONS, NO_FULL_COLLECTIONS)
        gc.freeze()
        self._seen = self._begun_count()

    async def collect(self) -> None:
        """Collect what is new and set aside what is left of it, when there is enough of it or after a while."""
        begun = self._begun_count()
        self._idle += 1
        if begun - self._seen >= GC_SESSIONS or self._idle >= GC_IDLE_RUNS:
            if self._idle >= GC_IDLE_RUNS and gc.get_freeze_count() <= FEW_OBJECTS:
                gc.unfreeze()
            gc.collect()
            gc.freeze()
            self._seen, self._idle = begun, 0


async def _follow(files: Sequence[Path], components: Components) -> None:
    """Load the configuration again whenever one of its files changes; a broken one leaves the old in force."""
    async for _ in file_changes(files):
        await components.tasks.attempt("configuration", components.synchroniser.sync)
