"""Several gateways as one, over Redis Streams: one order of all ticks, applied by every gateway.

One stream holds the entries of all gateways. A script appends groups under consecutive numbers and remembers the
last sequence of each gateway, so that a group whose answer was lost can be sent again and is still there only once.
From time to time one gateway writes a snapshot and cuts the stream behind it; who joins later begins there.

A tick is acknowledged when it has come back and been applied here. It then lies in Redis, and survives the death of
every gateway; whether it survives that of Redis is decided by Redis' ``appendonly`` and ``appendfsync``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import urldefrag

import structlog

from gateway.cluster.lease import Lease
from gateway.cluster.redis_scripts import FINISH_SNAPSHOT, PUBLISH
from gateway.cluster.replication import Entry, Follower, Gap, Snapshot, SnapshotLoader, take_snapshot
from gateway.engine.engine import Change, Engine
from gateway.engine.ids import IdCounter
from shared.errors import Problem, StartupError
from shared.tasks import Supervisor, cancel_and_wait, retrieve_exception

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = structlog.get_logger("gateway.bus")

MEMBERS: Final = 1024
READ_COUNT: Final = 128
WRITE_COUNT: Final = 256
BLOCK_S: Final = 2.0
COMMAND_TIMEOUT_S: Final = 5.0
RETRY_S: Final = 0.2
SEQUENCE_LIFE_S: Final = 7 * 86400
LEASE_S: Final = 60
MOST_WAITING: Final = 100_000
MOST_WAITING_BYTES: Final = 64 * 2**20
BATCH_BYTES: Final = 4 * 2**20
Fields: TypeAlias = dict[bytes, bytes]


@dataclass(frozen=True, slots=True)
class BusOptions:
    """How a gateway joins a bus.

    Attributes:
        url: Where Redis is, without the name of the bus.
        name: The name of the bus; gateways with the same name are joined.
        timeout_s: How long a tick may wait for Redis before its sender receives 503, in seconds.
        snapshot_every: After how many entries a snapshot is written; as many remain before it.
    """

    url: str
    name: str = "gateway"
    timeout_s: float = 10.0
    snapshot_every: int = 20_000

    @property
    def shown(self) -> str:
        """The address without a user name and a password, for messages."""
        scheme, _, rest = self.url.partition("://")
        return f"{scheme}://{rest.rpartition('@')[2]}"

    @classmethod
    def of(cls, url: str) -> BusOptions:
        """The options of ``redis://HOST:PORT/DB#NAME``."""
        base, name = urldefrag(url)
        return cls(base, name or "gateway")


@dataclass(slots=True)
class _Pending:
    done: asyncio.Future[None]
    deadline: float


