"""Source ids that survive a restart: specs in SQLite, and the key that ids are made with."""

from __future__ import annotations

import asyncio
import os
import secrets
import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import aiosqlite
import structlog

from intake_server.serialization.control import MalformedMessage
from intake_server.sources.specs import SourceSpec
from shared.errors import StartupError
from shared.sqlite import GroupCommitWriter, open_database

log = structlog.get_logger("intake_server.sources")
_MIGRATIONS = ("CREATE TABLE recipe (id TEXT PRIMARY KEY, recipe BLOB NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID",)
_KEY_BYTES = 32
_MAX_BYTES = 8 * 2**20
_MAX_STORED_BYTES = 128 * 2**20


class SourceStore:
    """Specs on disk. Writing never keeps a caller waiting; an id is on disk some milliseconds after it was given out.

    Args:
        folder: Where the database and the key are.
        most: How many specs are kept.
        idle_s: How long a spec is kept unused, in seconds.
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
            (self._most, _MAX_STORED_BYTES),
        )
        self._writer = GroupCommitWriter(self._path)
        await self._writer.start()

    def put(self, source_id: str, spec: SourceSpec) -> None:
        """Store a spec; returns at once."""
        packed = spec.packed()
        if len(packed) <= _MAX_BYTES:
            self._write("INSERT OR REPLACE INTO recipe VALUES (?, ?, ?)", [(source_id, packed, int(time.time()))])

    def touch(self, source_ids: Iterable[str]) -> None:
        """Note that specs were used; returns at once."""
        now = int(time.time())
        self._write("UPDATE recipe SET used = ? WHERE id = ?", [(now, source_id) for source_id in source_ids])

    def drop(self, source_ids: Iterable[str]) -> None:
        """Delete specs; returns at once."""
        self._write("DELETE FROM recipe WHERE id = ?", [(source_id,) for source_id in source_ids])

    def _write(self, sql: str, rows: list[Any]) -> None:
        if self._writer is not None and rows:
            self._writer.submit([(sql, rows)]).add_done_callback(_note_failure)

    async def get(self, source_id: str) -> SourceSpec | None:
        """A stored spec, without its path; None when there is none."""
        if self._reader is None:
            return None
        async with self._reader.execute("SELECT recipe FROM recipe WHERE id = ?", (source_id,)) as cursor:
            row = await cursor.fetchone()
        if row is None:
            return None
        try:
            return SourceSpec.unpacked(row[0])
        except (MalformedMessage, TypeError) as error:
            log.warning("a stored source id cannot be read", id=source_id, reason=str(error))
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
        log.warning("a source id could not be stored for after a restart", reason=str(error))


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
