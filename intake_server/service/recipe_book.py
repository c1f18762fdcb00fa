"""Every source id that is valid, and what it stands for (specification §6.2, §6.3)."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Protocol

from intake_server.recipes import AnyRecipe, recipe_id
from shared.errors import Problem


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


class RecipeBook:
    """The recipes by id, bounded by number and by idle time.

    Args:
        key: The secret that ids are made with.
        most: How many recipes are kept; the longest unused go first.
        idle_s: How long a recipe is kept unused, in seconds.
        clock: Seconds, for idleness.
        shelf: Keeps recipes for after a restart; None keeps none.
    """

    def __init__(
        self,
        key: bytes,
        *,
        most: int,
        idle_s: float,
        clock: Callable[[], float] = time.monotonic,
        shelf: Shelf | None = None,
    ) -> None:
        self._key = key
        self._most = most
        self._idle_s = idle_s
        self._clock = clock
        self._shelf = shelf
        self._recipes: OrderedDict[str, tuple[AnyRecipe, float]] = OrderedDict()
        self._touched: set[str] = set()

    def __len__(self) -> int:
        return len(self._recipes)

    def add(self, recipe: AnyRecipe) -> str:
        """Remember a recipe.

        Returns:
            Its id; equal recipes have equal ones.
        """
        identifier = recipe_id(recipe, self._key)
        is_new = identifier not in self._recipes
        self._recipes[identifier] = (recipe, self._clock())
        self._recipes.move_to_end(identifier)
        if is_new:
            self._expire()
            if self._shelf is not None:
                self._shelf.put(identifier, recipe)
        return identifier

    def find(self, identifier: str) -> AnyRecipe | None:
        """The recipe of an id, now used once more; None when there is none in memory."""
        known = self._recipes.get(identifier)
        if known is None:
            return None
        recipe, used = known
        now = self._clock()
        if now - used > self._idle_s:
            del self._recipes[identifier]
            return None
        self._recipes[identifier] = (recipe, now)
        self._recipes.move_to_end(identifier)
        if self._shelf is not None:
            self._touched.add(identifier)
        return recipe

    def sweep(self) -> None:
        """Tell the shelf which recipes were used since the last sweep."""
        if self._shelf is not None and self._touched:
            self._shelf.touch(self._touched)
            self._touched = set()

    def _expire(self) -> None:
        oldest_allowed = self._clock() - self._idle_s
        while self._recipes:
            identifier, (_, used) = next(iter(self._recipes.items()))
            if used >= oldest_allowed and len(self._recipes) <= self._most:
                return
            del self._recipes[identifier]
