"""Rows in CSV and Parquet files, and the files of a bulk load that are made of them (protocol §5.8)."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from rocksdict import Options, Rdict

from metaserver.commands import row_files
from shared.pegasus.files.bulk_load import LoadInfo
from shared.pegasus.wire.keys import decode_value, encode_key

INFO = LoadInfo(2, "temp", 1)
COLUMNS = ("user", "day", "amount")


def stored(folder: Path) -> dict[bytes, bytes]:
    """The rows of the only partition."""
    database = Rdict(str(folder / "rdb"), Options(raw_mode=True))
    database.ingest_external_file([str(folder / "0" / "0.sst")])
    rows = {key: decode_value(1, value).data for key, value in database.items()}
    database.close()
    return rows


def test_a_later_row_of_the_same_keys_wins_and_numbers_are_text(tmp_path: Path):
    (tmp_path / "a.csv").write_text("user,day,amount,note\nada,1,10,x\nbob,1,20,y\n")
    (tmp_path / "b.csv").write_text("day,amount,user\n1,11,ada\n")
    count, replaced, _ = row_files.write(tmp_path / "out", INFO, [tmp_path / "a.csv", tmp_path / "b.csv"], COLUMNS, 0)
    assert (count, replaced) == (3, 1)
    assert stored(tmp_path / "out") == {encode_key(b"ada", b"1"): b"11", encode_key(b"bob", b"1"): b"20"}


def test_what_stands_in_csv_is_stored_as_it_stands(tmp_path: Path):
    (tmp_path / "a.csv").write_text('user,day,amount\n007,2026-01-02,1.50\n7,true,"1,5"\n')
    row_files.write(tmp_path / "out", INFO, [tmp_path / "a.csv"], COLUMNS, 0)
    assert stored(tmp_path / "out") == {
        encode_key(b"007", b"2026-01-02"): b"1.50",
        encode_key(b"7", b"true"): b"1,5",
    }


def write_parquet(file: Path, **columns: list[object]) -> Path:
    pyarrow.parquet.write_table(pa.table(columns), file)
    return file


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"user": ["a"], "day": ["1"]}, "there is no column 'amount', only user, day"),
        ({"user": ["a"], "day": ["1"], "amount": [None]}, "row 1 of a batch has no amount"),
        ({"user": ["a"], "day": ["1"], "amount": [[1, 2]]}, "rows.parquet: "),
        ({"user": ["x" * 70_000], "day": ["1"], "amount": ["1"]}, "a hash key has at most 65534 bytes, found 70000"),
    ],
)
def test_rows_that_cannot_be_stored_say_which_file_and_why(
    tmp_path: Path, columns: dict[str, list[object]], reason: str
):
    file = write_parquet(tmp_path / "rows.parquet", **columns)
    with pytest.raises(row_files.FileError) as caught:
        row_files.write(tmp_path / "out", INFO, [file], COLUMNS, 0)
    assert reason in str(caught.value)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path):
    file = write_parquet(tmp_path / "rows.parquet", user=["a"], day=["1"], amount=["1"])
    with pytest.raises(row_files.FileError, match="cannot write to /proc/nowhere: No such file or directory"):
        row_files.write(Path("/proc/nowhere"), INFO, [file], COLUMNS, 0)
    (tmp_path / "out" / "0" / "0.sst").mkdir(parents=True)
    with pytest.raises(row_files.FileError, match=r"cannot write to .*/out: Is a directory"):
        row_files.write(tmp_path / "out", INFO, [file], COLUMNS, 0)
