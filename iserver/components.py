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
from typing import TYPE_CHECKING

import structlog

from iserver.configuration.compiled import Configuration
from iserver.configuration.sources import FileSource, Loader, ServerSource, Source
from iserver.configuration.sync import Synchroniser
from iserver.document import Document
from iserver.engine.engine import Engine
from iserver.engine.interfaces import EngineEnvironment
from iserver.engine.shared_engine import SharedEngine
from iserver.errors import InvalidConfigurationError, NotStoredError, UnreachableError
from iserver.etl.etl import Etl
from iserver.etl.filesystems import open_filesystem
from iserver.etl.interface import WarehouseWriter
from iserver.etl.writer_process import WarehouseProcess
from iserver.handlers.sse import EventStreams
from iserver.plugins.runner import AsyncSessionLocks, PluginRunner, load_plugin
from iserver.settings import ServerSettings, TableFormat
from iserver.storage.journal import Journal
from iserver.storage.redis.cache_flushes import SharedDeviceListeners
from iserver.storage.redis.client import RedisClient
from iserver.storage.redis.finished_queue import RedisFinishedQueue, SharedEtl
from iserver.storage.redis.sessions import RedisSessions, back_off
from iserver.telemetry.metrics import Timer, register_metrics, register_plugin_metrics, time_control_plane, time_uploads
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


async def yield_to_event_loop() -> None:
    """Yield to the event loop."""
    await asyncio.sleep(0)


@dataclass(frozen=True, slots=True)
class SharedComponents:
    """What a server has besides that shares its sessions with others.

    Attributes:
        sessions: The sessions in Redis.
        engine: The engine.
        etl: Writes what any of the servers has finished.
        listeners: The devices that are connected to any of the servers.
    """

    sessions: RedisSessions
    engine: SharedEngine
    etl: SharedEtl
    listeners: SharedDeviceListeners

    async def adopt_orphans(self) -> None:
        """Take over sessions whose server has died."""
        await self.sessions.poll()
        await self.engine.adopt_overdue()

    async def close(self) -> None:
        """Disconnect. The sessions stay in Redis, for the others."""
        await self.listeners.close()
        await self.sessions.close()


@dataclass(frozen=True, slots=True)
class Components:
    """An iserver that is ready to serve.

    Attributes:
        location: URL or absolute path of the warehouse.
    """

    engine: Engine
    location: str
    clock_ms: Callable[[], int]
    streams: EventStreams
    store: Journal | RedisSessions
    etl: Etl
    loader: Loader
    synchroniser: Synchroniser
    metrics: Metrics
    tasks: Supervisor
    plugins: PluginRunner | None
    time_upload: Timer
    shared: SharedComponents | None = None
    telemetry: Telemetry | None = None

    def not_ready(self) -> list[str]:
        """The reasons why visitors cannot be served."""
        is_failing = isinstance(self.store, Journal) and not self.store.is_writable
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
        await self.engine.retire_all()
        if self.shared is not None:
            with self.time_upload():
                await self.shared.etl.run_all(self.engine.configuration)
        else:
            await self.run_etl()
        return self.etl.sessions - before

    async def run_etl(self) -> int:
        """Write all that is finished."""
        with self.time_upload():
            return await self.etl.run(self.engine.configuration)

    async def close(self) -> None:
        """Retire every session unless others share it, write what is finished, and close everything (§11.6)."""
        async with AsyncExitStack() as closing:  # in reverse; one that fails does not prevent the others from closing
            closing.push_async_callback(self.loader.close)
            closing.push_async_callback((self.store if self.shared is None else self.shared).close)
            if self.plugins is not None:
                closing.push_async_callback(self.plugins.close)
            closing.push_async_callback(self.etl.close)
            if self.telemetry is not None:
                closing.push_async_callback(self.telemetry.close)
            await self.tasks.stop(grace_s=STOP_GRACE_S)
            try:
                if self.shared is None:
                    await self.flush_to_warehouse()
                else:
                    await self.engine.sweep_all()
                    await self.run_etl()
            except (OSError, NotStoredError, StartupError) as error:
                log.error("finished sessions stay in their store until the next start", reason=str(error))


