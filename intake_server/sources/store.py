"""Source ids that survive a restart: recipes in SQLite, and the key that ids are made with."""

from __future__ import annotations

import asyncio
import os
import secrets
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiosqlite
import structlog

from intake_server.serialization.control import MalformedMessage, pack, unpack
from intake_server.sources.specs import AnyRecipe, Recipe, SearchRecipe
from shared.errors import StartupError
from shared.sqlite import GroupCommitWriter, open_database

log = structlog.get_logger("intake_server.sources")
_MIGRATIONS = ("CREATE TABLE recipe (id TEXT PRIMARY KEY, recipe BLOB NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID",)
_KEY_BYTES = 32
_MOST_BYTES = 8 * 2**20
_MOST_KEPT_BYTES = 128 * 2**20


@dataclass(frozen=True, slots=True)
class StoredRecipe:
    """A recipe as it was kept: its entry is looked up again, and must still be the same.

    Attributes:
        parent: Id of the catalog that was asked, None for the root.
        name: The entry's name there; empty for a search.
        digest: The fingerprint of the entry's definition.
        parameters: The caller's values.
        version: Which state of the data was opened.
        pin: Which files it consisted of.
        text: For a search: what was looked for.
        depth: For a search: how deep.
    """

    parent: str | None
    name: str = ""
    digest: bytes = b""
    parameters: dict[str, Any] = field(default_factory=dict)
    version: str = ""
    pin: Any = None
    text: str | None = None
    depth: int = 0

    @classmethod
    def of(cls, recipe: AnyRecipe) -> StoredRecipe:
        """What is kept of a recipe."""
        if isinstance(recipe, SearchRecipe):
            return cls(recipe.parent, text=recipe.query.text, depth=recipe.query.depth)
        return _stored(recipe)


def _stored(recipe: Recipe) -> StoredRecipe:
    return StoredRecipe(
        recipe.parent, recipe.name, recipe.entry.digest(), dict(recipe.parameters), recipe.version, recipe.pin
    )


class RecipeShelf:
    """Recipes on disk. Writing never keeps a caller waiting; an id is on disk some milliseconds after it was given out.

    Args:
        folder: Where the database and the key are.
        most: How many recipes are kept.
        idle_s: How long a recipe is kept unused, in seconds.
    """

    def __init__(self, folder: Path, *, most: int, idle_s: float) -> None:
        self._path = folder / "recipes.sqlite"
        self._most = most
        self._idle_s = idle_s
        self._writer: GroupCommitWriter | None = None
        self._reader: aiosqlite.Connection | None = None

    async def open(self) -> None:
        """Open the database, and forget what is too old.

        Raises:
            StartupError: The database cannot be opened.
        """
        self._reader = await open_database(self._path, _MIGRATIONS)
        await self._reader.execute("DELETE FROM recipe WHERE used < ?", (int(time.time() - self._idle_s),))
        await self._reader.execute(
            "DELETE FROM recipe WHERE id IN (SELECT id FROM ("
            "SELECT id, ROW_NUMBER() OVER latest AS number, SUM(LENGTH(recipe)) OVER latest AS bytes FROM recipe "
            "WINDOW latest AS (ORDER BY used DESC, id ROWS UNBOUNDED PRECEDING)) WHERE number > ? OR bytes > ?)",
            (self._most, _MOST_KEPT_BYTES),
        )
        self._writer = GroupCommitWriter(self._path)
        await self._writer.start()

    def put(self, identifier: str, recipe: AnyRecipe) -> None:
        """Keep a recipe; returns at once."""
        stored = StoredRecipe.of(recipe)
        packed = pack({name: getattr(stored, name) for name in StoredRecipe.__slots__})
        if len(packed) <= _MOST_BYTES:
            self._write("INSERT OR REPLACE INTO recipe VALUES (?, ?, ?)", [(identifier, packed, int(time.time()))])

    def touch(self, identifiers: Iterable[str]) -> None:
        """Note that recipes were used; returns at once."""
        now = int(time.time())
        self._write("UPDATE recipe SET used = ? WHERE id = ?", [(now, identifier) for identifier in identifiers])

    def drop(self, identifiers: Iterable[str]) -> None:
        """Forget recipes; returns at once."""
        self._write("DELETE FROM recipe WHERE id = ?", [(identifier,) for identifier in identifiers])

    def _write(self, sql: str, rows: list[Any]) -> None:
        if self._writer is not None and rows:
            self._writer.submit([(sql, rows)]).add_done_callback(_note_failure)

    async def get(self, identifier: str) -> StoredRecipe | None:
        """A recipe that was kept, None when there is none."""
        if self._reader is None:
            return None
        async with self._reader.execute("SELECT recipe FROM recipe WHERE id = ?", (identifier,)) as cursor:
            row = await cursor.fetchone()
        if row is None:
            return None
        try:
            return StoredRecipe(**unpack(row[0]))
        except (MalformedMessage, TypeError) as error:
            log.warning("a kept recipe cannot be read", id=identifier, reason=str(error))
            return None

    async def close(self) -> None:
        """Write what is waiting, and close."""
        if self._writer is not None:
            await self._writer.close()
        if self._reader is not None:
            await self._reader.close()


def _note_failure(written: asyncio.Future[None]) -> None:
    error = None if written.cancelled() else written.exception()
    if isinstance(error, sqlite3.Error):
        log.warning("a source id could not be kept for after a restart", reason=str(error))


def read_key(folder: Path) -> bytes:
    """The secret that ids are made with: read from its file, or made and written there for the owner alone.

    Raises:
        StartupError: The file cannot be read or written.
    """
    path = folder / "id.key"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists():
            key = path.read_bytes()
        else:
            key = secrets.token_bytes(_KEY_BYTES)
            fresh = path.with_suffix(".new")
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as opened:
                opened.write(key)
                opened.flush()
                os.fsync(opened.fileno())
            fresh.replace(path)
    except OSError as error:
        raise StartupError(f"cannot keep source ids in {folder}: {(error.strerror or str(error)).lower()}") from error
    if len(key) != _KEY_BYTES:
        raise StartupError(f"{path}: expected {_KEY_BYTES} bytes, found {len(key)}")
    return key
