"""What an engine needs from outside: where sessions are stored, locks for them, and the operator's plugins."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from iserver.evaluation.definition import Definition
from iserver.protocol.feature_requests import Visit
from iserver.sessions.finished import Event
from iserver.sessions.memo_record import Record
from iserver.sessions.registry import Keys, Place
from iserver.sessions.session import Session


class Journal(Protocol):
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

    async def keep_definition(self, definition: Definition) -> None:
        """Store the FDL of a definition before the first session uses it."""


class Turns(Protocol):
    """Lets the requests of one session go one after the other where they must wait in between."""

    def with_session(self, session: Session) -> AbstractAsyncContextManager[None]:
        """Be alone with a session."""


class Plugins(Protocol):
    """Code of the operator's own, called while sessions live (§16); it changes sessions, and never raises."""

    async def begin(self, session: Session, now_ms: int) -> None:
        """Fill a new session."""

    async def fill(self, visit: Visit, now_ms: int) -> None:
        """Fill the features that must be computed."""

    async def assigned(self, visit: Visit, now_ms: int) -> None:
        """Hear of new assignments."""

    async def shown(self, session: Session, records: Sequence[Record], now_ms: int) -> None:
        """Hear of new impressions."""

    async def happened(self, session: Session, record: Record | None, event: Event, now_ms: int) -> None:
        """Hear of an event."""


class SharedStore(Journal, Protocol):
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

    async def take_due(self, latest_ms: int | None, *, after: Place | None) -> tuple[list[Session], Place | None]:
        """Take over some of the sessions that are over.

        Args:
            latest_ms: They were over by then; `None` for all sessions, active ones too.
            after: The last one that was looked at; `None` to begin.

        Returns:
            Those that are in memory only now, and the last one that was looked at, `None` when there are no more.
        """
