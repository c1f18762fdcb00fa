"""Puts the catalog server together, and lists every route."""

from __future__ import annotations

import asyncio
import importlib
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence

import structlog
from aiohttp import web

from intake_server.auth.authorizer import Guard
from intake_server.auth.plugins import Plugin
from intake_server.concurrency.backpressure import InFlight
from intake_server.concurrency.cache import LatelyUsed
from intake_server.concurrency.thread_pool import Busy, TookTooLong, Workers, not_now
from intake_server.drivers import third_party
from intake_server.drivers.base import Partition
from intake_server.drivers.registry import Registry
from intake_server.handlers.catalog_api import CatalogApi
from intake_server.handlers.data import DataHandlers
from intake_server.handlers.listing import ListingHandlers
from intake_server.handlers.messages import error_responses
from intake_server.handlers.pages import PageHandlers
from intake_server.handlers.source import SourceHandlers
from intake_server.handlers.url_paths import Addresses
from intake_server.serialization.negotiation import Form, Policy
from intake_server.serialization.parts import Parts
from intake_server.serving.catalogs import Catalogs
from intake_server.serving.files import UnreadableCatalog
from intake_server.serving.watch import watch
from intake_server.settings import Settings
from intake_server.sources.dask_reads import DaskReads
from intake_server.sources.export_files import ExportFiles
from intake_server.sources.exports import Exports
from intake_server.sources.pool import OpenSource, Sources
from intake_server.sources.reads import ReadAndEncode, Reads, read_here
from intake_server.sources.registry import RecipeBook
from intake_server.sources.store import RecipeShelf, read_key
from shared.errors import StartupError
from shared.http.app import apply_conventions, health_routes
from shared.metrics import Metrics
from shared.tasks import Supervisor

log = structlog.get_logger("intake_server")
EXPECTED_FAILURES = (OSError, UnreadableCatalog, Busy, TookTooLong)
"""What background tasks may meet without there being a bug."""

_SWEEP_S = 10.0
_READ_NICENESS = 5
"""Reads use all processors there are; the event loop, which answers everybody, goes before them."""


