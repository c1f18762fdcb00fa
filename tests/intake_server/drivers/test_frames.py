"""Data frames from CSV and Parquet files, over HTTP (protocol §3.3, §3.4, §4.4, §9.6)."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.intake_server.conftest import Serve, Served

CSV = """
sources:
  scores:
    driver: csv
    args: {urlpath: '{{ CATALOG_DIR }}/scores_*.csv'}
"""
TABLE = """
sources:
  impression:
    driver: parquet
    args: {urlpath: '{{ CATALOG_DIR }}/tables/impression/ds=*/hh=*/*.parquet'}
"""


def frame(data: bytes) -> pd.DataFrame:
    """What the intake client makes of the bytes."""
    return pa.ipc.open_stream(data).read_all().to_pandas()


def write_hour(folder: Path, day: str, hour: str, **columns: object) -> Path:
    path = folder / "tables" / "impression" / f"ds={day}" / f"hh={hour}" / "part-0.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def npy(values: list[int]) -> bytes:
    written = io.BytesIO()
    np.save(written, np.array(values))
    return written.getvalue()


def parquet(values: list[int]) -> bytes:
    written = io.BytesIO()
    pq.write_table(pa.table({"n": values}), written)
    return written.getvalue()


async def whole(server: Served, name: str) -> pd.DataFrame:
    opened = await server.opened(name)
    parts = [(await server.read(opened["source_id"], n)).value["data"] for n in range(opened["npartitions"])]
    return pd.concat([frame(part) for part in parts], ignore_index=True)


async def test_csv_files_are_partitions_in_order_of_their_names(serve: Serve, folder: Path):
    (folder / "scores_2.csv").write_text("name,score,rank\nBob,50.3,2\n")
    (folder / "scores_1.csv").write_text("name,score,rank\nAlice,100.5,1\n")
    server = await serve(CSV)
    opened = await server.opened("scores")
    assert opened["dtype"] == {"name": "object", "score": "float64", "rank": "int64"}
    assert (opened["shape"], opened["npartitions"], opened["container"]) == ([None, 3], 2, "dataframe")
    assert "plugin" not in opened
    assert list(frame(await server.data("scores", 0))["name"]) == ["Alice"]
    assert list(frame(await server.data("scores", 1))["name"]) == ["Bob"]


async def test_a_csv_column_that_is_integer_in_one_file_and_float_in_another_is_float_in_both(
    serve: Serve, folder: Path
):
    (folder / "scores_1.csv").write_text("x\n1\n")
    (folder / "scores_2.csv").write_text("x\n1.5\n")
    server = await serve(CSV)
    assert (await server.opened("scores"))["dtype"] == {"x": "float64"}
    assert frame(await server.data("scores", 0))["x"].tolist() == [1.0]


async def test_a_csv_value_that_only_appears_after_the_head_is_read_all_the_same(serve: Serve, folder: Path):
    (folder / "scores_1.csv").write_text("x\n" + "1\n" * 5000 + "1.5\n")
    server = await serve(CSV)
    assert frame(await server.data("scores"))["x"].sum() == 5001.5


async def test_booleans_with_missing_values_in_csv_are_objects_as_with_pandas(serve: Serve, folder: Path):
    (folder / "scores_1.csv").write_text("ok,n\nTrue,1\n,2\nFalse,3\n")
    server = await serve(CSV)
    assert (await server.opened("scores"))["dtype"]["ok"] == "object"
    assert frame(await server.data("scores"))["ok"].tolist() == [True, None, False]


async def test_dates_in_csv_stay_text_as_with_pandas(serve: Serve, folder: Path):
    (folder / "scores_1.csv").write_text("when\n2020-01-02\n")
    server = await serve(CSV)
    assert frame(await server.data("scores"))["when"].tolist() == ["2020-01-02"]


async def test_quoted_line_ends_missing_values_and_duplicate_names_are_read_as_pandas_reads_them(
    serve: Serve, folder: Path
):
    text = 'a,a,note,n\n1,2,"two\nlines",NA\n3,4,,5\n'
    (folder / "scores_1.csv").write_text(text)
    server = await serve(CSV)
    expected = pd.read_csv(folder / "scores_1.csv")
    pd.testing.assert_frame_equal(frame(await server.data("scores")), expected, check_dtype=False)


async def test_csv_kwargs_reach_pandas(serve: Serve, folder: Path):
    (folder / "scores_1.csv").write_text("# made by hand\nname;when\nAlice;2020-01-02\n")
    server = await serve(
        """
        sources:
          scores:
            driver: csv
            args:
              urlpath: '{{ CATALOG_DIR }}scores_1.csv'
              csv_kwargs: {sep: ';', comment: '#', parse_dates: [when], index_col: name}
        """
    )
    opened = await server.opened("scores")
    assert list(opened["dtype"]) == ["when"]
    assert opened["dtype"]["when"].startswith("datetime64[")
    assert frame(await server.data("scores")).index.tolist() == ["Alice"]


async def test_fields_of_a_file_name_pattern_become_category_columns(serve: Serve, folder: Path):
    for year, quarter in ((2020, "q1"), (2021, "q2")):
        (folder / f"data_{year}_{quarter}.csv").write_text("x\n1\n")
    server = await serve(
        "sources: {data: {driver: csv, args: {urlpath: '{{ CATALOG_DIR }}/data_{year:d}_{quarter}.csv'}}}"
    )
    assert (await server.opened("data"))["dtype"] == {"x": "int64", "year": "category", "quarter": "category"}
    second = frame(await server.data("data", 1))
    assert second["year"].tolist() == [2021]
    assert second["quarter"].cat.categories.tolist() == ["q1", "q2"]


async def test_a_compressed_csv_file_is_decompressed(serve: Serve, folder: Path):
    pd.DataFrame({"x": [1, 2]}).to_csv(folder / "scores_1.csv.gz", index=False)
    server = await serve("sources: {s: {driver: csv, args: {urlpath: '{{ CATALOG_DIR }}/*.csv.gz'}}}")
    assert frame(await server.data("s"))["x"].tolist() == [1, 2]


async def test_a_missing_csv_file_is_a_clear_refusal_without_the_servers_folder(serve: Serve, folder: Path):
    server = await serve("sources: {s: {driver: csv, args: {urlpath: '{{ CATALOG_DIR }}/path-client.csv'}}}")
    answer = await server.open("s")
    assert (answer.status, str(folder) in answer.reason) == (400, False)
    assert "path-client" in answer.reason
    assert "{CATALOG_DIR}" in answer.reason


async def test_hive_folders_are_columns_and_row_groups_are_partitions(serve: Serve, folder: Path):
    write_hour(folder, "2026-11-20", "23", product=["lamp", "kettle"])
    write_hour(folder, "2026-11-21", "07", product=["lamp"])
    server = await serve(TABLE)
    opened = await server.opened("impression")
    assert opened["dtype"] == {"product": "object", "ds": "object", "hh": "object"}
    assert (opened["shape"], opened["npartitions"]) == ([3, 3], 2)
    read = await whole(server, "impression")
    assert read.to_dict("list") == {
        "product": ["lamp", "kettle", "lamp"],
        "ds": ["2026-11-20", "2026-11-20", "2026-11-21"],
        "hh": ["23", "23", "07"],
    }


async def test_a_column_of_the_file_wins_over_a_folder_of_the_same_name(serve: Serve, folder: Path):
    write_hour(folder, "2026-11-20", "23", product=["lamp"], ds=["as written"])
    server = await serve(TABLE)
    assert (await whole(server, "impression"))["ds"].tolist() == ["as written"]


async def test_files_with_several_row_groups_have_a_partition_for_each(serve: Serve, folder: Path):
    path = write_hour(folder, "2026-11-20", "23", n=[0])
    pq.write_table(pa.table({"n": list(range(25))}), path, row_group_size=10)
    server = await serve(TABLE)
    assert (await server.opened("impression"))["npartitions"] == 3
    assert (await whole(server, "impression"))["n"].tolist() == list(range(25))


async def test_columns_that_differ_by_file_are_unified_by_name(serve: Serve, folder: Path):
    write_hour(folder, "2026-11-20", "22", product=["lamp"], stars=pa.array([3], pa.int32()))
    write_hour(folder, "2026-11-20", "23", stars=pa.array([4], pa.int64()), product=["kettle"], channel=["email"])
    server = await serve(TABLE)
    opened = await server.opened("impression")
    assert opened["dtype"] == {
        "product": "object", "stars": "int64", "channel": "object", "ds": "object", "hh": "object",
    }  # fmt: skip
    read = await whole(server, "impression")
    assert read["stars"].tolist() == [3, 4]
    assert read["channel"].isna().tolist() == [True, False]


async def test_integers_with_missing_values_stay_exact_in_every_partition(serve: Serve, folder: Path):
    write_hour(folder, "2026-11-20", "22", id=[2**60 + 1])
    write_hour(folder, "2026-11-20", "23", id=[None, 7])
    server = await serve(TABLE)
    assert (await server.opened("impression"))["dtype"]["id"] == "Int64"
    assert frame(await server.data("impression", 0))["id"].tolist() == [2**60 + 1]


async def test_types_that_cannot_be_unified_become_text(serve: Serve, folder: Path):
    write_hour(folder, "2026-11-20", "22", value=[1])
    write_hour(folder, "2026-11-20", "23", value=["one"])
    server = await serve(TABLE)
    assert (await whole(server, "impression"))["value"].tolist() == ["1", "one"]


async def test_a_table_without_files_is_an_empty_frame(serve: Serve, folder: Path):
    server = await serve(TABLE)
    opened = await server.opened("impression")
    assert (opened["npartitions"], opened["shape"], opened["dtype"]) == (1, [0, 0], {})
    assert len(frame(await server.data("impression"))) == 0


async def test_a_table_of_files_without_rows_is_an_empty_frame_with_columns(serve: Serve, folder: Path):
    write_hour(folder, "2026-11-20", "22", product=pa.array([], pa.string()))
    server = await serve(TABLE)
    opened = await server.opened("impression")
    assert (opened["npartitions"], opened["shape"]) == (1, [0, 3])
    assert list(frame(await server.data("impression"))) == ["product", "ds", "hh"]


async def test_the_schema_argument_names_the_columns_of_a_table_that_has_no_files_yet(serve: Serve):
    server = await serve(
        """
        sources:
          t: {driver: parquet, args: {urlpath: '{{ CATALOG_DIR }}/t/*.parquet', schema: {id: int64, name: string}}}
        """
    )
    assert (await server.opened("t"))["dtype"] == {"id": "int64", "name": "object"}


async def test_a_file_that_appears_is_in_the_next_open_and_does_not_disturb_the_last(serve: Serve, folder: Path):
    write_hour(folder, "2026-11-21", "08", n=[8])
    server = await serve(TABLE)
    before = await server.opened("impression")
    write_hour(folder, "2026-11-21", "07", n=[7])
    after = await server.opened("impression")
    assert (before["npartitions"], after["npartitions"]) == (1, 2)
    assert before["source_id"] != after["source_id"]
    assert frame((await server.read(before["source_id"], 0)).value["data"])["n"].tolist() == [8]
    assert frame((await server.read(after["source_id"], 0)).value["data"])["n"].tolist() == [7]


async def test_an_open_that_finds_nothing_new_gives_the_same_id(serve: Serve, folder: Path):
    path = write_hour(folder, "2026-11-21", "08", n=[8])
    for parent in (path, *path.parents[:4]):
        os.utime(parent, (1_700_000_000, 1_700_000_000))
    server = await serve(TABLE)
    assert (await server.opened("impression"))["source_id"] == (await server.opened("impression"))["source_id"]
    assert len(server.server.sources) == 1


async def test_a_folder_of_parquet_files_is_read_with_everything_in_it(serve: Serve, folder: Path):
    write_hour(folder, "2026-11-20", "23", n=[1])
    write_hour(folder, "2026-11-21", "07", n=[2])
    server = await serve("sources: {t: {driver: parquet, args: {urlpath: '{{ CATALOG_DIR }}/tables/impression'}}}")
    assert (await whole(server, "t")).to_dict("list") == {
        "n": [1, 2], "ds": ["2026-11-20", "2026-11-21"], "hh": ["23", "07"],
    }  # fmt: skip


async def test_columns_and_filters_of_the_entry_are_applied(serve: Serve, folder: Path):
    write_hour(folder, "2026-11-20", "23", n=[1, 2, 3], m=[4, 5, 6])
    server = await serve(
        """
        sources:
          t:
            driver: parquet
            args:
              urlpath: '{{ CATALOG_DIR }}/tables/impression'
              columns: [m]
              filters: [[n, '>', 1]]
        """
    )
    opened = await server.opened("t")
    assert (opened["dtype"], opened["shape"]) == ({"m": "int64"}, [None, 1])
    assert frame(await server.data("t"))["m"].tolist() == [5, 6]


async def test_index_categories_and_time_zones_of_pandas_survive(serve: Serve, folder: Path):
    written = pd.DataFrame(
        {
            "kind": pd.Categorical(["a", "b"]),
            "at": pd.to_datetime(["2020-01-01", "2020-06-01"]).tz_localize("Europe/Paris"),
        },
        index=pd.Index(["x", "y"], name="key"),
    )
    written.to_parquet(folder / "t.parquet")
    server = await serve("sources: {t: {driver: parquet, args: {urlpath: '{{ CATALOG_DIR }}/t.parquet'}}}")
    assert list((await server.opened("t"))["dtype"]) == ["kind", "at"]
    pd.testing.assert_frame_equal(frame(await server.data("t")), written)


async def test_a_torn_parquet_file_is_a_refusal_of_that_entry_alone(serve: Serve, folder: Path):
    good = write_hour(folder, "2026-11-20", "23", n=[1])
    (folder / "torn.parquet").write_bytes(good.read_bytes()[:-20])
    server = await serve(TABLE + "  torn: {driver: parquet, args: {urlpath: '{{ CATALOG_DIR }}/torn.parquet'}}")
    assert (await server.open("torn")).status == 400
    assert (await whole(server, "impression"))["n"].tolist() == [1]


async def test_a_file_that_disappears_after_the_open_is_an_error_of_that_read_alone(serve: Serve, folder: Path):
    gone = write_hour(folder, "2026-11-20", "22", n=[1])
    write_hour(folder, "2026-11-20", "23", n=[2])
    server = await serve(TABLE)
    source_id = (await server.opened("impression"))["source_id"]
    gone.unlink()
    answer = await server.read(source_id, 0)
    assert (answer.status, str(folder) in answer.reason) == (410, False)
    assert frame((await server.read(source_id, 1)).value["data"])["n"].tolist() == [2]


@pytest.mark.parametrize(
    ("entry", "name", "before", "after"),
    [
        ("{driver: csv, args: {urlpath: 'F'}}", "t.csv", b"x\n1\n", b"x\n1\n2\n"),
        ("{driver: textfiles, args: {urlpath: 'F'}}", "t.txt", b"one\n", b"two\n!\n"),
        ("{driver: jsonl, args: {urlpath: 'F'}}", "t.jsonl", b"1\n", b"1\n2\n"),
        ("{driver: numpy, args: {path: 'F'}}", "t.npy", npy([1, 2]), npy([3, 4, 5])),
        ("{driver: parquet, args: {urlpath: 'F'}}", "t.parquet", parquet([1]), parquet([1, 2])),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("t.") else "",
)
async def test_a_file_that_is_replaced_after_the_open_is_not_read_as_the_one_that_was_opened(
    serve: Serve, folder: Path, entry: str, name: str, before: bytes, after: bytes
):
    (folder / name).write_bytes(before)
    server = await serve("sources: {t: " + entry.replace("F", "{{ CATALOG_DIR }}/" + name) + "}")
    source_id = (await server.opened("t"))["source_id"]
    first = (await server.read(source_id)).value["data"]
    (folder / name).write_bytes(after)
    server.server.sources.forget_stamps()
    answer = await server.read(source_id)
    assert (answer.status, "has changed" in answer.reason, str(folder) in answer.reason) == (410, True, False)
    opened = await server.opened("t")
    assert (await server.read(opened["source_id"])).value["data"] != first


async def test_a_parquet_file_with_two_columns_of_one_name_is_refused_by_that_name(serve: Serve, folder: Path):
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), folder / "t.parquet")
    server = await serve("sources: {t: {driver: parquet, args: {urlpath: '{{ CATALOG_DIR }}/t.parquet'}}}")
    answer = await server.open("t")
    assert (answer.status, answer.reason) == (400, "parquet: column names repeat: a")


async def test_what_folders_are_named_after_has_the_type_that_the_entry_declares(serve: Serve, folder: Path):
    for hour in ("07", "23"):
        (folder / "t" / f"hh={hour}").mkdir(parents=True)
        pd.DataFrame({"x": [1]}).to_parquet(folder / "t" / f"hh={hour}" / "0.parquet")
    text = "{driver: parquet, args: {urlpath: '{{ CATALOG_DIR }}/t', schema: {hh: %s}}}"
    declared = {name: text.replace("%s", name) for name in ("int32", "string", "bool")}
    server = await serve("sources:\n" + "".join(f"  {name}: {entry}\n" for name, entry in declared.items()))
    assert [frame(await server.data("int32", n))["hh"].tolist() for n in (0, 1)] == [[7], [23]]
    assert frame(await server.data("string"))["hh"].tolist() == ["07"]
    answer = await server.open("bool")
    assert (answer.status, "hh=07 is not bool" in answer.reason) == (400, True)
