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
from iserver.components import Parts, open_parts
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

SWEEP_S = 0.5
PROBE_S = 1.0
TEND_S = 1.0
TIDY_S = 0.25
TIDY_SESSIONS, TIDY_IDLE = 2000, 240
YOUNG_OBJECTS, MIDDLE_COLLECTIONS, NO_FULL_COLLECTIONS = 5000, 20, 1_000_000
FEW_OBJECTS = 100_000
"""So many objects, six thousand sessions or so beside the server itself, are looked through in less than 0.1 s."""


class Daemon:
    """An iserver from start to drain (`shared.daemon.Service`)."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._is_draining = False
        self._parts: Parts | None = None
        self._web: WebService | None = None

    async def start(self, sockets: Sequence[socket.socket], tls: ssl.SSLContext | None) -> None:
        """Build the parts, serve, and start the background tasks."""
        sys.setswitchinterval(SWITCH_S)
        self._parts = parts = await open_parts(self._settings)
        http = make_http(parts, self._settings, is_draining=lambda: self._is_draining)
        self._web = WebService(http.app, reload=self._reload, before_drain=self._before_drain, fast_path=http.fast_path)
        await self._web.start(sockets, tls)
        start_background_tasks(parts, self._settings)

    async def drain(self) -> None:
        """Serve on for `--drain-seconds`, then retire all sessions, upload, and close."""
        if self._web is not None:
            await self._web.drain()

    async def reload(self) -> None:
        """Load the configuration again."""
        if self._web is not None:
            await self._web.reload()

    async def _reload(self) -> None:
        assert self._parts is not None
        try:
            await self._parts.synchroniser.sync()
        except (UnreachableError, InvalidConfigurationError) as error:
            raise StartupError(str(error)) from error

    async def _before_drain(self) -> None:
        self._is_draining = True
        await asyncio.sleep(self._settings.drain_s)


def start_background_tasks(parts: Parts, settings: ServerSettings) -> None:
    """Start everything that is periodic: session expiry, ETL, configuration polling, heartbeats."""
    tasks = parts.tasks

    async def beat() -> None:
        parts.streams.beat()

    tidying = Tidying(lambda: parts.server.sessions.begun)
    tidying.begin()
    tasks.periodic("garbage collection", TIDY_S, tidying.tidy)
    tasks.once("warehouse preparation", lambda: parts.etl.prepare(parts.server.configuration), after_s=PREPARE_AFTER_S)
    tasks.periodic("session expiry", SWEEP_S, parts.server.sweep_all)
    if isinstance(parts.journal, Journal):
        tasks.periodic("journal probe", PROBE_S, parts.journal.probe)
    tasks.periodic("ETL", settings.etl_interval_s, parts.run_etl)
    if parts.sharing is not None:
        tasks.periodic("orphaned sessions", TEND_S, parts.sharing.tend)
    if parts.telemetry is not None:
        tasks.periodic("metrics export", settings.otel_interval_s, parts.telemetry.export, is_critical=False)
    tasks.periodic("heartbeats", HEARTBEAT_S, beat)
    files = [*settings.fdl_files, *([settings.config_file] if settings.config_file is not None else [])]
    if files:
        tasks.loop("configuration files", lambda: _follow(files, parts), is_critical=False)
    if settings.config_server is not None:
        tasks.periodic("configuration", settings.sync_interval_s, parts.synchroniser.sync, is_critical=False)


class Tidying:
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
        """Set aside what there is, and leave full collections to `tidy`."""
        gc.set_threshold(YOUNG_OBJECTS, MIDDLE_COLLECTIONS, NO_FULL_COLLECTIONS)
        gc.freeze()
        self._seen = self._begun_count()

    async def tidy(self) -> None:
        """Collect what is new and set aside what is left of it, when there is enough of it or after a while."""
        begun = self._begun_count()
        self._idle += 1
        if begun - self._seen >= TIDY_SESSIONS or self._idle >= TIDY_IDLE:
            if self._idle >= TIDY_IDLE and gc.get_freeze_count() <= FEW_OBJECTS:
                gc.unfreeze()
            gc.collect()
            gc.freeze()
            self._seen, self._idle = begun, 0


async def _follow(files: Sequence[Path], parts: Parts) -> None:
    """Load the configuration again whenever one of its files changes; a broken one leaves the old in force."""
    async for _ in file_changes(files):
        await parts.tasks.attempt("configuration", parts.synchroniser.sync)
