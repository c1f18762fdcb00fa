"""The catalogs being served: the root, nested ones, and results of searches."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog

from intake_server.auth.authorizer import Caller, Guard
from intake_server.catalog.descriptions import describe
from intake_server.catalog.listings import Listing, Page, PageSlot
from intake_server.catalog.model import Catalog, Entry, Scope, prefixes
from intake_server.catalog.search import Query
from intake_server.concurrency.single_flight import SharedWork
from intake_server.concurrency.thread_pool import Busy, TookTooLong, Workers
from intake_server.drivers.base import Unopenable
from intake_server.drivers.registry import ALIAS, CATALOG, Registry
from intake_server.serialization.control import pack
from intake_server.serving.files import CatalogPlace, Loaded, UnreadableCatalog, load
from intake_server.serving.live import LiveCatalog, State
from intake_server.serving.lookup import Located, NoSuchEntry, View
from intake_server.serving.nested import catalog_loader
from intake_server.serving.resolver import Resolver
from intake_server.serving.searches import Searches
from intake_server.settings import Settings
from intake_server.sources.registry import RecipeBook, UnknownId
from intake_server.sources.specs import AnyRecipe, Recipe, SearchRecipe, is_id
from intake_server.sources.store import RecipeShelf, StoredRecipe
from intake_server.templates.resolution import Resolved
from shared.errors import Problem

log = structlog.get_logger("intake_server.catalogs")
_MOST_NESTED = 1000
_MOST_IN_NESTED = 200_000
"""Entries of all nested catalogs that are kept: callers' values make as many of a catalog as they like."""
_MOST_HOPS = 8
_FEW_ENTRIES = 64
"""So many entries are described at once without being noticed."""
_LISTING_S = 600.0
_SHOWN = 200
"""So many characters of a name are shown in an error."""


