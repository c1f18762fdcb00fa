"""The warehouse in an object store, and in other places that fsspec has a URL for."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import boto3
import fsspec
import pyarrow.parquet as parquet
import pytest
import yaml
from deltalake import DeltaTable
from moto.server import ThreadedMotoServer

from iserver.etl.filesystems import RemoteFilesystem, open_filesystem
from iserver.etl.writer import FilePublisher, Warehouse
from iserver.settings import TableFormat
from shared.errors import StartupError
from tests.iserver.etl.test_writer import TABLES, programs
from tests.iserver.warehouse.sessions import SHOP_PROGRAM, START_MS, visit, visits


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The URL of an S3 server on this machine."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an empty bucket that the usual environment variables lead to."""
    environment = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    name = f"shop-{uuid4()}"
    boto3.client("s3").create_bucket(Bucket=name)
    return name


def keys(bucket: str) -> list[str]:
    return sorted(item["Key"] for item in boto3.client("s3").list_objects_v2(Bucket=bucket).get("Contents", []))


def warehouse(bucket: str, table_format: TableFormat = "parquet") -> Warehouse:
    result = Warehouse.open(f"s3://{bucket}/wh", table_format)
    result.prepare(SHOP_PROGRAM, START_MS)
    return result


def test_the_layout_is_that_of_a_folder(bucket: str):
    warehouse(bucket).write(visits(3), "batch-1", programs(SHOP_PROGRAM))
    fingerprint = SHOP_PROGRAM.fingerprint[:12]
    found = keys(bucket)
    assert "wh/catalog.yml" in found
    assert f"wh/tables/session/ds=2023-11-14/hh=22/batch-1-{fingerprint}.parquet" in found
    assert f"wh/tables/search/ds=2023-11-14/hh=22/batch-1-{fingerprint}.parquet" in found
    assert not any("tmp" in key or "_write_test" in key or "staging" in key for key in found)


def test_the_same_batch_twice_is_there_once(bucket: str):
    for _ in range(2):
        warehouse(bucket).write(visits(3), "batch-1", programs(SHOP_PROGRAM))
    files = fsspec.filesystem("s3")
    total = 0
    for path in files.glob(f"{bucket}/wh/tables/session/ds=*/hh=*/*.parquet"):
        with files.open(path) as file:
            total += parquet.read_table(file).num_rows
    assert total == 3


def test_the_catalog_is_found_again(bucket: str):
    warehouse(bucket)
    before = keys(bucket)
    warehouse(bucket)
    assert keys(bucket) == before
    catalog = boto3.client("s3").get_object(Bucket=bucket, Key="wh/catalog.yml")["Body"].read()
    assert set(TABLES) < set(yaml.safe_load(catalog)["sources"])


def test_delta_tables_in_an_object_store_take_each_batch_once(bucket: str):
    for _ in range(2):
        warehouse(bucket, "delta").write(visits(3), "batch-1", programs(SHOP_PROGRAM))
    table = DeltaTable(f"s3://{bucket}/wh/tables/session")
    assert table.version() == 1
    assert table.to_pyarrow_table().num_rows == 3


def test_a_bucket_that_is_not_there_is_one_clear_line(bucket: str):
    with pytest.raises(StartupError, match="cannot write to the warehouse s3://no-such-bucket-"):
        open_filesystem(f"s3://no-such-bucket-{uuid4()}/wh")


def test_a_scheme_that_nobody_knows_is_one_clear_line():
    with pytest.raises(StartupError, match=r"cannot write to the warehouse nowhere://x/wh: .*nowhere"):
        open_filesystem("nowhere://x/wh")


class SlowStore(RemoteFilesystem):
    """A file system whose uploads are visible while they run, such as SFTP: fsspec's local one, by URL."""


def test_places_with_visible_uploads_get_files_by_rename(tmp_path):
    place = SlowStore(f"local://{tmp_path}/wh")
    house = Warehouse(place, FilePublisher(place), "parquet")
    house.prepare(SHOP_PROGRAM, START_MS)
    house.write([visit(1)], "batch-1", programs(SHOP_PROGRAM))
    names = [path.name for path in (tmp_path / "wh").rglob("*") if path.is_file()]
    assert f"batch-1-{SHOP_PROGRAM.fingerprint[:12]}.parquet" in names
    assert not any(name.endswith(".tmp") for name in names)
