"""CSV files as data frames: one partition a file.

Column types are decided once, from the heads of the files and by pandas' own rules, and every partition is read with
them: by Arrow, which leaves Python's lock alone, where the entry asks for nothing that only pandas can do.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pc

from intake_server.drivers import patterns
from intake_server.drivers.base import Partition, Schema, Unopenable, Unreadable, single_index, take
from intake_server.drivers.files import File, FileList, listing, open_file, pinned
from intake_server.serialization import frames
from intake_server.serialization.frames import NotAFrame

NAME = "csv"
_MISSING = (
    "#N/A",
    "#N/A N/A",
    "#NA",
    "-1.#IND",
    "-1.#QNAN",
    "-NaN",
    "-nan",
    "1.#IND",
    "1.#QNAN",
    "<NA>",
    "N/A",
    "NA",
    "NULL",
    "NaN",
    "None",
    "n/a",
    "nan",
    "null",
    "",
)
"""The texts that pandas takes for a missing value."""
_SAMPLE_ROWS = 1000
_SAMPLE_FILES = 32
_BLOCK_BYTES = 4 << 20
_SIMPLE = frozenset({"sep", "delimiter", "usecols", "quotechar"})
_PANDAS_ERRORS = (OSError, ValueError, TypeError, KeyError, OverflowError, pd.errors.ParserError, EOFError)


class CsvSource:
    """Opened CSV files."""

    def __init__(
        self,
        at: FileList,
        schema: pa.Schema,
        options: Mapping[str, Any],
        path_columns: Mapping[str, Sequence[Any]],
        relist: Any,
        is_simple: bool,
    ) -> None:
        self._at = at
        self._data_schema = schema
        self._options = options
        self._path_columns = {name: pd.Categorical(values) for name, values in path_columns.items()}
        self._relist = relist
        self._is_simple = is_simple
        self.version = at.version
        self.pin = at.pin()
        dtype = frames.dtypes(schema) | dict.fromkeys(path_columns, "category")
        self.schema = Schema("dataframe", dtype, (None, len(dtype)), len(at.files))

    def is_current(self) -> bool:
        return self._at.is_current(self._relist)

    def stamp(self, partition: Partition | None) -> Any:
        return self._at.stamp(self._at.files[single_index(partition, len(self._at.files))])

    def read(self, partition: Partition | None) -> Any:
        position = single_index(partition, len(self._at.files))
        file = self._at.files[position]
        try:
            with self._at.unchanged(file):
                table = self._read(file)
        except _PANDAS_ERRORS as error:
            raise Unreadable(f"{file.path}: {error}") from error
        for name, values in self._path_columns.items():
            table = table.append_column(name, _one_category(values, position, table.num_rows))
        return table

    def _read(self, file: File) -> pa.Table:
        if self._is_simple:
            try:
                return _read_with_arrow(self._at, file, self._data_schema, self._options)
            except (pa.ArrowException, UnicodeDecodeError):
                pass  # what Arrow's parser refuses, pandas often still reads
        return _fitted(_read_with_pandas(self._at, file, self._options), self._data_schema)

    def close(self) -> None:
        """Files are open only while they are read."""


class CsvDriver:
    """Opens CSV files and globs."""

    container = "dataframe"

    def open(self, arguments: Mapping[str, Any], pin: Any = None) -> CsvSource:
        urlpath, options, storage_options, path_as_pattern = take(
            arguments, NAME, urlpath=..., csv_kwargs=None, storage_options=None, path_as_pattern=True
        )
        options = {key: value for key, value in (options or {}).items() if key not in ("chunksize", "iterator")}
        pattern = _pattern(urlpath, path_as_pattern)
        where = patterns.as_glob(pattern) if pattern and isinstance(urlpath, str) else urlpath
        relist = functools.partial(listing, where, storage_options)
        at = relist() if pin is None else pinned(where, storage_options, pin)
        if not at.files:
            raise Unopenable(f"{urlpath}: there are no such files")
        is_simple = options.keys() <= _SIMPLE and len(str(options.get("sep", options.get("delimiter", ",")))) == 1
        schema, plain_header = _schema(at, options)
        path_columns = patterns.columns(pattern, [file.path for file in at.files]) if pattern else {}
        return CsvSource(at, schema, options, path_columns, relist, is_simple and plain_header)


def _pattern(urlpath: Any, path_as_pattern: Any) -> str | None:
    if isinstance(path_as_pattern, str):
        return path_as_pattern
    return urlpath if path_as_pattern and isinstance(urlpath, str) and patterns.has_fields(urlpath) else None


def _schema(at: FileList, options: Mapping[str, Any]) -> tuple[pa.Schema, bool]:
    """One schema for all files, and whether Arrow would see the same header as pandas."""
    step = max(1, len(at.files) // _SAMPLE_FILES)
    heads = [_head(at, file, options) for file in at.files[::step]]
    tables = [frames.from_pandas(head) for head in heads]
    with_rows = [table.schema for table in tables if table.num_rows] or [table.schema for table in tables]
    plain_header = all(isinstance(head.index, pd.RangeIndex) and _is_unmangled(head.columns) for head in heads)
    return frames.unified(iter(with_rows)), plain_header


def _is_unmangled(labels: Any) -> bool:
    texts = [str(label) for label in labels]
    return all(
        not text.startswith("Unnamed: ")
        and not (text.rpartition(".")[0] in texts and text.rpartition(".")[2].isdigit())
        for text in texts
    )


def _head(at: FileList, file: File, options: Mapping[str, Any]) -> pd.DataFrame:
    rows = min(_SAMPLE_ROWS, options.get("nrows") or _SAMPLE_ROWS)
    try:
        return _read_with_pandas(at, file, {**options, "nrows": rows})
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except (*_PANDAS_ERRORS, NotAFrame) as error:
        raise Unopenable(f"{file.path}: {error}") from error


def _read_with_pandas(at: FileList, file: File, options: Mapping[str, Any]) -> pd.DataFrame:
    options = dict(options)
    compression = options.pop("compression", "infer")
    with open_file(at, file, compression=compression) as opened:
        frame: pd.DataFrame = pd.read_csv(opened, **options)
    return frame


def _read_with_arrow(at: FileList, file: File, schema: pa.Schema, options: Mapping[str, Any]) -> pa.Table:
    convert = pc.ConvertOptions(
        column_types={field.name: field.type for field in schema},
        null_values=list(_MISSING),
        true_values=["True", "TRUE", "true"],
        false_values=["False", "FALSE", "false"],
        strings_can_be_null=True,
        include_columns=list(schema.names),
        include_missing_columns=True,
    )
    parse = pc.ParseOptions(
        delimiter=options.get("sep", options.get("delimiter", ",")),
        quote_char=options.get("quotechar", '"'),
        newlines_in_values=True,
    )
    with _arrow_input(at, file) as opened:
        table = pc.read_csv(opened, pc.ReadOptions(block_size=_BLOCK_BYTES), parse, convert)
    return table.replace_schema_metadata(schema.metadata)


def _arrow_input(at: FileList, file: File) -> Any:
    if at.is_local and not file.path.endswith((".bz2", ".xz", ".zip", ".zst")):
        return pa.input_stream(file.path)
    return pa.PythonFile(io.BufferedReader(open_file(at, file, compression="infer"), _BLOCK_BYTES), mode="r")


def _fitted(frame: Any, schema: pa.Schema) -> Any:
    """A frame that pandas read, with the source's columns, each in the source's type if its values fit."""
    table = frames.from_pandas(frame)
    columns = {}
    for field in schema:
        position = table.schema.get_field_index(field.name)
        if position < 0:
            columns[field.name] = pa.nulls(table.num_rows, field.type)
            continue
        column = table.column(position)
        try:
            columns[field.name] = column.cast(field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            columns[field.name] = column  # beyond the heads that were looked at there is something else
    return pa.table(columns).replace_schema_metadata(table.schema.metadata if schema.pandas_metadata else None)


def _one_category(values: pd.Categorical, position: int, rows: int) -> pa.DictionaryArray:
    """A column with the same value in every row; the categories are those of all files."""
    code = int(values.codes[position])
    codes = pa.nulls(rows, pa.int32()) if code < 0 else pa.repeat(pa.scalar(code, pa.int32()), rows)
    return pa.DictionaryArray.from_arrays(codes, pa.array(values.categories, from_pandas=True))