async def open_components(
    settings: ServerSettings,
    *,
    clock_ms: Callable[[], int] = wall_clock_ms,
    new_id: Callable[[], str] = random_id,
    open_warehouse: Callable[[str, TableFormat], WarehouseWriter] = WarehouseProcess.open,
) -> Components:
    """Build an iserver: load the configuration, test the storage, and replay the journal.

    Args:
        open_warehouse: Opens the warehouse at a path or URL; by default in a process of its own.

    Raises:
        StartupError: It cannot be built; the text says why.
    """
    metrics = Metrics("iserver")
    plugins, telemetry = _plugins(settings, metrics), _telemetry(settings, metrics)
    async with AsyncExitStack() as opened:
        loader = Loader(
            _source(settings, time_control_plane(metrics)),
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
        await asyncio.to_thread(open_filesystem, location)
        streams = EventStreams()
        environment = EngineEnvironment(
            listeners=streams,
            clock_ms=clock_ms,
            new_id=new_id,
            locks=AsyncSessionLocks(),
            yield_to_event_loop=yield_to_event_loop,
            plugins=plugins,
            logs_sessions=not settings.nolog,
        )
        open_writer = partial(open_warehouse, location, settings.table_format)
        shared: SharedComponents | None = None
        store: Journal | RedisSessions
        if settings.sessions is None:
            store, engine, etl = await _open_alone(settings, configuration, environment, open_writer)
        else:
            shared = await _open_shared(settings, settings.sessions, configuration, environment, open_writer)
            store, engine, etl = shared.sessions, shared.engine, shared.etl
        opened.pop_all()
    synchroniser = Synchroniser(loader, engine)
    register_metrics(metrics, engine, store, etl, streams, synchroniser)
    return Components(
        engine=engine,
        location=_absolute(location),
        clock_ms=clock_ms,
        streams=streams,
        store=store,
        etl=etl,
        loader=loader,
        synchroniser=synchroniser,
        metrics=metrics,
        tasks=Supervisor(metrics.count_task_failure, expected=EXPECTED_FAILURES),
        plugins=plugins,
        time_upload=time_uploads(metrics),
        shared=shared,
        telemetry=telemetry,
    )


async def _open_alone(
    settings: ServerSettings,
    configuration: Configuration,
    environment: EngineEnvironment,
    open_warehouse: Callable[[], WarehouseWriter],
) -> tuple[Journal, Engine, Etl]:
    """An engine with its sessions in a journal of its own, which is replayed."""
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
            await journal.store_definition(configuration.definition)
        except NotStoredError as error:
            raise StartupError(str(error)) from error
        opened.pop_all()
    engine = Engine(configuration, journal, environment)
    engine.adopt(sessions)
    return journal, engine, Etl(journal, open_warehouse, clock_ms=environment.clock_ms, new_id=environment.new_id)


async def _open_shared(
    settings: ServerSettings,
    url: str,
    configuration: Configuration,
    environment: EngineEnvironment,
    open_warehouse: Callable[[], WarehouseWriter],
) -> SharedComponents:
    """An engine with its sessions in Redis, where others share them."""
    client = await RedisClient.open(url)
    async with AsyncExitStack() as opened:
        opened.push_async_callback(client.close)
        try:
            await client.compare_clock(environment.clock_ms)
            sessions = RedisSessions(client, settings.sessions_prefix, secrets.token_hex(8), environment.clock_ms)
            await sessions.store_definition(configuration.definition)
        except NotStoredError as error:
            raise StartupError(f"--sessions {client.shown}: {error}") from error
        listeners = SharedDeviceListeners(environment.listeners, sessions)
        engine = SharedEngine(configuration, sessions, replace(environment, listeners=listeners), back_off=back_off)
        sessions.serve(engine)
        await listeners.open()
        queue = RedisFinishedQueue(sessions, url)
        etl = SharedEtl(queue, open_warehouse, clock_ms=environment.clock_ms, new_id=environment.new_id)
        opened.pop_all()
    return SharedComponents(sessions, engine, etl, listeners)


def _plugins(settings: ServerSettings, metrics: Metrics) -> PluginRunner | None:
    if not settings.plugins:
        return None
    return PluginRunner(
        [load_plugin(name) for name in settings.plugins],
        timeout_ms=settings.plugin_timeout_ms,
        is_strict=settings.strict_plugins,
        observe=register_plugin_metrics(metrics),
    )


def _telemetry(settings: ServerSettings, metrics: Metrics) -> Telemetry | None:
    if settings.otel is None:
        return None
    try:
        from iserver.telemetry.exporter import Telemetry
    except ImportError as error:
        raise StartupError("--otel needs the extra 'otel': pip install 'entrepot[otel]'") from error
    return Telemetry(settings.otel, metrics.registry)


def _source(settings: ServerSettings, watch: Timer) -> Source | None:
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
