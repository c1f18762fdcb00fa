"""Turns finished sessions into one local file per table, partition and program, with bounded memory.

File names derive from the batch alone, so the same batch always makes the same files.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.orc as orc
import pyarrow.parquet as parquet

from iserver.fdl.model import Program
from iserver.sessions.finished import FinishedSession
from iserver.warehouse.arrow import arrow_schema
from iserver.warehouse.rows import FeatureRows, SessionRows
from iserver.warehouse.tables import Table

ROWS_AT_ONCE = 20_000
"""Rows that wait in memory per file before they are written; also the size of a Parquet row group."""

OPEN_FILES = 200
"""Files that are open at once; a batch over more partitions continues in further files."""

HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Partition:
    """One hour: the expiry hour of the sessions in it, in UTC (§12.2)."""

    ds: str
    hh: str

    @classmethod
    def of(cls, time_ms: int) -> Partition:
        """The partition of an instant in epoch milliseconds."""
        hour = datetime.fromtimestamp(time_ms // HOUR_MS * 3600, UTC)
        return cls(f"{hour:%Y-%m-%d}", f"{hour:%H}")

    @property
    def path(self) -> str:
        """Its folders under a table's folder."""
        return f"ds={self.ds}/hh={self.hh}"


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A finished file that is not in the warehouse yet.

    Attributes:
        path: Where it is.
        table: Name of the table it belongs to.
        rows: How many rows it has.
        left_out: Values without a column, by the name of the event or field.
    """

    path: Path
    table: str
    partition: Partition
    rows: int
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def target(self) -> str:
        """Its path in the warehouse."""
        return f"tables/{self.table}/{self.partition.path}/{self.path.name}"


class TableFile(Protocol):
    """A columnar file being written."""

    def write(self, batch: pa.RecordBatch) -> None: ...
    def close(self) -> None: ...


class ParquetFile:
    """Parquet, Zstandard compressed; row groups are as large as the batches given."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._writer = parquet.ParquetWriter(path, schema, compression="zstd")

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch)

    def close(self) -> None:
        self._writer.close()


class OrcFile:
    """ORC, Zstandard compressed."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._writer = orc.ORCWriter(str(path), compression="zstd")
        self._schema = schema
        self._is_empty = True

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write(pa.Table.from_batches([batch]))
        self._is_empty = False

    def close(self) -> None:
        if self._is_empty:
            self._writer.write(self._schema.empty_table())
        self._writer.close()


FORMATS: dict[str, Callable[[Path, pa.Schema], TableFile]] = {"parquet": ParquetFile, "orc": OrcFile}


class _OpenFile:
    """Rows of one table on their way into one file."""

    def __init__(
        self, path: Path, table: str, partition: Partition, rows: SessionRows | FeatureRows, file: TableFile
    ) -> None:
        self.path = path
        self.table = table
        self.partition = partition
        self.rows = rows
        self.add: Callable[..., None] = rows.add
        self._file = file
        self._written = 0

    def flush(self) -> None:
        waiting = len(self.rows)
        if waiting:
            self._file.write(self.rows.take())
            self._written += waiting

    def close(self) -> StagedFile:
        self.flush()
        self._file.close()
        return StagedFile(self.path, self.table, self.partition, self._written, self.rows.unfit)


class Stage:
    """Builds the files of one batch in a folder."""

    def __init__(self, folder: Path, batch_id: str, program: Callable[[str], Program], table_format: str) -> None:
        """
        Args:
            folder: An empty local folder.
            program: The program with a given fingerprint.
            table_format: A key of `FORMATS`.
        """
        self._folder = folder
        self._batch_id = batch_id
        self._program = program
        self._format = table_format
        self._sessions: dict[tuple[int, str], _OpenFile] = {}
        self._records: dict[tuple[int, str, str], _OpenFile] = {}
        self._parts: defaultdict[tuple[str, int, str], int] = defaultdict(int)
        self._closed: list[StagedFile] = []

    def add_all(self, sessions: Iterable[FinishedSession]) -> list[StagedFile]:
        """Write every session and its memo records; the session table's files come last."""
        for session in sessions:
            hour = session.end_ms // HOUR_MS
            file = self._sessions.get((hour, session.definition)) or self._open_sessions(hour, session.definition)
            file.add(session)
            if len(file.rows) >= ROWS_AT_ONCE:
                file.flush()
            for record in session.records:
                key = (hour, record.definition, record.feature)
                records = self._records.get(key) or self._open_records(*key)
                records.add(session, record)
                if len(records.rows) >= ROWS_AT_ONCE:
                    records.flush()
        self._close_all()
        return sorted(self._closed, key=lambda file: (file.table == "session", file.target))

    def _open_sessions(self, hour: int, definition: str) -> _OpenFile:
        rows = SessionRows(self._program(definition))
        self._sessions[hour, definition] = file = self._open("session", hour, definition, rows)
        return file

    def _open_records(self, hour: int, definition: str, feature: str) -> _OpenFile:
        program = self._program(definition)
        rows = FeatureRows(program, program.features[feature])
        table = program.features[feature].table
        self._records[hour, definition, feature] = file = self._open(table, hour, definition, rows)
        return file

    def _open(self, table: str, hour: int, definition: str, rows: SessionRows | FeatureRows) -> _OpenFile:
        if len(self._sessions) + len(self._records) >= OPEN_FILES:
            self._close_all()
        partition = Partition.of(hour * HOUR_MS)
        part = self._parts[table, hour, definition]
        self._parts[table, hour, definition] += 1
        name = file_name(self._batch_id, definition, part, self._format)
        path = self._folder / table / partition.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return _OpenFile(path, table, partition, rows, FORMATS[self._format](path, rows.schema))

    def _close_all(self) -> None:
        for file in (*self._sessions.values(), *self._records.values()):
            self._closed.append(file.close())
        self._sessions.clear()
        self._records.clear()


def file_name(batch_id: str, definition: str, part: int, suffix: str) -> str:
    """The name of a data file; further parts exist only in batches over very many partitions."""
    return f"{batch_id}-{definition[:12]}{f'-{part}' if part else ''}.{suffix}"


def stage_empty(folder: Path, table: Table, partition: Partition, name: str, table_format: str) -> StagedFile:
    """A file without rows, so that a table can be opened before anything was logged to it."""
    path = folder / table.name / name
    path.parent.mkdir(parents=True, exist_ok=True)
    FORMATS[table_format](path, arrow_schema(table)).close()
    return StagedFile(path, table.name, partition, 0)
