"""Reading partitions: encoded once for everybody, kept while it pays, within the memory allowed (§3.4)."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Any

import structlog

from intake_server.concurrency.backpressure import InFlight
from intake_server.concurrency.cache import LruCache
from intake_server.concurrency.single_flight import SingleFlight
from intake_server.concurrency.thread_pool import Busy, ThreadPool, TookTooLong
from intake_server.drivers.base import NoSuchPartition, Partition, Replaced, Unreadable
from intake_server.errors import public_reason
from intake_server.serialization import values
from intake_server.serialization.negotiation import WireFormat
from intake_server.serialization.parts import Parts, TooLarge
from intake_server.sources.pool import OpenSource
from shared.errors import Problem

log = structlog.get_logger("intake_server.reads")
STAMP_S = 0.1
"""How long a file that was just looked at is taken to be unchanged, in seconds."""
_MAX_STAMPS = 10_000


ReadAndEncode = Callable[[OpenSource, Partition | None, WireFormat], Parts]


class Reads:
    """Reads partitions in threads.

    Args:
        threads: Reads partitions.
        quick_threads: Checks whether files have changed.
        cache: Encoded partitions.
        in_flight: Answers being read and sent.
        read_and_encode: Reads one partition and encodes it; blocks.
        timeout_s: How long one read may take, in seconds.
    """

    def __init__(
        self,
        threads: ThreadPool,
        quick_threads: ThreadPool,
        cache: LruCache[Parts],
        in_flight: InFlight,
        *,
        read_and_encode: ReadAndEncode,
        timeout_s: float,
    ) -> None:
        self._threads = threads
        self._quick_threads = quick_threads
        self.cache = cache
        self.in_flight = in_flight
        self._read_and_encode = read_and_encode
        self._timeout_s = timeout_s
        self._reading: SingleFlight[Parts] = SingleFlight()

    async def read(self, opened: OpenSource, partition: Partition | None, form: WireFormat) -> Parts:
        """The encoded answer to a read.

        Raises:
            Problem: 400 no such partition; 413 it is too large; 500 it cannot be read; 503 not now.
        """
        key = await self._key(opened, partition, form)
        known = self.cache.get(key)
        if known is not None:
            return known
        return await self._reading.run(key, lambda: self._read(key, opened, partition, form))

    async def _key(self, opened: OpenSource, partition: Partition | None, form: WireFormat) -> Hashable:
        return (opened.identity, partition, form, await self._stamp(opened, partition))

    async def _stamp(self, opened: OpenSource, partition: Partition | None) -> Any:
        """What the partition's file looks like now, as of at most `STAMP_S` ago."""
        now = time.monotonic()
        known = opened.stamps.get(partition)
        if known is not None and now < known[1]:
            return known[0]
        try:
            stamp = await self._quick_threads.run(
                lambda: opened.source.stamp(partition), key=opened.thread_key, timeout_s=self._timeout_s
            )
        except NoSuchPartition as error:
            raise Problem(400, str(error), code="no_such_partition") from error
        except (Busy, TookTooLong) as error:
            raise _busy(f"the partition cannot be read now: {error}") from error
        if len(opened.stamps) > _MAX_STAMPS:
            opened.stamps.clear()
        opened.stamps[partition] = (stamp, now + STAMP_S)
        return stamp

    async def _read(self, key: Hashable, opened: OpenSource, partition: Partition | None, form: WireFormat) -> Parts:
        try:
            async with self.in_flight.reading(opened.largest):
                parts = await self._threads.run(
                    lambda: self._read_and_encode(opened, partition, form),
                    key=opened.thread_key,
                    timeout_s=self._timeout_s,
                )
        except NoSuchPartition as error:
            raise Problem(400, str(error), code="no_such_partition") from error
        except TooLarge as error:
            raise Problem(413, str(error), code="too_large") from error
        except Replaced as error:
            raise Problem(410, public_reason(str(error), [opened.directory]), code="replaced") from error
        except (Unreadable, *values.Unsendable) as error:
            log.warning("cannot read", entry=opened.name, partition=partition, reason=str(error))
            raise Problem(500, public_reason(str(error), [opened.directory]), code="unreadable") from error
        except Busy as error:
            raise _busy(str(error)) from error
        except TookTooLong as error:
            raise _busy(f"the partition cannot be read now: {error}") from error
        opened.largest = max(opened.largest, parts.size)
        self.cache.put(key, parts, parts.size)
        return parts


def read_here(*, stringify: bool, limit: int) -> ReadAndEncode:
    """Reads in this process.

    Args:
        stringify: Whether frame columns that Arrow cannot carry become text.
        limit: The most bytes that an encoded partition may have.
    """

    def read(opened: OpenSource, partition: Partition | None, form: WireFormat) -> Parts:
        value = _guarded_read(opened, partition)
        return values.answer(value, opened.source.schema.container, form, stringify=stringify, limit=limit)

    return read


def _guarded_read(opened: OpenSource, partition: Partition | None) -> Any:
    try:
        return opened.source.read(partition)
    except (NoSuchPartition, Unreadable):
        raise
    except MemoryError as error:
        raise Unreadable("there is not enough memory to read this partition") from error
    except Exception as error:
        # a driver calls libraries that raise what they like; only this partition cannot be read (§3.4)
        log.warning("a driver failed to read", entry=opened.name, partition=partition, exc_info=error)
        raise Unreadable(str(error) or type(error).__name__) from error


def _busy(reason: str) -> Problem:
    return Problem(503, reason, code="busy", headers={"Retry-After": "1"})
