"""A catalog as one request sees it, and an entry where it was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from intake_server.catalog.model import Catalog, Entry, PathEntry
from intake_server.serving.live import CatalogState
from shared.errors import Problem


class NoSuchEntry(Problem):
    """404: the catalog has no entry of that name."""

    def __init__(self, message: str) -> None:
        super().__init__(404, message, code="not_found")


@dataclass(frozen=True, slots=True)
class CatalogSnapshot:
    """A catalog as one request sees it.

    Attributes:
        source_id: Its source id, None for the root.
        state: Its present state.
        names: The names from the root to it.
        path: The path from the root to it, its own entry last.
        results: For results of a search: where each result really is.
    """

    source_id: str | None
    state: CatalogState
    names: tuple[str, ...] = ()
    path: tuple[PathEntry, ...] = ()
    results: Mapping[str, LookupResult] | None = None

    @property
    def catalog(self) -> Catalog:
        """The catalog itself."""
        return self.state.catalog

    def __getitem__(self, name: str) -> LookupResult:
        """The entry of exactly this name; `KeyError` when there is none."""
        return LookupResult(self.catalog.entries[name], name, self) if self.results is None else self.results[name]

    def lookup(self, name: str) -> LookupResult | None:
        """The entry of exactly this name, None when there is none."""
        return self[name] if name in self.catalog.entries else None

    @property
    def longest_name(self) -> int:
        """The length of the longest name in it."""
        known: int | None = self.state.derived.get("longest name")
        if known is None:
            known = self.state.derived["longest name"] = max(map(len, self.catalog.entries), default=0)
        return known


@dataclass(frozen=True, slots=True)
class LookupResult:
    """An entry and where it is.

    Attributes:
        entry: The entry.
        name: Its name in that catalog.
        snapshot: The catalog that holds it.
    """

    entry: Entry
    name: str
    snapshot: CatalogSnapshot

    @property
    def path_entry(self) -> PathEntry:
        """The entry as the last of the path to it."""
        return PathEntry(self.entry, (*self.snapshot.names, self.name), self.snapshot.catalog.metadata)

    @property
    def path(self) -> tuple[PathEntry, ...]:
        """The path from the root to it, itself last."""
        return (*self.snapshot.path, self.path_entry)
