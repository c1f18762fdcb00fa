"""The composition root: builds the parts of an iserver, wires them, and lists every route."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import structlog
from aiohttp import web

from iserver.configuration import Configuration
from iserver.document import Document
from iserver.fdl import SourceFile
from iserver.handlers.compilers import CompilerHandlers, Push
from iserver.handlers.devices import DeviceHandlers
from iserver.handlers.ofrep import OfrepHandlers
from iserver.handlers.operators import OperatorHandlers
from iserver.handlers.paths import forgive_paths
from iserver.handlers.refusals import error_answer, error_response, explain
from iserver.handlers.visitors import VisitorHandlers
from iserver.metrics import Watch, measure, measure_plugins, watch_control_plane, watch_uploads
from iserver.plugins import PluginRunner, SessionTurns, load_plugin
from iserver.refusals import InvalidConfigurationError, NotStoredError, UnreachableError
from iserver.server import ImpressionServer
from iserver.settings import MAX_BODY_BYTES, ServerSettings
from iserver.storage.etl import Etl
from iserver.storage.journal import Journal
from iserver.storage.places import open_place
from iserver.storage.redis_link import Link
from iserver.storage.redis_sessions import RedisSessions
from iserver.storage.sharing import Sharing
from iserver.storage.sources import FileSource, Loader, ServerSource, Source
from iserver.storage.tables import TableFormat, Tables
from iserver.storage.warehouse_process import WarehouseProcess
from iserver.streams import Streams
from iserver.synchronising import Synchroniser
from iserver.upkeep import give_way
from shared.errors import StartupError
from shared.http.app import Cors, apply_manners, health_routes
from shared.http.fast_path import ExpressLane
from shared.http.fast_routes import HotRoute
from shared.metrics import Metrics
from shared.tasks import Supervisor

if TYPE_CHECKING:
    from iserver.telemetry import Telemetry

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
            sharing = await Sharing.open(
                link,
                url,
                settings.sessions_prefix,
                given.configuration,
                given.streams,
                given.open_warehouse,
                clock_ms=clock_ms,
                new_id=new_id,
                plugins=given.plugins,
                logs_sessions=not settings.nolog,
            )
        except NotStoredError as error:
            raise StartupError(f"--sessions {link.shown}: {error}") from error
        opened.pop_all()
    return sharing


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
        from iserver.telemetry import Telemetry
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


# --- HTTP -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Http:
    """What an iserver answers HTTP with.

    Attributes:
        app: Every route; closing it closes the parts.
        express: The hot routes again, without the cost of a framework.
    """

    app: web.Application
    express: ExpressLane


def make_http(parts: Parts, settings: ServerSettings, *, is_draining: Callable[[], bool] = lambda: False) -> Http:
    """The HTTP application of an iserver, and the express lane beside it."""
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.router.add_routes(routes(parts, settings, is_draining))
    keys = parts.server.configuration.definition.keys
    origins = frozenset(settings.cors_origins) or None
    cors = Cors(origins=origins, default_headers=("content-type", *(f"x-causal-{key.lower()}" for key in keys)))
    manners = apply_manners(app, error_response=error_response, cors=cors, metrics=parts.metrics, explain=explain)
    app.middlewares.append(forgive_paths)

    async def on_shutdown(_app: web.Application) -> None:
        parts.streams.close()

    async def on_cleanup(_app: web.Application) -> None:
        await parts.close()

    app.on_shutdown.append(on_shutdown)
    app.on_cleanup.append(on_cleanup)
    hot = hot_routes(_visitors(parts, is_draining), settings)
    lane = ExpressLane(
        hot, manners, error_answer=lambda problem, _headers: error_answer(problem), cors_headers=cors.headers
    )
    return Http(app, lane)


def hot_routes(visitors: VisitorHandlers, settings: ServerSettings) -> list[HotRoute]:
    """What clients call all the time: answered in the express lane, and as a part of `routes`."""
    under = _under(settings)
    return [
        HotRoute(f"{under}/features", visitors.features),  # §3
        HotRoute(f"{under}/feature", visitors.features),  # §3, the vendor page's name
        HotRoute(f"{under}/signal", visitors.signal),  # §4
        HotRoute(f"{under}/external", visitors.external),  # §5
    ]


def routes(parts: Parts, settings: ServerSettings, is_draining: Callable[[], bool]) -> list[web.RouteDef]:
    """Every endpoint, in the order of the specification (§2)."""
    visitors = _visitors(parts, is_draining)
    devices = DeviceHandlers(parts.server, parts.streams)
    flags = OfrepHandlers(parts.server, new_id=random_id, clock_ms=parts.clock_ms, max_body_bytes=MAX_BODY_BYTES)
    operators = OperatorHandlers(
        parts.synchroniser,
        parts.flush_to_warehouse,
        token=settings.token,
        cmd_token=settings.cmd_token,
        max_body_bytes=MAX_BODY_BYTES,
    )
    under = _under(settings)
    table = [
        *(route.full(MAX_BODY_BYTES) for route in hot_routes(visitors, settings)),  # §3 to §5
        web.get(f"{under}/session", visitors.session),  # §6
        web.get(f"{under}/nsessions", visitors.session_count),  # §6
        web.get(f"{under}/sse", devices.events, allow_head=False),  # §8
        web.get(f"{under}/sync", operators.sync, allow_head=False),  # §9
        web.post(f"{under}/sync", operators.sync),  # §9
        web.post("/ofrep/v1/evaluate/flags", flags.flags),  # OpenFeature
        web.post("/ofrep/v1/evaluate/flags/{key}", flags.flag),  # OpenFeature
        web.get("/metrics", parts.metrics.handler),  # §15
        *health_routes(lambda: ["draining"] if is_draining() else parts.not_ready()),  # §6
    ]
    if settings.enable_cmd:
        table.append(web.post(f"{under}/cmd", operators.command))  # §7
    if settings.accept_fdl and settings.token is not None and settings.config_file is not None:
        compilers = CompilerHandlers(
            parts.server,
            _push(parts, FileSource(settings.config_file), settings),
            token=settings.token,
            location=parts.location,
            max_body_bytes=MAX_BODY_BYTES,
        )
        table += [
            web.post("/api/graphql", compilers.graphql),  # §9.2
            web.post("/fdl-push", compilers.push_files),  # §9.2
            web.post("/fdlpush", compilers.push_text),  # §9.2, the older form
        ]
    return table


def _visitors(parts: Parts, is_draining: Callable[[], bool]) -> VisitorHandlers:
    return VisitorHandlers(parts.server, is_draining=is_draining)


def _under(settings: ServerSettings) -> str:
    return f"/{settings.prefix}" if settings.prefix else ""


def _push(parts: Parts, source: FileSource, settings: ServerSettings) -> Push:
    async def push(files: Sequence[SourceFile]) -> None:
        await source.replace_fdl(files, lenient=settings.lenient_config)
        await parts.synchroniser.sync()

    return push
