"""Open sources: made on demand, shared by equal specs, closed when idle."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any
from weakref import WeakValueDictionary

import structlog

from intake_server.catalog.model import Entry, PathEntry
from intake_server.concurrency.cache import LruCache
from intake_server.concurrency.single_flight import SingleFlight
from intake_server.concurrency.thread_pool import Busy, ThreadPool, TookTooLong
from intake_server.drivers.base import Driver, NotServed, Source, Unopenable
from intake_server.drivers.registry import DriverRegistry
from intake_server.errors import public_reason
from intake_server.serialization import zarr_store
from intake_server.serialization.control import pack
from intake_server.sources.registry import SourceRegistry, UnknownId
from intake_server.sources.specs import FILE_BYTES, SourceSpec
from intake_server.templates.resolution import Resolved
from shared.errors import Problem

log = structlog.get_logger("intake_server.sources")
_MAX_ANSWERS = 1000
_MAX_ANSWER_BYTES = 256 * 1024
_MAX_OPEN = 2000
MAX_BYTES = 150 * 2**20
"""Of all open sources together, without what their libraries hold."""
_BASE_BYTES = 4000


def _answers() -> LruCache[tuple[str, bytes]]:
    return LruCache(most=_MAX_ANSWERS, most_bytes=_MAX_ANSWER_BYTES)


@dataclass(slots=True, eq=False, weakref_slot=True)
class OpenSource:
    """One open source. Its driver's source is closed when nobody holds it any more, not even a thread that reads.

    Attributes:
        key: What it was opened with; equal keys open the same data.
        name: The entry's name, for messages.
        directory: The catalog's folder, kept out of messages.
        source: The driver's source.
        metadata: The entry's metadata with what the driver adds.
        driver: The driver that opened it.
        arguments: What it was opened with.
        thread_key: What shares its fate when it hangs: one key cannot take all threads.
        size: About how many bytes it takes, without its answers.
        answers: Source ids and encoded answers to ``open``, by how the source was reached.
        stamps: What the files of partitions looked like, and until when that is taken to be true.
        largest: The size of the largest partition that was read so far, encoded, in bytes.
    """

    key: bytes
    name: str
    directory: str
    source: Source
    metadata: dict[str, Any]
    driver: str
    arguments: Mapping[str, Any]
    thread_key: Hashable
    size: int
    answers: LruCache[tuple[str, bytes]] = field(default_factory=_answers)
    stamps: dict[Any, tuple[Any, float]] = field(default_factory=dict)
    largest: int = 0

    @property
    def identity(self) -> tuple[bytes, str]:
        """Equal for sources that would read the same data."""
        return (self.key, self.source.version)


class SourcePool:
    """Opens sources and keeps them open.

    Args:
        drivers: The drivers.
        threads: Opens sources.
        source_ids: Where their ids come from.
        idle_s: How long an unused source stays open, in seconds.
        timeout_s: How long an open may take, in seconds.
        most_bytes: How many bytes all open sources take, about; the least recently used are closed first.
    """

    def __init__(
        self,
        drivers: DriverRegistry,
        threads: ThreadPool,
        source_ids: SourceRegistry,
        *,
        idle_s: float,
        timeout_s: float,
        most_bytes: int = MAX_BYTES,
    ) -> None:
        self._drivers = drivers
        self._threads = threads
        self._source_ids = source_ids
        self._timeout_s = timeout_s
        self._open = LruCache[OpenSource](most=_MAX_OPEN, most_bytes=most_bytes, idle_s=idle_s, clock=time.monotonic)
        self._newest: WeakValueDictionary[bytes, OpenSource] = WeakValueDictionary()
        self._opening: SingleFlight[OpenSource] = SingleFlight()
        self._closing: SimpleQueue[Source | None] = SimpleQueue()
        threading.Thread(target=_close_all, args=(self._closing,), name="intake-close", daemon=True).start()

    def __len__(self) -> int:
        return len(self._open)

    @property
    def size(self) -> int:
        """About how many bytes all open sources take."""
        return self._open.size

    async def open(self, resolved: Resolved, entry: Entry) -> OpenSource:
        """The source of a resolved entry in its present state: an open one if its data have not changed.

        Raises:
            Problem: 400 it cannot be opened; 501 such data are not served; 503 not now.
        """
        key = source_key(resolved, entry)
        known = self._newest.get(key)
        try:
            opened = await self._opening.run(key, lambda: self._open_in_thread(key, resolved, entry, known=known))
        except Unopenable as error:
            reason = public_reason(str(error), [entry.scope.directory])
            status, code = (501, "not_served") if isinstance(error, NotServed) else (400, "unopenable")
            raise Problem(status, reason, code=code) from error
        except (Busy, TookTooLong) as error:
            raise _not_now(error) from error
        self._newest[key] = opened
        return opened

    async def reopen(self, spec: SourceSpec, resolved: Resolved, entry: Entry) -> OpenSource:
        """The source of a spec in exactly the state that its id names.

        Raises:
            Problem: 410 that state is gone; 400 it cannot be opened any more; 503 not now.
        """
        key = source_key(resolved, entry)
        known = self._open.peek((key, spec.version))
        if known is not None:
            self._use(known)
            return known
        try:
            opened = await self._opening.run(
                (key, spec.version), lambda: self._open_in_thread(key, resolved, entry, pin=spec.pin)
            )
        except Unopenable as error:
            raise Problem(410, public_reason(str(error), [entry.scope.directory]), code="gone") from error
        except (Busy, TookTooLong) as error:
            raise _not_now(error) from error
        if opened.source.version != spec.version:
            raise UnknownId
        return opened

    async def _open_in_thread(
        self, key: bytes, resolved: Resolved, entry: Entry, *, known: OpenSource | None = None, pin: Any = None
    ) -> OpenSource:
        thread_key = self._drivers.thread_key(resolved.choice.driver) or key

        def open_now() -> OpenSource:
            if known is not None and known.source.is_current():
                return known
            source = _guarded_open(self._drivers.driver(resolved.choice.driver), resolved, pin)
            opened = _opened(key, resolved, entry, source, thread_key)
            weakref.finalize(opened, self._closing.put, source).atexit = False
            return opened

        opened = await self._threads.run(open_now, key=thread_key, timeout_s=self._timeout_s)
        self._use(opened)
        return opened

    def answer(
        self,
        opened: OpenSource,
        parent: str | None,
        name: str,
        resolved: Resolved,
        path: tuple[PathEntry, ...],
        *,
        store_as: str = "",
    ) -> bytes:
        """The encoded answer to ``open`` (§3.3), with an id that reads this state of the data.

        Args:
            opened: The source.
            parent: The id of the catalog that it was opened in, None for the root.
            name: Its name there.
            resolved: The entry with its parameters.
            path: The path to the entry.
            store_as: How a data set is described: ``map`` (§4.6) or ``url``.
        """
        key = (parent, name, path[-1].entry.digest(), resolved.packed_values, len(path), store_as)
        known = opened.answers.get(key)
        if known is not None and self._source_ids.find(known[0]) is not None:
            return known[1]
        spec = SourceSpec.of(parent, name, path, resolved.given, opened.source.version, opened.source.pin)
        source_id = self._source_ids.add(spec)
        packed = pack(open_answer(opened, source_id, store_as))
        opened.answers.put(key, (source_id, packed), 2 * len(packed) + spec.size)
        if self._open.peek(opened.identity) is opened:
            self._use(opened)
        return packed

    def _use(self, opened: OpenSource) -> None:
        self._open.put(opened.identity, opened, opened.size + opened.answers.size)

    def sweep(self) -> None:
        """Close what was not used for too long; its ids stay valid."""
        self._open.sweep()

    def forget_stamps(self) -> None:
        """Look at every file again before its next read."""
        for opened in self._open:
            opened.stamps.clear()

    def close(self) -> None:
        """Close everything that nobody reads."""
        self._open.clear()
        self._closing.put(None)


def _opened(key: bytes, resolved: Resolved, entry: Entry, source: Source, thread_key: Hashable) -> OpenSource:
    metadata = {**resolved.metadata, **source.schema.metadata}
    files = len(source.pin) if isinstance(source.pin, list) else 1
    described = 2 * len(pack([resolved.arguments, metadata, source.schema.dtype]))
    size = _BASE_BYTES + files * FILE_BYTES + described
    driver, directory = resolved.choice.driver, entry.scope.directory
    return OpenSource(key, entry.name, directory, source, metadata, driver, resolved.arguments, thread_key, size)


def _not_now(error: Exception) -> Problem:
    return Problem(503, f"the source cannot be opened now: {error}", headers={"Retry-After": "2"})


def _close_all(closing: SimpleQueue[Source | None]) -> None:
    """Close sources in a thread of their own: a library may wait for another source before it closes one."""
    while (source := closing.get()) is not None:
        try:
            source.close()
        except Exception as error:
            log.warning("a driver failed to close", exc_info=error)
        del source


def source_key(resolved: Resolved, entry: Entry) -> bytes:
    """A fingerprint of everything that decides what is opened."""
    return resolved.fingerprint + entry.name.encode("utf-8", "surrogatepass")


def open_answer(opened: OpenSource, source_id: str, store_as: str = "map") -> dict[str, Any]:
    """The answer to a remote open: the full set of keys, whatever the driver (§3.3)."""
    schema = opened.source.schema
    metadata = opened.metadata
    if schema.container == "xarray" and store_as == "url":
        metadata = {**metadata, "internal": zarr_store.as_url(metadata["internal"])}
    answer: dict[str, Any] = {
        "dtype": schema.dtype,
        "shape": None if schema.shape is None else list(schema.shape),
        "npartitions": None if schema.container == "xarray" else max(1, schema.npartitions),
        "extra_metadata": {},
        "container": schema.container,
        "source_id": source_id,
        "metadata": metadata,
    }
    if schema.chunks is not None:
        answer["chunks"] = [list(axis) for axis in schema.chunks]
    return answer


def _guarded_open(driver: Driver, resolved: Resolved, pin: Any) -> Source:
    try:
        return driver.open(resolved.arguments, pin)
    except (Unopenable, MemoryError):
        raise
    except Exception as error:
        # a driver calls libraries that raise what they like; this source alone cannot be opened (§3.3)
        log.warning("a driver failed to open", driver=resolved.choice.driver, exc_info=error)
        raise Unopenable(str(error) or type(error).__name__) from error
