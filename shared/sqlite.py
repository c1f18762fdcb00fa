"""SQLite for daemons: opened safely, migrated by number, written in groups.

A write that has returned is on the disk: the database runs in WAL mode with `synchronous=FULL`, so it survives
`kill -9` and the loss of power. The price, one `fdatasync` a transaction, is shared by all who wait at the same time.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import aiosqlite

from shared.errors import StartupError
from shared.tasks import start_task

Value: TypeAlias = str | bytes | int | float | None
Row: TypeAlias = Sequence[Value]
Statement: TypeAlias = tuple[str, Sequence[Row]]


async def open_database(path: Path, migrations: Sequence[str]) -> aiosqlite.Connection:
    """Open a database file, create it if need be, and bring its schema up to date.

    Args:
        path: The file. Its folder is created.
        migrations: SQL scripts; number n (from 1) leads from schema version n-1 to n. Published scripts never
            change; new ones are appended.

    Returns:
        A connection in autocommit mode with WAL, full synchronisation and foreign keys.

    Raises:
        StartupError: The file cannot be opened, is no database, is damaged, or was written by a newer release.
    """
    connection: aiosqlite.Connection | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = await aiosqlite.connect(path, isolation_level=None)
        await connection.execute("PRAGMA journal_mode=WAL")
        await connection.execute("PRAGMA synchronous=FULL")
        await connection.execute("PRAGMA foreign_keys=ON")
        await _check(connection, path)
        await _migrate(connection, path, migrations)
    except (OSError, sqlite3.Error) as error:
        if connection is not None:
            await connection.close()
        reason = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else str(error)
        raise StartupError(f"cannot open the database {path}: {reason}") from error
    except StartupError:
        if connection is not None:
            await connection.close()
        raise
    return connection


async def open_for_writing(path: Path, migrations: Sequence[str]) -> tuple[aiosqlite.Connection, GroupCommitWriter]:
    """Open a database file as `open_database` does, with a running group-commit writer; close both.

    Raises:
        StartupError: As `open_database`, or another process writes to the file.
    """
    connection = await open_database(path, migrations)
    writer = GroupCommitWriter(path)
    try:
        await writer.start()
    except StartupError:
        await connection.close()
        raise
    return connection, writer


async def _check(connection: aiosqlite.Connection, path: Path) -> None:
    async with connection.execute("PRAGMA quick_check(1)") as cursor:
        row = await cursor.fetchone()
    if row is not None and row[0] != "ok":
        raise StartupError(f"{path} is damaged: {' '.join(row[0].split())}; restore it from a backup")


async def _migrate(connection: aiosqlite.Connection, path: Path, migrations: Sequence[str]) -> None:
    async with connection.execute("PRAGMA user_version") as cursor:
        row = await cursor.fetchone()
    version = int(row[0]) if row else 0
    if version > len(migrations):
        raise StartupError(
            f"{path} has schema version {version}, this release knows {len(migrations)}: it was written by a newer one"
        )
    for number, script in enumerate(migrations[version:], start=version + 1):
        await connection.executescript(f"BEGIN IMMEDIATE;\n{script};\nPRAGMA user_version={number};\nCOMMIT;")


class GroupCommitWriter:
    """Many writers, one transaction: whoever waits while a commit is under way shares the next one.

    A call returns only when its rows are durable. Calls are applied in the order in which they were made, each
    wholly or not at all; after a failed transaction every call of that group is tried alone, so that one bad
    statement fails only its own caller.

    The writer has a thread and a connection of its own, so that one commit costs one hop and not one per statement.
    While it runs, no other process can have a writer for the same file.
    """

    def __init__(self, path: Path, *, max_group: int = 2048) -> None:
        self._path = path
        self._max_group = max_group
        self._waiting: list[tuple[Sequence[Statement], asyncio.Future[None]]] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._connection: sqlite3.Connection | None = None
        self._claim: int | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"commit-{path.stem}")
        self.commits = 0
        self.writes = 0

    async def start(self) -> None:
        """Connect; the database must have been opened (and so migrated) before.

        Raises:
            StartupError: Another process writes to the file.
        """
        self._claim = _claim(self._path)
        self._connection = await asyncio.get_running_loop().run_in_executor(self._thread, _connect, self._path)
        self._task = start_task(self._run(), name=f"group commit {self._path.name}")

    async def write(self, sql: str, rows: Iterable[Row]) -> None:
        """Execute one statement for every row; returns when the rows are durable.

        Raises:
            sqlite3.Error, ValueError, OverflowError: The statement or a value is wrong, or the disk is;
                nothing of this call was stored.
        """
        await self.submit([(sql, list(rows))])

    def submit(self, statements: Sequence[Statement]) -> asyncio.Future[None]:
        """Queue statements that belong together, as one unit, in the order of the calls.

        Returns:
            A future that is done when all of them are durable.

        Raises:
            RuntimeError: The writer is not running.
        """
        if self._task is None or self._task.done():
            raise RuntimeError("the group-commit writer is not running")
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((statements, future))
        self.writes += 1
        self._wake.set()
        return future

    async def close(self) -> None:
        """Store what is waiting, then close."""
        task, self._task = self._task, None
        if task is None:
            return
        self._wake.set()
        await task
        if self._connection is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown()
        if self._claim is not None:
            os.close(self._claim)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        assert self._connection is not None
        while self._waiting or self._task is not None:
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
                continue
            group, self._waiting = self._waiting[: self._max_group], self._waiting[self._max_group :]
            writes = [statements for statements, _ in group]
            failures = await loop.run_in_executor(self._thread, _commit_group, self._connection, writes)
            self.commits += 1
            for (_, future), failure in zip(group, failures, strict=True):
                if future.cancelled():
                    continue
                if failure is None:
                    future.set_result(None)
                else:
                    future.set_exception(failure)


def _claim(path: Path) -> int:
    """Hold a lock beside a database file; the system lets go of it when the process ends, however it ends."""
    descriptor = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise StartupError(f"{path} is in use by another process") from error
    return descriptor


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA busy_timeout=5000")
    return connection


def _commit_group(connection: sqlite3.Connection, group: Sequence[Sequence[Statement]]) -> list[Exception | None]:
    failure = _commit(connection, [statement for statements in group for statement in statements])
    if failure is None or len(group) == 1:
        return [failure] * len(group)
    return [_commit(connection, statements) for statements in group]


def _commit(connection: sqlite3.Connection, statements: Sequence[Statement]) -> Exception | None:
    try:
        if connection.in_transaction:  # it could not be rolled back
            connection.execute("ROLLBACK")
        connection.execute("BEGIN IMMEDIATE")
        for sql, rows in statements:
            if len(rows) == 1:
                connection.execute(sql, rows[0])
            else:
                connection.executemany(sql, rows)
        connection.execute("COMMIT")
    except Exception as error:  # noqa: BLE001 - a value SQLite cannot hold, or a bug: raised where it was asked for
        with contextlib.suppress(sqlite3.Error):  # it is tried again before the next transaction
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        return error
    return None
