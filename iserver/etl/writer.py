"""The warehouse: finished sessions in, columnar tables out, each session exactly once.

A batch is built in a staging folder first. Its files have names that derive from the batch, and are put in
place one by one, the session table's last; then the caller forgets the batch. After a crash the caller
writes the same batch again, which replaces the same files by the same content.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Protocol

import yaml

from iserver.etl.filesystems import Filesystem, open_filesystem
from iserver.etl.interface import WriteResult
from iserver.etl.staging import Partition, Stage, StagedFile, stage_empty
from iserver.fdl.model import Program
from iserver.sessions.finished import FinishedSession, sessions_in
from iserver.settings import TableFormat
from iserver.warehouse.catalog import catalog_text
from iserver.warehouse.metadata import json_lines
from iserver.warehouse.tables import FileFormat, Table, metadata_tables, tables

CATALOG = "catalog.yml"


class Publisher(Protocol):
    """Makes staged files part of the tables."""

    def publish(self, batch_id: str, files: Sequence[StagedFile]) -> None:
        """Add all files of a batch, once, however often it is called with the same batch."""


class FilePublisher:
    """Tables that are folders of Parquet or ORC files."""

    def __init__(self, filesystem: Filesystem) -> None:
        self._filesystem = filesystem

    def publish(self, batch_id: str, files: Sequence[StagedFile]) -> None:
        del batch_id  # the names of the files carry it
        for file in files:
            self._filesystem.publish(file.path, file.target)
        self._filesystem.settle()


class Warehouse:
    """The tables of one environment. Its methods block; call them from a worker thread, one at a time."""

    def __init__(self, filesystem: Filesystem, publisher: Publisher, table_format: TableFormat) -> None:
        """
        Args:
            filesystem: Where the files are.
            publisher: How files become part of tables.
            table_format: What the tables consist of; Delta tables consist of Parquet files.
        """
        self.location = filesystem.location
        self._filesystem = filesystem
        self._publisher = publisher
        self._suffix: FileFormat = "orc" if table_format == "orc" else "parquet"

    @classmethod
    def open(cls, location: str, table_format: TableFormat = "parquet") -> Warehouse:
        """Open or create the warehouse at a path or URL, after a test write.

        Raises:
            StartupError: Nothing can be written there, or a package for it is not installed.
        """
        filesystem = open_filesystem(location)
        if table_format == "delta":
            from iserver.etl.delta import DeltaPublisher  # the package is an optional extra

            return cls(filesystem, DeltaPublisher(filesystem), table_format)
        return cls(filesystem, FilePublisher(filesystem), table_format)

    def prepare(self, program: Program, now_ms: int) -> None:
        """Make every table of a program openable and name it in the catalog, also before it has rows.

        Args:
            now_ms: Epoch milliseconds; empty tables begin in the partition of this hour.
        """
        known = self._known_schemas()
        current = tables(program)
        schemas = {table.name: _schema_id(table) for table in current}
        changed = [table for table in current if known.get(table.name) != schemas[table.name]]
        if changed:
            self._publish_empty(changed, schemas, Partition.of(now_ms))
        text = catalog_text(program, schemas, self._suffix, self._read_text(CATALOG))
        for table in metadata_tables():
            path = _metadata_path(table.name)
            if self._filesystem.read(path) is None:
                self._filesystem.write(path, b"")
        if text != self._read_text(CATALOG):
            self._filesystem.write(CATALOG, text.encode())

    def write(
        self, sessions: Iterable[FinishedSession], batch_id: str, program: Callable[[str], Program]
    ) -> WriteResult:
        """Log a batch of sessions. When this returns they are in the warehouse; repeat it after a crash.

        Args:
            sessions: Read once, in order. Memory is bounded however many there are.
            batch_id: Fit for a file name; a repetition must bring the same sessions in the same order.
            program: The program with a given fingerprint.
        """
        began = time.perf_counter()
        folder = self._filesystem.stage(batch_id)
        try:
            files = Stage(folder, batch_id, program, self._suffix).add_all(sessions)
            self._publisher.publish(batch_id, files)
        finally:
            self._filesystem.unstage(batch_id)
        rows: Counter[str] = Counter()
        left_out: dict[str, Counter[str]] = {}
        for file in files:
            rows[file.table] += file.rows
            if file.left_out:
                left_out.setdefault(file.table, Counter()).update(file.left_out)
        return WriteResult(rows, left_out, time.perf_counter() - began)

    def write_lines(self, sessions: Iterable[bytes], batch_id: str, programs: Iterable[Program]) -> WriteResult:
        """Log a batch of sessions, some in each item, one a line; otherwise like `write`.

        Args:
            programs: Every program that sessions and records may refer to.
        """
        known = {program.fingerprint: program for program in programs}
        return self.write(chain.from_iterable(map(sessions_in, sessions)), batch_id, known.__getitem__)

    def close(self) -> None:
        """Nothing is open between two calls."""

    def write_metadata(self, rows: Mapping[str, Sequence[Mapping[str, object]]]) -> None:
        """Replace the metadata tables by those of the configuration.

        Args:
            rows: Per metadata table its rows, as `iserver.warehouse.metadata.metadata_rows` makes them.
        """
        for table in metadata_tables():
            self._filesystem.write(_metadata_path(table.name), json_lines(rows.get(table.name, ())))

    def _publish_empty(self, changed: Sequence[Table], schemas: Mapping[str, str], partition: Partition) -> None:
        name = "schemas"
        folder = self._filesystem.stage(name)
        try:
            files = [
                stage_empty(folder, table, partition, f"schema-{schemas[table.name]}.{self._suffix}", self._suffix)
                for table in changed
            ]
            identity = hashlib.sha256("".join(sorted(file.target for file in files)).encode()).hexdigest()
            self._publisher.publish(f"schemas-{identity[:16]}", files)
        finally:
            self._filesystem.unstage(name)

    def _known_schemas(self) -> dict[str, str]:
        """The schema that each table of the catalog was last given an empty file for."""
        text = self._read_text(CATALOG)
        document = yaml.safe_load(text) if text else None
        sources = document.get("sources", {}) if isinstance(document, dict) else {}
        return {
            name: str(entry.get("metadata", {}).get("schema", ""))
            for name, entry in sources.items()
            if isinstance(entry, dict)
        }

    def _read_text(self, path: str) -> str | None:
        content = self._filesystem.read(path)
        return None if content is None else content.decode("utf-8", "replace")


def _metadata_path(table: str) -> str:
    return f"tables/{table}/{table}.json"


def _schema_id(table: Table) -> str:
    """Identifies names, types and order of a table's columns."""
    columns = repr([(column.name, column.type) for column in table.columns])
    return hashlib.sha256(columns.encode()).hexdigest()[:12]
