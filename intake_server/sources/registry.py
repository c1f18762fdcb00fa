"""Every source id that is valid, and what it stands for."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from intake_server.sources.specs import AnyRecipe, SearchRecipe, recipe_id
from shared.errors import Problem

MOST_BYTES = 128 * 2**20


class UnknownId(Problem):
    """410: nobody was ever given this id, or it has expired."""

    def __init__(self) -> None:
        super().__init__(410, "unknown or expired source-id", code="gone")


class Shelf(Protocol):
    """Keeps recipes beyond the life of the process."""

    def put(self, identifier: str, recipe: AnyRecipe) -> None:
        """Remember a recipe; returns at once."""

    def touch(self, identifiers: Iterable[str]) -> None:
        """Note that recipes were used; returns at once."""

    def drop(self, identifiers: Iterable[str]) -> None:
        """Forget recipes; returns at once."""


@dataclass(slots=True)
class _Kept:
    """A recipe in the book, when it was last used, in seconds, and about how many bytes it takes."""

    recipe: AnyRecipe
    used: float
    size: int


class _Share:
    """Recipes of one kind, the longest unused first, bounded by number and by bytes."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self.most = most
        self.most_bytes = most_bytes
        self.kept: OrderedDict[str, _Kept] = OrderedDict()
        self.size = 0

    def put(self, identifier: str, kept: _Kept) -> bool:
        """Keep a recipe as the last used; whether it is new."""
        before = self.kept.get(identifier)
        self.size += kept.size - (0 if before is None else before.size)
        self.kept[identifier] = kept
        self.kept.move_to_end(identifier)
        return before is None

    def pop(self, identifier: str) -> None:
        """Forget a recipe."""
        self.size -= self.kept.pop(identifier).size

    def expire(self, oldest_allowed: float) -> list[str]:
        """Forget what is too old or too much; the ids of that."""
        dropped = []
        while self.kept:
            identifier, oldest = next(iter(self.kept.items()))
            is_full = len(self.kept) > self.most or (self.size > self.most_bytes and len(self.kept) > 1)
            if oldest.used >= oldest_allowed and not is_full:
                break
            self.pop(identifier)
            dropped.append(identifier)
        return dropped


class RecipeBook:
    """The recipes by id, bounded by number, by bytes and by idle time.

    Searches have a share of their own, so that nobody's searches make other ids invalid.

    Args:
        key: The secret that ids are made with.
        most: How many recipes are kept, and a tenth as many searches besides; the longest unused go first.
        idle_s: How long a recipe is kept unused, in seconds.
        clock: Seconds, for idleness.
        shelf: Keeps recipes for after a restart; None keeps none.
        most_bytes: How many bytes all of them take, about; searches a sixteenth of it besides.
    """

    def __init__(
        self,
        key: bytes,
        *,
        most: int,
        idle_s: float,
        clock: Callable[[], float] = time.monotonic,
        shelf: Shelf | None = None,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._key = key
        self._idle_s = idle_s
        self._clock = clock
        self._shelf = shelf
        self._opens = _Share(most, most_bytes)
        self._searches = _Share(max(1, most // 10), most_bytes // 16)
        self._touched: set[str] = set()

    def __len__(self) -> int:
        return len(self._opens.kept) + len(self._searches.kept)

    @property
    def size(self) -> int:
        """About how many bytes all recipes take."""
        return self._opens.size + self._searches.size

    def add(self, recipe: AnyRecipe) -> str:
        """Remember a recipe.

        Returns:
            Its id; equal recipes have equal ones.
        """
        identifier = recipe_id(recipe, self._key)
        share = self._searches if isinstance(recipe, SearchRecipe) else self._opens
        if share.put(identifier, _Kept(recipe, self._clock(), recipe.size)):
            dropped = share.expire(self._clock() - self._idle_s)
            if self._shelf is not None:
                self._shelf.put(identifier, recipe)
                self._shelf.drop(dropped)
        return identifier

    def find(self, identifier: str) -> AnyRecipe | None:
        """The recipe of an id, now used once more; None when there is none in memory."""
        share = self._opens if identifier in self._opens.kept else self._searches
        known = share.kept.get(identifier)
        if known is None:
            return None
        now = self._clock()
        if now - known.used > self._idle_s:
            share.pop(identifier)
            return None
        known.used = now
        share.kept.move_to_end(identifier)
        if self._shelf is not None:
            self._touched.add(identifier)
        return known.recipe

    def sweep(self) -> None:
        """Tell the shelf which recipes were used since the last sweep."""
        if self._shelf is not None and self._touched:
            self._shelf.touch(self._touched)
            self._touched = set()
