"""All active sessions: who is found by which key, and who expires when (protocol §11.2 and §11.3).

Looking up, creating and retiring are synchronous, so that no two requests of one visitor can interleave.
Expiry costs nothing while sessions are in use: each waits in the slot of a timing wheel for the second in
which it would expire, and only when that second has come is it looked at again.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from iserver.sessions.session import Session

Keys = Sequence[tuple[str, str]]
"""Names and values of session keys, the most telling first."""

ExpiryPosition = tuple[str, str]
"""Where a session stands among all, in the order in which they are over: when it is over, and its id."""

_NOBODY: set[Session] = set()


class Match(msgspec.Struct, frozen=True):
    """What a lookup found.

    Attributes:
        session: The candidate, `None` when no key is known.
        conflicts: Whether it has another value for one of the given keys, and so is not the one (§11.2).
    """

    session: Session | None
    conflicts: bool = False


class Sessions:
    """The active sessions of one server.

    Attributes:
        timeout_ms: Inactivity after which a session expires.
        max_length_ms: Age at which it expires however active it is; `None` for no limit.
        begun: How many sessions were ever added.
    """

    def __init__(self, *, timeout_ms: int, max_length_ms: int | None = None) -> None:
        self.timeout_ms = timeout_ms
        self.max_length_ms = max_length_ms
        self.begun = 0
        self._by_persistent_id: dict[str, Session] = {}
        self._by_key: dict[tuple[str, str], Session] = {}
        self._wheel: dict[int, set[Session]] = {}
        self._seconds: list[int] = []  # a heap of the wheel's slots
        self._unplaced: list[set[Session]] = []  # slots of an earlier wheel

    def __len__(self) -> int:
        return len(self._by_persistent_id)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._by_persistent_id.values())

    @property
    def indexed_keys(self) -> int:
        """How many session keys lead to a session."""
        return len(self._by_key)

    def expiry_ms(self, session: Session) -> int:
        """When a session ends or has ended, as things stand (§11.3)."""
        if session.end_ms is not None:
            return session.end_ms
        expiry = session.last_activity_ms + self.timeout_ms
        if self.max_length_ms is not None:
            expiry = min(expiry, session.start_ms + self.max_length_ms)
        return expiry

    def is_alive(self, session: Session, now_ms: int) -> bool:
        """Whether requests may still find a session; it may be over before the sweeper comes by."""
        return session.end_ms is None and now_ms < self.expiry_ms(session)

    def by_persistent_id(self, persistent_id: str, now_ms: int) -> Session | None:
        """The active session of a device (§6)."""
        session = self._by_persistent_id.get(persistent_id)
        return session if session is not None and self.is_alive(session, now_ms) else None

    def find(self, keys: Mapping[str, str], persistent_key: str, now_ms: int) -> Match:
        """Find the session that keys belong to (§11.2).

        Args:
            keys: The keys a request gives, by name; at least one.
            persistent_key: Name of the persistent key.
            now_ms: Sessions that expired before count as absent.
        """
        candidate = None
        if persistent_key in keys:
            candidate = self.by_persistent_id(keys[persistent_key], now_ms)
        if candidate is None:
            found = (self._by_key.get(item) for item in keys.items())
            candidate = next((s for s in found if s is not None and self.is_alive(s, now_ms)), None)
        if candidate is None:
            return Match(None)
        fields = candidate.fields
        for name, value in keys.items():
            if fields.get(name, value) != value:
                return Match(candidate, conflicts=True)
        return Match(candidate)

    def add(self, session: Session) -> Session | None:
        """Make a session findable and let it expire.

        Returns:
            The session of the same device that it displaces: one that is over but was not swept yet.
        """
        self.begun += 1
        persistent_id = session.persistent_id
        displaced = self._by_persistent_id.get(persistent_id)
        if displaced is not None:
            self.remove(displaced)
        self._by_persistent_id[persistent_id] = session
        self.index_keys(session)
        self._schedule(session)
        return displaced

    def index_keys(self, session: Session) -> None:
        """Make a session findable by the session keys it has by now."""
        for name in session.definition.keys[1:]:
            value = session.fields.get(name)
            if value is not None:
                self._by_key[name, str(value)] = session

    def point(self, name: str, value: str, session: Session | None) -> None:
        """Let a session key lead to a session, or to none, as a shared store knows it."""
        if session is None:
            self._by_key.pop((name, value), None)
        else:
            self._by_key[name, value] = session

    def remove(self, session: Session) -> None:
        """Make a session unfindable, and drop it."""
        self._wheel.get(session.due_s, _NOBODY).discard(session)
        if self._by_persistent_id.get(session.persistent_id) is session:
            del self._by_persistent_id[session.persistent_id]
        for item in session.keys.items():
            if self._by_key.get(item) is session:
                del self._by_key[item]

    def holds(self, session: Session) -> bool:
        """Whether a session is among the active ones."""
        return self._by_persistent_id.get(session.persistent_id) is session

    def expire(self, now_ms: int, limit: int) -> list[Session]:
        """Remove sessions whose time has come.

        Args:
            now_ms: The current time.
            limit: How many sessions to look at, so that requests do not wait for long.

        Returns:
            The sessions removed, at most `limit`. `has_due` tells whether there is more to do.
        """
        expired: list[Session] = []
        for _ in range(limit):
            slot = self._due_slot(now_ms)
            if slot is None:
                break
            session = slot.pop()
            if not self.holds(session):
                continue
            if self.is_alive(session, now_ms):
                self._schedule(session)
            else:
                self.remove(session)
                expired.append(session)
        return expired

    def has_due(self, now_ms: int) -> bool:
        """Whether `expire` has something to look at."""
        return self._due_slot(now_ms) is not None

    def _due_slot(self, now_ms: int) -> set[Session] | None:
        """Sessions to look at, at least one; `None` when there is none."""
        while self._unplaced:
            if self._unplaced[-1]:
                return self._unplaced[-1]
            self._unplaced.pop()
        while self._seconds and self._seconds[0] * 1000 <= now_ms:
            slot = self._wheel[self._seconds[0]]
            if slot:
                return slot
            del self._wheel[heapq.heappop(self._seconds)]
        return None

    def reschedule(self) -> None:
        """Let `expire` look at every session, because limits have changed or many are gone.

        It costs a look at each, which falls to the calls of `expire`; meanwhile requests find only what is alive by
        the new limits, as ever.
        """
        self._unplaced += self._wheel.values()
        self._wheel = {}
        self._seconds = []

    def _schedule(self, session: Session) -> None:
        second = -(-self.expiry_ms(session) // 1000)  # the first whole second in which it is over
        if second not in self._wheel:
            self._wheel[second] = set()
            heapq.heappush(self._seconds, second)
        self._wheel[second].add(session)
        session.due_s = second
