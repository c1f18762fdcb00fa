"""Every part of a running iserver: built and wired in one place, and closed in order (§11.6)."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import structlog

from iserver.configuration.compiled import Configuration
from iserver.configuration.sources import FileSource, Loader, ServerSource, Source
from iserver.configuration.sync import Synchroniser
from iserver.document import Document
from iserver.engine.engine import ImpressionServer
from iserver.engine.shared_engine import SharedServer
from iserver.errors import InvalidConfigurationError, NotStoredError, UnreachableError
from iserver.etl.etl import Etl
from iserver.etl.filesystems import open_place
from iserver.etl.interface import TableFormat, Tables
from iserver.etl.writer_process import WarehouseProcess
from iserver.handlers.sse import Streams
from iserver.plugins.runner import PluginRunner, SessionTurns, load_plugin
from iserver.settings import ServerSettings
from iserver.storage.journal import Journal
from iserver.storage.redis.cache_flushes import SharedStreams
from iserver.storage.redis.client import Link
from iserver.storage.redis.finished_queue import FinishedQueue, SharedEtl
from iserver.storage.redis.sessions import RedisSessions, pause
from iserver.telemetry.metrics import Watch, measure, measure_plugins, watch_control_plane, watch_uploads
from shared.errors import StartupError
from shared.metrics import Metrics
from shared.tasks import Supervisor

if TYPE_CHECKING:
    from iserver.telemetry.exporter import Telemetry

log = structlog.get_logger("iserver.app")


def wall_clock_ms() -> int:
    """Epoch milliseconds."""
    return time.time_ns() // 1_000_000


STOP_GRACE_S = 300.0
"""How long an ETL run under way may take to finish when the server stops, in seconds."""

EXPECTED_FAILURES = (OSError, NotStoredError, UnreachableError, InvalidConfigurationError, StartupError)
"""What background tasks may meet without there being a bug."""


def random_id() -> str:
    """A fresh random UUID (RFC 9562 §5.4); `uuid.uuid4` takes three times as long, and events need many."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


async def give_way() -> None:
    """Yield to the event loop."""
    await asyncio.sleep(0)


@dataclass(frozen=True, slots=True)
class Sharing:
    """The parts of a server that shares its sessions with others.

    Attributes:
        sessions: The sessions in Redis.
        server: The server.
        etl: Writes what any of the servers has finished.
        listeners: The devices that are connected to any of the servers.
    """

    sessions: RedisSessions
    server: SharedServer
    etl: SharedEtl
    listeners: SharedStreams

    async def tend(self) -> None:
        """Take over what servers that died have left behind."""
        await self.sessions.look()
        await self.server.adopt_overdue()

    async def close(self) -> None:
        """Leave. The sessions stay where they are, for the others."""
        await self.listeners.close()
        await self.sessions.close()


