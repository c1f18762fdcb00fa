"""The interface between the ETL and the warehouse: batches, and what writes them (§12)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from iserver.fdl.model import Program


class WarehouseError(OSError):
    """The warehouse cannot be written; nothing is lost, the same call may be made again."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Finished sessions on their way to the warehouse.

    Attributes:
        id: Names the batch for ever: the warehouse recognises a repetition by it.
        first_row, last_row: Its rows in the queue of finished sessions.
    """

    id: str
    first_row: int
    last_row: int


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What one batch added.

    Attributes:
        rows: Rows by table name.
        left_out: Values without a column, by table name and then by the name of the event or field.
        seconds: How long it took.
    """

    rows: Mapping[str, int]
    left_out: Mapping[str, Mapping[str, int]]
    seconds: float


class WarehouseWriter(Protocol):
    """The tables of one environment. Its methods block; call them from a worker thread, one at a time.

    `iserver.etl.writer.Warehouse` is these tables, `WarehouseProcess` is them in a process of its own.
    """

    def prepare(self, program: Program, now_ms: int) -> None:
        """Make every table of a program openable and name it in the catalog, also before it has rows."""

    def write_metadata(self, rows: Mapping[str, Sequence[Mapping[str, object]]]) -> None:
        """Replace the metadata tables by those of the configuration."""

    def write_lines(self, sessions: Iterable[bytes], batch_id: str, programs: Iterable[Program]) -> WriteResult:
        """Log a batch of sessions, some in each item, one a line, as `FinishedSession.to_json` writes them."""

    def close(self) -> None:
        """Close everything."""