class Catalogs:
    """Finds catalogs and entries for callers.

    Args:
        settings: The operator's settings.
        registry: The drivers.
        workers: Threads for whatever may block.
        book: The recipes of source ids.
        guard: Who may do what.
        import_modules: Imports the driver modules that catalog files name; blocks.
        shelf: Recipes from before a restart, None when they are not kept.
    """

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        workers: Workers,
        book: RecipeBook,
        guard: Guard,
        import_modules: Callable[[Sequence[str]], None],
        shelf: RecipeShelf | None = None,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._workers = workers
        self._book = book
        self._guard = guard
        self._import_modules = import_modules
        self._shelf = shelf
        self._making: SharedWork[Page] = SharedWork()
        self._resolver = Resolver(settings, workers)
        self._searches = Searches(self, workers, book, settings.ttl_s)
        self.place = CatalogPlace.of(settings.catalogs, flatten=settings.flatten)
        self.root_catalog = self._live(lambda before: self._load(self.place, before), name=" ".join(settings.catalogs))
        self._nested: OrderedDict[bytes, LiveCatalog] = OrderedDict()

    # Finding catalogs

    async def root(self) -> View:
        """The published catalog.

        Raises:
            Problem: 503, it could not be read yet.
        """
        state = self.root_catalog.fresh()
        if state is None:
            state = await self._current(self.root_catalog)
        view: View | None = state.derived.get("view")
        if view is None:
            view = state.derived["view"] = View(None, state)
        return view

    async def view(self, source_id: str | None, caller: Caller) -> View:
        """The catalog that a request is about.

        Args:
            source_id: The ``source-id`` header, None for the root.
            caller: Who asks.

        Raises:
            Problem: 410 unknown id; 400 not a catalog; 403 a step on the way is denied; 503 it cannot be read now.
        """
        if source_id is None:
            return await self.root()
        recipe = await self.recipe(source_id, caller)
        await self._guard.check(caller, recipe.trail)
        return await self.by_recipe(source_id, recipe, caller)

    async def by_recipe(self, source_id: str, recipe: AnyRecipe, caller: Caller) -> View:
        """The catalog of a recipe."""
        if isinstance(recipe, SearchRecipe):
            parent = await self.view(recipe.parent, caller)
            return await self._searches.results(source_id, recipe, parent, caller)
        if not self.is_catalog(recipe.entry):
            raise Problem(400, "source-id: this source is not a catalog", code="not_a_catalog")
        state = await self._current(await self._nested_catalog(recipe.entry, recipe.parameters))
        return View(source_id, state, recipe.trail[-1].path, recipe.trail)

    async def enter(self, located: Located, parameters: Mapping[str, Any]) -> View:
        """Open an entry that is a catalog.

        Raises:
            Problem: 400 a parameter does not fit or the catalog cannot be read; 503 it cannot be read now.
        """
        resolved = await self._resolver.resolve(located.entry, parameters)
        state = await self._current(await self._nested_catalog(located.entry, resolved.given))
        recipe = Recipe(located.view.id, located.name, located.entry, resolved.given, trail=located.steps)
        return View(self._book.add(recipe), state, (*located.view.path, located.name), located.steps)

    async def recipe(self, source_id: str, caller: Caller) -> AnyRecipe:
        """What a source id stands for, also from before a restart.

        Raises:
            UnknownId: Nothing, or its entry has another definition by now.
        """
        if not is_id(source_id):
            raise UnknownId
        known = self._book.find(source_id)
        if known is not None:
            return known
        stored = None if self._shelf is None else await self._shelf.get(source_id)
        if stored is None:
            raise UnknownId
        restored = await self._restored(stored, caller)
        if self._book.add(restored) != source_id:
            raise UnknownId
        return restored

    async def _restored(self, stored: StoredRecipe, caller: Caller) -> AnyRecipe:
        view = await self.view(stored.parent, caller)
        if stored.text is not None:
            return SearchRecipe(stored.parent, Query(stored.text, stored.depth), view.steps)
        located = self.direct(view, stored.name)
        if located is None or located.entry.digest() != stored.digest:
            raise UnknownId
        return Recipe(
            stored.parent, stored.name, located.entry, stored.parameters, stored.version, located.steps, stored.pin
        )

    # Finding entries

    async def locate(self, view: View, name: str | Sequence[str], caller: Caller) -> Located:
        """Find an entry by its name, by a dotted path through nested catalogs, or by a list of names (§9.1).

        Raises:
            NoSuchEntry: There is none.
        """
        found = await self._walk(view, [name] if isinstance(name, str) else list(name), caller, _MOST_HOPS)
        if found is None:
            raise NoSuchEntry(f"Catalog has no entry {_short(name)}")
        return found

    async def _walk(self, view: View, names: Sequence[str], caller: Caller, hops: int) -> Located | None:
        head, rest = names[0], names[1:]
        if not rest and (direct := self.direct(view, head)) is not None:
            return direct
        if hops <= 0:
            return None
        for first in [head] if rest else prefixes(head, view.longest_name):
            located = self.direct(view, first)
            if located is None or not self.is_catalog(located.entry):
                continue
            await self._guard.check(caller, located.steps)
            inner = await self.enter(located, {})
            found = await self._walk(inner, rest or [head[len(first) + 1 :]], caller, hops - 1)
            if found is not None:
                return found
        return None

    def direct(self, view: View, name: str) -> Located | None:
        """The entry of exactly this name, None when there is none."""
        if view.found is not None:
            return view.found.get(name)
        entry = view.catalog.entries.get(name)
        return None if entry is None else Located(entry, name, view)

    async def target(self, located: Located, resolved: Resolved, caller: Caller) -> tuple[Located, Resolved]:
        """What an alias stands for; anything else stands for itself.

        Raises:
            Problem: 400, the alias leads nowhere or in a circle.
        """
        for _ in range(_MOST_HOPS):
            if resolved.choice.driver not in (ALIAS, "intake.source.derived.AliasSource"):
                return located, resolved
            target = _alias_target(resolved.arguments)
            found = None if target is None else await self._walk(located.view, [target], caller, _MOST_HOPS)
            if found is None:
                raise Problem(400, f"alias {located.name!r}: there is no entry {target!r}", code="unopenable")
            await self._guard.check(caller, found.steps)
            located, resolved = found, await self._resolver.resolve(found.entry, {})
        raise Problem(400, f"alias {located.name!r}: too many aliases in a row", code="unopenable")

    async def resolve(self, entry: Entry, parameters: Mapping[str, Any]) -> Resolved:
        """Resolve an entry's parameters and templates.

        Raises:
            Problem: 400, a parameter is unknown or does not fit, or the catalog's template cannot be rendered.
        """
        return await self._resolver.resolve(entry, parameters)

    def unknown_variables(self, entry: Entry) -> set[str]:
        """The variables in an entry's templates that nothing gives.

        Raises:
            Problem: 400, a template is malformed.
        """
        return self._resolver.unknown_variables(entry)

    async def search(self, view: View, query: Query, caller: Caller) -> str:
        """Search a catalog.

        Returns:
            The source id of the results.
        """
        return await self._searches.search(view, query, caller)

    # Listings

    def listing(self, view: View) -> Listing:
        """The listing of a catalog."""
        known: Listing | None = view.state.derived.get("listing")
        if known is None:
            catalog = view.catalog

            def packed(name: str) -> bytes:
                return pack(self.describe(catalog, catalog.entries[name], name))

            known = view.state.derived["listing"] = Listing(catalog.entries, packed, catalog.metadata)
        return known

    async def page(self, view: View, offset: int, size: int | None, caller: Caller) -> Page:
        """One page of what a caller may see of a catalog; much to describe is described in a thread."""
        listing = self.listing(view)
        slot = PageSlot(offset, size, caller.audience, await self.visible(view, caller))
        known = listing.known_page(slot)
        if known is not None:
            return known
        if listing.undescribed(slot) <= _FEW_ENTRIES:
            return listing.page(slot)
        key = (id(listing), slot.key if slot.is_cacheable else object())
        return await self._making.run(
            key, lambda: self._workers.run(lambda: listing.page(slot), key="listing", timeout_s=_LISTING_S)
        )

    def describe(self, catalog: Catalog, entry: Entry, name: str) -> dict[str, Any]:
        """The description of an entry; may import drivers, never opens anything."""
        return describe(
            entry, name, self._registry.infos, self.container(catalog, entry), show_arguments=self._settings.show_args
        )

    def container(self, catalog: Catalog, entry: Entry) -> str | None:
        """What an entry opens as, None when unknown; an alias is what its target is."""
        for _ in range(_MOST_HOPS):
            info = next((info for c in entry.drivers if (info := self._registry.learn(c.driver)) is not None), None)
            if info is None or info.name != ALIAS:
                return None if info is None else info.container
            target = catalog.entries.get(_alias_target(entry.arguments) or "")
            if target is None:
                return None
            entry = target
        return None

    def is_catalog(self, entry: Entry) -> bool:
        """Whether an entry is a nested catalog."""
        info = next((info for c in entry.drivers if (info := self._registry.learn(c.driver)) is not None), None)
        return info is not None and info.container == CATALOG

    async def visible(self, view: View, caller: Caller) -> Sequence[str] | None:
        """The names of the entries that a caller may see, in order; None for all."""
        if self._guard.shows_everything:
            return None
        key = ("visible", caller.audience)
        known: Sequence[str] | None = view.state.derived.get(key) if caller.audience is not None else None
        if known is not None:
            return known
        located = [self.direct(view, name) for name in view.catalog.entries]
        steps = [found.step for found in located if found is not None]
        allowed = await self._guard.visible(caller, steps)
        names = tuple(name for name, ok in zip(view.catalog.entries, allowed, strict=True) if ok)
        if caller.audience is not None:
            view.state.derived[key] = names
        return names

    # Loading

    async def _current(self, live: LiveCatalog) -> State:
        try:
            return await live.current()
        except UnreadableCatalog as error:
            raise Problem(400, str(error), code="unopenable") from error
        except (Busy, TookTooLong) as error:
            raise Problem(503, f"the catalog cannot be read now: {error}", headers={"Retry-After": "2"}) from error

    def _live(self, load_it: Callable[[Any], tuple[Catalog, Any]], name: str) -> LiveCatalog:
        return LiveCatalog(
            load_it,
            self._workers,
            ttl_s=self._settings.ttl_s,
            wait_s=self._settings.catalog_wait_s,
            timeout_s=self._settings.open_timeout_s,
            name=name,
        )

    def _load(self, place: CatalogPlace, before: Loaded | None) -> tuple[Catalog, Loaded]:
        loaded = load(place, before)
        if loaded is not before:
            for warning in loaded.warnings:
                log.warning("catalog", warning=warning)
            self._import_modules(loaded.modules)
            named = (choice.driver for entry in loaded.catalog.entries.values() for choice in entry.drivers)
            self._registry.learn_again(named)
            if before is not None and loaded.catalog.generation == before.catalog.generation:
                loaded = replace(loaded, catalog=before.catalog)
        return loaded.catalog, loaded

    async def _nested_catalog(self, entry: Entry, given: Mapping[str, Any]) -> LiveCatalog:
        resolved = await self._resolver.resolve(entry, given)
        key = entry.digest() + resolved.packed_values
        live = self._nested.get(key)
        if live is None:
            scope = Scope(entry.scope.directory, entry.scope.storage_options, _inherited(entry, resolved))
            loader = self._loader(entry, resolved, scope)
            live = self._nested.setdefault(key, self._live(loader, name=f"{entry.scope.directory}:{entry.name}"))
        self._nested.move_to_end(key)
        while len(self._nested) > 1 and (len(self._nested) > _MOST_NESTED or self._nested_entries() > _MOST_IN_NESTED):
            self._nested.popitem(last=False)
        return live

    def _nested_entries(self) -> int:
        return sum(len(live.last_good.catalog) for live in self._nested.values() if live.last_good is not None)

    def _loader(self, entry: Entry, resolved: Resolved, scope: Scope) -> Callable[[Any], tuple[Catalog, Any]]:
        info = self._registry.learn(resolved.choice.driver)
        try:
            name = info.name if info else resolved.choice.driver
            made = catalog_loader(name, entry, resolved, scope, self._registry.driver)
        except Unopenable as error:
            raise Problem(400, str(error), code="unopenable") from error
        if isinstance(made, CatalogPlace):
            place = made
            return lambda before: self._load(place, before)
        return made

    def entry_count(self) -> int:
        """How many entries the published catalog has."""
        state = self.root_catalog.last_good
        return 0 if state is None else len(state.catalog)

    def problems(self) -> Iterator[str]:
        """What is wrong with catalogs now, one line each."""
        for live in (self.root_catalog, *self._nested.values()):
            if live.problem:
                yield live.problem


def _inherited(entry: Entry, resolved: Resolved) -> tuple[Any, ...]:
    """The catalog-level parameters of a nested catalog: values given at its opening are its entries' defaults."""
    return tuple(
        parameter.with_sent(resolved.values[parameter.name]) if parameter.name in resolved.given else parameter
        for parameter in entry.scope.parameters
    )


def _short(name: str | Sequence[str]) -> str:
    """A name that a caller sent, as errors show it: whatever its length."""
    text = name if isinstance(name, str) else ".".join(name[:_MOST_HOPS])
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "...")


def _alias_target(arguments: Mapping[str, Any]) -> str | None:
    target, mapping = arguments.get("target"), arguments.get("mapping")
    if isinstance(mapping, Mapping):
        target = mapping.get(target, target)
    return target if isinstance(target, str) else None