@dataclass(frozen=True, slots=True)
class Parts:
    """An iserver that is ready to serve.

    Attributes:
        location: URL or absolute path of the warehouse.
    """

    server: ImpressionServer
    location: str
    clock_ms: Callable[[], int]
    streams: Streams
    journal: Journal | RedisSessions
    etl: Etl
    loader: Loader
    synchroniser: Synchroniser
    metrics: Metrics
    tasks: Supervisor
    plugins: PluginRunner | None
    uploading: Watch
    sharing: Sharing | None = None
    telemetry: Telemetry | None = None

    def not_ready(self) -> list[str]:
        """The reasons why visitors cannot be served."""
        is_failing = isinstance(self.journal, Journal) and not self.journal.is_writable
        return [*(["the journal cannot be written"] if is_failing else []), *self.tasks.not_ready()]

    async def flush_to_warehouse(self) -> int:
        """Retire every session, of every server that shares them, and write all that is finished (§7).

        Returns:
            How many sessions this server has written meanwhile, also in a run that was under way.

        Raises:
            NotStoredError: The journal cannot be written.
            OSError: The warehouse cannot be written; the sessions stay in the journal.
        """
        before = self.etl.sessions
        await self.server.retire_all()
        if self.sharing is not None:
            with self.uploading():
                await self.sharing.etl.run_all(self.server.configuration)
        else:
            await self.run_etl()
        return self.etl.sessions - before

    async def run_etl(self) -> int:
        """Write all that is finished."""
        with self.uploading():
            return await self.etl.run(self.server.configuration)

    async def close(self) -> None:
        """Retire every session unless others share it, write what is finished, and let go of everything (§11.6)."""
        async with AsyncExitStack() as closing:  # in reverse; one that fails does not keep the others from closing
            closing.push_async_callback(self.loader.close)
            closing.push_async_callback((self.journal if self.sharing is None else self.sharing).close)
            if self.plugins is not None:
                closing.push_async_callback(self.plugins.close)
            closing.push_async_callback(self.etl.close)
            if self.telemetry is not None:
                closing.push_async_callback(self.telemetry.close)
            await self.tasks.stop(grace_s=STOP_GRACE_S)
            try:
                if self.sharing is None:
                    await self.flush_to_warehouse()
                else:
                    await self.server.sweep_all()
                    await self.run_etl()
            except (OSError, NotStoredError, StartupError) as error:
                log.error("sessions wait in their store for the next start", reason=str(error))


async def open_parts(
    settings: ServerSettings,
    *,
    clock_ms: Callable[[], int] = wall_clock_ms,
    new_id: Callable[[], str] = random_id,
    open_tables: Callable[[str, TableFormat], Tables] = WarehouseProcess.open,
) -> Parts:
    """Build an iserver: load the configuration, test the storage, and replay the journal.

    Args:
        open_tables: Opens the warehouse at a path or URL; by default in a process of its own.

    Raises:
        StartupError: It cannot be built; the text says why.
    """
    metrics = Metrics("iserver")
    plugins, telemetry = _plugins(settings, metrics), _telemetry(settings, metrics)
    async with AsyncExitStack() as opened:
        loader = Loader(
            _source(settings, watch_control_plane(metrics)),
            settings.fdl_files,
            environment_id=settings.environment,
            lenient=settings.lenient_config,
            adjust=lambda document: _adjusted(document, settings),
        )
        opened.push_async_callback(loader.close)
        try:
            configuration = await loader.load()
        except (UnreachableError, InvalidConfigurationError) as error:
            raise StartupError(str(error)) from error
        location = settings.warehouse or configuration.environment.warehouse_location
        if location is None and settings.sessions is not None:
            raise StartupError("--sessions needs a warehouse that all its servers write: give --warehouse")
        location = location or str(settings.data_dir / "warehouse")
        await asyncio.to_thread(open_place, location)
        streams, sharing = Streams(), None
        given = _Given(configuration, streams, partial(open_tables, location, settings.table_format), plugins)
        journal: Journal | RedisSessions
        if settings.sessions is None:
            journal, server, etl = await _alone(settings, given, clock_ms, new_id)
        else:
            sharing = await _together(settings, settings.sessions, given, clock_ms, new_id)
            journal, server, etl = sharing.sessions, sharing.server, sharing.etl
        opened.pop_all()
    synchroniser = Synchroniser(loader, server)
    measure(metrics, server, journal, etl, streams, synchroniser)
    uploading = watch_uploads(metrics)
    return Parts(
        server,
        _absolute(location),
        clock_ms,
        streams,
        journal,
        etl,
        loader,
        synchroniser,
        metrics,
        Supervisor(metrics.count_task_failure, expected=EXPECTED_FAILURES),
        plugins,
        uploading,
        sharing,
        telemetry,
    )


class _Given(NamedTuple):
    """What a server is built from, whether or not it shares its sessions."""

    configuration: Configuration
    streams: Streams
    open_warehouse: Callable[[], Tables]
    plugins: PluginRunner | None