class CatalogServer:
    """The parts of one running server.

    Args:
        settings: The operator's settings.
        plugin: Who may do what.
        key: The secret that source ids are made with; None takes the kept one, or makes one up for this process.

    Raises:
        StartupError: Source ids are to be kept, and their key cannot be read or written.
    """

    def __init__(self, settings: Settings, plugin: Plugin, key: bytes | None = None) -> None:
        self.settings = settings
        self.metrics = Metrics("intake_server")
        self.tasks = Supervisor(self.metrics.count_task_failure, expected=EXPECTED_FAILURES)
        self.quick = Workers("intake-open", settings.open_threads, settings.queue, max(1, settings.open_threads // 2))
        share = max(1, settings.threads // 2)
        self.readers = Workers("intake-read", settings.threads, settings.queue, share, niceness=_READ_NICENESS)
        self.registry = Registry(third_party.find)
        self.guard = Guard(plugin, self.quick, hide_denied=settings.hide_denied)
        self.shelf: RecipeShelf | None = None
        if settings.ids_folder is not None:
            self.shelf = RecipeShelf(settings.ids_folder, most=settings.max_recipes, idle_s=settings.recipe_idle_s)
            key = key or read_key(settings.ids_folder)
        self.book = RecipeBook(
            key or secrets.token_bytes(32), most=settings.max_recipes, idle_s=settings.recipe_idle_s, shelf=self.shelf
        )
        self.catalogs = Catalogs(
            settings, self.registry, self.quick, self.book, self.guard, self._import_modules, self.shelf
        )
        self.sources = Sources(
            self.registry, self.quick, self.book, idle_s=settings.idle_s, timeout_s=settings.open_timeout_s
        )
        self.reads = Reads(
            self.readers,
            self.quick,
            LatelyUsed(settings.cache_bytes, settings.cache_bytes // 2, settings.idle_s, time.monotonic),
            InFlight(settings.memory_bytes, most_large=max(2, 2 * settings.threads - 1)),
            read_and_encode=self._read_and_encode,
            timeout_s=settings.read_timeout_s,
        )
        self._reader: ReadAndEncode = read_here(stringify=settings.stringify, limit=settings.max_partition)
        self._dask: DaskReads | None = None
        self._measure()
        self.exporters = Workers("intake-export", settings.threads, settings.queue, share, niceness=_READ_NICENESS)
        self.exports = Exports(
            self.exporters,
            ExportFiles(settings.export_bytes, settings.idle_s),
            self.reads.in_flight,
            timeout_s=settings.read_timeout_s,
        )

    def _measure(self) -> None:
        """Export what the parts know of themselves; read only when somebody asks."""
        cache, catalogs = self.reads.cache, self.catalogs
        numbers: dict[str, tuple[str, Callable[[], float]]] = {
            "open_sources": ("Sources that are open", lambda: len(self.sources)),
            "source_ids": ("Source ids that are remembered", lambda: len(self.book)),
            "cache_bytes": ("Encoded partitions kept in memory", lambda: cache.size),
            "cache_hits": ("Reads answered from the cache so far", lambda: cache.hits),
            "cache_misses": ("Reads not answered from the cache so far", lambda: cache.misses),
            "sending_bytes": ("Answers that are being sent", lambda: self.reads.in_flight.size),
            "reads_running": ("Reads under way", lambda: self.readers.running),
            "reads_waiting": ("Reads that wait for a thread", lambda: self.readers.waiting),
            "opens_running": ("Opens and catalog loads under way", lambda: self.quick.running),
            "opens_waiting": ("Opens and catalog loads that wait for a thread", lambda: self.quick.waiting),
            "threads_given_up": ("Threads that hang in a source", lambda: self.readers.lost + self.quick.lost),
            "entries": ("Entries of the published catalog", catalogs.entry_count),
            "catalog_problems": (
                "Catalogs that cannot be read as they are now",
                lambda: len(list(catalogs.problems())),
            ),
        }
        for name, (text, read) in numbers.items():
            self.metrics.gauge(name, text).set_function(read)

    def _read_and_encode(self, opened: OpenSource, partition: Partition | None, form: Form) -> Parts:
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
                    self.registry.add(info, driver)
            except Exception as error:  # noqa: BLE001 - foreign code named by the catalog; the rest still works
                log.warning("a driver module of the catalog cannot be imported", module=name, reason=repr(error))

    async def start(self) -> None:
        """Read the catalog for the first time.

        Raises:
            StartupError: It cannot be read.
        """
        if self.shelf is not None:
            await self.shelf.open()
        if (scheduler := self.settings.scheduler) is not None:
            await self.quick.run(lambda: self._join_cluster(scheduler))
            log.info("reads run on a dask cluster", scheduler=scheduler)
        has_intake = await self.quick.run(third_party.warm_up)
        log.debug("drivers of other packages", intake=has_intake)
        try:
            state = await self.catalogs.root_catalog.look()
        except UnreadableCatalog as error:
            raise StartupError(str(error)) from error
        log.info("serving", catalog=" ".join(self.settings.catalogs), entries=len(state.catalog))
        if self.settings.list_entries:
            for name in state.catalog.entries:
                log.info("entry", name=name)

    async def reload(self) -> None:
        """Look at the root catalog's files now."""
        await self.catalogs.root_catalog.look()

    async def sweep(self) -> None:
        """Close idle sources and drop idle partitions."""
        self.sources.sweep()
        self.reads.cache.sweep()
        self.book.sweep()
        self.exports.files.kept.sweep()

    async def follow(self) -> None:
        """Look at the root catalog's files whenever one of them changes."""
        root = self.catalogs.root_catalog
        await watch(self.catalogs.place, lambda: self.tasks.attempt("catalog refresh", root.look))

    async def close(self) -> None:
        """Close sources and let the threads end."""
        self.book.sweep()
        if self.shelf is not None:
            await self.shelf.close()
        self.sources.close()
        if self._dask is not None:
            await asyncio.to_thread(self._dask.close)
        self.exports.files.kept.clear()
        self.reads.in_flight.close()
        self.quick.close()
        self.readers.close()
        self.exporters.close()

    def not_ready(self) -> list[str]:
        """Why it cannot serve now; empty once the catalog could be read."""
        if self.catalogs.root_catalog.last_good is None:
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


def make_http(server: CatalogServer, prefix: str = "") -> web.Application:
    """The HTTP application of a server under a URL prefix; starting and closing it starts and closes the server."""
    settings = server.settings
    listing = ListingHandlers(server.catalogs, server.guard)
    source = SourceHandlers(
        server.catalogs,
        server.sources,
        server.reads,
        server.guard,
        policy=Policy(settings.pickle, settings.prefer_compression, settings.datasets_as),
        max_body=settings.max_body,
        send_timeout_s=settings.send_timeout_s,
        infos=server.registry.infos,
    )
    addresses = Addresses(server.catalogs, server.sources, server.guard)
    api = CatalogApi(addresses, server.catalogs)
    data = DataHandlers(addresses, server.exports, send_timeout_s=settings.send_timeout_s)
    app = web.Application(client_max_size=settings.max_body + 1)
    under = f"/{prefix}" if prefix else ""
    apply_conventions(app, error_response=error_responses(f"{under}/v1/"), metrics=server.metrics, explain=not_now)
    table = routes(listing, source, api, data, server)
    app.add_routes([_under(prefix, route) for route in table] if prefix else table)
    app.cleanup_ctx.append(_life_of(server))
    return app


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
