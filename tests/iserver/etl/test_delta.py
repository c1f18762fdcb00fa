"""Tables as Delta Lake tables."""

from __future__ import annotations

from pathlib import Path

from deltalake import DeltaTable
from msgspec.structs import replace

from iserver.etl.writer import Warehouse
from iserver.sessions.finished import FinishedRecord, Impression
from tests.iserver.etl.tables import analyst
from tests.iserver.etl.test_writer import NEW_SHOP, TABLES, programs, warehouse
from tests.iserver.warehouse.sessions import SHOP_PROGRAM, START_MS, later, visit, visits


def delta(folder: Path, table: str) -> DeltaTable:
    return DeltaTable(folder / "tables" / table)


def test_every_table_is_a_delta_table_from_the_start(tmp_path: Path):
    warehouse(tmp_path, "delta")
    for table in TABLES:
        assert delta(tmp_path, table).to_pyarrow_table().num_rows == 0
        assert delta(tmp_path, table).metadata().partition_columns == ["ds", "hh"]


def test_a_batch_is_one_commit_per_table(tmp_path: Path):
    house = warehouse(tmp_path, "delta")
    house.write([visit(1), later(visit(2), hours=1)], "batch-1", programs(SHOP_PROGRAM))
    table = delta(tmp_path, "session")
    assert table.version() == 1
    found = table.to_pyarrow_table(columns=["session_id", "ds", "hh"]).sort_by("session_id").to_pylist()
    assert found == [
        {"session_id": "session-1", "ds": "2023-11-14", "hh": "22"},
        {"session_id": "session-2", "ds": "2023-11-14", "hh": "23"},
    ]


def test_the_same_batch_twice_is_committed_once(tmp_path: Path):
    warehouse(tmp_path, "delta").write(visits(5), "batch-1", programs(SHOP_PROGRAM))
    again = Warehouse.open(str(tmp_path), "delta")
    again.write(visits(5), "batch-1", programs(SHOP_PROGRAM))
    again.write([visit(6)], "batch-2", programs(SHOP_PROGRAM))
    assert delta(tmp_path, "session").version() == 2
    assert delta(tmp_path, "search").to_pyarrow_table().num_rows == 6


def test_a_new_column_is_merged_into_the_schema(tmp_path: Path):
    house = warehouse(tmp_path, "delta")
    old = FinishedRecord("ProductInfo", SHOP_PROGRAM.fingerprint, (Impression("i", START_MS),))
    new = FinishedRecord("ProductInfo", NEW_SHOP.fingerprint, (Impression("j", START_MS),), args={"color": "red"})
    house.write([replace(visit(1), records=(old, new))], "batch-1", programs(SHOP_PROGRAM, NEW_SHOP))
    assert sorted(delta(tmp_path, "product_info").to_pyarrow_table().column("color").to_pylist(), key=str) == [
        None,
        "red",
    ]


def test_times_have_the_zone_that_every_delta_reader_knows(tmp_path: Path):
    warehouse(tmp_path, "delta").write([visit(1)], "batch-1", programs(SHOP_PROGRAM))
    table = delta(tmp_path, "rating_box")
    assert table.protocol().reader_features is None
    shown = table.to_pyarrow_table().column("impressions").to_pylist()[0][0]["impression_time"]
    assert shown.isoformat(timespec="milliseconds") == "2023-11-14T22:13:20.250+00:00"


def test_readers_of_plain_parquet_see_the_rows_too(tmp_path: Path):
    warehouse(tmp_path, "delta").write(visits(3), "batch-1", programs(SHOP_PROGRAM))
    connection = analyst(tmp_path, SHOP_PROGRAM)
    counts = [connection.execute(f"select count(*) from {table}").fetchone() for table in (*TABLES, "revenue")]
    assert counts == [(3,), (3,), (0,), (0,), (3,), (3,)]
