"""Sessions in Redis, shared by several servers: what each of them has in memory, and how it may be stored.

What is in memory is held by a lease: the epoch in which this server took the session over, and the version it
stored last. A store that Redis rejects ends the lease, and the copy is dropped with everything that was done
to it; so does a store whose outcome is unknown.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import orjson
import structlog

from iserver.errors import FencedError, NotStoredError
from iserver.evaluation.definition import Definition
from iserver.sessions.changes import index_keys
from iserver.sessions.memo_record import Change
from iserver.sessions.registry import ExpiryPosition, Keys, Sessions
from iserver.sessions.session import Session
from iserver.storage.redis.client import RedisArguments, RedisClient
from iserver.storage.redis.decode import RedisDefinitions, Unreadable, UnreadableError, read_changes, rebuild, uses
from iserver.storage.redis.scripts import DUE, FENCED, FIND, FINISH, LOOK, RECLAIM, STORE, STORED

log = structlog.get_logger("iserver.redis")

MANY_CHUNKS = 64
"""A session in more parts than this, and than its snapshot would have changes, is rewritten as one snapshot."""

SOME = 256
"""How many sessions are taken over at once."""

DEFINITION_S = 3600
"""How long a definition stays after the last server had it in force, also when no session uses it."""


async def back_off(number: int) -> None:
    """Let another server go first, longer and more at random the more often one had to."""
    await asyncio.sleep(random.uniform(0, min(0.2, 0.001 * 2**number)))


@dataclass(slots=True, eq=False)
class _Lease:
    session: Session
    epoch: int
    version: int = 0
    chunks: int = 0
    uses: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Takeover:
    """What a script has found.

    Attributes:
        fresh: Sessions that are in memory only now.
        forgotten: Sessions that are this server's, but not in memory any more.
        unknown: Fingerprints of definitions that are needed for that.
    """

    fresh: list[Session]
    forgotten: list[str]
    unknown: set[str]


class SessionHolder(Protocol):
    """Who has sessions in memory: the engine of this server."""

    @property
    def definition(self) -> Definition:
        """The definition in force."""

    @property
    def sessions(self) -> Sessions:
        """The active sessions of this server."""

    def adopt(self, sessions: Sequence[Session]) -> None:
        """Take over sessions that are in memory only now."""


class RedisSessions:
    """The sessions of one deployment, as one server sees them. Call `serve` before anything else.

    Attributes:
        losses: How many sessions were forgotten because another server has them, or may have them.
        waiting: How many finished sessions wait for the warehouse, when last looked at.
        client: The connection to Redis.
        server_id: Identifies this process.
        prefix: What the names of all keys begin with.
        definitions: The definitions that sessions refer to.
    """

    def __init__(self, client: RedisClient, prefix: str, server_id: str, clock_ms: Callable[[], int]) -> None:
        self.losses = 0
        self.waiting = 0
        self.client = client
        self.server_id = server_id
        self.prefix = f"{{{prefix}}}:"
        self._clock_ms = clock_ms
        self._leases: dict[str, _Lease] = {}
        self._unreadable = Unreadable()
        self.definitions = RedisDefinitions(client, self.prefix, self._unreadable)
        self._holder: SessionHolder

    def serve(self, holder: SessionHolder) -> None:
        """Give a holder the sessions that are taken over, and take from it those that are lost."""
        self._holder = holder

    async def close(self) -> None:
        """Disconnect from Redis. The sessions stay there, for any server."""
        await self.client.close()

    async def store_definition(self, definition: Definition) -> None:
        """Store the FDL of a definition before the first session uses it."""
        await self.definitions.store(definition)

    @property
    def unreadable_count(self) -> int:
        """How many sessions, and definitions, were found in Redis that cannot be read here."""
        return len(self._unreadable)

    # --- storing ----------------------------------------------------------------------------------

    def store(self, *sessions: Session) -> Awaitable[None]:
        """Store the changes of sessions: with a new session all or none, else each for itself.

        The changes are taken when this is called; await the result before acknowledging them.

        Raises:
            FencedError: Another server has one of them; it is forgotten here.
            NotStoredError: It is not known whether they are stored; they are forgotten here.
        """
        taken = [(session, session.take_changes()) for session in sessions]
        if not taken:
            return _nothing()
        is_one = any(changes and changes[0][0] == "start" for _, changes in taken)
        units = [taken] if is_one else [[item] for item in taken]
        return _all_stored([self._store(unit) for unit in units])

    def _store(self, unit: Sequence[tuple[Session, list[Change]]]) -> asyncio.Future[bytes]:
        arguments: list[str | int | bytes] = []
        leases = []
        for session, changes in unit:
            lease = self._lease(session, changes)
            if lease is None:
                self._forget(session for session, _ in unit)
                refused: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
                refused.set_result(FENCED)
                return refused
            leases.append(lease)
            arguments += self._part(lease, changes)
        now_ms = self._clock_ms()

        def words(is_again: bool) -> list[str | int | bytes]:
            return [self.prefix, self.server_id, now_ms, int(is_again), *arguments]

        def take(answer: bytes) -> bytes:
            if answer != STORED:
                self._end(leases)
            return answer

        stored = self.client.script(STORE, words, take)
        stored.add_done_callback(lambda done: self._end(leases) if _has_failed(done) else None)
        return stored

    def _lease(self, session: Session, changes: Sequence[Change]) -> _Lease | None:
        """The lease of a session; `None` when it was lost."""
        lease = self._leases.get(session.id)
        if lease is not None and lease.session is session:
            return lease
        if lease is None and changes and changes[0][0] == "start":
            lease = self._leases[session.id] = _Lease(session, 1)
            return lease
        return None

    def _part(self, lease: _Lease, changes: list[Change]) -> list[str | int | bytes]:
        session = lease.session
        keys = [_key(name, value) for name, value in index_keys(session, changes)]
        mode = "append"
        if lease.version == 0:
            mode, keys = "create", [self._device_key(session.persistent_id), *keys]
        elif lease.chunks >= max(MANY_CHUNKS, session.size):
            mode, changes, lease.chunks = "rewrite", list(session.describe()), 0
        due_ms = self._holder.sessions.expiry_ms(session)
        expiry_ms = due_ms if session.end_ms is None else 0
        data = orjson.dumps(changes) if changes else b""
        used = uses(changes) - lease.uses
        lease.uses |= used
        part: list[str | int | bytes] = [
            session.id,
            mode,
            lease.epoch,
            lease.version,
            expiry_ms,
            due_ms,
            data,
            len(keys),
            *keys,
            len(used),
            *used,
        ]
        lease.version += 1
        lease.chunks += bool(changes)
        return part

    def _end(self, leases: Iterable[_Lease]) -> None:
        """Forget sessions that are not this server's any more, or may not be as they are here."""
        for lease in leases:
            if self._leases.get(lease.session.id) is lease:
                del self._leases[lease.session.id]
                self._holder.sessions.remove(lease.session)
                self.losses += 1

    def _forget(self, sessions: Iterable[Session]) -> None:
        for session in sessions:
            self._holder.sessions.remove(session)
            self.losses += 1
            lease = self._leases.get(session.id)
            if lease is not None and lease.session is session:
                del self._leases[session.id]

    async def finish(self, sessions: Sequence[Session], finished: Mapping[str, bytes]) -> None:
        """Move sessions to the queue for the warehouse; those that another server has are just forgotten.

        Raises:
            NotStoredError: Not all of them are known to be there; call it again.
        """
        ends = []
        for session in sessions:
            lease = self._leases.get(session.id)
            if lease is None or lease.session is not session:
                continue
            device = self._device_key(session.persistent_id)
            names = session.definition.keys[1:]
            keys = [_key(name, value) for name, value in session.keys.items() if name in names]
            end = finished.get(session.id, b"")
            arguments: RedisArguments = [
                self.prefix,
                self.server_id,
                session.id,
                lease.epoch,
                lease.version,
                end,
                device,
                *keys,
            ]
            ends.append(self.client.script(FINISH, arguments, partial(self._finished, lease)))
        outcomes = await asyncio.gather(*ends, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        self.waiting += len(finished)

    def _finished(self, lease: _Lease, answer: bytes) -> None:
        if self._leases.get(lease.session.id) is lease:
            del self._leases[lease.session.id]
        if answer != STORED:
            log.debug("a session was another server's", session=lease.session.id)

    # --- taking over ------------------------------------------------------------------------------

    async def find(self, keys: Keys) -> None:
        """Take over the sessions that keys lead to, and let the keys lead to them here."""
        names = [self._index_key(name, value) for name, value in keys]

        def take(answer: list[Any]) -> _Takeover:
            entries, alive = answer
            found = self._take([entry for entry in entries if entry])
            if alive and (reason := self._unreadable.get(alive.decode())) is not None:
                raise NotStoredError(f"session {alive.decode()}: {reason}")
            for (name, value), entry in zip(keys, entries, strict=False):
                if name != self._persistent_key:
                    lease = self._leases.get(entry[0].decode()) if entry else None
                    self._holder.sessions.point(name, value, lease.session if lease else None)
            return found

        for _ in range(8):
            found = await self.client.script(FIND, [self.prefix, self.server_id, self._clock_ms(), *names], take)
            if not found.forgotten:
                return
            await self._reclaim(found)
        raise NotStoredError("too many servers want this session at the same time")

    async def take_due(
        self, latest_ms: int | None, *, after: ExpiryPosition | None
    ) -> tuple[list[Session], ExpiryPosition | None]:
        """Take over some of the sessions that are over."""

        def take(answer: list[Any]) -> tuple[_Takeover, ExpiryPosition | None]:
            entries, place = answer
            return self._take(entries), (place[0].decode(), place[1].decode()) if place else None

        latest = "" if latest_ms is None else latest_ms
        found, place = await self.client.script(DUE, [self.prefix, self.server_id, latest, SOME, *(after or ())], take)
        if found.forgotten:
            found.fresh += await self._reclaim(found)
        return found.fresh, place

    async def poll(self) -> None:
        """See how many finished sessions wait, and bring back the definition in force to a Redis that has lost it."""
        definition = self._holder.definition
        arguments: RedisArguments = [self.prefix, definition.fingerprint, DEFINITION_S]
        self.waiting, is_there = await self.client.script(LOOK, arguments)
        if not is_there:
            await self.store_definition(definition)

    async def _reclaim(self, found: _Takeover) -> list[Session]:
        await self.definitions.load(found.unknown)
        again: _Takeover = await self.client.script(
            RECLAIM, [self.prefix, self.server_id, *found.forgotten], self._take
        )
        return again.fresh

    def _take(self, entries: Sequence[Any]) -> _Takeover:
        """Put into memory what was taken over."""
        found = _Takeover([], [], set())
        for entry in entries:
            if not entry:
                continue
            session_id, epoch = entry[0].decode(), int(entry[1])
            lease = self._leases.get(session_id)
            if len(entry) == 2:
                if (lease is None or lease.epoch != epoch) and session_id not in self._unreadable:
                    found.forgotten.append(session_id)
                continue
            if lease is not None:
                self._end([lease])
            try:
                changes = read_changes(entry[3])
                used = uses(changes)
                if unknown := used - self.definitions.known.keys() - self._unreadable.keys():
                    found.forgotten.append(session_id)
                    found.unknown |= unknown
                    continue
                for name in used & self._unreadable.keys():
                    raise UnreadableError(f"definition {name}: {self._unreadable[name]}")
                session = rebuild(session_id, changes, self.definitions.known)
            except UnreadableError as error:
                self._unreadable.note(session_id, str(error))
                continue
            self._unreadable.pop(session_id, None)
            self._leases[session_id] = _Lease(session, epoch, int(entry[2]), len(entry[3]), used)
            found.fresh.append(session)
        self._holder.adopt(found.fresh)
        return found

    # --- names ------------------------------------------------------------------------------------

    @property
    def _persistent_key(self) -> str:
        return self._holder.definition.persistent_key

    def _index_key(self, name: str, value: str) -> str:
        return self._device_key(value) if name == self._persistent_key else _key(name, value)

    @staticmethod
    def _device_key(persistent_id: str) -> str:
        return f"p:{persistent_id}"


def _key(name: str, value: str) -> str:
    return f"k:{name}:{value}"


def _has_failed(done: asyncio.Future[Any]) -> bool:
    return done.cancelled() or done.exception() is not None


async def _all_stored(units: Sequence[asyncio.Future[bytes]]) -> None:
    for outcome in await asyncio.gather(*units, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
        if outcome == FENCED:
            raise FencedError
        if outcome != STORED:
            raise NotStoredError("the answer of the session store was lost, and it has gone on since")


async def _nothing() -> None:
    """The awaitable of a store that has nothing to do."""
