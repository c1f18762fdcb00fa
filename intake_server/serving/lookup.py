"""A catalog as one request sees it, and an entry where it was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from intake_server.catalog.model import Catalog, Entry, Step
from intake_server.serving.live import State
from shared.errors import Problem


class NoSuchEntry(Problem):
    """404: the catalog has no entry of that name."""

    def __init__(self, message: str) -> None:
        super().__init__(404, message, code="not_found")


@dataclass(frozen=True, slots=True)
class View:
    """A catalog as one request sees it.

    Attributes:
        id: Its source id, None for the root.
        state: Its present state.
        path: The names from the root to it.
        steps: The way there, for the guard; the catalog's own entry is the last.
        found: For results of a search: where each result really is.
    """

    id: str | None
    state: State
    path: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    found: Mapping[str, Located] | None = None

    @property
    def catalog(self) -> Catalog:
        """The catalog itself."""
        return self.state.catalog

    @property
    def longest_name(self) -> int:
        """The length of the longest name in it."""
        known: int | None = self.state.derived.get("longest name")
        if known is None:
            known = self.state.derived["longest name"] = max(map(len, self.catalog.entries), default=0)
        return known


@dataclass(frozen=True, slots=True)
class Located:
    """An entry and where it is.

    Attributes:
        entry: The entry.
        name: Its name in that catalog.
        view: The catalog that holds it.
    """

    entry: Entry
    name: str
    view: View

    @property
    def step(self) -> Step:
        """The entry as the last step of the way to it."""
        return Step(self.entry, (*self.view.path, self.name), self.view.catalog.metadata)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The whole way to it."""
        return (*self.view.steps, self.step)
