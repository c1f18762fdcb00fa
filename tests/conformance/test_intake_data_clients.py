"""Programs that know nothing of catalogs read the data by their address: pandas, DuckDB, pyarrow, numpy, curl."""

from __future__ import annotations

import io
import subprocess
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import fsspec
import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet as pq
import pytest
import requests
from fsspec.implementations.http import HTTPFileSystem

from tests.processes import DaemonProcess, start_daemon
from tests.requires import program

ROWS = 50_000
KEYS = """
keys:
  - {name: reader, key: let-me-in, allow: ["*"]}
"""


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    random = np.random.default_rng(4)
    return pd.DataFrame(
        {
            "n": np.arange(ROWS),
            "value": random.normal(size=ROWS),
            "city": random.choice(["Rome", "Oslo", "Lima"], ROWS),
            "at": pd.date_range("2024-01-01", periods=ROWS, freq="s"),
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, frame: pd.DataFrame) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "parts").mkdir()
    for part in range(5):
        piece = pa.Table.from_pandas(frame.iloc[part * 10_000 :][:10_000], preserve_index=False)
        pq.write_table(piece, folder / "parts" / f"{part}.parquet", row_group_size=2_500)
    np.save(folder / "array.npy", np.arange(3000.0).reshape(100, 30))
    (folder / "catalog.yml").write_text(
        "sources:\n"
        "  parts: {driver: parquet, args: {urlpath: '{{ CATALOG_DIR }}/parts'}}\n"
        "  file: {driver: parquet, args: {urlpath: '{{ CATALOG_DIR }}/parts/0.parquet'}}\n"
        "  array: {driver: numpy, args: {path: '{{ CATALOG_DIR }}/array.npy', chunks: 30}}\n"
    )
    return folder


@pytest.fixture(scope="module")
def daemon(folder: Path) -> Iterator[DaemonProcess]:
    with start_daemon("intake_server", folder / "catalog.yml") as running:
        yield running


def test_pandas_reads_parquet_by_its_address(daemon, frame):
    found = pd.read_parquet(f"{daemon.url}/data/parts.parquet")
    pd.testing.assert_frame_equal(found, frame, check_dtype=False)


def test_pandas_reads_a_selection_of_columns_and_rows(daemon, frame):
    found = pd.read_parquet(f"{daemon.url}/data/parts.parquet?columns=n,city&where=city=Oslo&rows=:100")
    expected = frame.loc[frame.city == "Oslo", ["n", "city"]].head(100).reset_index(drop=True)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)


def test_pandas_reads_csv_and_json_lines_by_their_addresses(daemon, frame):
    for found in (
        pd.read_csv(f"{daemon.url}/data/file.csv", parse_dates=["at"]),
        pd.read_json(f"{daemon.url}/data/file.jsonl", lines=True).astype({"at": "datetime64[us]"}),
    ):
        pd.testing.assert_frame_equal(found, frame.head(10_000), check_dtype=False, atol=1e-9)


def test_polars_reads_every_format_that_it_knows_by_its_address(daemon, frame):
    url = f"{daemon.url}/data/file"
    found = [
        polars.read_csv(f"{url}.csv"),
        polars.scan_csv(f"{url}.csv").collect(),
        polars.read_ndjson(f"{url}.jsonl"),
        polars.scan_ndjson(f"{url}.jsonl").collect(),
        polars.read_parquet(f"{url}.parquet"),
        polars.scan_parquet(f"{url}.parquet").filter(polars.col("n") >= 0).collect(),
    ]
    for one in found:
        assert (one["n"].sum(), one.columns) == (frame["n"].head(10_000).sum(), list(frame))


class Http(HTTPFileSystem):
    """What DuckDB needs besides: it asks when a file has changed, and fsspec does not say."""

    protocol = ("http", "https")

    def modified(self, path: str) -> datetime:
        return datetime(2000, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("name", ["file", "parts"])
def test_duckdb_reads_only_the_parts_of_the_file_that_a_query_needs(daemon, frame, name):
    """DuckDB's own HTTP reader is an extension that it downloads; fsspec's takes its place, range requests and all."""
    source = f"read_parquet('{daemon.url}/data/{name}.parquet')"
    with duckdb.connect() as connection:
        connection.register_filesystem(Http())
        found = connection.sql(f"select city, count(*), max(n) from {source} group by 1 order by 1").fetchall()
    used = frame if name == "parts" else frame.head(10_000)
    expected = used.groupby("city")["n"].agg(["count", "max"])
    assert found == [(city, row["count"], row["max"]) for city, row in expected.iterrows()]


def test_pyarrow_reads_a_data_set_with_range_requests(daemon, frame):
    filesystem = pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(fsspec.filesystem("http")))
    found = pyarrow.dataset.dataset(f"{daemon.url}/data/parts.parquet", filesystem=filesystem, format="parquet")
    table = found.to_table(columns=["n"], filter=pyarrow.dataset.field("n") >= 49_990)
    assert sorted(table["n"].to_pylist()) == list(range(49_990, 50_000))


def test_pyarrow_reads_the_stream_as_it_comes(daemon, frame):
    with urllib.request.urlopen(f"{daemon.url}/data/parts.arrow") as answer:
        batches = list(pa.ipc.open_stream(answer))
    assert len(batches) > 1
    assert sum(batch.num_rows for batch in batches) == ROWS


def test_numpy_reads_an_array_by_its_address(daemon):
    with urllib.request.urlopen(f"{daemon.url}/data/array.npy?slice=10:90:2,3") as answer:
        found = np.load(io.BytesIO(answer.read()))
    np.testing.assert_array_equal(found, np.arange(3000.0).reshape(100, 30)[10:90:2, 3])


def test_curl_goes_on_where_a_download_was_broken_off(daemon, tmp_path):
    curl = program("curl", "curl")
    url, target = f"{daemon.url}/data/parts.parquet", tmp_path / "parts.parquet"
    whole = requests.get(url, timeout=30).content
    target.write_bytes(whole[:1000])
    subprocess.run([curl, "--silent", "--fail", "--continue-at", "-", "--output", target, url], check=True)
    assert target.read_bytes() == whole


def test_a_key_goes_with_the_request(folder, tmp_path, frame):
    (tmp_path / "keys.yml").write_text(KEYS)
    with start_daemon("intake_server", folder / "catalog.yml", "--api-keys", tmp_path / "keys.yml") as running:
        url = f"{running.url}/data/file.parquet"
        assert requests.get(url, timeout=30).status_code == 403
        found = pd.read_parquet(url, storage_options={"Authorization": "Bearer let-me-in"})
        assert len(found) == 10_000
