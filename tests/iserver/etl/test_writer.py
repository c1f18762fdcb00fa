"""Finished sessions in, tables out, each session exactly once (protocol §12)."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
import yaml
from msgspec.structs import replace

from iserver.etl import staging
from iserver.etl.filesystems import LocalFilesystem, open_filesystem
from iserver.etl.staging import Partition
from iserver.etl.writer import FilePublisher, Warehouse
from iserver.fdl import Program
from iserver.fdl.model import SourceFile
from iserver.sessions.finished import FinishedRecord, FinishedSession, Impression
from iserver.settings import TableFormat
from iserver.warehouse.metadata import metadata_rows
from shared.errors import StartupError
from tests.iserver.etl.tables import analyst, partitions, rows
from tests.iserver.fdl.programs import SHOP, program
from tests.iserver.warehouse.sessions import END_MS, SHOP_PROGRAM, START_MS, later, visit, visits
from tests.iserver.warehouse.test_tables import DOCUMENT

TABLES = ["session", "rating_box", "product_info", "new_checkout", "search"]


def programs(*known: Program) -> Callable[[str], Program]:
    return {item.fingerprint: item for item in known}.__getitem__


def warehouse(folder: Path, table_format: TableFormat = "parquet") -> Warehouse:
    result = Warehouse.open(str(folder), table_format)
    result.prepare(SHOP_PROGRAM, START_MS)
    return result


# --- layout ---------------------------------------------------------------------------------------


def test_a_batch_is_in_the_partition_of_the_expiry_hour(tmp_path: Path):
    sessions = [visit(1), later(visit(2), hours=1), later(visit(3), hours=2)]
    warehouse(tmp_path).write(sessions, "batch-1", programs(SHOP_PROGRAM))
    by_hour = {"ds=2023-11-14/hh=22": 1, "ds=2023-11-14/hh=23": 1, "ds=2023-11-15/hh=00": 1}
    assert partitions(tmp_path, "session") == by_hour
    assert partitions(tmp_path, "rating_box") == by_hour
    assert partitions(tmp_path, "search") == by_hour


@pytest.mark.parametrize(
    ("time_ms", "path"),
    [
        (0, "ds=1970-01-01/hh=00"),
        (START_MS, "ds=2023-11-14/hh=22"),
        (1_700_002_799_999, "ds=2023-11-14/hh=22"),
        (1_700_002_800_000, "ds=2023-11-14/hh=23"),
    ],
)
def test_a_partition_is_an_hour_in_utc(time_ms: int, path: str):
    assert Partition.of(time_ms).path == path


def test_written_says_how_many_rows(tmp_path: Path):
    written = warehouse(tmp_path).write(visits(3), "batch-1", programs(SHOP_PROGRAM))
    assert written.rows == {"session": 3, "rating_box": 3, "search": 3}


def test_a_batch_waits_for_the_process_that_is_still_putting_it_in_place(tmp_path: Path):
    first, second = LocalFilesystem(tmp_path), LocalFilesystem(tmp_path)
    first.stage("batch-1")
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(second.stage, "batch-1")
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.05)
        (tmp_path / ".staging" / "batch-1" / "left").touch()
        first.unstage("batch-1")
        assert list(waiting.result(timeout=30).iterdir()) == []
        second.unstage("batch-1")
    assert list((tmp_path / ".staging").iterdir()) == []


def test_nothing_is_left_in_the_staging_folder(tmp_path: Path):
    warehouse(tmp_path).write(visits(3), "batch-1", programs(SHOP_PROGRAM))
    assert list((tmp_path / ".staging").iterdir()) == []


def test_an_empty_batch_writes_nothing(tmp_path: Path):
    assert warehouse(tmp_path).write([], "batch-1", programs()).rows == {}
    assert rows(tmp_path, "session") == []


def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match=r"cannot write to the warehouse .*/file/wh: "):
        open_filesystem(str(tmp_path / "file" / "wh"))


def test_the_write_test_leaves_nothing_behind(tmp_path: Path):
    open_filesystem(str(tmp_path / "wh"))
    assert list((tmp_path / "wh").iterdir()) == []


# --- exactly once ---------------------------------------------------------------------------------


def test_the_same_batch_twice_is_there_once(tmp_path: Path):
    house = warehouse(tmp_path)
    house.write(visits(10), "batch-1", programs(SHOP_PROGRAM))
    house.write(visits(10), "batch-1", programs(SHOP_PROGRAM))
    house.write([visit(11)], "batch-2", programs(SHOP_PROGRAM))
    assert sorted(row["session_id"] for row in rows(tmp_path, "session")) == sorted(
        f"session-{n}" for n in range(1, 12)
    )
    assert len(rows(tmp_path, "search")) == 11


class CrashError(Exception):
    """The machine stopped."""


class CrashingPlace(LocalFilesystem):
    """A folder whose machine stops before the n-th file is put in place."""

    def __init__(self, root: Path, remaining: int) -> None:
        super().__init__(root)
        self.remaining = remaining

    def publish(self, staged: Path, path: str) -> None:
        if self.remaining == 0:
            raise CrashError
        self.remaining -= 1
        super().publish(staged, path)

    def unstage(self, name: str) -> None:
        """A machine that stops cleans nothing up; only its locks are gone."""
        self._locks.pop(name).close()


@pytest.mark.parametrize("crash_at", range(6))
def test_a_batch_that_was_interrupted_is_complete_after_it_is_repeated(tmp_path: Path, crash_at: int):
    sessions = [*visits(5), later(visit(6), hours=1)]
    place = CrashingPlace(tmp_path, crash_at)
    with pytest.raises(CrashError):
        Warehouse(place, FilePublisher(place), "parquet").write(sessions, "batch-1", programs(SHOP_PROGRAM))
    assert len(rows(tmp_path, "session")) < 6  # a session's row comes after all of its records
    Warehouse.open(str(tmp_path)).write(sessions, "batch-1", programs(SHOP_PROGRAM))
    for table in ("session", "rating_box", "search"):
        assert sorted(row["session_id"] for row in rows(tmp_path, table)) == [f"session-{n}" for n in range(1, 7)]
    assert not (tmp_path / ".staging" / "batch-1").exists()


def test_a_failing_source_leaves_nothing_in_the_tables(tmp_path: Path):
    def sessions():
        yield visit(1)
        raise CrashError

    with pytest.raises(CrashError):
        warehouse(tmp_path).write(sessions(), "batch-1", programs(SHOP_PROGRAM))
    assert rows(tmp_path, "session") == []
    assert rows(tmp_path, "rating_box") == []


# --- large batches --------------------------------------------------------------------------------


def test_rows_are_written_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(staging, "ROWS_AT_ONCE", 10)
    warehouse(tmp_path).write(visits(35), "batch-1", programs(SHOP_PROGRAM))
    (file,) = tmp_path.glob("tables/session/ds=*/hh=*/batch-1-*.parquet")
    assert parquet.ParquetFile(file).num_row_groups == 4
    assert [row["session_id"] for row in rows(tmp_path, "session")] == [f"session-{n}" for n in range(1, 36)]


def test_a_batch_over_many_hours_keeps_few_files_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(staging, "OPEN_FILES", 4)
    sessions = [later(visit(number), hours=number % 4) for number in range(12)]
    for _ in range(2):
        warehouse(tmp_path).write(sessions, "batch-1", programs(SHOP_PROGRAM))
    assert set(partitions(tmp_path, "session").values()) == {3}
    assert len({row["session_id"] for row in rows(tmp_path, "search")}) == 12


# --- tables that change ---------------------------------------------------------------------------

NEW_SHOP = program(SHOP.replace("feature ProductInfo {}", "feature ProductInfo { args { color: String } }"))


def test_every_table_can_be_queried_before_it_has_a_row(tmp_path: Path):
    warehouse(tmp_path)
    connection = analyst(tmp_path, SHOP_PROGRAM)
    for table in (*TABLES, "revenue", "experiment", "variant", "variant_value", "audience", "metric"):
        assert connection.execute(f"select count(*) from {table}").fetchall() == [(0,)], table


def test_every_table_and_view_can_be_queried_with_rows(tmp_path: Path):
    house = warehouse(tmp_path)
    house.write(visits(4), "batch-1", programs(SHOP_PROGRAM))
    house.write_metadata(metadata_rows(DOCUMENT))
    connection = analyst(tmp_path, SHOP_PROGRAM)
    queries = {
        "select count(*), min(ds), max(hh), sum(session_length) from session": (4, "2023-11-14", "22", 240_000),
        "select sum(impression_count), max(rating[1].stars) from rating_box": (8, 4),
        "select count(*) from product_info": (0,),
        "select count(*) from new_checkout": (0,),
        "select max(results[1].title), max(dwell) from search": ("A", 59_000),
        "select count(*), sum(value), min(feature), min(impression_id) from revenue": (4, 38.0, "session", "session-1"),
        "select name, epoch_ms(start_ts), state from experiment": ("Button copy", 1_700_000_000_250, "published"),
        "select count(*), count(name) from variant": (2, 1),
        "select max(field_value) from variant_value": ('{"constant":"Submit"}',),
        "select json_extract_string(definition, '$.op') from audience": ("eq",),
        "select metric_name from metric": ("Revenue",),
    }
    assert {query: connection.execute(query).fetchone() for query in queries} == queries


def test_a_new_column_is_there_at_once_and_old_rows_have_null(tmp_path: Path):
    house = warehouse(tmp_path)
    info = FinishedRecord("ProductInfo", SHOP_PROGRAM.fingerprint, (Impression("i", START_MS),))
    house.write([replace(visit(1), records=(info,))], "batch-1", programs(SHOP_PROGRAM))
    house.prepare(NEW_SHOP, START_MS + 3_600_000)
    connection = analyst(tmp_path, NEW_SHOP)
    assert connection.execute("select session_id, color from product_info").fetchall() == [("session-1", None)]

    new_info = replace(info, definition=NEW_SHOP.fingerprint, args={"color": "red"})
    house.write([replace(visit(2, NEW_SHOP), records=(new_info,))], "batch-2", programs(SHOP_PROGRAM, NEW_SHOP))
    found = connection.execute("select session_id, color from product_info order by 1").fetchall()
    assert found == [("session-1", None), ("session-2", "red")]


def test_a_session_with_records_of_two_programs_is_one_session(tmp_path: Path):
    house = warehouse(tmp_path)
    old = FinishedRecord("ProductInfo", SHOP_PROGRAM.fingerprint, (Impression("i", START_MS),))
    new = FinishedRecord("ProductInfo", NEW_SHOP.fingerprint, (Impression("j", START_MS),), args={"color": "red"})
    house.write([replace(visit(1), records=(old, new))], "batch-1", programs(SHOP_PROGRAM, NEW_SHOP))
    assert [row.get("color") for row in rows(tmp_path, "product_info")] in ([None, "red"], ["red", None])
    assert len(rows(tmp_path, "session")) == 1


def test_preparing_the_same_program_again_writes_nothing(tmp_path: Path):
    warehouse(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    Warehouse.open(str(tmp_path)).prepare(SHOP_PROGRAM, END_MS + 86_400_000)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


def test_the_catalog_and_the_metadata_survive_a_second_start(tmp_path: Path):
    house = warehouse(tmp_path)
    house.write_metadata(metadata_rows(DOCUMENT))
    Warehouse.open(str(tmp_path)).prepare(NEW_SHOP, END_MS)
    assert set(TABLES) < set(yaml.safe_load((tmp_path / "catalog.yml").read_text())["sources"])
    assert b"Button copy" in (tmp_path / "tables" / "experiment" / "experiment.json").read_bytes()


# --- formats --------------------------------------------------------------------------------------


def test_orc_has_the_same_rows_as_parquet(tmp_path: Path):
    sessions: list[FinishedSession] = visits(3)
    for table_format in ("parquet", "orc"):
        folder = tmp_path / table_format
        warehouse(folder, table_format).write(sessions, "batch-1", programs(SHOP_PROGRAM))
    for table in TABLES:
        assert rows(tmp_path / "orc", table) == rows(tmp_path / "parquet", table)
    entry = yaml.safe_load((tmp_path / "orc" / "catalog.yml").read_text())["sources"]["session"]
    assert entry["driver"] == "orc"


def test_times_are_the_same_digits_everywhere(tmp_path: Path):
    warehouse(tmp_path).write([visit(1)], "batch-1", programs(SHOP_PROGRAM))
    shown = rows(tmp_path, "rating_box")[0]["first_time"]
    assert shown.isoformat(timespec="milliseconds") == "2023-11-14T22:13:20.250"
    assert rows(tmp_path, "session")[0]["start_time"] == shown - timedelta(milliseconds=250)
    assert SHOP_PROGRAM.sources == (SourceFile("test.fdl", SHOP),)
