"""What an engine needs from outside: where sessions are stored, locks for them, and the operator's plugins."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from iserver.configuration.invalidation import DeviceListeners
from iserver.evaluation.definition import Definition
from iserver.protocol.feature_requests import FeatureEvaluation, NewId
from iserver.sessions.finished import Event
from iserver.sessions.memo_record import MemoRecord
from iserver.sessions.registry import ExpiryPosition, Keys
from iserver.sessions.session import Session


class SessionStore(Protocol):
    """Where sessions are durable."""

    def store(self, *sessions: Session) -> Awaitable[None]:
        """Store the changes of sessions; they are taken before this returns.

        Raises:
            NotStoredError: They are not durable.
        """

    async def finish(self, sessions: Sequence[Session], finished: Mapping[str, bytes]) -> None:
        """Move sessions from the running to the finished.

        Args:
            sessions: Sessions that are over.
            finished: What is to be logged of them, by session id, as `FinishedSession.to_json` writes it.

        Raises:
            NotStoredError: They are as they were.
        """

    async def store_definition(self, definition: Definition) -> None:
        """Store the FDL of a definition before the first session uses it."""


class SessionLocks(Protocol):
    """Serialises the requests of one session while they await plugins."""

    def lock_session(self, session: Session) -> AbstractAsyncContextManager[None]:
        """Hold the lock of a session."""


class PluginHooks(Protocol):
    """Code of the operator's own, called while sessions live (§16); it changes sessions, and never raises."""

    async def session_started(self, session: Session, now_ms: int) -> None:
        """Fill a new session."""

    async def fill(self, evaluation: FeatureEvaluation, now_ms: int) -> None:
        """Fill the features that must be computed."""

    async def variants_assigned(self, evaluation: FeatureEvaluation, now_ms: int) -> None:
        """Called after variants were assigned."""

    async def impressions_added(self, session: Session, records: Sequence[MemoRecord], now_ms: int) -> None:
        """Called after impressions were added."""

    async def event_received(self, session: Session, record: MemoRecord | None, event: Event, now_ms: int) -> None:
        """Called after an event was stored."""


class SharedSessionStore(SessionStore, Protocol):
    """Where sessions are durable, and from where any server may take them.

    Attributes:
        losses: How many sessions were forgotten because another server has them, or may have them.
        unreadable_count: How many sessions cannot be read and stay where they are.
    """

    losses: int

    @property
    def unreadable_count(self) -> int:
        """See above."""

    async def find(self, keys: Keys) -> None:
        """Take over the sessions that keys lead to, and let the keys lead to them here.

        Args:
            keys: Names and values, the most telling first; it ends at the first session that is alive.

        Raises:
            NotStoredError: The store does not answer.
        """

    async def take_due(
        self, latest_ms: int | None, *, after: ExpiryPosition | None
    ) -> tuple[list[Session], ExpiryPosition | None]:
        """Take over some of the sessions that are over.

        Args:
            latest_ms: They were over by then; `None` for all sessions, active ones too.
            after: The last one that was looked at; `None` to begin.

        Returns:
            Those that are in memory only now, and the last one that was looked at, `None` when there are no more.
        """


@dataclass(frozen=True, slots=True)
class EngineEnvironment:
    """What an engine is given besides its configuration and its store.

    Attributes:
        listeners: The registered devices that are connected.
        clock_ms: The current time in epoch milliseconds.
        new_id: Makes ids of sessions, events and cache fills.
        locks: Serialises the requests of one session while plugins run.
        yield_to_event_loop: Lets requests go before the rest of long work.
        plugins: The operator's plugins; `None` when there are none.
        logs_sessions: Whether finished sessions go to the warehouse (`--nolog` turns it off).
    """

    listeners: DeviceListeners
    clock_ms: Callable[[], int]
    new_id: NewId
    locks: SessionLocks
    yield_to_event_loop: Callable[[], Awaitable[None]]
    plugins: PluginHooks | None = None
    logs_sessions: bool = True
