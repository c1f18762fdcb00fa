"""The engine of an impression server: it answers requests, ends sessions and applies configurations.

It knows no HTTP, no files and no clock: time, ids and storage are passed in. Everything between two `await`s is atomic
for all other requests; only storage and plugins are awaited.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from iserver.configuration.compiled import Configuration
from iserver.configuration.invalidation import Flush, flushes
from iserver.document.model import Settings
from iserver.engine.interfaces import EngineEnvironment, PluginHooks, SessionStore
from iserver.errors import NotStoredError, RequestError, SessionGoneError, UnknownError
from iserver.evaluation.definition import Definition
from iserver.fdl.model import JsonObject
from iserver.protocol.feature_requests import FeatureEvaluation, Origin, SessionLookup, find_or_create_session
from iserver.protocol.request_bodies import ExternalRequest, FeaturesRequest, SignalRequest
from iserver.protocol.responses import features_response, session_details
from iserver.protocol.signals import Effects, apply_external, apply_signal, session_of
from iserver.sessions.finalize import finish
from iserver.sessions.registry import Sessions
from iserver.sessions.session import Session

log = structlog.get_logger("iserver.engine")

CHUNK, CHUNK_BYTES = 128, 4 * 2**20
"""How many sessions are ended at once, and how much they may take, so that requests need not wait for long."""

FULL_BYTES = 4 * 2**20
"""A session that takes more memory ends with the request that makes it so; the visitor's next request begins another.
That is some thousands of impressions or events."""

MOST_FEATURES = 1000
"""How many features one request may ask for, unless the program has more."""


T = TypeVar("T")


@dataclass(slots=True)
class Durable(Awaitable[T]):
    """A value that may be sent once it is durable; awaiting it gives the value then.

    Attributes:
        value: What is sent.
        stored: Done when the value is durable; if it fails, its error is sent instead.
    """

    value: T
    stored: Awaitable[None]

    def __await__(self) -> Generator[Any, Any, T]:
        yield from self.stored.__await__()
        return self.value


class Engine:
    """The engine of one running impression server.

    Attributes:
        configuration: The configuration in force; replaced as a whole by `apply`.
        sessions: The active sessions.
        features_by_result: How many features were answered, by result (§15).
        signals_by_kind: How many signals were carried out, by kind.
    """

    def __init__(self, configuration: Configuration, store: SessionStore, environment: EngineEnvironment) -> None:
        self.configuration = configuration
        timeout_ms, max_length_ms = limits_ms(configuration.settings)
        self.sessions = Sessions(timeout_ms=timeout_ms, max_length_ms=max_length_ms)
        self.features_by_result = dict.fromkeys(("on", "memo", "off", "unknown", "error"), 0)
        self.signals_by_kind = dict.fromkeys(("mutate", "impressions", "event", "keep_alive"), 0)
        self._store = store
        self._logs_sessions = environment.logs_sessions
        self._listeners = environment.listeners
        self._clock_ms = environment.clock_ms
        self._new_id = environment.new_id
        self._plugins = environment.plugins
        self._locks = environment.locks
        self._yield_to_event_loop = environment.yield_to_event_loop
        self._retired: deque[Session] = deque()
        self._set_aside: dict[str, Session] = {}
        self._flushes: deque[Flush] = deque()
        self._is_flushing = False

    @property
    def definition(self) -> Definition:
        """The definition in force."""
        return self.configuration.definition

    # --- requests ---------------------------------------------------------------------------------

    def features(self, body: JsonObject, origin: Origin) -> Awaitable[bytes]:
        """Answer `features` (§3). The impressions are durable when this has been awaited.

        Raises:
            RequestError: Nothing was done.
        """
        most = max(MOST_FEATURES, len(self.configuration.features))
        request, now_ms = FeaturesRequest.parse(body, most_features=most), self._clock_ms()
        if self._plugins is not None:
            return self._features_with_plugins(self._plugins, request, origin, now_ms)
        lookup, evaluation = self._enter(request, origin, now_ms)
        evaluation.look_up()
        evaluation.evaluate()
        return self._respond(lookup, evaluation, now_ms)

    def _respond(self, lookup: SessionLookup, evaluation: FeatureEvaluation, now_ms: int) -> Durable[bytes]:
        """Store what was evaluated, and encode the response while it is being stored."""
        stored = self._save(lookup.session, now_ms, *lookup.retired)
        for feature in evaluation.features:
            self.features_by_result[feature.result] += 1
        return Durable(features_response(evaluation), stored)

    def _save(self, session: Session, now_ms: int, *others: Session) -> Awaitable[None]:
        """Store what a request has changed; the request that makes its session too large is the last one of it."""
        if session.size_bytes > FULL_BYTES:
            log.warning("session ended: it takes too much memory", session=session.id, size_bytes=session.size_bytes)
            session.retire(now_ms)
            self.sessions.remove(session)
            self._retired.append(session)
        return self._store.store(session, *others)

    def _enter(self, request: FeaturesRequest, origin: Origin, now_ms: int) -> tuple[SessionLookup, FeatureEvaluation]:
        configuration = self.configuration
        lookup = find_or_create_session(
            self.sessions, configuration, request.args, origin, now_ms=now_ms, new_id=self._new_id
        )
        self._retired.extend(lookup.retired)
        return lookup, FeatureEvaluation(configuration, lookup.session, request, now_ms=now_ms, new_id=self._new_id)

    async def _features_with_plugins(
        self, plugins: PluginHooks, request: FeaturesRequest, origin: Origin, now_ms: int
    ) -> bytes:
        """The same with the calls of plugins in between; a session that ends meanwhile is replaced by a new one."""
        while True:
            lookup, evaluation = self._enter(request, origin, now_ms)
            async with self._locks.lock_session(lookup.session):
                if lookup.is_new:
                    await plugins.session_started(lookup.session, now_ms)
                evaluation.look_up()
                await plugins.fill(evaluation, now_ms)
                evaluation.evaluate()
                await plugins.variants_assigned(evaluation, now_ms)
                await plugins.impressions_added(lookup.session, evaluation.shown, now_ms)
                if not self.sessions.holds(lookup.session):
                    await self._store.store(*lookup.retired)
                    continue
                response = self._respond(lookup, evaluation, now_ms)
            return await response

    def signal(self, body: JsonObject) -> Awaitable[None]:
        """Carry out `signal` (§4); it is durable when this has been awaited.

        Raises:
            RequestError: What was carried out before the error is durable too, when it comes from awaiting.
        """
        request, now_ms = SignalRequest.parse(body), self._clock_ms()
        session = session_of(self.sessions, self.configuration.definition, request.id, now_ms)
        if self._plugins is not None:
            return self._signal_with_plugins(self._plugins, session, request, now_ms)
        try:
            self._apply(session, request, now_ms)
        except RequestError as error:
            if not session.has_changes:
                raise
            return self._save_then_raise(session, error, now_ms)
        return self._signalled(session, request, now_ms)

    async def _signal_with_plugins(
        self, plugins: PluginHooks, session: Session, request: SignalRequest, now_ms: int
    ) -> None:
        async with self._locks.lock_session(session):
            if not self.sessions.holds(session):
                raise SessionGoneError
            try:
                effects = self._apply(session, request, now_ms)
            except RequestError:
                if session.has_changes:
                    await self._save(session, now_ms)
                raise
            await plugins.impressions_added(session, effects.shown, now_ms)
            if effects.event is not None:
                await plugins.event_received(session, *effects.event, now_ms)
            if not self.sessions.holds(session):
                raise SessionGoneError
            await self._signalled(session, request, now_ms)

    def _apply(self, session: Session, request: SignalRequest, now_ms: int) -> Effects:
        return apply_signal(self.configuration, session, request, now_ms=now_ms, new_id=self._new_id)

    def _signalled(self, session: Session, request: SignalRequest, now_ms: int) -> Durable[None]:
        for kind in request.kinds:
            self.signals_by_kind[kind] += 1
        return Durable(None, self._save(session, now_ms))

    async def _save_then_raise(self, session: Session, error: RequestError, now_ms: int) -> None:
        await self._save(session, now_ms)
        raise error

    def external(self, body: JsonObject) -> Awaitable[None]:
        """Carry out `external` (§5); it is durable when this has been awaited.

        Raises:
            RequestError: Nothing was done.
        """
        request, now_ms = ExternalRequest.parse(body), self._clock_ms()
        session = session_of(self.sessions, self.configuration.definition, request.id, now_ms)
        ignored = apply_external(self.configuration, session, request, now_ms=now_ms)
        if ignored:
            log.debug("external value ignored, the first one wins", session=session.id, outputs=ignored)
        return Durable(None, self._save(session, now_ms))

    async def refresh(self, persistent_id: str) -> None:
        """Make sure that what is known here of a device's session is what is stored; alone, a server always knows.

        Raises:
            NotStoredError: The store does not answer.
        """

    def session(self, persistent_id: str, *, with_details: bool = False) -> dict[str, Any]:
        """The session object of a device's active session (§6).

        Raises:
            UnknownError: There is none.
        """
        session = self.sessions.by_persistent_id(persistent_id, self._clock_ms())
        if session is None:
            raise UnknownError(f"no active session for '{persistent_id}'")
        answer = self.configuration.encoder.session(session)
        return {**answer, **session_details(session)} if with_details else answer

    # --- ends of sessions -------------------------------------------------------------------------

    @property
    def retired_count(self) -> int:
        """Sessions that are over and still in memory."""
        return len(self._retired)

    @property
    def set_aside_count(self) -> int:
        """Sessions that are over and cannot be finished, see `sweep`."""
        return len(self._set_aside)

    def adopt(self, sessions: Sequence[Session]) -> None:
        """Take over sessions from the journal of an earlier process."""
        now_ms = self._clock_ms()
        for session in sessions:
            if not self.sessions.is_alive(session, now_ms):
                self._retired.append(session)
            elif (displaced := self.sessions.add(session)) is not None:
                self._retired.append(displaced)

    async def sweep(self) -> int:
        """Retire up to `CHUNK` expired sessions and store up to as many retired ones.

        A session whose record for the warehouse cannot be built is set aside: it stays in the journal as it is, and
        is tried again after the next start. The others go on.

        Returns:
            How many sessions were stored or set aside; when it is not 0 there may be more to do.

        Raises:
            NotStoredError: The sessions stay retired and are stored by a later call.
        """
        self._retired.extend(self.sessions.expire(self._clock_ms(), CHUNK))
        chunk, size_bytes = list[Session](), 0
        while self._retired and len(chunk) < CHUNK and size_bytes < CHUNK_BYTES:
            chunk.append(self._retired.popleft())
            size_bytes += chunk[-1].size_bytes
        finished: dict[str, bytes] = {}
        over = [session for session in chunk if self._finish(session, finished)]
        if over:
            try:
                await self._store.finish(over, finished)
            except Exception:
                self._retired.extendleft(reversed(over))
                raise
        return len(chunk)

    async def sweep_all(self) -> None:
        """Retire and store all expired sessions, and send the flushes that are pending.

        Raises:
            NotStoredError: As `sweep`.
        """
        while await self.sweep() or self.sessions.has_due(self._clock_ms()):
            await self._yield_to_event_loop()  # storing waits for the disk, but there may be nothing to store
        await self._flush_devices()

    async def retire_all(self) -> None:
        """End every active session now (§7, §11.6).

        Raises:
            NotStoredError: As `sweep`.
        """
        now_ms = self._clock_ms()
        active = list(self.sessions)
        for start in range(0, len(active), CHUNK):
            chunk = [session for session in active[start : start + CHUNK] if self.sessions.holds(session)]
            for session in chunk:
                if self.sessions.is_alive(session, now_ms):
                    session.retire(now_ms)
                self.sessions.remove(session)
            self._retired.extend(chunk)
            await self._store.store(*chunk)
            await self._yield_to_event_loop()
        await self.sweep_all()

    def _finish(self, session: Session, finished: dict[str, bytes]) -> bool:
        """Add what is to be logged of a session, or set the session aside; whether it can be ended."""
        if session.no_log or not self._logs_sessions:
            return True
        try:
            finished[session.id] = finish(session, self.sessions.expiry_ms(session)).to_json()
        except Exception as error:  # whatever is wrong with one session must not hold up the others
            if session.id not in self._set_aside:
                log.error("session set aside: it cannot be finished", session=session.id, exc_info=error)
            self._set_aside[session.id] = session
            return False
        return True

    # --- configuration ----------------------------------------------------------------------------

    def last_flush_ms(self, device: str) -> int:
        """The `lastFlushTime` of a device, as in `features`; 0 when it has no session (§8)."""
        session = self.sessions.by_persistent_id(device, self._clock_ms())
        return 0 if session is None else session.last_flush_ms

    async def apply(self, configuration: Configuration) -> None:
        """Put a configuration in force; requests under way go on with the old one (§9.4).

        Registered devices are sent what to drop, at a later `sweep_all` when that cannot be stored now. All other
        sessions keep their memoized outputs.

        Raises:
            NotStoredError: The FDL cannot be stored; the old configuration stays in force.
        """
        await self._store.store_definition(configuration.definition)
        old, self.configuration = self.configuration, configuration
        timeout_ms, max_length_ms = limits_ms(configuration.settings)
        if (timeout_ms, max_length_ms) != (self.sessions.timeout_ms, self.sessions.max_length_ms):
            self.sessions.timeout_ms, self.sessions.max_length_ms = timeout_ms, max_length_ms
            self.sessions.reschedule()
        self._flushes.extend(flushes(old, configuration))
        try:
            await self._flush_devices()
        except NotStoredError as error:
            log.error("flushes are sent later", devices=len(self._flushes), reason=str(error))

    async def _flush_devices(self) -> None:
        if self._is_flushing:
            return
        self._is_flushing = True
        try:
            while self._flushes:
                await self._flush(self._flushes[0])
                self._flushes.popleft()
        finally:
            self._is_flushing = False

    async def _flush(self, flush: Flush) -> None:
        now_ms = self._clock_ms()
        session = self.sessions.by_persistent_id(flush.device, now_ms)
        if session is not None:
            if flush.features is None:
                session.flush(now_ms)
            else:
                session.close(record for record in session.open_records if record.feature in flush.features)
            await self._store.store(session)
        if flush.features is None:
            self._listeners.flush_cache(flush.device, now_ms if session is None else session.last_flush_ms)
        else:
            self._listeners.flush_features(flush.device, flush.features)
        if flush.device not in self.configuration.devices:
            self._listeners.disconnect(flush.device)


def limits_ms(settings: Settings) -> tuple[int, int | None]:
    """Session timeout and greatest length in milliseconds."""
    longest = settings.max_session_s
    return round(settings.session_timeout_s * 1000), None if longest is None else longest * 1000
