"""The composition root: builds the parts of a gateway, wires them, and lists every route."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import structlog
from aiohttp import web

from gateway.auth import Access
from gateway.cluster.redis_bus import BusOptions, RedisBus
from gateway.config.declared import Declared
from gateway.config.models import ApiKeys
from gateway.config.route_groups import Mounts, mounts_of
from gateway.engine.channels import CONTROLS, Channels
from gateway.engine.engine import Engine
from gateway.engine.ids import IdCounter
from gateway.engine.lookup import LookupLimits
from gateway.engine.pipeline import Pipeline
from gateway.handlers.context import Gateway
from gateway.handlers.controls import Controls
from gateway.handlers.documents import ASSETS, Documents
from gateway.handlers.listings import Listings
from gateway.handlers.login import Login
from gateway.handlers.lookup import Lookups
from gateway.handlers.middleware import Door
from gateway.handlers.outputs import Monitoring, Outputs, Utility
from gateway.handlers.responses import Redirects, error_answer
from gateway.handlers.sse import Events
from gateway.handlers.stage import Staging
from gateway.handlers.state import States
from gateway.handlers.ticks import Ticks
from gateway.handlers.ui import Page
from gateway.handlers.websocket import Stream, send_heartbeats
from gateway.metrics import export_metrics
from gateway.modules.loader import ModuleLoader
from gateway.schema.record import Record
from gateway.schema.validation import StructTypes
from gateway.settings import access_of
from gateway.state.columnar import ColumnSelector
from gateway.state.store import Selector
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
    """End this process as SIGTERM does, once the current answer is on its way."""
    asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGTERM)


def build_gateway(
    declared: Declared,
    access: Access,
    *,
    now: Callable[[], datetime],
    epoch_ns: int,
    shut_down: Callable[[], None],
) -> Gateway:
    """Build the parts of a gateway from its channel file.

    Raises:
        ValueError: A struct contradicts itself; the message names it.
    """
    started = now()
    options = declared.options
    ids = IdCounter(epoch_ns)
    types = StructTypes(
        declared.structs,
        declared.enums,
        next_id=ids.next,
        now=now,
        started=started,
        max_body=options.server.max_body,
    )
    channels = Channels(declared.channels, recent=options.recent)
    for channel in channels:
        if channel.spec.key_enum is not None:
            for name, value in types.enums[channel.spec.key_enum].members.items():
                if isinstance(value, str) and name in (channel.spec.keys or ()):
                    channel.also_call(name, value)
    engine = Engine(
        channels,
        types,
        next_id=ids.next,
        now=now,
        lookup_limits=LookupLimits(options.lookup.max_items, options.lookup.max_bytes, options.lookup.ttl),
    )
    mounts = mounts_of(declared)
    _note_providers(engine, mounts)
    if CONTROLS in channels:
        engine.transform(CONTROLS, _mark_heartbeat)
    return Gateway(
        declared=declared,
        access=access,
        ids=ids,
        engine=engine,
        pipeline=Pipeline(engine),
        mounts=mounts,
        now=now,
        started=started,
        shut_down=shut_down,
    )


def _note_providers(engine: Engine, mounts: Mounts) -> None:
    for spec in mounts.send or ():
        channel = engine.channels[spec.name]
        channel.setters += [f"Send[{spec.name}]<{key}>" for key in spec.keys or ()]
        channel.setters.append(f"Send[{spec.name}]")
    for spec in mounts.stage:
        engine.channels[spec.name].setters.append(f"Stage[{spec.name}]")
    for spec in mounts.stream:
        engine.channels[spec.name].getters.append("Stream")
        if spec.sendable and not mounts.send:
            engine.channels[spec.name].setters.append(f"Stream[{spec.name}]")
    if mounts.controls:
        engine.channels[CONTROLS].getters.append("Controls")
        engine.channels[CONTROLS].setters.append("Controls")


def _mark_heartbeat(record: Record) -> Record:
    """The engine's own sign of life: a heartbeat that went through it reads ``ok`` (§2.7)."""
    if record.values.get("name") != "heartbeat" or record.values.get("status") == "ok":
        return record
    return Record(record.struct, {**record.values, "status": "ok"})


