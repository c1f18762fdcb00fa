"""The HTTP application of an iserver, with every route in one table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aiohttp import web

from iserver.components import Components, random_id
from iserver.configuration.sources import FileSource
from iserver.fdl import SourceFile
from iserver.handlers.admin import AdminHandlers
from iserver.handlers.client import ClientHandlers
from iserver.handlers.control_plane import ControlPlaneHandlers, Push
from iserver.handlers.middleware import error_answer, error_response, explain, normalise_paths
from iserver.handlers.ofrep import OfrepHandlers
from iserver.handlers.sse import EventStreamHandlers
from iserver.settings import MAX_BODY_BYTES, ServerSettings
from shared.http.app import Cors, apply_conventions, health_routes
from shared.http.fast_path import FastPath, FastRoute


@dataclass(frozen=True, slots=True)
class Http:
    """What an iserver answers HTTP with.

    Attributes:
        app: Every route; closing it closes the components.
        fast_path: Answers plain requests to the fast routes before the application.
    """

    app: web.Application
    fast_path: FastPath


def make_http(
    components: Components, settings: ServerSettings, *, is_draining: Callable[[], bool] = lambda: False
) -> Http:
    """The HTTP application of an iserver, and the fast path before it."""
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.router.add_routes(routes(components, settings, is_draining))
    keys = components.engine.configuration.definition.keys
    origins = frozenset(settings.cors_origins) or None
    cors = Cors(origins=origins, default_headers=("content-type", *(f"x-causal-{key.lower()}" for key in keys)))
    lifecycle = apply_conventions(
        app, error_response=error_response, cors=cors, metrics=components.metrics, explain=explain
    )
    app.middlewares.append(normalise_paths)

    async def on_shutdown(_app: web.Application) -> None:
        components.streams.close()

    async def on_cleanup(_app: web.Application) -> None:
        await components.close()

    app.on_shutdown.append(on_shutdown)
    app.on_cleanup.append(on_cleanup)
    fast = fast_routes(_visitors(components, is_draining), settings)
    return Http(app, FastPath(fast, lifecycle, error_answer=error_answer, cors_headers=cors.headers))


def fast_routes(visitors: ClientHandlers, settings: ServerSettings) -> list[FastRoute]:
    """What clients call most: answered on the fast path, and as a part of `routes`."""
    under = _under(settings)
    return [
        FastRoute(f"{under}/features", visitors.features),  # §3
        FastRoute(f"{under}/feature", visitors.features),  # §3, the vendor page's name
        FastRoute(f"{under}/signal", visitors.signal),  # §4
        FastRoute(f"{under}/external", visitors.external),  # §5
    ]


def routes(components: Components, settings: ServerSettings, is_draining: Callable[[], bool]) -> list[web.RouteDef]:
    """Every endpoint, in the order of the protocol (§2)."""
    visitors = _visitors(components, is_draining)
    devices = EventStreamHandlers(components.engine, components.streams)
    flags = OfrepHandlers(
        components.engine, new_id=random_id, clock_ms=components.clock_ms, max_body_bytes=MAX_BODY_BYTES
    )
    operators = AdminHandlers(
        components.synchroniser,
        components.flush_to_warehouse,
        token=settings.token,
        cmd_token=settings.cmd_token,
        max_body_bytes=MAX_BODY_BYTES,
    )
    under = _under(settings)
    table = [
        *(route.full(MAX_BODY_BYTES) for route in fast_routes(visitors, settings)),  # §3 to §5
        web.get(f"{under}/session", visitors.session),  # §6
        web.get(f"{under}/nsessions", visitors.session_count),  # §6
        web.get(f"{under}/sse", devices.events, allow_head=False),  # §8
        web.get(f"{under}/sync", operators.sync, allow_head=False),  # §9
        web.post(f"{under}/sync", operators.sync),  # §9
        web.post("/ofrep/v1/evaluate/flags", flags.flags),  # OpenFeature
        web.post("/ofrep/v1/evaluate/flags/{key}", flags.flag),  # OpenFeature
        web.get("/metrics", components.metrics.handler),  # §15
        *health_routes(lambda: ["draining"] if is_draining() else components.not_ready()),  # §6
    ]
    if settings.enable_cmd:
        table.append(web.post(f"{under}/cmd", operators.command))  # §7
    if settings.accept_fdl and settings.token is not None and settings.config_file is not None:
        compilers = ControlPlaneHandlers(
            components.engine,
            _push(components, FileSource(settings.config_file), settings),
            token=settings.token,
            location=components.location,
            max_body_bytes=MAX_BODY_BYTES,
        )
        table += [
            web.post("/api/graphql", compilers.graphql),  # §9.2
            web.post("/fdl-push", compilers.push_files),  # §9.2
            web.post("/fdlpush", compilers.push_text),  # §9.2, the older form
        ]
    return table


def _visitors(components: Components, is_draining: Callable[[], bool]) -> ClientHandlers:
    return ClientHandlers(components.engine, is_draining=is_draining)


def _under(settings: ServerSettings) -> str:
    return f"/{settings.prefix}" if settings.prefix else ""


def _push(components: Components, source: FileSource, settings: ServerSettings) -> Push:
    async def push(files: Sequence[SourceFile]) -> None:
        await source.replace_fdl(files, lenient=settings.lenient_config)
        await components.synchroniser.sync()

    return push
