"""The engine: how a tick becomes last value, state, lookup entry, message and derived ticks.

Ticks are applied one after the other, each completely before the next. Whatever a handler ticks while it runs is
queued behind the current tick. The engine knows no sockets, files or event loop: subscribers and waiters are
callables, the time is an argument of its constructor.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol, TypeAlias

import structlog

from gateway.engine.channels import Channel, Channels, Feed, RecentTicks, Tick, Waiter
from gateway.engine.lookup import LookupCache, LookupLimits
from gateway.engine.staging import Stage
from gateway.schema.memory_estimate import LARGE
from gateway.schema.record import Record
from gateway.schema.validation import StructTypes
from gateway.state.columns import Columns
from gateway.state.keys import Key
from gateway.state.slices import yield_to_loop
from gateway.state.store import State
from shared.errors import Problem

Change: TypeAlias = tuple[Feed, Sequence[Record]]
Prepared: TypeAlias = tuple[Feed, Sequence[Record], Sequence[Sequence[Key]]]
TickHandler: TypeAlias = Callable[[Tick], None]
Transform: TypeAlias = Callable[[Record], Record]

log = structlog.get_logger("gateway.engine")
DERIVED_LIMIT: Final = 10_000


class Journal(Protocol):
    """Makes applied ticks durable.

    Attributes:
        is_full: Whether so much waits for the disk that no more may tick.
    """

    @property
    def is_full(self) -> bool: ...

    def commit(self) -> Awaitable[None] | None:
        """What to await until every tick applied so far is durable; None when there is nothing to wait for."""


class Bus(Protocol):
    """Orders the ticks of several gateways; applies its own and theirs to the engine."""

    is_ready: bool

    def publish(self, groups: Sequence[Sequence[Change]]) -> Awaitable[None]:
        """Hand over groups of simultaneous ticks, to be applied in that order; done when they have been."""


@dataclass(slots=True)
class Counters:
    """Counters since the start."""

    ticks: int = 0
    handler_errors: int = 0
    derived_dropped: int = 0
    state_rejected: int = 0
    entries_skipped: int = 0


class Engine:
    """All channels of a gateway and what hangs on them.

    Args:
        channels: The channels.
        types: The compiled struct types.
        next_id: Gives identifiers, here those of staging areas.
        now: Gives the current time, aware UTC.
        lookup_limits: Limits of the lookup cache of each struct type.
        derived_limit: How many ticks handlers may derive from one root tick.
    """

    def __init__(
        self,
        channels: Channels,
        types: StructTypes,
        *,
        next_id: Callable[[], str],
        now: Callable[[], datetime],
        lookup_limits: LookupLimits | None = None,
        derived_limit: int = DERIVED_LIMIT,
    ) -> None:
        self.channels = channels
        self.types = types
        self.counters = Counters()
        self._now = now
        self._derived_limit = derived_limit
        self._number = 0
        self._recent = RecentTicks()
        limits = lookup_limits or LookupLimits()
        self.lookups = {name: LookupCache(limits) for name, spec in types.specs.items() if spec.lookup}
        self.stages = {channel.name: Stage(next_id) for channel in channels if channel.spec.staged}
        self.columns: dict[str, Columns] = {}
        self.states: dict[str, dict[str | None, State]] = {}
        self.state_channels: dict[str, Channel] = {}
        self._states_of: dict[Feed, list[State]] = {}
        for channel in channels:
            self._add_states(channel)
        self._handlers: dict[Feed, list[tuple[str, TickHandler]]] = {}
        self._observers: list[Callable[[Sequence[Tick]], None]] = []
        self._transforms: dict[str, Transform] = {}
        self._queue: deque[Sequence[Change]] = deque()
        self._is_draining = False
        self.journal: Journal | None = None
        self.bus: Bus | None = None

    def _add_states(self, channel: Channel) -> None:
        if channel.spec.struct not in self.columns:
            types = self.types
            self.columns[channel.spec.struct] = Columns(types.specs[channel.spec.struct], types.specs, types.enums)
        for spec in channel.spec.states:
            rows = {feed.key: State(spec, self.columns[channel.spec.struct]) for feed in channel.feeds}
            self.states[spec.alias] = rows
            self.state_channels[spec.alias] = channel
            for feed in channel.feeds:
                self._states_of.setdefault(feed, []).append(rows[feed.key])

    # --- wiring ---

    def on_tick(self, channel: Channel, name: str, handler: TickHandler, key: str | None = None) -> None:
        """Call a module's handler with every tick of a channel, or of one key of a basket."""
        for feed in channel.feeds:
            if key is None or feed.key == key:
                self._handlers.setdefault(feed, []).append((name, handler))

    def observe(self, observer: Callable[[Sequence[Tick]], None]) -> None:
        """Call a part of the gateway (journal, statistics) with every group of simultaneous ticks."""
        self._observers.append(observer)

    def transform(self, channel: str, change: Transform) -> None:
        """Change the records of a channel as they tick, as the controls are."""
        self._transforms[channel] = change

    # --- ticking on every gateway, durably ---

    def submit(self, changes: Sequence[Change]) -> Awaitable[None] | None:
        """Tick feeds one after the other.

        Returns:
            None when all is done, else what to await until the ticks may be acknowledged.
        """
        if self.bus is not None:
            self.check(changes)  # what fails, fails here and not in every gateway
            return self.bus.publish([[change] for change in changes]) if changes else None
        self.require_room()
        for change in changes:
            self.apply((change,))
        return None if self.journal is None or not changes else self.journal.commit()

    def submit_each(self, feed: Feed, records: Sequence[Record]) -> Awaitable[None] | None:
        """Tick a feed with one record after the other; answers as `submit`."""
        if self.bus is not None:
            return self.submit([(feed, [record]) for record in records])
        self.require_room()
        self.apply_each(feed, records)
        return None if self.journal is None or not records else self.journal.commit()

    def send(self, feed: Feed, records: Sequence[Record]) -> Awaitable[None] | None:
        """Tick what a client has sent: a list channel with all records at once, another one with each; as `submit`."""
        if feed.channel.spec.is_list:
            return self.submit_together([(feed, records)] if records else [])
        return self.submit_each(feed, records)

    async def submit_in_slices(self, feed: Feed, records: Sequence[Record]) -> None:
        """`submit_each` of many records, others being served in between; done when all may be acknowledged."""
        for start in range(0, len(records), LARGE):
            pending = self.submit_each(feed, records[start : start + LARGE])
            if pending is not None:
                await pending
            await yield_to_loop()

    async def send_in_slices(self, feed: Feed, records: Sequence[Record]) -> None:
        """`send` of many records, others being served in between; done when all may be acknowledged."""
        if not feed.channel.spec.is_list:
            await self.submit_in_slices(feed, records)
            return
        is_in_lookup = self.bus is None
        for start in range(0, len(records) if is_in_lookup else 0, LARGE):  # all of one tick that may come before it
            part = records[start : start + LARGE]
            self.check([(feed, part)])
            self.add_to_lookup(feed.channel, part, self._now())
            await yield_to_loop()
        pending = self.submit_together([(feed, records)], is_in_lookup=is_in_lookup)
        if pending is not None:
            await pending

    def submit_together(self, changes: Sequence[Change], *, is_in_lookup: bool = False) -> Awaitable[None] | None:
        """Tick several feeds at the same moment, as a whole basket is; for `is_in_lookup` see `apply`."""
        if not changes:
            return None
        if self.bus is not None:
            self.check(changes)
            return self.bus.publish([changes])
        self.require_room()
        self.apply(changes, is_in_lookup=is_in_lookup)
        return None if self.journal is None else self.journal.commit()

    def require_room(self) -> None:
        """Raise `Problem` 503 when the journal can take no more at present."""
        if self.journal is not None and self.journal.is_full:
            raise Problem(503, "too much waits to be written to the journal: the disk does not keep up")

    # --- ticking here ---

    def check(self, changes: Sequence[Change]) -> None:
        """Do all of `apply` that can fail, and change nothing."""
        for feed, records in changes:
            self._prepare(feed, records)

    def apply(self, changes: Sequence[Change], *, is_in_lookup: bool = False) -> None:
        """Tick one or several feeds at once; a call from within a handler is queued behind the current tick.

        What cannot be printed or has no key raises before anything has changed.

        Args:
            changes: The feeds and their records.
            is_in_lookup: The records have been given to `add_to_lookup` already.
        """
        if self._is_draining:
            self.check(changes)
            self._queue.append(changes)
            return
        self._is_draining = True
        try:
            self._apply_group(changes, is_in_lookup=is_in_lookup)
            if self._queue:
                self._drain()
        finally:
            self._is_draining = False

    def apply_each(self, feed: Feed, records: Sequence[Record]) -> None:
        """Tick a feed with one record after the other: what `apply` does with each, at a fraction of its cost.

        What cannot be printed or has no key raises before anything has changed.
        """
        if self._is_draining or feed in self._handlers:  # what handlers tick comes between the records
            self.check([(feed, records)])
            for record in records:
                self.apply([(feed, [record])])
            return
        _, records, keys = self._prepare(feed, records)
        if records:
            self._apply_run(feed, records, keys)

    def _apply_run(self, feed: Feed, records: Sequence[Record], keys: Sequence[Sequence[Key]]) -> None:
        at = self._now()
        ticks = [Tick(feed, [record], at, number) for number, record in enumerate(records, self._number + 1)]
        self._number += len(ticks)
        feed.last = ticks[0]
        if feed.channel.waiters or feed.waiters:
            _resolve_all(ticks[0])
        feed.last = ticks[-1]
        self._recent.add_run(feed, ticks)
        feed.ticks += len(ticks)
        self.counters.ticks += len(ticks)
        self.add_to_lookup(feed.channel, records, at)
        self._accumulate(feed, records, keys)
        for subscriber in feed.subscribers:
            for tick in ticks:
                subscriber.deliver(tick)
        for observer in self._observers:
            for tick in ticks:
                observer([tick])

    def _drain(self) -> None:
        derived = 0
        while self._queue:
            group = self._queue.popleft()
            derived += 1
            if derived > self._derived_limit:
                self._stop_cycle(group)
                break
            self._apply_group(group)

    def _apply_group(self, changes: Sequence[Change], *, is_in_lookup: bool = False) -> None:
        prepared = [self._prepare(feed, records) for feed, records in changes]
        at = self._now()
        ticks = [self._store(change, at, is_in_lookup=is_in_lookup) for change in prepared]
        for tick in ticks:
            for subscriber in tick.feed.subscribers:
                subscriber.deliver(tick)
        for tick in ticks:
            if tick.feed.waiters or tick.feed.channel.waiters:
                _resolve_all(tick)
        for observer in self._observers:
            observer(ticks)
        if self._handlers:
            for tick in ticks:
                self._handle(tick)

    def _prepare(self, feed: Feed, records: Sequence[Record]) -> Prepared:
        """Transform and print the records and find their rows: everything that depends on what they hold."""
        if self._transforms:
            change = self._transforms.get(feed.channel.name)
            if change is not None:
                records = [change(record) for record in records]
        for record in records:
            record.encoded  # noqa: B018 - encoded once, and cached by the record
        states = self._states_of.get(feed)
        if states is None:
            return feed, records, ()
        return feed, records, [[state.key_of(record) for record in records] for state in states]

    def _store(self, prepared: Prepared, at: datetime, *, is_in_lookup: bool) -> Tick:
        feed, records, keys = prepared
        self._number += 1
        tick = Tick(feed, records, at, self._number)
        feed.last = tick
        self._recent.add(tick)
        feed.ticks += 1
        self.counters.ticks += 1
        if not is_in_lookup:
            self.add_to_lookup(feed.channel, records, at)
        self._accumulate(feed, records, keys)
        return tick

    def _accumulate(self, feed: Feed, records: Sequence[Record], keys: Sequence[Sequence[Key]]) -> None:
        """Put records into the rows of the states."""
        if keys:
            for state, keys_of_state in zip(self._states_of[feed], keys, strict=True):
                for key, record in zip(keys_of_state, records, strict=True):
                    if not state.put(key, record):
                        self.counters.state_rejected += 1

    def add_to_lookup(self, channel: Channel, records: Sequence[Record], at: datetime) -> None:
        """Add records that tick, or were staged, to the lookup cache."""
        cache = self.lookups.get(channel.spec.struct)
        if cache is not None:
            cache.add(records, channel.name, 0.0 if cache.limits.ttl_s is None else at.timestamp())

    def _handle(self, tick: Tick) -> None:
        for name, handler in self._handlers.get(tick.feed, ()):
            try:
                handler(tick)
            except Exception:
                self.counters.handler_errors += 1
                log.exception("a module's handler failed", module=name, channel=tick.feed.path)

    def _stop_cycle(self, group: Sequence[Change]) -> None:
        dropped = len(self._queue) + 1
        self._queue.clear()
        self.counters.derived_dropped += dropped
        log.error(
            "too many derived ticks from one tick: the rest is dropped",
            limit=self._derived_limit,
            dropped=dropped,
            channel=group[0][0].path if group else None,
        )

    # --- restoring ---

    def restore_last(self, feed: Feed, records: Sequence[Record], at: datetime) -> None:
        """Put a last value back without ticking it."""
        tick = Tick(feed, records, at, 0)
        feed.last = tick
        self._recent.add(tick)

    def restore_state(self, alias: str, key: str | None, record: Record) -> None:
        """Put a row of a state back."""
        self.states[alias][key].update(record)

    # --- reading ---

    def lookup(self, struct: str, record_id: str, channels: frozenset[str] | None = None) -> bytes | None:
        """The printed record of a struct type with that id, if it is one of some channels (None: of any)."""
        cache = self.lookups.get(struct)
        return None if cache is None else cache.find(record_id, self._now().timestamp(), channels)

    def lookup_any(self, record_id: str) -> bytes | None:
        """The printed record of any struct type with that id."""
        for struct in self.lookups:
            found = self.lookup(struct, record_id)
            if found is not None:
                return found
        return None


def _resolve_all(tick: Tick) -> None:
    """Answer everyone who waits for a tick of a feed, or of its channel."""
    feed = tick.feed
    if feed.waiters:
        _resolve(feed.waiters, tick.encoded)
    if feed.channel.waiters:
        _resolve(feed.channel.waiters, feed.channel.encoded_last)


def _resolve(waiters: dict[Waiter, None], answer: bytes) -> None:
    waiting = list(waiters)
    waiters.clear()
    for waiter in waiting:
        waiter(answer)
