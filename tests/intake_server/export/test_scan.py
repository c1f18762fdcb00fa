"""Rows are read with as little work as the selection allows, and are the same however they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import deltalake
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from intake_server.drivers.base import Schema
from intake_server.drivers.delta import DeltaDriver, DeltaSource
from intake_server.drivers.parquet import ParquetDriver, ParquetSource
from intake_server.export import scan as scanning
from intake_server.export.scan import scan
from intake_server.export.selection import Selection, SelectionError
from intake_server.serialization.frames import NotAFrame

ROWS = pa.table(
    {
        "n": range(100),
        "half": [None if n % 10 == 0 else n / 2 for n in range(100)],
        "name": [f"name {n % 7}" for n in range(100)],
    }
)


class Whole:
    """Data that can only be read by whole partitions; remembers which were."""

    def __init__(self, tables: list[Any]) -> None:
        self.tables = tables
        self.read_so_far: list[int] = []
        self.schema = Schema("dataframe", {}, (None, 3), len(tables))

    def read(self, partition: Any) -> Any:
        self.read_so_far.append(partition or 0)
        return self.tables[partition or 0]


@pytest.fixture
def parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ParquetSource:
    """The rows as one file of five row groups, and one of five more in an older shape."""
    pq.write_table(ROWS.slice(0, 50), tmp_path / "a.parquet", row_group_size=10)
    pq.write_table(ROWS.slice(50), tmp_path / "b.parquet", row_group_size=10)
    source = ParquetDriver().open({"urlpath": str(tmp_path)})
    read: list[int] = []
    batches = source.batches
    monkeypatch.setattr(source, "batches", lambda n, *rest: read.append(n) or batches(n, *rest))
    source.read_so_far = read  # type: ignore[attr-defined]
    return source


@pytest.fixture
def delta(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DeltaSource:
    """The rows as a table of two commits."""
    for half in (ROWS.slice(0, 50), ROWS.slice(50)):
        deltalake.write_deltalake(str(tmp_path / "table"), half, mode="append")
    source = DeltaDriver().open({"urlpath": str(tmp_path / "table")})
    read: list[int] = []
    batches = source.batches
    monkeypatch.setattr(source, "batches", lambda n, *rest: read.append(n) or batches(n, *rest))
    source.read_so_far = read  # type: ignore[attr-defined]
    return source


@pytest.fixture
def whole() -> Whole:
    return Whole([ROWS.slice(start, 25) for start in range(0, 100, 25)])


def rows(source: Any, **query: str) -> list[dict[str, Any]]:
    found = scan(source, Selection.parse({name: [value] for name, value in query.items()}))
    return pa.Table.from_batches(list(found.batches), found.schema).to_pylist()


@pytest.mark.parametrize("kind", ["parquet", "whole"])
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ROWS),
        ({"rows": "33:47"}, ROWS.slice(33, 14)),
        ({"rows": "95:200"}, ROWS.slice(95)),
        ({"rows": "5:5"}, ROWS.slice(0, 0)),
        ({"columns": "name,n"}, ROWS.select(["name", "n"])),
        ({"where": "n>=90"}, ROWS.slice(90)),
        ({"where": "half is null", "columns": "n"}, ROWS.take(list(range(0, 100, 10))).select(["n"])),
        ({"where": "n>=20", "rows": "5:8"}, ROWS.slice(25, 3)),
        ({"where": "n>1000"}, ROWS.slice(0, 0)),
    ],
)
def test_the_selected_rows_are_the_same_however_a_source_can_be_read(kind, query, expected, request):
    assert rows(request.getfixturevalue(kind), **query) == expected.to_pylist()


@pytest.mark.parametrize("query", [{}, {"where": "n>=40", "columns": "n"}, {"where": "half is null"}])
def test_a_delta_table_has_the_same_rows_in_the_order_of_its_files(delta, whole, query):
    assert sorted(rows(delta, **query), key=str) == sorted(rows(whole, **query), key=str)
    assert rows(delta, **query, rows="10:15") == rows(delta, **query)[10:15]


@pytest.mark.parametrize(
    ("query", "partitions"),
    [
        ({"rows": "33:47"}, [3, 4]),
        ({"where": "n>=90"}, [9]),
        ({"where": "n in 5,77"}, [0, 7]),
        ({"where": "name=nobody"}, []),
        ({"where": "n is null"}, []),
        ({"where": "n>=20", "rows": "5:8"}, [2]),
        ({"rows": "500:"}, []),
    ],
)
def test_row_groups_that_cannot_matter_are_not_read(parquet, query, partitions):
    rows(parquet, **query)
    assert parquet.read_so_far == partitions


def test_files_of_a_delta_table_that_cannot_matter_are_not_read(delta):
    assert [row["n"] for row in rows(delta, where="n>=98", columns="n")] == [98, 99]
    assert len(delta.read_so_far) == 1
    delta.read_so_far.clear()
    assert rows(delta, where="name=nobody") == []
    assert delta.read_so_far == []


def test_reading_ends_when_the_last_row_wanted_is_there(whole):
    assert len(rows(whole, rows=":30")) == 30
    assert whole.read_so_far == [0, 1]


def test_large_partitions_come_in_small_batches(whole, parquet, monkeypatch):
    monkeypatch.setattr(scanning, "BATCH_ROWS", 4)
    for source in (whole, parquet):
        sizes = [batch.num_rows for batch in scan(source, Selection()).batches]
        assert max(sizes) == 4
        assert sum(sizes) == 100


def test_columns_and_conditions_are_checked_before_any_answer_begins(parquet):
    for query in ({"columns": "n,colour"}, {"columns": "n,n"}, {"where": "colour=red"}, {"where": "n=many"}):
        with pytest.raises(SelectionError):
            rows(parquet, **query)


def test_a_partition_that_is_not_like_the_first_is_an_error_and_not_wrong_data():
    source = Whole([pa.table({"n": [1, 2]}), pa.table({"n": ["one", "two"]})])
    with pytest.raises(NotAFrame, match="column 'n'"):
        rows(source)


def test_pandas_frames_and_missing_columns_become_one_table():
    source = Whole([pd.DataFrame({"a": [1], "b": ["x"]}), pd.DataFrame({"b": ["y"]})])
    assert rows(source) == [{"a": 1, "b": "x"}, {"a": None, "b": "y"}]


def test_columns_named_by_folders_are_columns_too(tmp_path):
    for year in (2023, 2024):
        (tmp_path / f"year={year}").mkdir()
        pq.write_table(ROWS.slice(0, 2), tmp_path / f"year={year}" / "a.parquet")
    source = ParquetDriver().open({"urlpath": str(tmp_path)})
    assert rows(source, columns="year") == [{"year": "2023"}] * 2 + [{"year": "2024"}] * 2
    assert rows(source, where="year=2024", columns="n") == [{"n": 0}, {"n": 1}]


def test_only_a_file_that_is_all_of_the_data_is_handed_out_as_it_is(tmp_path):
    pq.write_table(ROWS, tmp_path / "a.parquet")
    path = str(tmp_path / "a.parquet")
    assert ParquetDriver().open({"urlpath": path}).original() == path
    assert ParquetDriver().open({"urlpath": path, "columns": ["n"]}).original() is None
    assert ParquetDriver().open({"urlpath": path, "filters": [("n", ">", 3)]}).original() is None
    pq.write_table(ROWS, tmp_path / "b.parquet")
    assert ParquetDriver().open({"urlpath": str(tmp_path)}).original() is None
