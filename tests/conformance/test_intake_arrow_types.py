"""Parquet files and Delta tables of every writer and every Arrow type, read by the real intake client 0.7.0."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import subprocess
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import deltalake
import duckdb
import pandas as pd
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st

from tests.conformance.environments import cache_folder, client_python
from tests.conformance.test_intake_client import ENVIRONMENTS
from tests.processes import DaemonProcess, start_daemon

CATALOG = """
sources:
  file:
    driver: parquet
    args: {urlpath: '{{ CATALOG_DIR }}/{{ which }}.parquet'}
    parameters: {which: {description: which of them, type: str, default: first}}
  folder:
    driver: parquet
    args: {urlpath: '{{ CATALOG_DIR }}/{{ which }}'}
    parameters: {which: {description: which of them, type: str, default: first}}
  delta:
    driver: delta
    args: {urlpath: '{{ CATALOG_DIR }}/{{ which }}'}
    parameters: {which: {description: which of them, type: str, default: first}}
"""

PLAIN = '''
import datetime, decimal, json, math, uuid
import numpy as np
import pandas as pd

def plain(value):
    """A value of pandas, numpy or Arrow in one form for all; what is missing is None, whole numbers are integers."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, np.generic) and pd.isna(value)):
        return None
    if isinstance(value, (bool, np.bool_)):
        return int(value)
    if isinstance(value, (int, np.integer)) and not isinstance(value, np.timedelta64):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return None if math.isnan(value) else int(value) if float(value).is_integer() else float(value)
    if isinstance(value, decimal.Decimal):
        return "decimal " + format(value.normalize(), "f")
    if isinstance(value, (np.timedelta64, datetime.timedelta)):
        return "duration %d" % (pd.Timedelta(value) // pd.Timedelta(1, "us"))
    if isinstance(value, (np.datetime64, datetime.datetime)):
        moment = pd.Timestamp(value)
        moment = moment if moment.tzinfo is None else moment.tz_convert("UTC").tz_localize(None)
        return moment.strftime("%Y-%m-%dT%H:%M:%S.%f")
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return value.bytes.hex()
    return value.hex() if isinstance(value, bytes) else value
'''
CLIENT = (
    PLAIN
    + """
import sys, dask, intake
dask.config.set({"dataframe.convert-string": False})  # else dask makes text of decimals and bytes
catalog = intake.open_catalog(sys.argv[1])
for line in sys.stdin:
    entry, name = json.loads(line)
    try:
        source = catalog[entry](which=name)
        frame = source.read()
        answer = {"columns": {label: plain(list(frame[label])) for label in frame}}
        answer["dtypes"] = {label: str(kind) for label, kind in frame.dtypes.items()}
        answer["index"] = [str(name) for name in frame.index.names]
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer, default=str), flush=True)
"""
)

_in_process: dict[str, Any] = {}
exec(PLAIN, _in_process)  # noqa: S102 - the text above, which runs in the client too
plain: Callable[[Any], Any] = _in_process["plain"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("types")
    (made / "catalog.yml").write_text(CATALOG)
    first = pa.table({"x": [1]})  # the client opens an entry with its defaults before it sends values
    pq.write_table(first, made / "first.parquet")
    deltalake.write_deltalake(made / "first", first)
    return made


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[DaemonProcess]:
    with start_daemon("intake_server", folder / "catalog.yml") as daemon:
        yield daemon


class Client:
    """A client that stays: importing its libraries takes longer than a hundred reads."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def read(self, entry: str, name: str) -> dict[str, Any]:
        """The whole of an entry, or the error that the client raised."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([entry, name]) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def client(request: pytest.FixtureRequest, server: DaemonProcess) -> Iterator[Client]:
    python = client_python(f"intake-{request.param}")
    command = [python, "-c", CLIENT, f"intake://127.0.0.1:{server.port}"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=cache_folder()
    ) as process:
        yield Client(process)
        assert process.stdin is not None
        process.stdin.close()
        process.wait(30)


def columns_of(table: pa.Table) -> dict[str, Any]:
    return {name: plain(table.column(name).to_pylist()) for name in table.column_names}


# --- every Arrow type ---------------------------------------------------------------------------------------------

EXACT_AS_FLOAT = 2**53
SECONDS = st.integers(0, 4_000_000_000)  # years that nanoseconds reach too
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)
DECIMALS = st.integers(-99_999, 99_999).map(lambda n: Decimal(n).scaleb(-2))


def integers(kind: pa.DataType) -> st.SearchStrategy[int]:
    if pa.types.is_unsigned_integer(kind):
        return st.integers(0, 2**kind.bit_width - 1)
    return st.integers(-(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1) - 1)


def moments(zone: str | None) -> st.SearchStrategy[dt.datetime]:
    return SECONDS.map(lambda s: dt.datetime.fromtimestamp(s, dt.UTC).replace(tzinfo=dt.UTC if zone else None))


FLAT: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.null(): st.none(),
    pa.bool_(): st.booleans(),
    **{
        kind: integers(kind)
        for kind in (
            pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(),
        )
    },
    pa.float16(): st.floats(width=16, allow_nan=False, allow_infinity=False),
    pa.float32(): st.floats(width=32, allow_nan=False, allow_infinity=False),
    pa.float64(): st.floats(allow_nan=False, allow_infinity=False),
    **dict.fromkeys((pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())), TEXTS),
    **dict.fromkeys((pa.dictionary(pa.uint8(), pa.string()), pa.dictionary(pa.uint32(), pa.string())), TEXTS),
    **dict.fromkeys((pa.binary(), pa.large_binary(), pa.binary_view()), st.binary(max_size=5)),
    pa.binary(3): st.binary(min_size=3, max_size=3),
    **dict.fromkeys((pa.date32(), pa.date64()), st.dates()),
    **dict.fromkeys((pa.time32("s"), pa.time32("ms")), SECONDS.map(lambda s: dt.time(s % 24, s % 60, s % 59))),
    **dict.fromkeys((pa.time64("us"), pa.time64("ns")), st.times()),
    **{
        pa.timestamp(unit, zone): moments(zone)
        for unit in ("s", "ms", "us", "ns")
        for zone in (None, "UTC", "Europe/Paris", "+02:00")
    },
    **{pa.duration(unit): SECONDS.map(lambda s: dt.timedelta(seconds=s)) for unit in ("s", "ms", "us", "ns")},
    **dict.fromkeys((pa.decimal32(7, 2), pa.decimal64(12, 2), pa.decimal128(20, 2), pa.decimal256(50, 2)), DECIMALS),
    pa.uuid(): st.uuids().map(lambda one: one.bytes),
    pa.json_(): st.just('{"a": 1}'),
}  # fmt: skip
"""Every type that Parquet can hold, but for nested ones."""

INNER = {
    kind: values
    for kind, values in FLAT.items()
    if not (isinstance(kind, pa.BaseExtensionType) or pa.types.is_null(kind) or pa.types.is_dictionary(kind))
    and str(kind)[:12] not in ("timestamp[ns", "duration[ns]", "string_view", "binary_view")
} | {pa.int64(): st.integers(-EXACT_AS_FLOAT, EXACT_AS_FLOAT), pa.uint64(): st.integers(0, EXACT_AS_FLOAT)}
"""Types of elements and fields. pandas has nested integers with missing ones as floats, which are exact up to 2**53,
and nested nanoseconds as bare integers; pyarrow does not write row groups of nested views."""


@st.composite
def nested(draw: st.DrawFn) -> tuple[pa.DataType, st.SearchStrategy[Any]]:
    inner = draw(st.sampled_from(list(INNER)))
    values = st.none() | INNER[inner]
    lists = st.lists(values, max_size=3)
    forms: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
        (pa.list_(inner), lists),
        (pa.large_list(inner), lists),
        (pa.list_view(inner), lists),
        (pa.list_(inner, 2), st.lists(values, min_size=2, max_size=2)),
        (pa.struct({"x": inner, "y": pa.large_string()}), st.fixed_dictionaries({"x": values, "y": TEXTS})),
        (pa.map_(pa.string(), inner), st.dictionaries(TEXTS, values, max_size=2).map(lambda d: list(d.items()))),
        (pa.list_(pa.list_(inner)), st.lists(lists, max_size=2)),
    ]
    return draw(st.sampled_from(forms))


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    kinds = draw(st.lists(st.sampled_from(list(FLAT.items())) | nested(), min_size=1, max_size=6))
    rows = draw(st.integers(0, 6))
    columns, fields = [], []
    for position, (kind, values) in enumerate(kinds):
        has_missing = draw(st.booleans())
        cells = draw(st.lists(st.none() | values if has_missing else values, min_size=rows, max_size=rows))
        is_required = None not in cells and not pa.types.is_null(kind) and draw(st.booleans())
        columns.append(column(cells, kind))
        fields.append(pa.field(f"c{position}", kind, nullable=not is_required))
    return pa.table(columns, schema=pa.schema(fields))


def column(cells: list[Any], kind: pa.DataType) -> Any:
    if pa.types.is_dictionary(kind):
        return pa.array(cells, kind.value_type).dictionary_encode().cast(kind)
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, pa.array(cells, kind.storage_type))
    return pa.array(cells, kind)


NUMBERS = itertools.count()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(table=tables(), rows_per_group=st.integers(1, 7))
def test_tables_of_any_types_are_read_as_they_were_written(
    client: Client, folder: Path, table: pa.Table, rows_per_group: int
):
    name = f"any{next(NUMBERS)}"
    pq.write_table(table, folder / f"{name}.parquet", row_group_size=rows_per_group)
    answer = client.read("file", name)
    assert answer.get("columns") == columns_of(table), (answer.get("error"), table.schema)


@pytest.mark.parametrize("kind", FLAT, ids=str)
def test_each_type_stands_beside_integers_and_booleans_that_are_missing(client: Client, folder: Path, kind: Any):
    value = find(FLAT[kind], lambda _: True)
    table = pa.table({"n": pa.array([2**60 + 1, None]), "ok": pa.array([None, True]), "x": column([value, None], kind)})
    name = f"beside{next(NUMBERS)}"
    pq.write_table(table, folder / f"{name}.parquet", row_group_size=1)
    answer = client.read("file", name)
    assert answer.get("columns") == columns_of(table), answer.get("error")
    assert (answer["dtypes"]["n"], answer["dtypes"]["ok"]) == ("Int64", "boolean")


# --- every writer -------------------------------------------------------------------------------------------------

DUCKDB = """
    select
        i, ok: i = 1, tiny: i::utinyint, huge: i::hugeint, money: i::decimal(9, 2), real: i::float, double: i::double,
        day: date '2020-01-02' + i, clock: time '01:02:03.5' + to_seconds(i), s: 'x' || i, kind: ('x' || i)::kind,
        moment: timestamp '2020-01-02 03:04:05.123456' + to_days(i), raw: ('x' || i)::blob,
        zoned: timestamptz '2020-01-02 03:04+02' + to_days(i), second: moment::timestamp_s,
        id: ('0000000' || i || '-0000-0000-0000-000000000000')::uuid, list: case when i is not null then [i, null] end,
        pair: case when i is not null then {'a': i, 'b': 'x'} end, map: case when i is not null then map {'k': i} end
    from (values (1), (null), (3)) t(i)
"""


def by_duckdb(path: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute("create type kind as enum ('x1', 'x2', 'x3')")
        connection.sql(DUCKDB).write_parquet(str(path))


def by_polars(path: Path) -> None:
    polars.DataFrame(
        {
            "n": [2**60 + 1, None],
            "ok": [None, True],
            "s": ["a", None],
            "kind": polars.Series(["x", None], dtype=polars.Categorical),
            "choice": polars.Series([None, "y"], dtype=polars.Enum(["x", "y"])),
            "small": polars.Series([255, None], dtype=polars.UInt8),
            "day": [dt.date(2020, 1, 2), None],
            "clock": [dt.time(1, 2, 3), None],
            "moment": [dt.datetime(2020, 1, 2, 3, 4, 5, 6), None],
            "at": polars.Series([dt.datetime(2020, 1, 2), None]).dt.replace_time_zone("Europe/Paris"),
            "took": [dt.timedelta(hours=1), None],
            "money": [Decimal("1.50"), None],
            "raw": [b"a", None],
            "list": [[1, None], None],
            "texts": [["a", None], None],
            "pair": [{"a": 1, "b": "x"}, None],
            "fixed": polars.Series([[1, 2], None], dtype=polars.Array(polars.Int32, 2)),
            "nothing": [None, None],
        }
    ).write_parquet(path)


SPARK_SCHEMA = pa.schema(
    [
        pa.field("n", pa.int64()), pa.field("ok", pa.bool_()), pa.field("s", pa.string()), pa.field("raw", pa.binary()),
        pa.field("moment", pa.timestamp("us")), pa.field("day", pa.date32()), pa.field("money", pa.decimal128(9, 2)),
        pa.field("pair", pa.struct({"a": pa.int32(), "b": pa.string()})), pa.field("list", pa.list_(pa.int32())),
        pa.field("map", pa.map_(pa.string(), pa.int32())),
    ],
    metadata={"org.apache.spark.version": "3.5.1", "org.apache.spark.sql.parquet.row.metadata": '{"type":"struct"}'},
)  # fmt: skip


def as_spark(path: Path, **options: Any) -> None:
    row = [
        2**60 + 1,
        True,
        "a",
        b"a",
        dt.datetime(2020, 1, 2, 3),
        dt.date(2020, 1, 2),
        Decimal("1.50"),
        {"a": 1},
        [1],
        [("k", 1)],
    ]
    columns = [pa.array([None, value], field.type) for value, field in zip(row, SPARK_SCHEMA, strict=True)]
    table = pa.table(columns, schema=SPARK_SCHEMA)
    pq.write_table(table, path, store_schema=False, use_compliant_nested_type=False, **options)


WRITERS: dict[str, Callable[[Path], None]] = {
    "duckdb": by_duckdb,
    "polars": by_polars,
    "spark": lambda path: as_spark(path, flavor="spark", use_deprecated_int96_timestamps=True),
    "spark-legacy": lambda path: as_spark(path, version="1.0", store_decimal_as_integer=True, write_statistics=False),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_files_of_other_writers_are_read_as_they_were_written(client: Client, folder: Path, writer: str):
    path = folder / f"{writer}.parquet"
    if not path.exists():
        WRITERS[writer](path)
    answer = client.read("file", writer)
    assert answer.get("columns") == columns_of(pq.read_table(path)), answer.get("error")


@pytest.mark.parametrize("writer", ["polars", "spark"])
def test_files_of_a_folder_that_differ_in_what_is_missing_are_one_table(client: Client, folder: Path, writer: str):
    parts = folder / f"{writer}-parts"
    if not parts.exists():
        parts.mkdir()
        WRITERS[writer](parts / "0.parquet")
        table = pq.read_table(parts / "0.parquet")
        pq.write_table(table.slice(0, 1), parts / "1.parquet")
        pq.write_table(table.slice(1, 1).drop_columns(["ok"]), parts / "2.parquet")
    answer = client.read("folder", parts.name)
    whole = pa.concat_tables([pq.read_table(path) for path in sorted(parts.iterdir())], promote_options="permissive")
    assert answer.get("columns") == columns_of(whole), answer.get("error")


def test_the_index_and_the_dtypes_that_pandas_wrote_survive_beside_missing_integers(client: Client, folder: Path):
    frame = pd.DataFrame(
        {
            "n": pd.array([2**60 + 1, None], dtype="Int64"),
            "span": pd.period_range("2020", periods=2, freq="M"),
            "kind": pd.Categorical(["a", None]),
            "backed": pd.array([1, None], dtype="int64[pyarrow]"),
            "nested": pd.array([[1], None], dtype=pd.ArrowDtype(pa.list_(pa.int64()))),
        },
        index=pd.Index(["x", "y"], name="key"),
    )
    frame.to_parquet(folder / "pandas.parquet")
    answer = client.read("file", "pandas")
    assert "error" not in answer, answer
    assert answer["index"] == ["key"]
    assert answer["dtypes"] == {
        "n": "Int64", "span": "period[M]", "kind": "category", "backed": "int64[pyarrow]", "nested": "object",
    }  # fmt: skip


def test_a_delta_table_is_read_as_it_was_written(client: Client, folder: Path):
    rows = {
        "n": pa.array([2**60 + 1, None]),
        "ok": pa.array([None, True]),
        "s": pa.array(["a", None]),
        "day": pa.array([dt.date(2020, 1, 2), None]),
        "at": pa.array([dt.datetime(2020, 1, 2, tzinfo=dt.UTC), None], pa.timestamp("us", "UTC")),
        "moment": pa.array([dt.datetime(2020, 1, 2), None], pa.timestamp("us")),
        "money": pa.array([Decimal("1.50"), None], pa.decimal128(9, 2)),
        "raw": pa.array([b"a", None]),
        "list": pa.array([[1, 2], None]),
        "pair": pa.array([{"a": 1, "b": "x"}, None]),
        "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
    }
    if not (folder / "table").exists():
        deltalake.write_deltalake(folder / "table", pa.table(rows))
    answer = client.read("delta", "table")
    assert answer.get("columns") == columns_of(pa.table(rows)), answer.get("error")
