"""Searching catalogs, and results as catalogs of their own."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from intake_server.auth.authorizer import Caller
from intake_server.catalog import search
from intake_server.catalog.search import Query
from intake_server.concurrency.thread_pool import Workers
from intake_server.serving.live import State
from intake_server.serving.lookup import Located, View
from intake_server.sources.registry import RecipeBook
from intake_server.sources.specs import SearchRecipe
from shared.errors import Problem

if TYPE_CHECKING:
    from intake_server.serving.catalogs import Catalogs

log = structlog.get_logger("intake_server.catalogs")
_MOST_RESULTS = 1000


class Searches:
    """Searches for callers.

    Args:
        catalogs: Where entries are found.
        workers: Threads to describe many entries in.
        book: The recipes of source ids.
        ttl_s: How long results are kept, in seconds: nested catalogs may have changed.
    """

    def __init__(self, catalogs: Catalogs, workers: Workers, book: RecipeBook, ttl_s: float) -> None:
        self._catalogs = catalogs
        self._workers = workers
        self._book = book
        self._ttl_s = ttl_s
        self._searches: OrderedDict[str, tuple[State, View, float]] = OrderedDict()

    async def search(self, view: View, query: Query, caller: Caller) -> str:
        """Search a catalog.

        Returns:
            The source id of the results.
        """
        recipe = SearchRecipe(view.id, query, view.steps)
        identifier = self._book.add(recipe)
        await self.results(identifier, recipe, view, caller)
        return identifier

    async def results(self, source_id: str, recipe: SearchRecipe, parent: View, caller: Caller) -> View:
        """The results of a search as a catalog, in the present state of the one that was searched."""
        key = f"{source_id}:{caller.audience!r}" if caller.audience is not None else None
        known = self._searches.get(key) if key else None
        now = asyncio.get_running_loop().time()
        if known is not None and known[0] is parent.state and now < known[2]:
            return known[1]
        found: dict[str, Located] = {}
        if recipe.query.words:
            await self._search_walk(parent, recipe.query.words, recipe.query.depth, "", caller, found)
        metadata = search.results_metadata(parent.catalog.metadata, recipe.query, parent.catalog.name)
        catalog = replace(
            parent.catalog,
            name=f"{parent.catalog.name}_search",
            entries={name: located.entry for name, located in found.items()},
            metadata=metadata,
        )
        view = View(source_id, State(catalog), parent.path, parent.steps, found)
        if key:
            self._searches[key] = (parent.state, view, now + self._ttl_s)
            while len(self._searches) > _MOST_RESULTS:
                self._searches.popitem(last=False)
        return view

    async def _search_walk(
        self, view: View, words: Sequence[str], depth: int, prefix: str, caller: Caller, found: dict[str, Located]
    ) -> None:
        visible = await self._catalogs.visible(view, caller)
        haystacks = await self._haystacks(view)
        for name in view.catalog.entries if visible is None else visible:
            located = self._catalogs.direct(view, name)
            if located is None:
                continue
            if depth > 1 and self._catalogs.is_catalog(located.entry):
                try:
                    inner = await self._catalogs.enter(located, {})
                except Problem as problem:
                    log.info("search passes over a catalog", catalog=name, reason=problem.message)
                else:
                    await self._search_walk(inner, words, depth - 1, f"{prefix}{name}.", caller, found)
            if search.matches(haystacks[name], words):
                found[prefix + name] = located

    async def _haystacks(self, view: View) -> dict[str, str]:
        known: dict[str, str] | None = view.state.derived.get("haystacks")
        if known is None:
            entries = view.catalog.entries

            def make() -> dict[str, str]:
                return {
                    name: search.haystack(self._catalogs.describe(view.catalog, entry, entry.name))
                    for name, entry in entries.items()
                }

            known = view.state.derived["haystacks"] = await self._workers.run(make, key="listing")
        return known
