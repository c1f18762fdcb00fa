"""Specs on disk: what was dropped is gone, and what is left fits its limits at the next start."""

from __future__ import annotations

from pathlib import Path

from intake_server.catalog.model import DriverChoice, Entry, PathEntry, Scope
from intake_server.sources.specs import SourceSpec
from intake_server.sources.store import SourceStore

ENTRY = Entry("e", (DriverChoice("csv", "csv"),), Scope("/srv/"))


async def opened(folder: Path, most: int) -> SourceStore:
    store = SourceStore(folder, most=most, idle_s=1000)
    await store.open()
    return store


async def test_what_was_dropped_is_forgotten_and_the_rest_fits_at_the_next_start(tmp_path: Path):
    store = await opened(tmp_path, most=100)
    for number in range(10):
        store.put(f"id{number}", SourceSpec.of(None, "e", (PathEntry(ENTRY, ("e",), {}),), {"n": number}))
    store.drop(["id3", "id4"])
    await store.close()
    store = await opened(tmp_path, most=100)
    known = [number for number in range(10) if await store.get(f"id{number}") is not None]
    await store.close()
    assert known == [0, 1, 2, 5, 6, 7, 8, 9]
    store = await opened(tmp_path, most=3)
    known = [number for number in range(10) if await store.get(f"id{number}") is not None]
    await store.close()
    assert len(known) == 3
