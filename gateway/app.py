"""The composition root: builds the parts of a gateway, wires them, and lists every route."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.cluster.redis_bus import BusOptions, RedisBus
from gateway.config.declared import Declared
from gateway.config.models import ApiKeySection
from gateway.engine.channels import Channel, ChannelSpec
from gateway.handlers.context import Gateway, build_gateway
from gateway.handlers.controls import ControlHandlers, MonitoringHandlers
from gateway.handlers.documents import ASSETS, DocumentHandlers
from gateway.handlers.listings import ListingHandlers
from gateway.handlers.middleware import AccessMiddleware, SlashRedirects
from gateway.handlers.outputs import OutputHandlers
from gateway.handlers.read import ReadHandlers
from gateway.handlers.responses import error_answer, not_found
from gateway.handlers.send import SendHandlers
from gateway.handlers.sse import SseHandler
from gateway.handlers.stage import StageHandlers
from gateway.handlers.state import StateHandlers
from gateway.handlers.ui import LoginHandlers, PageHandlers
from gateway.handlers.websocket import WebSocketHandler, send_heartbeats
from gateway.metrics import export_metrics
from gateway.modules.loader import ModuleLoader
from gateway.settings import access_of
from gateway.storage.journal import SqliteJournal
from shared.errors import StartupError
from shared.http.app import Cors, apply_conventions, health_routes
from shared.http.origins import Origins
from shared.metrics import Metrics
from shared.tasks import Supervisor

log = structlog.get_logger("gateway.app")


def utc_now() -> datetime:
    """The current time, aware UTC."""
    return datetime.now(UTC)


def stop_process() -> None:
    """End this process as SIGTERM does, after the current response is written."""
    asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGTERM)


@dataclass
class Parts:
    """A gateway that is ready to serve."""

    gateway: Gateway
    app: web.Application
    stream: WebSocketHandler
    events: SseHandler
    tasks: Supervisor


def build(
    declared: Declared,
    *,
    folder: Path | None = None,
    journal: Path | None = None,
    bus: str | None = None,
    now: Callable[[], datetime] = utc_now,
    epoch_ns: int | None = None,
    shut_down: Callable[[], None] = stop_process,
) -> Parts:
    """Build an application from a channel file.

    Args:
        declared: The file.
        folder: Where its module files are.
        journal: Where the journal is, or None.
        bus: The Redis that joins this gateway with others, or None.
        now: The clock.
        epoch_ns: Where ids begin; the epoch in nanoseconds by default.
        shut_down: Ends the process.

    Raises:
        StartupError: Structs contradict themselves, or a module cannot be connected.
    """
    access = access_of(declared.options.auth.api_key)
    try:
        gateway = build_gateway(
            declared,
            access,
            now=now,
            epoch_ns=time.time_ns() if epoch_ns is None else epoch_ns,
            shut_down=shut_down,
        )
    except ValueError as error:
        raise StartupError(str(error)) from error
    listings = ListingHandlers(gateway)
    stream, events = WebSocketHandler(gateway, listings), SseHandler(gateway)
    app = web.Application(client_max_size=declared.options.server.max_body)
    metrics = Metrics("gateway")
    export_metrics(metrics, gateway.engine, gateway.connections)
    tasks = Supervisor(metrics.count_task_failure)
    origins = Origins(declared.options.server.cors_origins)
    apply_conventions(app, error_response=error_answer, cors=_cors(origins), metrics=metrics)
    app.middlewares.append(_access_middleware(gateway, origins).middleware())
    monitoring = MonitoringHandlers(gateway, metrics, tasks)
    app.add_routes(routes(gateway, listings, stream, events, monitoring))
    loader = ModuleLoader(gateway.engine, app.router, folder or Path.cwd())
    joined = None if bus is None else _join(gateway, bus, tasks)
    loader.connect(declared.options.modules, declared.module_places)
    _add_life_cycle(app, gateway, loader, journal, joined, tasks)
    return Parts(gateway, app, stream, events, tasks)


def routes(
    gateway: Gateway,
    listings: ListingHandlers,
    stream: WebSocketHandler,
    events: SseHandler,
    monitoring: MonitoringHandlers,
) -> list[web.RouteDef]:
    """Every endpoint of the gateway, in the order of the protocol (§2, §5, §6, §8.5)."""
    groups, options = gateway.route_groups, gateway.declared.options
    base = groups.base
    read, send, states = ReadHandlers(gateway), SendHandlers(gateway), StateHandlers(gateway)
    staging, documents = StageHandlers(gateway), DocumentHandlers(gateway)
    page = PageHandlers(gateway, (options.auth.api_key or ApiKeySection()).name)

    table = [_get(groups.api_root, listings.versions)]  # §0.1
    if groups.last is not None:  # §2.2
        table += [
            _get(f"{base}/last/", listings.last),
            *_channel_routes(
                _get, f"{base}/last", _channels(gateway, groups.last), read.last, read.last_key, not_found
            ),
        ]
    if groups.next is not None:  # §2.3
        table += [
            _get(f"{base}/next/", listings.next),
            *_channel_routes(
                _get, f"{base}/next", _channels(gateway, groups.next), read.next, read.next_key, not_found
            ),
        ]
    if groups.states is not None:  # §2.4, §3
        table += [
            _get(f"{base}/state/", listings.state),
            _get(f"{base}/state/{{alias}}", states.state),
            _get(f"{base}/state/{{alias}}/{{key:.+}}", states.state_key),
        ]
    if groups.send is not None:  # §2.5
        table += [
            _get(f"{base}/send/", listings.send),
            *_channel_routes(
                web.post, f"{base}/send", _channels(gateway, groups.send), send.send, send.send_key, send.no_send
            ),
        ]
    if groups.lookup is not None:  # §2.6
        table += [
            _get(f"{base}/lookup/", listings.lookup),
            _get(f"{base}/lookup/id/{{id:.+}}", read.lookup_any),
            _get(f"{base}/lookup/{{channel}}/{{id:.*}}", read.lookup),
        ]
    if groups.controls:  # §2.7
        table += [_get(f"{base}/controls/", listings.controls), *_control_routes(gateway)]
    if groups.stage:  # §2.8
        table += [
            _get(f"{base}/stage/", listings.stage),
            _get(f"{base}/stage/{{channel}}", staging.pending),
            web.post(f"{base}/stage/{{channel}}", staging.add),
            web.delete(f"{base}/stage/{{channel}}", staging.remove),
            web.patch(f"{base}/stage/{{channel}}", staging.release),
            web.put(f"{base}/stage/{{channel}}", staging.contents),
        ]
    table += _utility_routes(gateway, listings, documents)  # §2.9
    table += [
        _get(base + groups.stream_path, stream.stream),  # §4
        _get(f"{base}/sse", events.events),
        _get("/openapi.json", documents.openapi),  # §5
        _get("/asyncapi.json", documents.asyncapi),
        _get("/docs", documents.docs),
        _get("/redoc", documents.redoc),
        _get("/", page.index),
        _get("/pages/{name}", page.file),
        _get("/static/{name}", documents.static),
        _get("/favicon.ico", documents.favicon),
        _get("/ui-config", documents.ui_config),
    ]
    if not gateway.access.is_open:  # §6
        login = LoginHandlers(gateway, options.auth.api_key or ApiKeySection())
        table += [
            _get(f"{base}/auth/login", login.log_in),
            _get(f"{base}/auth/logout", login.log_out),
            _get("/login", login.login_page),
            _get("/logout", login.logout_page),
        ]
    return [*table, *health_routes(monitoring.not_ready), _get("/metrics", monitoring.metrics)]  # §8.5


def _channels(gateway: Gateway, specs: Iterable[ChannelSpec]) -> list[Channel]:
    return [gateway.engine.channels[spec.name] for spec in specs]


def _channel_routes(
    route: Callable[[str, Handler], web.RouteDef],
    path: str,
    channels: Iterable[Channel],
    whole: Callable[[Channel], Handler],
    one_key: Callable[[Channel], Handler],
    otherwise: Handler,
) -> list[web.RouteDef]:
    """Routes of their own for each channel of a group, found without trying patterns; others have one that answers 404.

    A path calls a channel by its name, or by its name with dashes (§0).
    """
    table: list[web.RouteDef] = []
    for channel in channels:
        for name in dict.fromkeys((channel.name, channel.name.replace("_", "-"))):
            table.append(route(f"{path}/{name}", whole(channel)))
            table.append(route(f"{path}/{name}/{{key:.+}}", one_key(channel)))
    table.append(route(f"{path}/{{channel}}", otherwise))
    table.append(route(f"{path}/{{channel}}/{{key:.+}}", otherwise))
    return table


def _control_routes(gateway: Gateway) -> list[web.RouteDef]:
    controls, base = ControlHandlers(gateway), gateway.route_groups.base
    known = {
        "heartbeat": _get(f"{base}/controls/heartbeat", controls.heartbeat),
        "stats": _get(f"{base}/controls/stats", controls.stats),
        "shutdown": web.post(f"{base}/controls/shutdown", controls.shutdown),
    }
    return [route for name, route in known.items() if name in gateway.route_groups.controls]


def _utility_routes(gateway: Gateway, listings: ListingHandlers, documents: DocumentHandlers) -> list[web.RouteDef]:
    options, base = gateway.declared.options, gateway.route_groups.base
    table: list[web.RouteDef] = []
    if options.fields:
        table += [_get(f"{base}/field", listings.fields), _get(f"{base}/field/{{name}}", listings.field)]
    if options.graph:
        table += [_get(f"{base}/channels_graph", listings.graph), _get("/channels_graph", documents.graph)]
    if options.outputs:
        outputs = OutputHandlers(Path(options.outputs), options.server.root_path)
        table += [
            _get("/outputs/_tree", outputs.tree),
            _get("/outputs/_chunk", outputs.chunk),
            _get("/outputs", outputs.browse),
            _get("/outputs/{path:.*}", outputs.browse),
        ]
    return table


def _get(path: str, handler: Handler) -> web.RouteDef:
    return web.get(path, handler, allow_head=False)


def _access_middleware(gateway: Gateway, origins: Origins) -> AccessMiddleware:
    channels = gateway.engine.channels if gateway.access.is_open else None
    redirects = SlashRedirects(gateway.declared.options.server.root_path, gateway.route_groups.base, channels)
    options = gateway.declared.options.auth.api_key or ApiKeySection()
    public = {"/login", "/logout", "/healthz", "/readyz", "/ui-config"}
    public |= {"/favicon.ico", "/static/favicon.png", "/pages/style.css"}  # what the login form loads
    if not options.protect_docs:
        public |= {"/openapi.json", "/asyncapi.json", "/docs", "/redoc", *(f"/static/{name}" for name in ASSETS)}
    return AccessMiddleware(gateway, options, LoginHandlers(gateway, options), origins, redirects, public)


def _cors(origins: Origins) -> Cors | None:
    if not origins.allowed:
        return None
    return Cors(
        origins=None if origins.are_all_allowed else origins.allowed,
        methods=("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"),
        credentials=True,
        max_age_s=600,
    )


def _join(gateway: Gateway, url: str, tasks: Supervisor) -> RedisBus:
    for channel in gateway.engine.channels:
        channel.setters.append("Bus")  # another gateway may tick it
    reason = "this gateway could not follow the bus any more; a fresh start joins it again"
    lost = partial(gateway.fail, reason)
    bus = RedisBus(BusOptions.of(url), gateway.engine, gateway.ids, now=gateway.now, lost=lost, tasks=tasks)
    gateway.engine.bus = bus
    return bus


def _add_life_cycle(
    app: web.Application,
    gateway: Gateway,
    loader: ModuleLoader,
    journal: Path | None,
    bus: RedisBus | None,
    tasks: Supervisor,
) -> None:
    """Start the parts in order, and stop them in reverse."""

    async def life(_app: web.Application):  # type: ignore[no-untyped-def]
        sqlite = None if journal is None else SqliteJournal(journal, gateway.engine, gateway.ids)
        if sqlite is not None:
            await sqlite.open()
            gateway.engine.journal = sqlite
        if bus is None:
            await loader.start()
        else:
            await bus.open()
            bus.run_modules(loader.start, loader.stop)
        tasks.loop("heartbeats", lambda: send_heartbeats(gateway))
        _tune_garbage_collector()
        yield
        if bus is None:
            await loader.stop()
        else:
            await bus.close()
        await tasks.stop()
        if sqlite is not None:
            await sqlite.close()

    app.cleanup_ctx.append(life)


def _tune_garbage_collector() -> None:
    """Exclude objects that live as long as the process from full collections, which stopped the reference."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
