"""Puts the catalog server together, and lists every route."""

from __future__ import annotations

import asyncio
import importlib
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence

import structlog
from aiohttp import web

from intake_server.auth.authorizer import Authorizer
from intake_server.auth.plugins import Plugin
from intake_server.concurrency.backpressure import InFlight
from intake_server.concurrency.cache import LruCache
from intake_server.concurrency.thread_pool import Busy, ThreadPool, TookTooLong, not_now
from intake_server.drivers import third_party
from intake_server.drivers.base import Partition
from intake_server.drivers.registry import DriverRegistry
from intake_server.handlers.catalog_api import CatalogApi
from intake_server.handlers.data import DataHandlers
from intake_server.handlers.listing import ListingHandlers
from intake_server.handlers.messages import error_responses
from intake_server.handlers.pages import PageHandlers
from intake_server.handlers.source import SourceHandlers
from intake_server.handlers.url_paths import UrlPaths
from intake_server.serialization.negotiation import Policy, WireFormat
from intake_server.serialization.parts import Parts
from intake_server.serving.catalogs import Catalogs
from intake_server.serving.contents import Contents
from intake_server.serving.files import UnreadableCatalog
from intake_server.serving.loading import CatalogLoader
from intake_server.serving.resolver import Resolver
from intake_server.serving.searches import Searches
from intake_server.serving.watch import watch
from intake_server.settings import Settings
from intake_server.sources.dask_reads import DaskReads
from intake_server.sources.export_files import ExportFiles
from intake_server.sources.exports import Exports
from intake_server.sources.pool import OpenSource, SourcePool
from intake_server.sources.reads import ReadAndEncode, Reads, read_here
from intake_server.sources.registry import SourceRegistry
from intake_server.sources.store import SourceStore, read_key
from shared.errors import StartupError
from shared.http.app import apply_conventions, health_routes
from shared.metrics import Metrics
from shared.tasks import Supervisor

log = structlog.get_logger("intake_server")
EXPECTED_FAILURES = (OSError, UnreadableCatalog, Busy, TookTooLong)
"""What background tasks may meet without there being a bug."""

_SWEEP_S = 10.0
_READ_NICENESS = 5
"""Reads use all processors there are; the event loop goes first. The benchmark's part ``during`` measures it: without,
a listing beside 8 clients that read CSV takes 31 to 51 ms at its 99th percentile instead of 9 to 23 ms."""


