"""Open sources: made on demand, shared by equal recipes, closed when idle."""

from __future__ import annotations

import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

import structlog

from intake_server.catalog.model import Entry, Step
from intake_server.concurrency.single_flight import SharedWork
from intake_server.concurrency.thread_pool import Busy, TookTooLong, Workers
from intake_server.drivers.base import Driver, NotServed, Source, Unopenable
from intake_server.drivers.registry import Registry
from intake_server.errors import public_reason
from intake_server.serialization import zarr_store
from intake_server.serialization.control import pack
from intake_server.sources.registry import RecipeBook, UnknownId
from intake_server.sources.specs import FILE_BYTES, Recipe
from intake_server.templates.resolution import Resolved
from shared.errors import Problem

log = structlog.get_logger("intake_server.sources")
_MOST_ANSWERS = 1000
_MOST_ANSWER_BYTES = 256 * 1024
_MOST_OPEN = 2000
MOST_BYTES = 150 * 2**20
"""Of all open sources together, without what their libraries hold."""
_BASE_BYTES = 4000


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
        lane: What shares its fate when it hangs: one lane cannot take all threads.
        answers: Source ids, recipes and encoded answers to ``open``, by how the source was reached.
        stamps: What the files of partitions looked like, and until when that is taken to be true.
        largest: The size of the largest partition that was read so far, encoded, in bytes.
        used: When it was last used, in seconds of the monotonic clock.
        size: About how many bytes it takes, answers included.
        answer_bytes: How many of them the answers take.
    """

    key: bytes
    name: str
    directory: str
    source: Source
    metadata: dict[str, Any]
    driver: str
    arguments: Mapping[str, Any]
    lane: Hashable
    answers: dict[Any, tuple[str, Recipe, bytes]] = field(default_factory=dict)
    stamps: dict[Any, tuple[Any, float]] = field(default_factory=dict)
    largest: int = 0
    used: float = 0.0
    size: int = 0
    answer_bytes: int = 0

    @property
    def identity(self) -> tuple[bytes, str]:
        """Equal for sources that would read the same data."""
        return (self.key, self.source.version)


class Sources:
    """Opens sources and keeps them open.

    Args:
        registry: The drivers.
        workers: Threads to open them in.
        book: Where their ids come from.
        idle_s: How long an unused source stays open, in seconds.
        timeout_s: How long an open may take, in seconds.
        most_bytes: How many bytes all open sources take, about; the longest unused are closed first.
    """

    def __init__(
        self,
        registry: Registry,
        workers: Workers,
        book: RecipeBook,
        *,
        idle_s: float,
        timeout_s: float,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._registry = registry
        self._workers = workers
        self._book = book
        self._idle_s = idle_s
        self._timeout_s = timeout_s
        self._open: OrderedDict[tuple[bytes, str], OpenSource] = OrderedDict()
        self._newest: dict[bytes, OpenSource] = {}
        self._most_bytes = most_bytes
        self._bytes = 0
        self._opening: SharedWork[OpenSource] = SharedWork()
        self._closing: SimpleQueue[Source | None] = SimpleQueue()
        threading.Thread(target=_close_all, args=(self._closing,), name="intake-close", daemon=True).start()

    def __len__(self) -> int:
        return len(self._open)

    @property
    def size(self) -> int:
        """About how many bytes all open sources take."""
        return self._bytes

    async def open(self, resolved: Resolved, entry: Entry) -> OpenSource:
        """The source of a resolved entry in its present state: an open one if its data have not changed.

        Raises:
            Problem: 400 it cannot be opened; 501 such data are not served; 503 not now.
        """
        key = source_key(resolved, entry)
        try:
            return await self._opening.run(key, lambda: self._open_now(key, resolved, entry))
        except Unopenable as error:
            reason = public_reason(str(error), [entry.scope.directory])
            status, code = (501, "not_served") if isinstance(error, NotServed) else (400, "unopenable")
            raise Problem(status, reason, code=code) from error
        except (Busy, TookTooLong) as error:
            raise Problem(503, f"the source cannot be opened now: {error}", headers={"Retry-After": "2"}) from error

    async def _open_now(self, key: bytes, resolved: Resolved, entry: Entry) -> OpenSource:
        known = self._newest.get(key)
        made = await self._workers.run(
            lambda: self._open_in_thread(known, key, resolved, entry),
            key=self._lane(key, resolved),
            timeout_s=self._timeout_s,
        )
        self._newest[key] = made
        self._keep(made)
        return made

    def _open_in_thread(
        self, known: OpenSource | None, key: bytes, resolved: Resolved, entry: Entry, pin: Any = None
    ) -> OpenSource:
        if known is not None and pin is None and known.source.is_current():
            return known
        driver = self._registry.driver(resolved.choice.driver)
        source = _guarded_open(driver, resolved, pin)
        metadata = {**resolved.metadata, **source.schema.metadata}
        made = OpenSource(
            key,
            entry.name,
            entry.scope.directory,
            source,
            metadata,
            resolved.choice.driver,
            resolved.arguments,
            self._lane(key, resolved),
        )
        files = len(source.pin) if isinstance(source.pin, list) else 1
        made.size = _BASE_BYTES + files * FILE_BYTES + 2 * len(pack([made.arguments, metadata, source.schema.dtype]))
        weakref.finalize(made, self._closing.put, source).atexit = False
        return made

    def _lane(self, key: bytes, resolved: Resolved) -> Hashable:
        return self._registry.lane(resolved.choice.driver) or key

    def answer(
        self,
        opened: OpenSource,
        parent: str | None,
        name: str,
        resolved: Resolved,
        steps: tuple[Step, ...],
        *,
        store_as: str = "",
    ) -> bytes:
        """The encoded answer to ``open`` (§3.3), with an id that reads this state of the data.

        Args:
            opened: The source.
            parent: The id of the catalog that it was opened in, None for the root.
            name: Its name there.
            resolved: The entry with its parameters.
            steps: The way to the entry.
            store_as: How a data set is described: ``map`` (§4.6) or ``url``.
        """
        entry = steps[-1].entry
        reached = (parent, name, entry.digest(), resolved.packed_values, len(steps), store_as)
        known = opened.answers.get(reached)
        if known is not None and self._book.find(known[0]) is not None:
            return known[2]
        source = opened.source
        recipe = Recipe(parent, name, entry, resolved.given, source.version, steps, source.pin)
        identifier = self._book.add(recipe)
        packed = pack(open_answer(opened, identifier, store_as))
        self._keep_answer(opened, reached, (identifier, recipe, packed))
        return packed

    def _keep_answer(self, opened: OpenSource, reached: Any, answer: tuple[str, Recipe, bytes]) -> None:
        size = 2 * len(answer[2]) + answer[1].size
        if len(opened.answers) >= _MOST_ANSWERS or opened.answer_bytes + size > _MOST_ANSWER_BYTES:
            opened.answers.clear()
            self._grow(opened, -opened.answer_bytes)
            opened.answer_bytes = 0
        opened.answers[reached] = answer
        opened.answer_bytes += size
        self._grow(opened, size)

    def _grow(self, opened: OpenSource, by: int) -> None:
        opened.size += by
        if self._open.get(opened.identity) is opened:
            self._bytes += by
            self._make_room()

    async def reopen(self, recipe: Recipe, resolved: Resolved, entry: Entry) -> OpenSource:
        """The source of a recipe in exactly the state that its id names.

        Raises:
            Problem: 410 that state is gone; 400 it cannot be opened any more; 503 not now.
        """
        key = source_key(resolved, entry)
        known = self._open.get((key, recipe.version))
        if known is not None:
            self._keep(known)
            return known
        try:
            made = await self._opening.run(
                (key, recipe.version), lambda: self._reopen_now(key, recipe, resolved, entry)
            )
        except Unopenable as error:
            raise Problem(410, public_reason(str(error), [entry.scope.directory]), code="gone") from error
        except (Busy, TookTooLong) as error:
            raise Problem(503, f"the source cannot be opened now: {error}", headers={"Retry-After": "2"}) from error
        if made.source.version != recipe.version:
            raise UnknownId
        return made

    async def _reopen_now(self, key: bytes, recipe: Recipe, resolved: Resolved, entry: Entry) -> OpenSource:
        made = await self._workers.run(
            lambda: self._open_in_thread(None, key, resolved, entry, recipe.pin),
            key=self._lane(key, resolved),
            timeout_s=self._timeout_s,
        )
        self._keep(made)
        return made

    def _keep(self, opened: OpenSource) -> None:
        opened.used = time.monotonic()
        if opened.identity not in self._open:
            self._open[opened.identity] = opened
            self._bytes += opened.size
        self._open.move_to_end(opened.identity)
        self._make_room()

    def _make_room(self) -> None:
        while len(self._open) > 1 and (len(self._open) > _MOST_OPEN or self._bytes > self._most_bytes):
            self._drop(next(iter(self._open.values())))

    def sweep(self) -> None:
        """Close what was not used for too long; its ids stay valid."""
        oldest_allowed = time.monotonic() - self._idle_s
        while self._open:
            opened = next(iter(self._open.values()))
            if opened.used >= oldest_allowed:
                return
            self._drop(opened)

    def _drop(self, opened: OpenSource) -> None:
        del self._open[opened.identity]
        self._bytes -= opened.size
        if self._newest.get(opened.key) is opened:
            del self._newest[opened.key]
        log.debug("closed a source", entry=opened.name)

    def forget_stamps(self) -> None:
        """Look at every file again before its next read."""
        for opened in self._open.values():
            opened.stamps.clear()

    def close(self) -> None:
        """Close everything that nobody reads."""
        self._open.clear()
        self._bytes = 0
        self._newest.clear()
        self._closing.put(None)


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


def open_answer(opened: OpenSource, identifier: str, store_as: str = "map") -> dict[str, Any]:
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
        "source_id": identifier,
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
