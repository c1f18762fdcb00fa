"""A catalog that stays fresh without ever making a request wait long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import structlog

from intake_server.catalog.model import Catalog
from intake_server.concurrency.thread_pool import Busy, ThreadPool, TookTooLong
from intake_server.serving.files import UnreadableCatalog
from shared.tasks import retrieve_exception, start_task

log = structlog.get_logger("intake_server.catalogs")
_RETRY_S = 10.0


@dataclass(slots=True, eq=False)
class CatalogState:
    """One state of a catalog, and what is derived from it.

    Attributes:
        catalog: The catalog.
        loaded: What the loader needs to see whether anything changed.
        derived: Whatever others compute from this state alone, such as encoded listings.
    """

    catalog: Catalog
    loaded: Any = None
    derived: dict[Any, Any] = field(default_factory=dict)


class LiveCatalog:
    """The last good state of a catalog, refreshed when it is older than its time to live.

    Args:
        load: Reads the catalog, given what it returned last time; blocks. Returns a pair of the catalog and what
            to give it next time.
        threads: Runs it.
        ttl_s: How old a state may be before it is refreshed, in seconds.
        wait_s: How long a caller waits for that before it gets the last good state, in seconds.
        timeout_s: How long a refresh may take, in seconds.
        name: For the log.
    """

    def __init__(
        self,
        load: Callable[[Any], tuple[Catalog, Any]],
        threads: ThreadPool,
        *,
        ttl_s: float,
        wait_s: float,
        timeout_s: float,
        name: str,
    ) -> None:
        self._load = load
        self._threads = threads
        self._ttl_s = ttl_s
        self._wait_s = wait_s
        self._timeout_s = timeout_s
        self._name = name
        self._state: CatalogState | None = None
        self._fresh_until = 0.0
        self._unreadable: UnreadableCatalog | None = None
        self._retry_at = 0.0
        self._refreshing: asyncio.Task[CatalogState] | None = None
        self.problem: str | None = None

    def fresh(self) -> CatalogState | None:
        """The present state if it is fresh, else None."""
        if self._state is not None and asyncio.get_running_loop().time() < self._fresh_until:
            return self._state
        return None

    @property
    def last_good(self) -> CatalogState | None:
        """The last state that could be read, however old."""
        return self._state

    async def current(self) -> CatalogState:
        """A state no older than the time to live, or the last good one if a fresh one does not come soon.

        Raises:
            UnreadableCatalog: It could never be read.
            Busy, TookTooLong: It was not read in time, and there is no earlier state.
        """
        if (state := self.fresh()) is not None:
            return state
        if self._unreadable is not None and asyncio.get_running_loop().time() < self._retry_at:
            raise UnreadableCatalog(str(self._unreadable)) from self._unreadable
        refreshing = self.refresh()
        if self._state is None:
            return await asyncio.shield(refreshing)
        done, _ = await asyncio.wait({refreshing}, timeout=self._wait_s)
        return self._state if not done or refreshing.exception() is not None else refreshing.result()

    def refresh(self) -> asyncio.Task[CatalogState]:
        """Look at the catalog's files again; concurrent callers share one refresh."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = start_task(self._refresh(), name=f"refresh of {self._name}")
            self._refreshing.add_done_callback(retrieve_exception)
        return self._refreshing

    async def _refresh(self) -> CatalogState:
        before = self._state
        try:
            catalog, loaded = await self._threads.run(
                lambda: self._load(before.loaded if before else None), key=self._name, timeout_s=self._timeout_s
            )
        except (UnreadableCatalog, Busy, TookTooLong) as error:
            if before is None:
                raise
            self._failed(str(error))
            return before
        except Exception as error:  # noqa: BLE001 - file systems of other packages raise what they like (§9.1)
            return self._failed_unexpectedly(before, error)
        self._unreadable = None
        self._fresh_until = asyncio.get_running_loop().time() + self._ttl_s
        self._recovered(catalog)
        if before is not None and before.catalog is catalog:
            before.loaded = loaded
            return before
        self._state = CatalogState(catalog, loaded)
        if before is not None:
            log.info("catalog changed", catalog=self._name, entries=len(catalog))
        return self._state

    def _failed_unexpectedly(self, before: CatalogState | None, error: Exception) -> CatalogState:
        """Report an error that nobody foresaw, and retry after a while rather than at every request."""
        reason = f"unexpected error: {type(error).__name__}: {error}"
        if self.problem != reason:
            log.error("a catalog cannot be loaded", catalog=self._name, exc_info=error)
        if before is not None:
            self._failed(reason)
            return before
        self.problem = reason
        self._retry_at = asyncio.get_running_loop().time() + min(self._ttl_s, _RETRY_S)
        self._unreadable = UnreadableCatalog(f"{self._name}: {reason}")
        raise self._unreadable from error

    def _failed(self, reason: str) -> None:
        self._fresh_until = asyncio.get_running_loop().time() + self._ttl_s
        if self.problem != reason:
            log.error("catalog cannot be read again, the last good state stays", catalog=self._name, reason=reason)
        self.problem = reason

    def _recovered(self, catalog: Catalog) -> None:
        problem = "; ".join(catalog.problems) or None
        if problem and problem != self.problem:
            log.error("some catalog files are left out", catalog=self._name, reason=problem)
        self.problem = problem