@dataclass
class Parts:
    """A gateway that is ready to serve."""

    gateway: Gateway
    app: web.Application
    stream: Stream
    events: Events
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
    selector = ColumnSelector()
    listings = Listings(gateway)
    stream, events = Stream(gateway, listings), Events(gateway)
    app = web.Application(client_max_size=declared.options.server.max_body)
    metrics = Metrics("gateway")
    export_metrics(metrics, gateway.engine, gateway.connections)
    tasks = Supervisor(metrics.count_task_failure)
    origins = Origins(declared.options.server.cors_origins)
    apply_conventions(app, error_response=error_answer, cors=_cors(origins), metrics=metrics)
    app.middlewares.append(_door(gateway, origins).middleware())
    monitoring = Monitoring(gateway, metrics, tasks)
    app.add_routes(routes(gateway, selector, listings, stream, events, monitoring))
    loader = ModuleLoader(gateway.engine, gateway.pipeline, app.router, folder or Path.cwd())
    joined = None if bus is None else _join(gateway, bus, tasks)
    loader.connect(declared.options.modules, declared.module_places)
    app.add_routes(shortcuts(gateway))
    _live(app, gateway, loader, journal, joined, tasks)
    return Parts(gateway, app, stream, events, tasks)


def routes(
    gateway: Gateway,
    selector: Selector,
    listings: Listings,
    stream: Stream,
    events: Events,
    monitoring: Monitoring,
) -> list[web.RouteDef]:
    """Every endpoint of the gateway, in the order of the protocol (§2, §5, §6, §8.5)."""
    mounts, options = gateway.mounts, gateway.declared.options
    base = mounts.base
    ticks, states, lookups = Ticks(gateway), States(gateway, selector), Lookups(gateway)
    staging, utility, documents = Staging(gateway), Utility(gateway), Documents(gateway)
    page = Page(gateway, (options.auth.api_key or ApiKeys()).name)

    table = [_get(mounts.api_root, listings.versions)]  # §0.1
    if mounts.last is not None:  # §2.2
        table += [
            _get(f"{base}/last/", listings.last),
            _get(f"{base}/last/{{channel}}", ticks.last),
            _get(f"{base}/last/{{channel}}/{{key:.+}}", ticks.last_key),
        ]
    if mounts.next is not None:  # §2.3
        table += [
            _get(f"{base}/next/", listings.next),
            _get(f"{base}/next/{{channel}}", ticks.next),
            _get(f"{base}/next/{{channel}}/{{key:.+}}", ticks.next_key),
        ]
    if mounts.states is not None:  # §2.4, §3
        table += [
            _get(f"{base}/state/", listings.state),
            _get(f"{base}/state/{{alias}}", states.state),
            _get(f"{base}/state/{{alias}}/{{key:.+}}", states.state_key),
        ]
    if mounts.send is not None:  # §2.5
        table += [
            _get(f"{base}/send/", listings.send),
            web.post(f"{base}/send/{{channel}}", ticks.send),
            web.post(f"{base}/send/{{channel}}/{{key:.+}}", ticks.send_key),
        ]
    if mounts.lookup is not None:  # §2.6
        table += [
            _get(f"{base}/lookup/", listings.lookup),
            _get(f"{base}/lookup/id/{{id:.+}}", lookups.lookup_any),
            _get(f"{base}/lookup/{{channel}}/{{id:.*}}", lookups.lookup),
        ]
    if mounts.controls:  # §2.7
        table += [_get(f"{base}/controls/", listings.controls), *_control_routes(gateway)]
    if mounts.stage:  # §2.8
        table += [
            _get(f"{base}/stage/", listings.stage),
            _get(f"{base}/stage/{{channel}}", staging.pending),
            web.post(f"{base}/stage/{{channel}}", staging.add),
            web.delete(f"{base}/stage/{{channel}}", staging.remove),
            web.patch(f"{base}/stage/{{channel}}", staging.release),
            web.put(f"{base}/stage/{{channel}}", staging.contents),
        ]
    table += _utility_routes(gateway, utility, documents)  # §2.9
    table += [
        _get(base + mounts.stream_path, stream.stream),  # §4
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
        login = Login(gateway, options.auth.api_key or ApiKeys())
        table += [
            _get(f"{base}/auth/login", login.log_in),
            _get(f"{base}/auth/logout", login.log_out),
            _get("/login", login.login_page),
            _get("/logout", login.logout_page),
        ]
    return [*table, *health_routes(monitoring.not_ready), _get("/metrics", monitoring.metrics)]  # §8.5


def shortcuts(gateway: Gateway) -> list[web.RouteDef]:
    """Routes of their own for `last` and `send` of the declared channels: the same answers, found without a pattern."""
    if not gateway.access.is_open:
        return []
    ticks, mounts = Ticks(gateway), gateway.mounts
    table: list[web.RouteDef] = []
    for channel in gateway.engine.channels:
        for name in dict.fromkeys((channel.name, channel.name.replace("_", "-"))):
            if mounts.last is not None and channel.spec in mounts.last and channel.is_provided:
                table.append(_get(f"{mounts.base}/last/{name}", ticks.last_of(channel)))
            if mounts.send is not None and channel.spec in mounts.send and not channel.is_basket:
                table.append(web.post(f"{mounts.base}/send/{name}", ticks.send_of(channel)))
    return table


def _control_routes(gateway: Gateway) -> list[web.RouteDef]:
    controls, base = Controls(gateway), gateway.mounts.base
    known = {
        "heartbeat": _get(f"{base}/controls/heartbeat", controls.heartbeat),
        "stats": _get(f"{base}/controls/stats", controls.stats),
        "shutdown": web.post(f"{base}/controls/shutdown", controls.shutdown),
    }
    return [route for name, route in known.items() if name in gateway.mounts.controls]


def _utility_routes(gateway: Gateway, utility: Utility, documents: Documents) -> list[web.RouteDef]:
    options, base = gateway.declared.options, gateway.mounts.base
    table: list[web.RouteDef] = []
    if options.fields:
        table += [_get(f"{base}/field", utility.fields), _get(f"{base}/field/{{name}}", utility.field)]
    if options.graph:
        table += [_get(f"{base}/channels_graph", utility.graph), _get("/channels_graph", documents.graph)]
    if options.outputs:
        outputs = Outputs(Path(options.outputs), options.server.root_path)
        table += [
            _get("/outputs/_tree", outputs.tree),
            _get("/outputs/_chunk", outputs.chunk),
            _get("/outputs", outputs.browse),
            _get("/outputs/{path:.*}", outputs.browse),
        ]
    return table


def _get(path: str, handler: Callable[[web.Request], object]) -> web.RouteDef:
    return web.get(path, handler, allow_head=False)  # type: ignore[arg-type]


def _door(gateway: Gateway, origins: Origins) -> Door:
    channels = gateway.engine.channels if gateway.access.is_open else None
    redirects = Redirects(gateway.declared.options.server.root_path, gateway.mounts.base, channels)
    options = gateway.declared.options.auth.api_key or ApiKeys()
    public = {"/login", "/logout", "/healthz", "/readyz", "/ui-config"}
    public |= {"/favicon.ico", "/static/favicon.png", "/pages/style.css"}  # what the login form loads
    if not options.protect_docs:
        public |= {"/openapi.json", "/asyncapi.json", "/docs", "/redoc", *(f"/static/{name}" for name in ASSETS)}
    return Door(gateway, options, Login(gateway, options), origins, redirects, public)


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
    gateway.pipeline.bus = bus
    return bus


def _live(
    app: web.Application,
    gateway: Gateway,
    loader: ModuleLoader,
    journal: Path | None,
    bus: RedisBus | None,
    tasks: Supervisor,
) -> None:
    """What happens at the start, in order, and at the end, in reverse."""

    async def life(_app: web.Application):  # type: ignore[no-untyped-def]
        kept = None if journal is None else SqliteJournal(journal, gateway.engine, gateway.ids)
        if kept is not None:
            await kept.open()
            gateway.pipeline.journal = kept
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
        if kept is not None:
            await kept.close()

    app.cleanup_ctx.append(life)


def _tune_garbage_collector() -> None:
    """Keep full collections away from what lives as long as the process: they were the reference's freezes."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
