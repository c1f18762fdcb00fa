"""Searches catalogs, and makes the results catalogs of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import structlog

from intake_server.auth.authorizer import Caller
from intake_server.catalog import search
from intake_server.catalog.search import Query
from intake_server.concurrency.cache import LruCache
from intake_server.concurrency.thread_pool import ThreadPool
from intake_server.serving.contents import Contents
from intake_server.serving.live import CatalogState
from intake_server.serving.lookup import CatalogSnapshot, LookupResult
from shared.errors import Problem

log = structlog.get_logger("intake_server.catalogs")
_MAX_RESULTS = 1000

OpenNested = Callable[[LookupResult], Awaitable[CatalogSnapshot]]


class Searches:
    """Searches for callers.

    Args:
        contents: What is in catalogs.
        threads: Describes many entries.
        ttl_s: How long results are cached, in seconds: nested catalogs may have changed.
    """

    def __init__(self, contents: Contents, threads: ThreadPool, ttl_s: float) -> None:
        self._contents = contents
        self._threads = threads
        self._ttl_s = ttl_s
        self._results = LruCache[tuple[CatalogState, CatalogSnapshot, float]](most=_MAX_RESULTS)

    async def results(
        self, source_id: str, query: Query, parent: CatalogSnapshot, caller: Caller, open_nested: OpenNested
    ) -> CatalogSnapshot:
        """The results of a search as a catalog, in the present state of the one that was searched.

        Args:
            source_id: Of the results.
            query: What to look for.
            parent: The catalog to search.
            caller: Who asks.
            open_nested: Opens an entry that is a catalog.
        """
        key = (source_id, caller.audience)
        known = self._results.get(key)
        now = asyncio.get_running_loop().time()
        if known is not None and known[0] is parent.state and now < known[2]:
            return known[1]
        found: dict[str, LookupResult] = {}
        if query.words:
            await self._search(parent, query.words, query.depth, "", caller, open_nested, found)
        metadata = search.results_metadata(parent.catalog.metadata, query, parent.catalog.name)
        catalog = replace(
            parent.catalog,
            name=f"{parent.catalog.name}_search",
            entries={name: result.entry for name, result in found.items()},
            metadata=metadata,
        )
        snapshot = CatalogSnapshot(source_id, CatalogState(catalog), parent.names, parent.path, found)
        if caller.audience is not None:
            self._results.put(key, (parent.state, snapshot, now + self._ttl_s))
        return snapshot

    async def _search(
        self,
        snapshot: CatalogSnapshot,
        words: Sequence[str],
        depth: int,
        prefix: str,
        caller: Caller,
        open_nested: OpenNested,
        found: dict[str, LookupResult],
    ) -> None:
        visible = await self._contents.visible(snapshot, caller)
        haystacks = await self._haystacks(snapshot)
        for name in visible:
            result = snapshot[name]
            if depth > 1 and self._contents.is_catalog(result.entry):
                try:
                    inner = await open_nested(result)
                except Problem as problem:
                    log.info("search skips a catalog", catalog=name, reason=problem.message)
                else:
                    await self._search(inner, words, depth - 1, f"{prefix}{name}.", caller, open_nested, found)
            if search.matches(haystacks[name], words):
                found[prefix + name] = result

    async def _haystacks(self, snapshot: CatalogSnapshot) -> dict[str, str]:
        known: dict[str, str] | None = snapshot.state.derived.get("haystacks")
        if known is None:
            entries = snapshot.catalog.entries

            def make() -> dict[str, str]:
                return {
                    name: search.haystack(self._contents.describe(snapshot.catalog, entry, entry.name))
                    for name, entry in entries.items()
                }

            known = snapshot.state.derived["haystacks"] = await self._threads.run(make, key="listing")
        return known
