"""Calls plugins: with a time limit, in threads where they block, and with their failures contained (§16)."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

import structlog

from iserver.document.model import Variant
from iserver.plugins.views import EventView, ImpressionView, SessionView
from iserver.protocol.feature_requests import FeatureEvaluation
from iserver.sessions.finished import Event
from iserver.sessions.memo_record import MemoRecord
from iserver.sessions.session import Session
from shared.errors import StartupError

log = structlog.get_logger("iserver.plugins")

THREADS = 8

Observer = Callable[[str, float, bool], None]
"""Called after every call with the hook, its seconds, and whether it failed."""

HOOKS = {
    "session_fill": "invokeFill",
    "fill": "invokeGenericFill",
    "on_impression": "invokeGenericOnImpression",
    "on_event": "invokeGenericOnEvent",
    "new_variant": "invokeNewVariant",
}
"""Methods of a plugin, and what the vendor's metrics call them (§15)."""


def load_plugin(name: str) -> object:
    """Make the plugin that `package.module:Class` names.

    Raises:
        StartupError: There is no such class, or it cannot be made.
    """
    module_name, colon, class_name = name.partition(":")
    if not colon:
        raise StartupError(f"--plugin {name}: expected package.module:Class")
    try:
        return getattr(import_module(module_name), class_name)()
    except Exception as error:  # whatever a stranger's module raises while it is loaded
        raise StartupError(f"--plugin {name}: {type(error).__name__}: {error}") from error


class AsyncSessionLocks:
    """One lock a session, for as long as it is in use."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: Counter[str] = Counter()

    @asynccontextmanager
    async def lock_session(self, session: Session) -> AsyncIterator[None]:
        """Hold the lock of a session."""
        self._users[session.id] += 1
        try:
            async with self._locks.setdefault(session.id, asyncio.Lock()):
                yield
        finally:
            self._users[session.id] -= 1
            if not self._users[session.id]:
                del self._users[session.id], self._locks[session.id]


class PluginRunner:
    """Calls plugins in the order in which they were given."""

    def __init__(self, plugins: Sequence[object], *, timeout_ms: int, is_strict: bool, observe: Observer) -> None:
        """
        Args:
            plugins: Objects with any of the methods of `HOOKS`, and `close`.
            timeout_ms: How long one call may take.
            is_strict: Whether a `fill` that fails is an error of the feature.
            observe: Called after every call of a plugin.
        """
        self._plugins = plugins
        self._timeout_s = timeout_ms / 1000
        self._is_strict = is_strict
        self._observe = observe
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="plugin")

    async def session_started(self, session: Session, now_ms: int) -> None:
        """Let plugins fill a new session."""
        await self._call("session_fill", session, now_ms)

    async def fill(self, evaluation: FeatureEvaluation, now_ms: int) -> None:
        """Let plugins fill the features that must be computed."""
        definition = evaluation.configuration.definition
        for feature in evaluation.misses:
            assert feature.plan is not None
            impression = ImpressionView(definition, feature.name, feature.args, feature.plan.plugin_defaults)
            is_well = await self._call("fill", evaluation.session, now_ms, impression)
            feature.plugin_outputs = impression.changes
            if not is_well and self._is_strict:
                feature.error, feature.result = f"{feature.name}: a plugin failed", "error"

    async def impressions_added(self, session: Session, records: Sequence[MemoRecord], now_ms: int) -> None:
        """Notify plugins of new impressions."""
        for record in records:
            impression = ImpressionView.of(record)
            await self._call("on_impression", session, now_ms, impression)
            _store_plugin_outputs(session, record, impression)

    async def variants_assigned(self, evaluation: FeatureEvaluation, now_ms: int) -> None:
        """Notify plugins of new assignments."""
        for experiment_id, variant_id in evaluation.assigned.items():
            experiment = evaluation.configuration.experiments[experiment_id]
            variant = next(item for item in experiment.variants if item.id == variant_id)
            await self._call("new_variant", evaluation.session, now_ms, experiment, variant, _values(variant))

    async def event_received(self, session: Session, record: MemoRecord | None, event: Event, now_ms: int) -> None:
        """Notify plugins of an event."""
        definition = session.definition if record is None else record.definition
        view = EventView(definition, None if record is None else record.feature, event)
        impression = None if record is None else ImpressionView.of(record)
        await self._call("on_event", session, now_ms, impression, view)
        if view.changes:
            session.amend(record, event, view.changes)
        if record is not None and impression is not None:
            _store_plugin_outputs(session, record, impression)

    async def close(self) -> None:
        """Let plugins end."""
        for plugin in self._plugins:
            if (method := getattr(plugin, "close", None)) is not None:
                await self._run(plugin, "close", method)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _call(self, hook: str, session: Session, now_ms: int, *arguments: Any) -> bool:
        """Call a hook of every plugin that has it; whether all went well."""
        is_well = True
        for plugin in self._plugins:
            method = getattr(plugin, hook, None)
            if method is None:
                continue
            view = SessionView(session, session.definition)
            before = [(item, dict(item.changes)) for item in arguments if isinstance(item, ImpressionView | EventView)]
            if await self._run(plugin, hook, method, view, *arguments):
                _apply(session, view, now_ms)
            else:
                is_well = False
                for item, changes in before:
                    item.changes = changes
        return is_well

    async def _run(self, plugin: object, hook: str, method: Callable[..., Any], *arguments: Any) -> bool:
        started = time.perf_counter()
        failure: str | None = None
        try:
            async with asyncio.timeout(self._timeout_s):
                if inspect.iscoroutinefunction(method):
                    await method(*arguments)
                else:
                    await asyncio.get_running_loop().run_in_executor(self._threads, method, *arguments)
        except TimeoutError:
            failure = f"no answer within {self._timeout_s:g} s"
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises is contained here
            failure = f"{type(error).__name__}: {error}"
        if failure is not None:
            log.warning("plugin failed", plugin=type(plugin).__name__, hook=hook, reason=failure)
        if hook in HOOKS:
            self._observe(hook, time.perf_counter() - started, failure is not None)
        return failure is None


def _apply(session: Session, view: SessionView, now_ms: int) -> None:
    mutables = session.definition.mutables
    fixed = {name: value for name, value in view.changes.items() if name not in mutables}
    if fixed:
        session.adopt(fixed)
    for name, value in view.changes.items():
        if name in mutables:
            session.mutate(name, value, now_ms)
    session.keep_out_of_log(bool(view.no_log))


def _store_plugin_outputs(session: Session, record: MemoRecord, impression: ImpressionView) -> None:
    changed = {name: value for name, value in impression.changes.items() if record.plugin_outputs.get(name) != value}
    if changed:
        session.fill(record, changed)


def _values(variant: Variant) -> Mapping[str, Any]:
    """What a variant sets, by `Feature.output`; whether it switches a feature, by its name."""
    values: dict[str, Any] = {}
    for item in variant.values:
        if item.field is not None:
            values[f"{item.feature}.{item.field}"] = item.value
        if item.active is not None:
            values[item.feature] = item.active
    return values
