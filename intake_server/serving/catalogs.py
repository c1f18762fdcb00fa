"""Finds catalogs and entries for callers: the root, nested ones, and results of searches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from intake_server.auth.authorizer import Authorizer, Caller
from intake_server.catalog.model import Entry, prefixes
from intake_server.catalog.search import Query
from intake_server.drivers.registry import ALIAS
from intake_server.serving.contents import Contents, alias_target
from intake_server.serving.loading import CatalogLoader
from intake_server.serving.lookup import CatalogSnapshot, LookupResult, NoSuchEntry
from intake_server.serving.resolver import Resolver
from intake_server.serving.searches import Searches
from intake_server.sources.registry import SourceRegistry, UnknownId
from intake_server.sources.specs import SourceSpec, is_id
from intake_server.sources.store import SourceStore
from intake_server.templates.resolution import Resolved
from shared.errors import Problem

_MAX_HOPS = 8
_SHOWN = 200
"""So many characters of a name are shown in an error."""


class Catalogs:
    """Finds catalogs and entries for callers.

    Args:
        loader: The catalogs that are loaded.
        contents: What is in them.
        resolver: Resolves entries with callers' parameters.
        searches: Searches catalogs.
        source_ids: The specs of source ids.
        authorizer: Who may see what.
        store: Specs from before a restart, None when they are not stored.
    """

    def __init__(
        self,
        loader: CatalogLoader,
        contents: Contents,
        resolver: Resolver,
        searches: Searches,
        source_ids: SourceRegistry,
        authorizer: Authorizer,
        store: SourceStore | None = None,
    ) -> None:
        self._loader = loader
        self._contents = contents
        self._resolver = resolver
        self._searches = searches
        self._source_ids = source_ids
        self._authorizer = authorizer
        self._store = store

    # Catalogs

    async def root(self) -> CatalogSnapshot:
        """The published catalog.

        Raises:
            Problem: 503, it could not be read yet.
        """
        state = self._loader.root.fresh() or await self._loader.current(self._loader.root)
        snapshot: CatalogSnapshot | None = state.derived.get("snapshot")
        if snapshot is None:
            snapshot = state.derived["snapshot"] = CatalogSnapshot(None, state)
        return snapshot

    async def snapshot(self, source_id: str | None, caller: Caller) -> CatalogSnapshot:
        """The catalog that a request is about.

        Args:
            source_id: The ``source-id`` header, None for the root.
            caller: Who asks.

        Raises:
            Problem: 410 unknown id; 400 not a catalog; 403 an entry of its path is denied; 503 it cannot be read now.
        """
        if source_id is None:
            return await self.root()
        spec = await self.spec(source_id, caller)
        await self._authorizer.check(caller, spec.path)
        if spec.query is not None:
            parent = await self.snapshot(spec.parent, caller)
            return await self._searches.results(source_id, spec.query, parent, caller, self.open_nested)
        if not self._contents.is_catalog(spec.entry):
            raise Problem(400, "source-id: this source is not a catalog", code="not_a_catalog")
        state = await self._loader.nested(spec.entry, await self._resolver.resolve(spec.entry, spec.parameters))
        return CatalogSnapshot(source_id, state, spec.path[-1].names, spec.path)

    async def open_nested(self, result: LookupResult, resolved: Resolved | None = None) -> CatalogSnapshot:
        """Open an entry that is a catalog.

        Args:
            result: The entry.
            resolved: The entry with a caller's parameters; None for its defaults.

        Raises:
            Problem: 400 the catalog cannot be read; 503 it cannot be read now.
        """
        if resolved is None:
            resolved = await self._resolver.resolve(result.entry, {})
        state = await self._loader.nested(result.entry, resolved)
        spec = SourceSpec.of(result.snapshot.source_id, result.name, result.path, resolved.given)
        return CatalogSnapshot(self._source_ids.add(spec), state, result.path[-1].names, result.path)

    async def search(self, snapshot: CatalogSnapshot, query: Query, caller: Caller) -> str:
        """Search a catalog.

        Returns:
            The source id of the results.
        """
        source_id = self._source_ids.add(SourceSpec(snapshot.source_id, query=query, path=snapshot.path))
        await self._searches.results(source_id, query, snapshot, caller, self.open_nested)
        return source_id

    # Source ids

    async def spec(self, source_id: str, caller: Caller) -> SourceSpec:
        """What a source id stands for, also from before a restart.

        Raises:
            UnknownId: Nothing, or its entry has another definition by now.
        """
        if not is_id(source_id):
            raise UnknownId
        known = self._source_ids.find(source_id)
        if known is not None:
            return known
        stored = None if self._store is None else await self._store.get(source_id)
        if stored is None:
            raise UnknownId
        restored = replace(stored, path=await self._path(stored, caller))
        if self._source_ids.add(restored) != source_id:
            raise UnknownId
        return restored

    async def _path(self, stored: SourceSpec, caller: Caller) -> Any:
        snapshot = await self.snapshot(stored.parent, caller)
        if stored.query is not None:
            return snapshot.path
        result = snapshot.lookup(stored.name)
        if result is None or result.entry.digest() != stored.digest:
            raise UnknownId
        return result.path

    # Entries

    async def lookup(self, snapshot: CatalogSnapshot, name: str | Sequence[str], caller: Caller) -> LookupResult:
        """Find an entry by its name, by a dotted path through nested catalogs, or by a list of names (§9.1).

        Raises:
            NoSuchEntry: There is none.
        """
        found = await self._walk(snapshot, [name] if isinstance(name, str) else list(name), caller, _MAX_HOPS)
        if found is None:
            raise NoSuchEntry(f"Catalog has no entry {_short(name)}")
        return found

    async def _walk(
        self, snapshot: CatalogSnapshot, names: Sequence[str], caller: Caller, hops: int
    ) -> LookupResult | None:
        head, rest = names[0], names[1:]
        if not rest and (direct := snapshot.lookup(head)) is not None:
            return direct
        if hops <= 0:
            return None
        for first in [head] if rest else prefixes(head, snapshot.longest_name):
            result = snapshot.lookup(first)
            if result is None or not self._contents.is_catalog(result.entry):
                continue
            await self._authorizer.check(caller, result.path)
            inner = await self.open_nested(result)
            found = await self._walk(inner, rest or [head[len(first) + 1 :]], caller, hops - 1)
            if found is not None:
                return found
        return None

    async def follow_aliases(
        self, result: LookupResult, resolved: Resolved, caller: Caller
    ) -> tuple[LookupResult, Resolved]:
        """What an alias stands for; anything else stands for itself.

        Raises:
            Problem: 400, the alias leads nowhere or in a circle.
        """
        for _ in range(_MAX_HOPS):
            if resolved.choice.driver not in (ALIAS, "intake.source.derived.AliasSource"):
                return result, resolved
            target = alias_target(resolved.arguments)
            found = None if target is None else await self._walk(result.snapshot, [target], caller, _MAX_HOPS)
            if found is None:
                raise Problem(400, f"alias {result.name!r}: there is no entry {target!r}", code="unopenable")
            await self._authorizer.check(caller, found.path)
            result, resolved = found, await self._resolver.resolve(found.entry, {})
        raise Problem(400, f"alias {result.name!r}: too many aliases in a row", code="unopenable")

    async def resolve(self, entry: Entry, parameters: Mapping[str, Any]) -> Resolved:
        """Resolve an entry's parameters and templates.

        Raises:
            Problem: 400, a parameter is unknown or does not fit, or the catalog's template cannot be rendered.
        """
        return await self._resolver.resolve(entry, parameters)


def _short(name: str | Sequence[str]) -> str:
    """A name that a caller sent, as errors show it: whatever its length."""
    text = name if isinstance(name, str) else ".".join(name[:_MAX_HOPS])
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "...")