class RedisBus:
    """This gateway's place on the bus; a `gateway.engine.engine.Bus`.

    Args:
        options: Where the bus is.
        engine: The engine, before its first tick.
        ids: The id counter; on a bus it gives only numbers of this gateway's own remainder.
        now: The current time, aware UTC.
        lost: Called once when this gateway can no longer follow; it must be started again.
    """

    def __init__(
        self,
        options: BusOptions,
        engine: Engine,
        ids: IdCounter,
        *,
        now: Callable[[], datetime],
        lost: Callable[[], None],
        tasks: Supervisor,
    ) -> None:
        self._options = options
        self._engine = engine
        self._ids = ids
        self._now = now
        self._lost = lost
        self._supervisor = tasks
        self._origin = secrets.token_hex(8)
        self._follower = Follower(engine, self._origin)
        self._outgoing: deque[tuple[int, bytes]] = deque()
        self._unsent: list[tuple[int, bytes]] = []
        self._pending: dict[int, _Pending] = {}
        self._read_count = READ_COUNT
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._snapshot_task: asyncio.Task[None] | None = None
        self._snapshot_at = 0
        self._redis: Redis | None = None
        self.is_ready = False
        self._is_closing = False
        prefix = f"gateway:{{{options.name}}}"
        self._stream = f"{prefix}:ticks"
        self._counter = f"{prefix}:number"
        self._sequence = f"{prefix}:sequence:{self._origin}"
        self._members = f"{prefix}:members"
        self._pointer = f"{prefix}:snapshot"
        self._lock = f"{prefix}:snapshot:lock"
        self._lease = f"{prefix}:modules"
        self._leading: asyncio.Task[None] | None = None

    # --- joining and leaving ---

    async def open(self) -> None:
        """Join: take over what the others have, then follow.

        Raises:
            StartupError: Redis cannot be reached, or the client library is not installed.
        """
        try:
            from redis.asyncio import Redis
            from redis.exceptions import RedisError
        except ImportError as error:
            raise StartupError("--bus needs the extra 'redis': pip install 'entrepot[redis]'") from error
        self._failures: tuple[type[BaseException], ...] = (RedisError, OSError, TimeoutError)
        try:
            self._redis = Redis.from_url(
                self._options.url,
                protocol=2,
                socket_timeout=BLOCK_S + COMMAND_TIMEOUT_S,
                socket_connect_timeout=COMMAND_TIMEOUT_S,
                health_check_interval=0,
            )
            member = int(await self._redis.incr(self._members)) % MEMBERS
            self._ids.share(member, MEMBERS)
            await self._catch_up()
        except (*self._failures, ValueError) as error:
            if self._redis is not None:
                await self._redis.aclose()
            raise StartupError(f"cannot join the bus {self._options.shown}: {error}") from error
        self.is_ready = True
        self._tasks = [
            self._supervisor.loop("bus reader", self._read),
            self._supervisor.loop("bus writer", self._write),
        ]
        log.info("joined the bus", name=self._options.name, origin=self._origin, entries=self._follower.applied)

    def run_modules(self, begin: Callable[[], Awaitable[None]], end: Callable[[], Awaitable[None]]) -> None:
        """Compete for the lease on the modules: `begin` when it is won, `end` when it is lost."""
        assert self._redis is not None
        lease = Lease(self._redis, self._lease, self._origin, self._failures)
        self._leading = self._supervisor.loop("bus modules", lambda: lease.live(begin, end))

    async def close(self) -> None:
        """Stop the modules, publish what is waiting, then leave."""
        if self._leading is not None:
            await cancel_and_wait(self._leading)
        waiting = [pending.done for pending in self._pending.values()]
        if waiting and self.is_ready:
            await asyncio.wait(waiting, timeout=self._options.timeout_s)
        self.is_ready = False
        self._is_closing = True
        await cancel_and_wait(*self._tasks, self._snapshot_task)
        self._fail(list(self._pending), "the gateway is stopping")
        if self._redis is not None:
            await self._redis.aclose()

    # --- publishing ---

    def publish(self, groups: Sequence[Sequence[Change]]) -> Awaitable[None]:
        """Hand over groups of simultaneous ticks, to be applied in that order.

        Returns:
            What is done when the last of them has been applied here. It raises `Problem` 503 when Redis did not
            take them in time; then it is unknown whether they will be applied.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        done.add_done_callback(retrieve_exception)
        if len(self._outgoing) >= MOST_WAITING or self._follower.own_bytes > MOST_WAITING_BYTES:
            done.set_exception(Problem(503, "the bus does not answer: too many ticks are waiting for it"))
            return done
        sequence = 0
        for group in groups:
            sequence, payload = self._follower.announce(group)
            self._outgoing.append((sequence, payload))
        self._pending[sequence] = _Pending(done, loop.time() + self._options.timeout_s)
        self._wake.set()
        return done

    async def _write(self) -> None:
        assert self._redis is not None
        script = self._redis.register_script(PUBLISH)
        keys = [self._stream, self._counter, self._sequence]
        while not self._is_closing:
            while not (self._outgoing or self._unsent):
                self._wake.clear()
                await self._wake.wait()
            batch = self._unsent = self._unsent or take_batch(self._outgoing)
            arguments: list[str | int | bytes] = [
                self._origin,
                SEQUENCE_LIFE_S,
                batch[0][0],
                *(payload for _, payload in batch),
            ]
            while not self._is_closing:
                try:
                    await script(keys=keys, args=arguments)
                    self._unsent = []
                    break
                except self._failures as error:  # sent again until Redis has it: the script drops what it knows
                    log.warning("cannot publish on the bus", reason=str(error))
                    self._expire()
                    await asyncio.sleep(RETRY_S)

    def _expire(self) -> None:
        now = asyncio.get_running_loop().time()
        self._fail(
            [number for number, each in self._pending.items() if each.deadline <= now], "the bus does not answer"
        )

    def _fail(self, sequences: Sequence[int], reason: str) -> None:
        for sequence in sequences:
            pending = self._pending.pop(sequence)
            if not pending.done.done():
                pending.done.set_exception(Problem(503, f"{reason}: it is unknown whether this will tick"))

    # --- following ---

    async def _catch_up(self) -> None:
        assert self._redis is not None
        await self._restore()
        target = int(await self._redis.get(self._counter) or 0)
        while self._follower.applied < target:
            try:
                if not await self._apply_some(block_s=None):
                    raise Gap(f"entry {target} is announced, but missing")
            except Gap as gap:
                raise StartupError(f"cannot join the bus {self._options.shown}: {gap}") from gap

    async def _restore(self) -> None:
        assert self._redis is not None
        for _ in range(3):
            found = await self._redis.get(self._pointer)
            if found is None:
                return
            pointer = json.loads(found)
            found_chunks = [await self._redis.lindex(pointer["list"], at) for at in range(pointer["chunks"])]
            chunks = [chunk for chunk in found_chunks if isinstance(chunk, bytes)]
            if len(chunks) == pointer["chunks"]:
                break  # else it was replaced while it was read
        else:
            raise StartupError(f"cannot join the bus {self._options.shown}: its snapshot is incomplete")
        restoring = SnapshotLoader(self._engine, self._now())
        for chunk in chunks:
            restoring.add(chunk)
            await asyncio.sleep(0)
        restoring.finish()
        self._follower.applied = self._snapshot_at = int(pointer["number"])

    async def _read(self) -> None:
        while not self._is_closing:
            try:
                if not await self._apply_some(BLOCK_S):
                    await self._check_position()
                self.is_ready = True
            except Gap as gap:
                self._give_up(str(gap))
                return
            except self._failures as error:
                self.is_ready = False
                log.warning("cannot read the bus", reason=str(error))
                self._expire()
                await asyncio.sleep(RETRY_S)

    async def _apply_some(self, block_s: float | None) -> int:
        """Apply the next entries; answers how many there were."""
        assert self._redis is not None
        block_ms = None if block_s is None else int(block_s * 1000)
        after = f"{self._follower.applied}-0"
        answer: Any = await self._redis.xread({self._stream: after}, count=self._read_count, block=block_ms)
        entries: list[tuple[bytes, Fields]] = answer[0][1] if answer else []
        if entries:
            size = sum([len(value) for _, fields in entries for value in fields.values()])
            self._read_count = max(1, min(READ_COUNT, BATCH_BYTES * len(entries) // max(size, 1)))
        for entry_id, fields in entries:
            self._apply(int(entry_id.partition(b"-")[0]), fields)
        self._snapshot_when_due()
        return len(entries)

    def _apply(self, number: int, fields: Fields) -> None:
        """Apply one entry; an entry that fails is skipped, as it would fail again."""
        failure: Problem | None = None
        try:
            self._follower.take(Entry(number, fields[b"o"].decode(), int(fields[b"s"]), fields[b"g"]))
        except Gap:
            raise
        except Exception:
            self._follower.applied = number
            self._engine.counters.entries_skipped += 1
            log.exception("an entry of the bus cannot be applied and is skipped", entry=number)
            failure = Problem(500, f"entry {number} of the bus cannot be applied")
        if fields.get(b"o") == self._origin.encode():
            pending = self._pending.pop(int(fields[b"s"]), None)
            if pending is not None and not pending.done.done():
                if failure is None:
                    pending.done.set_result(None)
                else:
                    pending.done.set_exception(failure)

    async def _check_position(self) -> None:
        """Nothing new came: is there really nothing?

        Raises:
            Gap: Redis has lost entries, or cut them off before they were read here.
        """
        assert self._redis is not None
        self._expire()
        before = self._follower.applied
        number = int(await self._redis.get(self._counter) or 0)
        if number < before:
            raise Gap(f"the bus is at entry {number}, but {before} had been applied: Redis has lost data")
        if number > before and not await self._apply_some(None):
            raise Gap(f"the bus is at entry {number}, but what follows {before} is gone")

    def _give_up(self, reason: str) -> None:
        log.error("this gateway cannot follow the bus any more and stops", reason=reason)
        self.is_ready = False
        self._fail(list(self._pending), reason)
        self._lost()

    # --- snapshots ---

    def _snapshot_when_due(self) -> None:
        is_busy = self._snapshot_task is not None and not self._snapshot_task.done()
        if not is_busy and self._follower.applied - self._snapshot_at >= self._options.snapshot_every:
            self._snapshot_at = self._follower.applied
            snapshot = take_snapshot(self._engine, self._follower.applied)
            self._snapshot_task = self._supervisor.once("bus snapshot", lambda: self._keep(snapshot))

    async def _keep(self, snapshot: Snapshot) -> None:
        assert self._redis is not None
        with contextlib.suppress(*self._failures):  # the next one will do
            found = await self._redis.get(self._pointer)
            if found is not None:
                self._snapshot_at = int(json.loads(found)["number"])
                if snapshot.number - self._snapshot_at < self._options.snapshot_every:
                    return  # another gateway has done it
            if await self._redis.set(self._lock, self._origin, nx=True, ex=LEASE_S):
                await self._write_snapshot(snapshot)
                await self._redis.delete(self._lock)

    async def _write_snapshot(self, snapshot: Snapshot) -> None:
        assert self._redis is not None
        target = f"{self._pointer}:{snapshot.number}:{self._origin}"
        count = 0
        for chunk in snapshot.chunks():
            await self._redis.rpush(target, chunk)
            if count == 0:
                await self._redis.expire(target, 3600)
            count += 1
        pointer = json.dumps({"number": snapshot.number, "list": target, "chunks": count})
        oldest = max(0, snapshot.number - self._options.snapshot_every)
        finish = self._redis.register_script(FINISH_SNAPSHOT)
        if await finish(keys=[self._pointer, self._stream, target], args=[pointer, snapshot.number, f"{oldest}-0"]):
            self._snapshot_at = snapshot.number
            log.info("the bus has a new snapshot", entry=snapshot.number, chunks=count)


def take_batch(outgoing: deque[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Take the oldest groups that go out together: at least one, and no more than Redis takes easily at once."""
    batch = [outgoing.popleft()]
    size = len(batch[0][1])
    while outgoing and len(batch) < WRITE_COUNT and size + len(outgoing[0][1]) <= BATCH_BYTES:
        batch.append(outgoing.popleft())
        size += len(batch[-1][1])
    return batch
