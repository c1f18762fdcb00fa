"""The warehouse in a process of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from iserver.etl.interface import WarehouseError
from iserver.etl.writer_process import WarehouseProcess
from iserver.fdl import Program
from iserver.warehouse.metadata import metadata_rows
from shared.errors import StartupError
from tests.iserver.etl.tables import rows
from tests.iserver.fdl.programs import SHOP, program
from tests.iserver.warehouse.sessions import SHOP_PROGRAM, START_MS, visit, visits
from tests.iserver.warehouse.test_tables import DOCUMENT

NEW_SHOP = program(SHOP + "feature New {}")


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[WarehouseProcess]:
    process = WarehouseProcess.open(str(tmp_path), "parquet")
    yield process
    process.close()


def write(warehouse: WarehouseProcess, count: int, batch: str = "batch-1", *programs: Program):
    sessions = (session.to_json() for session in visits(count))
    return warehouse.write_lines(sessions, batch, programs or [SHOP_PROGRAM])


def pid(warehouse: WarehouseProcess) -> int:
    assert warehouse.pid is not None
    return warehouse.pid


def test_it_writes_what_the_warehouse_writes(warehouse: WarehouseProcess, tmp_path: Path):
    warehouse.prepare(SHOP_PROGRAM, START_MS)
    warehouse.write_metadata(metadata_rows(DOCUMENT))
    written = write(warehouse, 3)
    assert written.rows == {"session": 3, "rating_box": 3, "search": 3}
    assert len(rows(tmp_path, "session")) == 3
    assert b"Button copy" in (tmp_path / "tables" / "experiment" / "experiment.json").read_bytes()
    assert (tmp_path / "catalog.yml").exists()


def test_a_batch_with_sessions_of_several_programs_is_one_call(warehouse: WarehouseProcess, tmp_path: Path):
    sessions = [visit(1).to_json(), visit(2, NEW_SHOP).to_json()]
    warehouse.write_lines(iter(sessions), "batch-1", [SHOP_PROGRAM, NEW_SHOP])
    assert len(rows(tmp_path, "session")) == 2


def test_a_session_that_cannot_be_read_fails_its_batch_and_the_next_batch_is_written(
    warehouse: WarehouseProcess, tmp_path: Path
):
    with pytest.raises(WarehouseError, match="not a finished session"):
        warehouse.write_lines(iter([b"{}", visit(1).to_json()]), "batch-1", [SHOP_PROGRAM])
    assert rows(tmp_path, "session") == []
    first = pid(warehouse)
    write(warehouse, 2)
    assert (len(rows(tmp_path, "session")), pid(warehouse)) == (2, first)


def test_a_source_that_fails_leaves_nothing_and_the_batch_can_be_repeated(warehouse: WarehouseProcess, tmp_path: Path):
    def sessions() -> Iterator[bytes]:
        yield visit(1).to_json()
        raise RuntimeError("the journal cannot be read")

    with pytest.raises(RuntimeError, match="the journal cannot be read"):
        warehouse.write_lines(sessions(), "batch-1", [SHOP_PROGRAM])
    assert rows(tmp_path, "session") == []
    write(warehouse, 1)
    assert len(rows(tmp_path, "session")) == 1


def test_a_process_that_was_killed_is_started_again(warehouse: WarehouseProcess, tmp_path: Path):
    write(warehouse, 2)
    first = pid(warehouse)
    os.kill(first, signal.SIGKILL)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    write(warehouse, 2, "batch-2")
    assert pid(warehouse) != first
    assert len(rows(tmp_path, "session")) == 4


def test_a_process_that_is_killed_during_a_batch_is_an_error_and_the_batch_can_be_repeated(
    warehouse: WarehouseProcess, tmp_path: Path
):
    def sessions() -> Iterator[bytes]:
        for number, session in enumerate(visits(200)):
            if number == 100:
                os.kill(pid(warehouse), signal.SIGKILL)
                os.waitid(os.P_PID, pid(warehouse), os.WEXITED | os.WNOWAIT)
            yield session.to_json()

    with pytest.raises(WarehouseError, match="the process that writes the warehouse ended"):
        warehouse.write_lines(sessions(), "batch-1", [SHOP_PROGRAM])
    write(warehouse, 200)
    assert len(rows(tmp_path, "session")) == 200


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_that_are_meant_for_the_server_do_not_end_it(warehouse: WarehouseProcess, number: signal.Signals):
    write(warehouse, 1)
    os.kill(pid(warehouse), number)
    assert write(warehouse, 2, "batch-2").rows["session"] == 2


def test_it_ends_when_it_is_closed(warehouse: WarehouseProcess):
    write(warehouse, 1)
    number = pid(warehouse)
    warehouse.close()
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)
    warehouse.close()


def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match="cannot write to the warehouse"):
        WarehouseProcess.open(str(tmp_path / "file" / "wh"), "parquet")


def test_a_folder_that_cannot_be_made_is_an_error_and_the_batch_can_be_repeated(
    warehouse: WarehouseProcess, tmp_path: Path
):
    warehouse.prepare(SHOP_PROGRAM, START_MS)
    (tmp_path / ".staging").rename(tmp_path / "elsewhere")
    (tmp_path / ".staging").write_text("in the way")
    with pytest.raises(WarehouseError, match=r"NotADirectoryError|FileExistsError"):
        write(warehouse, 3)
    (tmp_path / ".staging").unlink()
    assert write(warehouse, 3).rows["session"] == 3
