"""Recipes on disk: what was dropped is gone, and what is left fits its limits at the next start."""

from __future__ import annotations

from pathlib import Path

from intake_server.catalog.model import DriverChoice, Entry, Scope
from intake_server.sources.specs import Recipe
from intake_server.sources.store import RecipeShelf

ENTRY = Entry("e", (DriverChoice("csv", "csv"),), Scope("/srv/"))


async def opened(folder: Path, most: int) -> RecipeShelf:
    shelf = RecipeShelf(folder, most=most, idle_s=1000)
    await shelf.open()
    return shelf


async def test_what_was_dropped_is_forgotten_and_the_rest_fits_at_the_next_start(tmp_path: Path):
    shelf = await opened(tmp_path, most=100)
    for number in range(10):
        shelf.put(f"id{number}", Recipe(None, "e", ENTRY, {"n": number}))
    shelf.drop(["id3", "id4"])
    await shelf.close()
    shelf = await opened(tmp_path, most=100)
    known = [number for number in range(10) if await shelf.get(f"id{number}") is not None]
    await shelf.close()
    assert known == [0, 1, 2, 5, 6, 7, 8, 9]
    shelf = await opened(tmp_path, most=3)
    known = [number for number in range(10) if await shelf.get(f"id{number}") is not None]
    await shelf.close()
    assert len(known) == 3
