"""The interface of modules: Python code that reads and ticks channels inside a gateway."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from typing import Any, ClassVar, Final, TypeAlias

import structlog
from aiohttp import web

from gateway.engine.channels import Channel, Feed, Tick
from gateway.engine.engine import Change, Engine
from gateway.engine.staging import Stage
from gateway.schema.record import Record
from gateway.state.query import Query
from gateway.state.selection import compile_query
from gateway.state.slices import run_at_once
from gateway.state.store import State
from shared.tasks import start_task

log = structlog.get_logger("gateway.modules")
Handler: TypeAlias = Callable[..., Any]
QUEUE_BYTES: Final = 64 * 2**20


class Module:
    """What a module may define; every part is optional.

    Attributes:
        requires: Channels that need a provider; without one the gateway does not start.
    """

    requires: ClassVar[Sequence[str]] = ()

    def connect(self, gw: ModuleGateway) -> None:
        """Before serving: declare what is read and written."""

    async def start(self, gw: ModuleGateway) -> None:
        """Serving has begun; tasks may be created with ``gw.task``."""

    async def stop(self, gw: ModuleGateway) -> None:
        """The gateway is ending; within 60 s."""


class ModuleState:
    """A state as a module sees it."""

    def __init__(self, rows: dict[str | None, State]) -> None:
        self._rows = rows

    def query(self, query: Query | dict[str, Any] | None = None) -> list[Record]:
        """The records that pass, in the order of the state."""
        parsed = query if isinstance(query, Query) else Query.model_validate(query or {})
        found: list[Record] = []
        for state in self._rows.values():
            selection = compile_query(parsed, state.columns)
            found += run_at_once(state.select(selection))
        return found


class ModuleGateway:
    """The gateway as one module sees it.

    Args:
        name: The module's name in the graph and in logs.
        engine: The engine.
        http: Routes that modules add, before serving.
    """

    def __init__(self, name: str, engine: Engine, http: web.UrlDispatcher) -> None:
        self.name = name
        self.http = http
        self.is_running = False
        self._engine = engine
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queues: list[tuple[Handler, _TickQueue]] = []
        self._repeating: list[Callable[[], Coroutine[Any, Any, None]]] = []

    # --- declaring ---

    def writes(self, channel: str, key: str | None = None) -> None:
        """Say that this module ticks a channel, or one key of a basket."""
        if key is not None:
            self._feed(channel, key)
        setter = self.name if key is None else f"{self.name}<{key}>"
        setters = self._channel(channel).setters
        if setter not in setters:
            setters.append(setter)

    def on(self, channel: str, key: str | None = None) -> Callable[[Handler], Handler]:
        """Decorate a handler of every tick of a channel, in tick order.

        It is called with the tick (a record; a list of records on a list channel) and, if it takes a second
        argument or one named ``key``, with the basket key. It may be a coroutine function: then its calls wait for
        each other, but not the engine for them.
        """
        source = self._channel(channel)
        if key is not None:
            self._feed(channel, key)

        def decorate(handler: Handler) -> Handler:
            takes_key = _takes_key(handler)

            def call(tick: Tick) -> None:
                if not self.is_running:  # another gateway of the bus runs the modules
                    return
                value = list(tick.records) if source.spec.is_list else tick.records[0]
                if inspect.iscoroutinefunction(handler):
                    self._post(handler, value, tick)
                elif takes_key:
                    handler(value, key=tick.feed.key)
                else:
                    handler(value)

            self._engine.on_tick(source, self.name, call, key)
            if self.name not in source.getters:
                source.getters.append(self.name)
            return handler

        return decorate

    def on_group(self, channels: Collection[str], handler: Callable[[Sequence[Tick]], None]) -> None:
        """Call a function with all ticks of some channels that happened at the same moment."""
        for name in channels:
            getters = self._channel(name).getters
            if self.name not in getters:
                getters.append(self.name)

        def note(ticks: Sequence[Tick]) -> None:
            chosen = [tick for tick in ticks if tick.feed.channel.name in channels]
            if chosen and self.is_running:
                self.guard(handler, chosen)

        self._engine.observe(note)

    def fields(self, channel: str) -> list[str]:
        """The names of the members that a channel's structs may have, in order."""
        spec = self._engine.types[self._channel(channel).spec.struct].spec
        implicit = ["id", "timestamp"] if spec.implicit else []
        return [*implicit, *(field.name for field in spec.fields if field.name not in implicit)]

    def struct_of(self, channel: str) -> str:
        """The name of a channel's struct type."""
        return self._channel(channel).spec.struct

    def add_validator(self, struct: str, check: Callable[[Record], object]) -> None:
        """Check every record of a struct type; a `ValueError` rejects it with 422."""
        if struct not in self._engine.types.specs:
            raise KeyError(f"there is no struct {struct!r}")
        self._engine.types[struct].add_check(check)

    # --- ticking ---

    def tick(self, channel: str, value: Any, key: str | None = None) -> Awaitable[None] | None:
        """Validate and tick: a struct (dict or record), or on a list channel a list of them.

        On a channel that is no list channel, a list is ticked element by element.

        Returns:
            None when it has been applied, else what to await until it is durable.

        Raises:
            InvalidInput: The value is not what was declared.
            KeyError: There is no such channel or key.
        """
        feed = self._feed(channel, key)
        return self._engine.submit(self._changes(feed, value))

    def tick_basket(self, channel: str, values: dict[str, Any]) -> Awaitable[None] | None:
        """Tick several keys of a basket at the same moment."""
        return self.tick_together([(channel, key, value) for key, value in values.items()])

    def tick_together(self, ticks: Sequence[tuple[str, str | None, Any]]) -> Awaitable[None] | None:
        """Tick several channels, given as (channel, key, value), at the same moment."""
        changes: list[Change] = []
        for channel, key, value in ticks:
            changes += self._changes(self._feed(channel, key), value)
        return self._engine.submit_together(changes)

    def tick_threadsafe(self, channel: str, value: Any, key: str | None = None) -> None:
        """`tick` from any thread; errors are logged, as no caller waits for them."""
        if self._loop is None:
            raise RuntimeError("the gateway is not running")
        self._loop.call_soon_threadsafe(self._tick_or_log, channel, value, key)

    def record(self, struct: str, value: Any) -> Record:
        """Make a record, to be ticked in several places as the same one."""
        return self._engine.types[struct].take_one(value)

    def _tick_or_log(self, channel: str, value: Any, key: str | None) -> None:
        self.guard(self.tick, channel, value, key)

    def _changes(self, feed: Feed, value: Any) -> list[Change]:
        struct = self._engine.types[feed.channel.spec.struct]
        records = struct.take(value, ())
        if feed.channel.spec.is_list:
            return [(feed, records)]
        return [(feed, [record]) for record in records]

    # --- reading ---

    def last(self, channel: str, key: str | None = None) -> Any:
        """The last tick: a record, a list of records on a list channel, None when it has not ticked."""
        feed = self._feed(channel, key)
        if feed.last is None:
            return None
        return list(feed.last.records) if feed.channel.spec.is_list else feed.last.records[0]

    async def next(self, channel: str, key: str | None = None, timeout: float | None = None) -> Any:
        """Wait for the next tick, in the form of `last`.

        Raises:
            TimeoutError: Nothing ticked within ``timeout`` seconds.
        """
        feed = self._feed(channel, key)
        ticked = asyncio.Event()

        def resolve(_answer: bytes) -> None:
            ticked.set()

        feed.waiters[resolve] = None
        try:
            async with asyncio.timeout(timeout):
                await ticked.wait()
        finally:
            feed.waiters.pop(resolve, None)
        return self.last(channel, key)

    def state(self, alias: str) -> ModuleState:
        """The state of that alias."""
        if alias not in self._engine.states:
            raise KeyError(f"there is no state {alias!r}")
        return ModuleState(self._engine.states[alias])

    def stage(self, channel: str) -> Stage:
        """The staging areas of a channel."""
        if channel not in self._engine.stages:
            raise KeyError(f"channel {channel!r} has no staging areas; 'stage: true' gives it some")
        return self._engine.stages[channel]

    def paths(self, channel: str | None = None) -> list[tuple[str, str | None]]:
        """Channel and key of every feed, or of those of one channel."""
        channels = list(self._engine.channels) if channel is None else [self._channel(channel)]
        return [(each.name, feed.key) for each in channels for feed in each.feeds]

    # --- running ---

    def task(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine until it ends or the gateway does; what it raises is logged and counted."""
        task = start_task(self._guarded(coroutine), name=f"module {self.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def every(self, seconds: float, function: Callable[[], Any]) -> None:
        """Call a function regularly, from the start of serving on; it may be a coroutine function."""

        async def repeat() -> None:
            loop = asyncio.get_running_loop()
            due = loop.time()
            while True:
                due = max(due + seconds, loop.time())
                await asyncio.sleep(due - loop.time())
                if inspect.iscoroutinefunction(function):
                    await self._guarded(function())
                else:
                    self.guard(function)

        self._repeating.append(repeat)

    def guard(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function of the module; what it raises is logged and counted."""
        try:
            return function(*arguments)
        except Exception:  # noqa: BLE001 - a module's mistake must not stop the gateway (§8.4)
            self._failed()
        return None

    async def _guarded(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        try:
            await coroutine
        except Exception:  # noqa: BLE001 - a module's mistake must not stop the gateway (§8.4)
            self._failed()

    def _failed(self) -> None:
        self._engine.counters.handler_errors += 1
        log.exception("a module failed", module=self.name)

    def _post(self, handler: Handler, value: Any, tick: Tick) -> None:
        mail = next((mail for known, mail in self._queues if known is handler), None)
        if mail is None:
            mail = _TickQueue()
            self._queues.append((handler, mail))
            self.task(self._deliver(handler, mail))
        if mail.put(value, tick):
            self._engine.counters.handler_errors += 1
            log.error("a handler is too slow: ticks are dropped, the oldest first", module=self.name)

    async def _deliver(self, handler: Handler, mail: _TickQueue) -> None:
        takes_key = _takes_key(handler)
        while True:
            value, key = await mail.get()
            await self._guarded(handler(value, key=key) if takes_key else handler(value))

    async def run(self, module: Module) -> None:
        """Begin: start the module and its regular calls."""
        self._loop = asyncio.get_running_loop()
        self.is_running = True
        await module.start(self)
        for repeat in self._repeating:
            self.task(repeat())

    async def end(self, module: Module, limit_s: float = 60.0) -> None:
        """Stop the module and cancel its tasks."""
        self.is_running = False
        try:
            async with asyncio.timeout(limit_s):
                await self._guarded(module.stop(self))
        except TimeoutError:
            log.error("a module did not stop in time", module=self.name, limit_s=limit_s)
        self._queues.clear()  # who delivers it ends here; if the modules begin again, others will
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _channel(self, name: str) -> Channel:
        channel = self._engine.channels.get(name)
        if channel is None:
            raise KeyError(f"there is no channel {name!r}")
        return channel

    def _feed(self, name: str, key: str | None) -> Feed:
        channel = self._channel(name)
        feed = channel.feed(key)
        if feed is None:
            if key is None:
                raise KeyError(f"channel {name!r} is a basket: give one of its keys")
            raise KeyError(f"channel {name!r} has no key {key!r}")
        return feed


class _TickQueue:
    """The queue of ticks for one coroutine handler; beyond a memory limit the oldest are dropped."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Any, Tick]] = deque()
        self._arrived = asyncio.Event()
        self._size_bytes = 0
        self._has_dropped = False

    def put(self, value: Any, tick: Tick) -> bool:
        """Add a tick; whether this is the first time since it was empty that others were dropped for it."""
        self._waiting.append((value, tick))
        self._size_bytes += tick.size_bytes
        self._arrived.set()
        had_dropped = self._has_dropped
        while self._size_bytes > QUEUE_BYTES and len(self._waiting) > 1:
            self._size_bytes -= self._waiting.popleft()[1].size_bytes
            self._has_dropped = True
        return self._has_dropped and not had_dropped

    async def get(self) -> tuple[Any, str | None]:
        """The oldest value that waits, with the key of its feed."""
        while not self._waiting:
            self._has_dropped = False
            self._arrived.clear()
            await self._arrived.wait()
        value, tick = self._waiting.popleft()
        self._size_bytes -= tick.size_bytes
        return value, tick.feed.key


def _takes_key(handler: Handler) -> bool:
    try:
        parameters = list(inspect.signature(handler).parameters.values())
    except (TypeError, ValueError):
        return False
    return any(parameter.name == "key" or parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)