class CatalogServer:
    """The parts of one running server.

    Args:
        settings: The operator's settings.
        plugin: Who may do what.
        key: The secret that source ids are made with; None takes the stored one, or makes one up for this process.

    Raises:
        StartupError: Source ids are to be stored, and their key cannot be read or written.
    """

    def __init__(self, settings: Settings, plugin: Plugin, key: bytes | None = None) -> None:
        self.settings = settings
        self.metrics = Metrics("intake_server")
        self.tasks = Supervisor(self.metrics.count_task_failure, expected=EXPECTED_FAILURES)
        self.open_threads = _threads("intake-open", settings.open_threads, settings)
        self.read_threads = _threads("intake-read", settings.threads, settings, _READ_NICENESS)
        self.export_threads = _threads("intake-export", settings.threads, settings, _READ_NICENESS)
        self.drivers = DriverRegistry(third_party.find)
        self.authorizer = Authorizer(plugin, self.open_threads, hide_denied=settings.hide_denied)
        self.store: SourceStore | None = None
        if settings.ids_folder is not None:
            self.store = SourceStore(settings.ids_folder, most=settings.max_ids, idle_s=settings.id_idle_s)
            key = key or read_key(settings.ids_folder)
        self.source_ids = SourceRegistry(
            key or secrets.token_bytes(32), most=settings.max_ids, idle_s=settings.id_idle_s, store=self.store
        )
        self.loader = CatalogLoader(settings, self.drivers, self.open_threads, self._import_modules)
        self.contents = Contents(self.drivers, self.open_threads, self.authorizer, show_arguments=settings.show_args)
        self.resolver = Resolver(settings, self.open_threads)
        self.catalogs = Catalogs(
            self.loader,
            self.contents,
            self.resolver,
            Searches(self.contents, self.open_threads, settings.ttl_s),
            self.source_ids,
            self.authorizer,
            self.store,
        )
        self.sources = SourcePool(
            self.drivers,
            self.open_threads,
            self.source_ids,
            idle_s=settings.idle_s,
            timeout_s=settings.open_timeout_s,
        )
        self.in_flight = InFlight(settings.memory_bytes, most_large=max(2, 2 * settings.threads - 1))
        self.reads = Reads(
            self.read_threads,
            self.open_threads,
            LruCache(
                most_bytes=settings.cache_bytes,
                largest=settings.cache_bytes // 2,
                idle_s=settings.idle_s,
                clock=time.monotonic,
            ),
            self.in_flight,
            read_and_encode=self._read_and_encode,
            timeout_s=settings.read_timeout_s,
        )
        self.exports = Exports(
            self.export_threads,
            ExportFiles(settings.export_bytes, settings.idle_s),
            self.in_flight,
            timeout_s=settings.read_timeout_s,
        )
        self._reader: ReadAndEncode = read_here(stringify=settings.stringify, limit=settings.max_partition)
        self._dask: DaskReads | None = None
        self._register_metrics()

    def _register_metrics(self) -> None:
        """Export what the parts know of themselves; read only when somebody asks."""
        cache, opens, reads = self.reads.cache, self.open_threads, self.read_threads
        numbers: dict[str, tuple[str, Callable[[], float]]] = {
            "open_sources": ("Sources that are open", lambda: len(self.sources)),
            "source_ids": ("Source ids that are remembered", lambda: len(self.source_ids)),
            "cache_bytes": ("Encoded partitions kept in memory", lambda: cache.size),
            "cache_hits": ("Reads answered from the cache so far", lambda: cache.hits),
            "cache_misses": ("Reads not answered from the cache so far", lambda: cache.misses),
            "sending_bytes": ("Answers that are being sent", lambda: self.in_flight.size),
            "reads_running": ("Reads under way", lambda: reads.running),
            "reads_waiting": ("Reads that wait for a thread", lambda: reads.waiting),
            "opens_running": ("Opens and catalog loads under way", lambda: opens.running),
            "opens_waiting": ("Opens and catalog loads that wait for a thread", lambda: opens.waiting),
            "threads_given_up": ("Threads that hang in a source", lambda: reads.abandoned + opens.abandoned),
            "entries": ("Entries of the published catalog", self.loader.entry_count),
            "catalog_problems": (
                "Catalogs that cannot be read as they are now",
                lambda: len(list(self.loader.problems())),
            ),
        }
        for name, (text, read) in numbers.items():
            self.metrics.gauge(name, text).set_function(read)

    def _read_and_encode(self, opened: OpenSource, partition: Partition | None, form: WireFormat) -> Parts:
        return self._reader(opened, partition, form)

    def _join_cluster(self, address: str) -> None:
        self._dask = DaskReads(address, stringify=self.settings.stringify, limit=self.settings.max_partition)
        self._reader = self._dask.read

    def _import_modules(self, modules: Sequence[str]) -> None:
        """Import the driver modules that a catalog file names (§9.1); one that fails is a warning."""
        for name in modules:
            try:
                module = importlib.import_module(name)
                for info, driver in third_party.find_all(module):
                    self.drivers.add(info, driver)
            except Exception as error:  # noqa: BLE001 - foreign code named by the catalog; the rest still works
                log.warning("a driver module of the catalog cannot be imported", module=name, reason=repr(error))

    async def start(self) -> None:
        """Read the catalog for the first time.

        Raises:
            StartupError: It cannot be read.
        """
        if self.store is not None:
            await self.store.open()
        if (scheduler := self.settings.scheduler) is not None:
            await self.open_threads.run(lambda: self._join_cluster(scheduler))
            log.info("reads run on a dask cluster", scheduler=scheduler)
        has_intake = await self.open_threads.run(third_party.warm_up)
        log.debug("drivers of other packages", intake=has_intake)
        try:
            state = await self.loader.root.refresh()
        except UnreadableCatalog as error:
            raise StartupError(str(error)) from error
        log.info("serving", catalog=" ".join(self.settings.catalogs), entries=len(state.catalog))
        if self.settings.list_entries:
            for name in state.catalog.entries:
                log.info("entry", name=name)

    async def reload(self) -> None:
        """Refresh the root catalog now."""
        await self.loader.root.refresh()

    async def sweep(self) -> None:
        """Close idle sources and drop idle partitions."""
        self.sources.sweep()
        self.reads.cache.sweep()
        self.source_ids.sweep()
        self.exports.files.cache.sweep()

    async def follow(self) -> None:
        """Refresh the root catalog whenever one of its files changes."""
        root = self.loader.root
        await watch(self.loader.location, lambda: self.tasks.attempt("catalog refresh", root.refresh))

    async def close(self) -> None:
        """Close sources and let the threads end."""
        self.source_ids.sweep()
        if self.store is not None:
            await self.store.close()
        self.sources.close()
        if self._dask is not None:
            await asyncio.to_thread(self._dask.close)
        self.exports.files.cache.clear()
        self.open_threads.close()
        self.read_threads.close()
        self.export_threads.close()

    def not_ready(self) -> list[str]:
        """Why it cannot serve now; empty once the catalog could be read."""
        if self.loader.root.last_good is None:
            return ["the catalog could not be read yet"]
        return self.tasks.not_ready()


