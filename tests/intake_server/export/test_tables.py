"""Frames in every format, with the types that formats find hard."""

from __future__ import annotations

import io
import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from intake_server.export import tables
from intake_server.export.scan import Scan

HARD = pa.table(
    {
        "category": pa.array(["a", None, "b"]).dictionary_encode(),
        "list": pa.array([[1, 2], None, []]),
        "struct": pa.array([{"x": 1, "y": "é"}, None, {"x": None, "y": ""}]),
        "bytes": pa.array([b"\x00\xff", None, b"ok"]),
        "decimal": pa.array([Decimal("1.50"), None, Decimal("-2.25")]),
        "at": pa.array([datetime(2024, 1, 1, 12, tzinfo=UTC), None, None], pa.timestamp("ns", tz="Europe/Paris")),
        "day": pa.array([date(2024, 2, 29), None, None]),
        "clock": pa.array([time(1, 2, 3), None, None]),
        "long": pa.array([timedelta(seconds=90), None, None], pa.duration("s")),
        "number": pa.array([float("nan"), None, 1.5]),
        "text": pa.array(['say "hi", you', None, "two\nlines"]),
    }
)


def scanned(table: pa.Table, rows: int = 2) -> Scan:
    return Scan(table.schema, iter(table.to_batches(max_chunksize=rows)))


def joined(name: str, table: pa.Table) -> bytes:
    return b"".join(tables.STREAMED[name](scanned(table)))


def test_arrow_keeps_everything():
    found = pa.ipc.open_stream(joined("arrow", HARD)).read_all()
    assert found.schema.equals(HARD.schema)
    assert found.drop_columns("number").equals(HARD.drop_columns("number"))  # NaN equals nothing
    assert repr(found["number"].to_pylist()) == "[nan, None, 1.5]"


def test_parquet_keeps_everything_and_writes_large_row_groups():
    written = io.BytesIO()
    tables.write_parquet(scanned(HARD, rows=1), written)
    file = pq.ParquetFile(io.BytesIO(written.getvalue()))
    assert file.num_row_groups == 1
    assert file.read().to_pylist()[0]["struct"] == {"x": 1, "y": "é"}
    assert file.schema_arrow.names == HARD.schema.names


def test_csv_has_a_text_for_everything():
    found = pd.read_csv(io.BytesIO(joined("csv", HARD)), dtype=str)
    assert found.columns.tolist() == HARD.schema.names
    first = found.iloc[0].to_dict()
    assert first["category"] == "a"
    assert json.loads(first["list"]) == [1, 2]
    assert json.loads(first["struct"]) == {"x": 1, "y": "é"}
    assert first["decimal"] == "1.50"
    assert first["long"] == "90"
    assert first["text"] == 'say "hi", you'
    assert found.iloc[1].drop("number").isna().all()
    assert found.iloc[2]["text"] == "two\nlines"


def test_json_has_a_form_for_everything():
    rows = json.loads(joined("json", HARD))
    assert rows == [json.loads(line) for line in joined("jsonl", HARD).splitlines()]
    assert rows[0] == {
        "category": "a",
        "list": [1, 2],
        "struct": {"x": 1, "y": "é"},
        "bytes": "\x00\\xff",
        "decimal": "1.50",
        "at": "2024-01-01T13:00:00+01:00",
        "day": "2024-02-29",
        "clock": "01:02:03",
        "long": "0:01:30",
        "number": None,
        "text": 'say "hi", you',
    }
    assert set(rows[1].values()) == {None}


def test_json_keeps_every_digit_of_a_time_of_day():
    clock = pa.table({"clock": [time(12, 0, 0, 50_789)]})
    assert json.loads(joined("json", clock)) == [{"clock": "12:00:00.050789"}]


@pytest.mark.parametrize(("name", "expected"), [("csv", b'"a"\n'), ("json", b"[]"), ("jsonl", b"")])
def test_no_rows_are_a_valid_answer(name, expected):
    assert joined(name, pa.table({"a": pa.array([], pa.int64())})) == expected


def test_pandas_finds_its_index_again():
    frame = pd.DataFrame({"x": [1, 2]}, index=pd.Index(["a", "b"], name="key"))
    found: Any = pa.ipc.open_stream(joined("arrow", pa.Table.from_pandas(frame))).read_pandas()
    pd.testing.assert_frame_equal(found, frame)


def test_a_nested_column_without_any_value_is_empty_in_csv():
    table = pa.table({"list": pa.array([None, None], pa.list_(pa.int64())), "n": [1, 2]})
    assert joined("csv", table) == b'"list","n"\n,1\n,2\n'
