"""Delta Lake tables: the same files, made part of a table by an entry in its transaction log.

Each batch is an application transaction of the table, so a repeated batch is recognised and adds nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as parquet

from iserver.etl.filesystems import Filesystem
from iserver.etl.staging import StagedFile
from shared.errors import StartupError

try:
    from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
    from deltalake.exceptions import TableNotFoundError
except ImportError as error:
    raise StartupError("--table-format delta needs the package deltalake: install entrepot[delta]") from error

CONFIGURATION = {"delta.setTransactionRetentionDuration": "interval 30 days"}
"""How long a table remembers the batches it has; a repetition comes at the next start of the server."""


class DeltaPublisher:
    """Tables that are Delta Lake tables, on a folder or an object store."""

    def __init__(self, filesystem: Filesystem, storage_options: dict[str, str] | None = None) -> None:
        """
        Args:
            storage_options: For the object store, as the package deltalake names them.
        """
        self._filesystem = filesystem
        self._storage_options = storage_options

    def publish(self, batch_id: str, files: Sequence[StagedFile]) -> None:
        """Append a batch to every table it has rows for, one commit a table.

        A file without rows is put beside the table's data as well: it is no part of the Delta table, but
        readers of plain Parquet files see the columns before the first row.
        """
        for table in dict.fromkeys(file.table for file in files):
            self._append(table, batch_id, [file for file in files if file.table == table])
        for file in files:
            if file.rows == 0:
                parquet.write_table(pa.schema(_fields(file)).empty_table(), file.path)
                self._filesystem.publish(file.path, file.target)
        self._filesystem.settle()

    def _append(self, table: str, batch_id: str, files: Sequence[StagedFile]) -> None:
        uri = f"{self._filesystem.location}/tables/{table}"
        application = f"iserver-{batch_id}"
        try:
            existing = DeltaTable(uri, storage_options=self._storage_options)
        except TableNotFoundError:
            pass  # the append below creates it
        else:
            if existing.transaction_version(application) is not None:
                return
        schema = pa.unify_schemas([_schema(file) for file in files])
        write_deltalake(
            uri,
            pa.RecordBatchReader.from_batches(schema, _batches(files, schema)),
            mode="append",
            schema_mode="merge",
            partition_by=["ds", "hh"],
            configuration=CONFIGURATION,
            storage_options=self._storage_options,
            commit_properties=CommitProperties(app_transactions=[Transaction(application, 1)]),
        )


def _fields(file: StagedFile) -> list[pa.Field]:
    return [pa.field(item.name, _in_utc(item.type)) for item in parquet.read_schema(file.path)]


def _schema(file: StagedFile) -> pa.Schema:
    return pa.schema([*_fields(file), pa.field("ds", pa.string()), pa.field("hh", pa.string())])


def _in_utc(type_: pa.DataType) -> pa.DataType:
    """Timestamps with the zone UTC: Delta's older `timestamp`, which every reader knows, has one."""
    if pa.types.is_timestamp(type_):
        return pa.timestamp("us", tz="UTC")
    if pa.types.is_list(type_):
        return pa.list_(_in_utc(type_.value_type))
    if pa.types.is_struct(type_):
        return pa.struct([(item.name, _in_utc(item.type)) for item in type_])
    return type_


def _batches(files: Sequence[StagedFile], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows of all files, with their partition as columns; columns that a file does not have are null."""
    for file in files:
        with parquet.ParquetFile(file.path) as source:
            for batch in source.iter_batches():
                columns = dict(zip(batch.schema.names, batch.columns, strict=True))
                columns["ds"] = pa.repeat(pa.scalar(file.partition.ds), len(batch))
                columns["hh"] = pa.repeat(pa.scalar(file.partition.hh), len(batch))
                arrays = [columns.get(item.name, pa.nulls(len(batch), item.type)) for item in schema]
                yield pa.RecordBatch.from_arrays(
                    [array.cast(item.type) for array, item in zip(arrays, schema, strict=True)], schema=schema
                )