def routes(
    listing: ListingHandlers, source: SourceHandlers, api: CatalogApi, data: DataHandlers, server: CatalogServer
) -> list[web.RouteDef]:
    """Every endpoint of the catalog server."""
    pages = PageHandlers()
    return [
        web.get("/v1/info", listing.info, allow_head=False),  # §3.1
        web.get("/v1/source", listing.source, allow_head=False),  # §3.2
        web.post("/v1/source", source.post),  # §3.3 to §3.5
        web.get("/data/{entry:.+}", data.data),  # data over plain HTTP
        web.get("/catalog.yml", api.file),  # the catalog as a file
        web.get("/api/catalog", api.catalog),  # the JSON API
        web.get("/api/catalog/{catalog:.*}", api.catalog),
        web.get("/api/entry/{entry:.+}", api.entry),
        web.get("/api/openapi.json", pages.openapi),
        web.get("/api/docs", pages.docs),
        web.get("/api/docs/{file:[^/]+}", pages.docs),
        web.get("/", pages.root),  # pages for people
        web.get("/browse", pages.without_slash),
        web.get("/browse/{file:[^/]*}", pages.browse),
        web.get("/metrics", server.metrics.handler),
        *health_routes(server.not_ready),
    ]


def make_app(server: CatalogServer, prefix: str = "") -> web.Application:
    """The HTTP application of a server under a URL prefix; starting and closing it starts and closes the server."""
    settings = server.settings
    catalogs, contents, authorizer = server.catalogs, server.contents, server.authorizer
    listing = ListingHandlers(catalogs, contents, authorizer)
    source = SourceHandlers(
        catalogs,
        contents,
        server.sources,
        server.reads,
        authorizer,
        policy=Policy(settings.pickle, settings.prefer_compression, settings.datasets_as),
        max_body=settings.max_body,
        send_timeout_s=settings.send_timeout_s,
        drivers=server.drivers.infos,
    )
    paths = UrlPaths(catalogs, contents, server.sources, authorizer)
    api = CatalogApi(paths, catalogs, contents)
    data = DataHandlers(paths, server.exports, send_timeout_s=settings.send_timeout_s)
    app = web.Application(client_max_size=settings.max_body + 1)
    under = f"/{prefix}" if prefix else ""
    apply_conventions(app, error_response=error_responses(f"{under}/v1/"), metrics=server.metrics, explain=not_now)
    table = routes(listing, source, api, data, server)
    app.add_routes([_under(prefix, route) for route in table] if prefix else table)
    app.cleanup_ctx.append(_life_of(server))
    return app


def _threads(name: str, count: int, settings: Settings, niceness: int = 0) -> ThreadPool:
    """Threads of which one source can take half."""
    return ThreadPool(name, count, settings.queue, max(1, count // 2), niceness=niceness)


def _under(prefix: str, route: web.RouteDef) -> web.RouteDef:
    return web.RouteDef(route.method, f"/{prefix}{route.path}", route.handler, route.kwargs)


def _life_of(server: CatalogServer) -> Callable[[web.Application], AsyncIterator[None]]:
    async def life(_app: web.Application) -> AsyncIterator[None]:
        await server.start()
        server.tasks.periodic("expiry of sources", _SWEEP_S, server.sweep)
        if server.settings.watch:
            server.tasks.loop("watch of catalog files", server.follow, is_critical=False)
        yield
        await server.tasks.stop()
        await server.close()

    return life
