"""The way to Redis: everything that waits at the same moment goes together, in order, until it is known to be done.

One connection and one round trip at a time keep the order. When the answer does not come, the same is sent again:
the scripts recognise what they have done. Only after `timeout_s` do the calls fail, their outcome unknown.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import structlog

from iserver.errors import NotStoredError
from iserver.storage.redis.scripts import Script
from shared.errors import StartupError
from shared.tasks import Supervisor, retrieve_exception

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = structlog.get_logger("iserver.redis")

COMMAND_TIMEOUT_S = 2.0
RETRY_S = 0.1
CALM_S = 5.0
MOST_AT_ONCE = 256

CLOCKS_MS = 2000
"""How much the clock of a server may differ from that of Redis without a warning: less than half of the five seconds
for which an expired session is left to its owner."""

RedisArguments: TypeAlias = Sequence[str | int | bytes]
PASSING = ("LOADING", "READONLY", "MASTERDOWN", "BUSY ", "TRYAGAIN")
PASSING_ERRORS = ("BusyLoadingError", "ReadOnlyError", "MasterDownError", "TryAgainError")
"""Errors of a Redis that starts, changes its role, or is held up by a script: nothing was done, it may work soon."""


@dataclass(slots=True, eq=False)
class _Call:
    name: str
    arguments: Callable[[bool], RedisArguments]
    take: Callable[[Any], Any]
    script: Script | None
    future: asyncio.Future[Any]
    deadline: float
    is_again: bool = False

    def words(self) -> list[Any]:
        arguments = self.arguments(self.is_again)
        if self.script is None:
            return [self.name, *arguments]
        return ["EVALSHA", self.script.sha, 0, *arguments]

    def end(self, answer: Any) -> None:
        """Use the answer at once, so that answers are used in the order in which they came."""
        try:
            result = self.take(answer)
        except (LookupError, TypeError, ValueError) as error:
            self.fail(NotStoredError(f"the session store holds what cannot be read: {error!r}"))
        except Exception as error:  # noqa: BLE001 - the caller of this command gets it, and no other
            self.fail(error)
        else:
            if not self.future.done():
                self.future.set_result(result)

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class OutageLog:
    """Logs an outage of Redis: once when it begins, and once when it is over.

    Args:
        clock_s: A clock that only goes forward.
    """

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._kind = ""
        self._began_s = self._last_s = 0.0
        self._count = 0

    def met(self, kind: str, say: Callable[[], None]) -> None:
        """Note a failure of a kind; it is logged when the last one was of another kind, or is over."""
        self._last_s = self._clock_s()
        if kind != self._kind:
            self._kind, self._began_s, self._count = kind, self._last_s, 0
            say()
        self._count += 1

    def passed(self) -> None:
        """Note a success. Some commands may fail and others not, so it is over when none failed for a while."""
        if self._kind and self._clock_s() - self._last_s >= CALM_S:
            seconds = round(self._last_s - self._began_s, 1)
            log.info("Redis works again", after=self._kind, failures=self._count, seconds=seconds)
            self._kind = ""


class RedisClient:
    """One server's connection to Redis; open it with `RedisClient.open`.

    Attributes:
        shown: The address without a password, for messages.
    """

    def __init__(self, redis: Redis, shown: str, timeout_s: float) -> None:
        from redis.exceptions import NoScriptError, RedisError

        self.redis = redis
        self.shown = shown
        self._timeout_s = timeout_s
        self._failures: tuple[type[BaseException], ...] = (RedisError, OSError, TimeoutError)
        self._no_script: type[BaseException] = NoScriptError
        self._waiting: deque[_Call] = deque()
        self._wake = asyncio.Event()
        self._trouble = OutageLog(time.monotonic)
        self._tasks = Supervisor()
        self._task = self._tasks.loop("Redis", self._work)

    @classmethod
    async def open(cls, url: str, *, timeout_s: float = 5.0) -> RedisClient:
        """Connect.

        Args:
            url: `redis://`, `rediss://` or `unix://`.
            timeout_s: How long a request may wait for a Redis that is away, in seconds.

        Raises:
            StartupError: It cannot be reached, or the client library is not installed.
        """
        try:
            from redis.asyncio import Redis
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff
            from redis.exceptions import RedisError
        except ImportError as error:
            raise StartupError("--sessions needs the extra 'redis': pip install 'entrepot[redis]'") from error
        shown = _without_password(url)
        try:
            redis = Redis.from_url(
                url,
                protocol=2,  # without a password its errors are clearer than those of 3, of which nothing is needed
                socket_timeout=COMMAND_TIMEOUT_S,
                socket_connect_timeout=COMMAND_TIMEOUT_S,
                retry=Retry(NoBackoff(), 0),  # `_work` retries, and marks what it sends again
                retry_on_error=[],
            )
        except ValueError as error:
            raise StartupError(f"--sessions {shown}: {error}") from error
        try:
            await redis.ping()
            await _warn_operator(redis, shown)
        except (RedisError, OSError, TimeoutError) as error:
            await redis.aclose()
            raise StartupError(f"--sessions {shown}: {error}") from error
        return cls(redis, shown, timeout_s)

    async def close(self) -> None:
        """Close the connection; pending commands fail."""
        await self._tasks.stop()
        while self._waiting:
            self._waiting.popleft().fail(NotStoredError("the server is stopping"))
        await self.redis.aclose()

    def script(
        self,
        script: Script,
        arguments: RedisArguments | Callable[[bool], RedisArguments],
        take: Callable[[Any], Any] = lambda answer: answer,
    ) -> asyncio.Future[Any]:
        """Run a script.

        Args:
            script: Must do no harm when it runs twice.
            arguments: Its arguments; a function of whether it may have run before.
            take: Called with the answer before any later answer is looked at; its result is that of the future.

        Returns:
            The result; it raises `NotStoredError` when it is not known whether the script has run.
        """
        return self._add("EVALSHA", arguments, take, script)

    def command(self, name: str, *arguments: str | int | bytes) -> asyncio.Future[Any]:
        """Run a command that does no harm when it runs twice; otherwise like `script`."""
        return self._add(name, arguments, lambda answer: answer, None)

    async def compare_clock(self, clock_ms: Callable[[], int]) -> None:
        """Warn when sessions would expire here at another time than elsewhere.

        Raises:
            NotStoredError: Redis does not answer.
        """
        before_ms = clock_ms()
        seconds, microseconds = await self.command("TIME")
        redis_ms, after_ms = int(seconds) * 1000 + int(microseconds) // 1000, clock_ms()
        difference_ms = max(before_ms - redis_ms, redis_ms - after_ms)  # it was some time in between
        if difference_ms > CLOCKS_MS:
            seconds = round(difference_ms / 1000, 1)
            log.warning("the clock differs from that of Redis", redis=self.shown, seconds=seconds)

    def _add(
        self,
        name: str,
        arguments: RedisArguments | Callable[[bool], RedisArguments],
        take: Callable[[Any], Any],
        script: Script | None,
    ) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        future.add_done_callback(retrieve_exception)
        given = arguments if callable(arguments) else lambda _: arguments
        if self._task.done():
            future.set_exception(NotStoredError("the server is stopping"))
            return future
        self._waiting.append(_Call(name, given, take, script, future, loop.time() + self._timeout_s))
        self._wake.set()
        return future

    async def _work(self) -> None:
        while True:
            while not self._waiting:
                self._wake.clear()
                await self._wake.wait()
            batch = [self._waiting.popleft() for _ in range(min(MOST_AT_ONCE, len(self._waiting)))]
            try:
                while batch := await self._send(batch):
                    pass
            except BaseException as error:
                is_over = isinstance(error, asyncio.CancelledError)
                reason = "the server is stopping" if is_over else f"the session store cannot be used: {error!r}"
                for call in batch:
                    call.fail(NotStoredError(reason))
                raise

    async def _send(self, calls: Sequence[_Call]) -> list[_Call]:
        """Send calls and use the answers; returns the calls that are to be sent again."""
        pipeline = self.redis.pipeline(transaction=False)
        calls = [call for call in calls if self._add_to(pipeline, call)]
        try:
            answers = await pipeline.execute(raise_on_error=False)
        except self._failures as error:
            for call in calls:
                call.is_again = True
            return await self._later(calls, error)
        again, passing, unloaded = [], None, {}
        self._trouble.passed()
        for call, answer in zip(calls, answers, strict=True):
            if not isinstance(answer, Exception):
                call.end(answer)
            elif isinstance(answer, self._no_script) and call.script is not None:
                unloaded[call.script.sha] = call.script
                again.append(call)
            elif str(answer).startswith(PASSING) or type(answer).__name__ in PASSING_ERRORS:
                passing = answer
                again.append(call)
            else:
                reason = str(answer)
                self._trouble.met(reason.partition(" ")[0], partial(log.error, "Redis rejects commands", reason=reason))
                call.fail(NotStoredError(f"the session store rejects the command: {answer}"))
        if unloaded:
            try:
                for script in unloaded.values():
                    await self.redis.script_load(script.text)
            except self._failures as error:
                return await self._later(again, error)
        return again if passing is None else await self._later(again, passing)

    def _add_to(self, pipeline: Any, call: _Call) -> bool:
        """Put a call into a pipeline; one that cannot be encoded fails alone."""
        try:
            words = [word.encode() if isinstance(word, str) else word for word in call.words()]
        except UnicodeEncodeError as error:
            call.fail(NotStoredError(f"the session store takes only text: {error}"))
            return False
        pipeline.execute_command(*words)
        return True

    async def _later(self, calls: Sequence[_Call], error: BaseException) -> list[_Call]:
        """Wait a moment, and give up on what has waited for too long."""
        waiting = len(calls) + len(self._waiting)
        say = partial(log.warning, "no answer from Redis", reason=str(error), waiting=waiting)
        self._trouble.met(type(error).__name__, say)
        await self.redis.connection_pool.disconnect()
        await asyncio.sleep(RETRY_S)
        now = asyncio.get_running_loop().time()
        reason = NotStoredError(f"the session store does not answer: {error}")
        for call in calls:
            if call.deadline <= now:
                call.fail(reason)
        while self._waiting and self._waiting[0].deadline <= now:
            self._waiting.popleft().fail(reason)
        return [call for call in calls if not call.future.done()]


async def _warn_operator(redis: Redis, shown: str) -> None:
    """Warn when Redis is less durable than the operator may think."""
    from redis.exceptions import ResponseError

    try:
        known = {**await redis.config_get("append*"), **await redis.config_get("maxmemory-policy")}
    except ResponseError:  # a managed Redis does not answer
        log.warning("the durability of Redis is unknown", redis=shown)
        return
    settings = {_text(name): _text(value) for name, value in known.items()}
    if settings.get("appendonly") != "yes":
        log.warning("Redis has no append-only file: sessions are lost when it ends", redis=shown)
    elif settings.get("appendfsync") != "always":
        log.warning(
            "Redis may lose the last second when its machine fails: appendfsync is not 'always'",
            redis=shown,
            appendfsync=settings.get("appendfsync"),
        )
    if settings.get("maxmemory-policy", "noeviction") != "noeviction":
        log.warning("Redis may evict sessions when memory is short", redis=shown, policy=settings["maxmemory-policy"])


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
