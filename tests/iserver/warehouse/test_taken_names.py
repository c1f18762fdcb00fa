"""Programs whose names are taken by our tables and answers: the published compiler accepts them, so they are served."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from iserver.fdl import SourceFile, check, compile_program
from iserver.warehouse.tables import tables

FDL = """
session {
    args { hh: String lastFlushTime: String }
    event Ds { a: Int }
    offline event Import { k: ID @split_key }
}
feature F {
    args { sessionId: String deviceId: String ds: String hh: Int }
    offline event Click { k: ID @split_key }
}
feature _x { output { a: Int! = 1 } }
feature errors {}
"""


@pytest.fixture
async def iserver(open_iserver, tmp_path):
    fdl = tmp_path / "taken.fdl"
    fdl.write_text(FDL)
    return await open_iserver(config_file=None, fdl_files=(fdl,))


def rows(table):
    """All rows of a table; a file may have none."""
    return (row for file in table.glob("*/*/*.parquet") for row in pq.ParquetFile(file).read().to_pylist())


async def test_such_a_program_is_served_and_its_tables_are_written(iserver, tmp_path):
    args = {"sessionId": "s", "deviceId": "d", "ds": "x", "hh": 3}
    wanted = [{"name": "F", "args": args}, {"name": "_x"}, {"name": "errors"}]
    session_args = {"deviceId": "dev-1", "hh": "h", "lastFlushTime": "never"}
    answer = await iserver.features(wanted, args=session_args)
    assert {name: answer["impressions"][0][name] for name in args} == args
    assert answer["impressions"][2]["impressionCount"] == 1
    assert (answer["session"]["hh"], answer["session"]["lastFlushTime"]) == ("h", "never")
    assert await iserver.signal(event="Ds", args={"a": 1}) == 200
    assert (await iserver.features({"_x": {}, "errors": {}}, impression="imp-2"))["_x"]["a"] == 1
    await iserver.engine.retire_all()
    await iserver.components.run_etl()
    folder = tmp_path / "data" / "warehouse" / "tables"
    shown = next(rows(folder / "f"))
    assert {name: shown[f"{name}_value"] for name in ("session_id", "device_id", "ds", "hh")} == {
        "session_id": "s",
        "device_id": "d",
        "ds": "x",
        "hh": 3,
    }
    session = next(rows(folder / "session"))
    assert (session["hh_value"], session["last_flush_time"], session["ds_value"][0]["a"]) == ("h", "never", 1)


def test_every_name_that_is_taken_is_warned_about():
    warnings = [str(item) for item in check([SourceFile("taken.fdl", FDL)])]
    for text in (
        "The column of 'sessionId' is called 'session_id_value': 'session_id' is in every feature's table",
        "The column of 'hh' is called 'hh_value': 'hh' is a partition column",
        "The column of 'Ds' is called 'ds_value'",
        "'lastFlushTime' hides the time of the last flush from clients",
        "The feature 'errors' is only for clients that send 'reqs'",
    ):
        assert any(text in warning for warning in warnings), text


def test_no_table_has_two_columns_of_one_name():
    for table in tables(compile_program([SourceFile("taken.fdl", FDL)])):
        names = [column.name for column in table.columns]
        assert len(names) == len(set(names))
        assert not {"ds", "hh"} & set(names)