async def _alone(
    settings: ServerSettings, given: _Given, clock_ms: Callable[[], int], new_id: Callable[[], str]
) -> tuple[Journal, ImpressionServer, Etl]:
    """A server with its sessions in a journal of its own, which is replayed."""
    journal = await Journal.open(
        settings.data_dir / "journal.sqlite",
        keeps_changes=settings.journal,
        segment_bytes=settings.journal_segment_bytes,
        accepts_loss=settings.accept_loss,
    )
    async with AsyncExitStack() as opened:
        opened.push_async_callback(journal.close)
        sessions = await journal.load()
        try:
            await journal.keep_definition(given.configuration.definition)
        except NotStoredError as error:
            raise StartupError(str(error)) from error
        opened.pop_all()
    server = ImpressionServer(
        given.configuration,
        journal,
        listeners=given.streams,
        clock_ms=clock_ms,
        new_id=new_id,
        turns=SessionTurns(),
        give_way=give_way,
        plugins=given.plugins,
        logs_sessions=not settings.nolog,
    )
    server.adopt(sessions)
    return journal, server, Etl(journal, given.open_warehouse, clock_ms=clock_ms, new_id=new_id)


async def _together(
    settings: ServerSettings, url: str, given: _Given, clock_ms: Callable[[], int], new_id: Callable[[], str]
) -> Sharing:
    """A server with its sessions in Redis, where others share them."""
    link = await Link.open(url)
    async with AsyncExitStack() as opened:
        opened.push_async_callback(link.close)
        try:
            await link.compare_clock(clock_ms)
            sessions = RedisSessions(link, settings.sessions_prefix, secrets.token_hex(8), clock_ms)
            await sessions.keep_definition(given.configuration.definition)
        except NotStoredError as error:
            raise StartupError(f"--sessions {link.shown}: {error}") from error
        listeners = SharedStreams(given.streams, sessions)
        server = SharedServer(
            given.configuration,
            sessions,
            listeners=listeners,
            clock_ms=clock_ms,
            new_id=new_id,
            turns=SessionTurns(),
            give_way=give_way,
            pause=pause,
            plugins=given.plugins,
            logs_sessions=not settings.nolog,
        )
        sessions.serve(server)
        await listeners.open()
        etl = SharedEtl(FinishedQueue(sessions, url), given.open_warehouse, clock_ms=clock_ms, new_id=new_id)
        opened.pop_all()
    return Sharing(sessions, server, etl, listeners)


def _plugins(settings: ServerSettings, metrics: Metrics) -> PluginRunner | None:
    if not settings.plugins:
        return None
    return PluginRunner(
        [load_plugin(name) for name in settings.plugins],
        timeout_ms=settings.plugin_timeout_ms,
        is_strict=settings.strict_plugins,
        observe=measure_plugins(metrics),
    )


def _telemetry(settings: ServerSettings, metrics: Metrics) -> Telemetry | None:
    if settings.otel is None:
        return None
    try:
        from iserver.telemetry.exporter import Telemetry
    except ImportError as error:
        raise StartupError("--otel needs the extra 'otel': pip install 'entrepot[otel]'") from error
    return Telemetry(settings.otel, metrics.registry)


def _source(settings: ServerSettings, watch: Watch) -> Source | None:
    if settings.config_file is not None:
        return FileSource(settings.config_file)
    if settings.config_server is not None and settings.environment is not None and settings.token is not None:
        cache = settings.data_dir / "config-cache.json"
        return ServerSource(settings.config_server, settings.environment, settings.token, cache, watch)
    return None


def _adjusted(document: Document, settings: ServerSettings) -> Document:
    """The document with what the command line overrides."""
    if settings.session_timeout_s is None:
        return document
    return replace(document, settings=replace(document.settings, session_timeout_s=settings.session_timeout_s))


def _absolute(location: str) -> str:
    return location if "://" in location else str(Path(location).absolute())
