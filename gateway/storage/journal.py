"""The journal: last values, states and ids in SQLite, written in groups (``--journal``).

Every tick that was applied is on the disk before the request that made it is answered. What is stored is what a
restart needs, not a history: the last tick of every feed and the rows of every state.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeAlias

import structlog
from pydantic_core import ValidationError

from gateway.engine.channels import Feed, Tick
from gateway.engine.engine import Engine
from gateway.engine.ids import IdCounter
from gateway.schema.record import Record
from gateway.state.keys import row_text
from shared.sqlite import GroupCommitWriter, Statement, open_database

log = structlog.get_logger("gateway.journal")

MIGRATIONS: Final = (
    """
    CREATE TABLE last (
        channel TEXT NOT NULL, key TEXT NOT NULL, number INTEGER NOT NULL, at TEXT NOT NULL, records BLOB NOT NULL,
        PRIMARY KEY (channel, key)
    ) WITHOUT ROWID;
    CREATE TABLE state (
        alias TEXT NOT NULL, key TEXT NOT NULL, row TEXT NOT NULL, number INTEGER NOT NULL, record BLOB NOT NULL,
        PRIMARY KEY (alias, key, row)
    ) WITHOUT ROWID;
    CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID
    """,
)
_LAST: Final = "INSERT OR REPLACE INTO last VALUES (?, ?, ?, ?, ?)"
_STATE: Final = "INSERT OR REPLACE INTO state VALUES (?, ?, ?, ?, ?)"
_FORGET: Final = "DELETE FROM state WHERE alias = ? AND key = ? AND row = ?"
MOST_WAITING_BYTES: Final = 64 * 2**20
_Row: TypeAlias = tuple[str, str, str, int, Record]
_COUNTER: Final = "INSERT OR REPLACE INTO counter VALUES ('ids', ?)"


class SqliteJournal:
    """Writes ticks to a database file; a `gateway.engine.engine.Journal`.

    Args:
        path: The file.
        engine: Whose ticks are written.
        ids: The counter that must not repeat after a restart.
    """

    def __init__(self, path: Path, engine: Engine, ids: IdCounter) -> None:
        self._path = path
        self._engine = engine
        self._ids = ids
        self._writer = GroupCommitWriter(path)
        self._latest: Future[None] | None = None
        self._offset = 0
        self._waiting_bytes = 0

    async def open(self) -> int:
        """Open the file, put back what it holds, and write every tick from now on.

        Returns:
            How many rows were restored.
        """
        connection = await open_database(self._path, MIGRATIONS)
        restored = 0
        rows_kept: list[_Row] = []
        try:
            async with connection.execute("SELECT value FROM counter WHERE name = 'ids'") as rows:
                async for (value,) in rows:
                    self._ids.resume(value)
            async with connection.execute("SELECT channel, key, number, at, records FROM last") as rows:
                async for channel, key, number, at, records in rows:
                    self._offset = max(self._offset, number)
                    restored += self._restore_last(channel, key, at, records)
            query = "SELECT alias, key, row, number, record FROM state ORDER BY number"
            async with connection.execute(query) as rows:
                async for alias, key, row, number, encoded in rows:
                    record = self._restore_state(alias, key, encoded)
                    if record is not None:
                        rows_kept.append((alias, key, row, number, record))
        finally:
            await connection.close()
        await self._writer.start()
        corrections = self._corrections(rows_kept)
        if corrections:
            await self._writer.submit(corrections)
        for rows_of in self._engine.states.values():
            for state in rows_of.values():
                state.watch_evictions()
        self._engine.observe(self._note)
        log.info("journal restored", path=str(self._path), rows=restored + len(rows_kept))
        return restored + len(rows_kept)

    def commit(self) -> Awaitable[None] | None:
        """What to await until every tick applied so far is on the disk."""
        return self._latest

    @property
    def is_full(self) -> bool:
        """Whether so much waits for the disk that no more may tick."""
        return self._waiting_bytes > MOST_WAITING_BYTES

    async def close(self) -> None:
        """Write what waits, then close."""
        await self._writer.close()

    def _restore_last(self, channel: str, key: str, at: str, encoded: bytes) -> int:
        known = self._engine.channels.get(channel)
        feed = None if known is None else known.feed(key or None)
        if feed is None:
            return 0
        try:
            records = self._engine.types[feed.channel.spec.struct].restore(encoded)
        except ValidationError:
            log.warning("a last value does not fit its struct any more and is skipped", channel=channel, key=key)
            return 0
        self._engine.restore_last(feed, records, datetime.fromisoformat(at).replace(tzinfo=UTC))
        return 1

    def _restore_state(self, alias: str, key: str, encoded: bytes) -> Record | None:
        rows = self._engine.states.get(alias)
        if rows is None or (key or None) not in rows:
            return None
        struct = self._engine.types[self._engine.state_channels[alias].spec.struct]
        try:
            (record,) = struct.restore(b"[" + encoded + b"]")
        except ValidationError:
            log.warning("a row of a state does not fit its struct any more and is skipped", alias=alias)
            return None
        self._engine.restore_state(alias, key or None, record)
        return record

    def _corrections(self, rows: Sequence[_Row]) -> list[Statement]:
        """Statements that bring the table of states in line with what was restored.

        A row is stored under another name when an earlier release or another `keyby` has named it, and has no place
        when it is older than another of its combination or beyond `max_keys`.
        """
        forgotten: list[tuple[str, str, str]] = []
        stored: list[tuple[str, str, str, int, bytes]] = []
        for alias, key, row, number, record in rows:
            place = self._engine.states[alias][key or None].key_if_held(record)
            name = None if place is None else row_text(place)
            if name != row:
                forgotten.append((alias, key, row))
                if name is not None:
                    stored.append((alias, key, name, number, record.encoded))
        return [(_FORGET, forgotten), (_STATE, stored)] if forgotten else []

    def _note(self, ticks: Sequence[Tick]) -> None:
        statements: list[Statement] = []
        for tick in ticks:
            feed = tick.feed
            number = self._offset + tick.number
            at = tick.at.replace(tzinfo=None).isoformat()
            statements.append((_LAST, [(feed.channel.name, feed.key or "", number, at, tick.encoded)]))
            self._note_states(feed, tick.records, number, statements)
        statements.append((_COUNTER, [(self._ids.value,)]))
        size = sum([len(each) for _, rows in statements for row in rows for each in row if isinstance(each, bytes)])
        self._waiting_bytes += size
        self._latest = self._writer.submit(statements)
        self._latest.add_done_callback(lambda _: self._written(size))

    def _written(self, size: int) -> None:
        self._waiting_bytes -= size

    def _note_states(self, feed: Feed, records: Sequence[Record], number: int, statements: list[Statement]) -> None:
        for spec in feed.channel.spec.states:
            state = self._engine.states[spec.alias][feed.key]
            for record in records:
                key = state.key_if_held(record)
                if key is not None:
                    statements.append((_STATE, [(spec.alias, feed.key or "", row_text(key), number, record.encoded)]))
            for evicted in state.take_evicted():
                statements.append((_FORGET, [(spec.alias, feed.key or "", row_text(evicted))]))
