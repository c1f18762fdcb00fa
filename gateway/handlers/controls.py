"""What an operator uses: ``controls``, readiness and metrics (protocol §2.7)."""

from __future__ import annotations

import getpass
import os
import resource
import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import psutil
from aiohttp import web

from gateway.engine.channels import CONTROLS, Tick
from gateway.handlers.context import Gateway
from gateway.handlers.requests import require_unlimited, rights_of
from gateway.handlers.responses import json_bytes, json_value, unauthorized
from gateway.schema.record import encode
from shared.errors import Problem
from shared.metrics import Metrics
from shared.tasks import Supervisor


class ControlHandlers:
    """The control routes."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._process = psutil.Process()
        self._process.cpu_percent()

    async def heartbeat(self, _request: web.Request) -> web.Response:
        """``GET /controls/heartbeat``: answers the tick that went through the engine."""
        return json_bytes((await self._tick({"name": "heartbeat"})).encoded)

    async def stats(self, request: web.Request) -> web.Response:
        """``GET /controls/stats``: the gateway's counters are in the answer only, not in the tick."""
        now = datetime.now(UTC)
        system = self._system(now)
        tick = await self._tick({"name": "stats", "status": "ok", **_data(system, now)})
        counters = _counters(self._gateway, rights_of(request).may_read)
        return json_value([{**tick.records[0].values, **_data(system | {"gateway": counters}, now)}])

    async def shutdown(self, request: web.Request) -> web.Response:
        """``POST /controls/shutdown``: answers, then the process ends cleanly."""
        require_unlimited(request)
        if rights_of(request).read_only:
            raise unauthorized("unauthorized")
        tick = await self._tick({"name": "shutdown", "status": "ok"})
        self._gateway.shut_down()
        return json_bytes(tick.encoded)

    async def _tick(self, value: dict[str, Any]) -> Tick:
        engine = self._gateway.engine
        record = engine.types["Controls"].take_one(value)
        feed = engine.channels[CONTROLS].feeds[0]
        pending = self._gateway.engine.submit([(feed, [record])])
        if pending is not None:
            await pending
        for tick in reversed(feed.recent):
            if tick.has_id(record.id):
                return tick
        raise Problem(503, "the engine does not tick")

    def _system(self, now: datetime) -> dict[str, Any]:
        memory = psutil.virtual_memory()
        most_threads = resource.getrlimit(resource.RLIMIT_NPROC)[0]
        return {
            "cpu": self._process.cpu_percent(),
            "memory": memory.percent,
            "memory-total": round(memory.available * 100 / memory.total, 2),
            "pid": os.getpid(),
            "active_threads": threading.active_count(),
            "max_threads": "unlimited" if most_threads == resource.RLIM_INFINITY else most_threads,
            "now": now,
            "csp-now": self._gateway.now().replace(tzinfo=None),
            "host": socket.gethostname(),
            "user": _user(),
        }


class MonitoringHandlers:
    """What an operator watches: whether the gateway can do its work, and its metrics.

    Args:
        gateway: The gateway.
        metrics: The metrics of the whole process.
        tasks: The background tasks.
    """

    def __init__(self, gateway: Gateway, metrics: Metrics, tasks: Supervisor) -> None:
        self._gateway = gateway
        self._metrics = metrics
        self._tasks = tasks

    def not_ready(self) -> list[str]:
        """Why the gateway cannot do its work now; empty when it can."""
        return [*self._gateway.not_ready(), *self._tasks.not_ready()]

    async def metrics(self, request: web.Request) -> web.Response:
        """``GET /metrics``"""
        require_unlimited(request)
        return await self._metrics.handler(request)


def _counters(gateway: Gateway, may_read: Callable[[str], bool]) -> dict[str, Any]:
    """The gateway's own counters (§8.5).

    Args:
        may_read: Whether a channel may be named.
    """
    engine = gateway.engine
    channels = [channel for channel in engine.channels if may_read(channel.name)]
    structs = {channel.spec.struct for channel in channels}
    return {
        "channels": {
            feed.path: {
                "ticks": feed.ticks,
                "last": None if feed.last is None else feed.last.at,
                "subscribers": len(feed.subscribers),
                "waiting": len(feed.waiters),
            }
            for channel in channels
            for feed in channel.feeds
        },
        "ticks": engine.counters.ticks,
        "stream": gateway.connections.summary(),
        "lookup": {
            name: {"items": cache.items, "bytes": cache.size_bytes}
            for name, cache in engine.lookups.items()
            if name in structs
        },
        "states": {
            alias: {
                "rows": sum(len(state) for state in rows.values()),
                "bytes": sum(state.size_bytes for state in rows.values()),
            }
            for alias, rows in engine.states.items()
            if may_read(engine.state_channels[alias].name)
        },
        "handler_errors": engine.counters.handler_errors,
        "derived_dropped": engine.counters.derived_dropped,
        "state_rejected": engine.counters.state_rejected,
        "entries_skipped": engine.counters.entries_skipped,
    }


def _data(data: dict[str, Any], now: datetime) -> dict[str, Any]:
    """The members that carry statistics: as a value, and as text, which has the time in another form (§2.7)."""
    return {"data": data, "data_str": encode(data | {"now": now.isoformat()}).decode()}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no entry for this user, as in containers
        return str(os.getuid())
