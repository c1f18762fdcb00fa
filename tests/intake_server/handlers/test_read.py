"""``POST /v1/source`` with ``action: read``: negotiation, caching and limits (protocol §3.4, §4.1)."""

from __future__ import annotations

import asyncio
import gzip
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from intake_server.drivers import csv as csv_driver
from tests.intake_server.conftest import Serve, Served, until

CATALOG = "sources: {f: {driver: csv, args: {urlpath: '{{ CATALOG_DIR }}/f.csv'}}}"
ALL = ["msgpack", "pickle2", "pickle1"]


@pytest.fixture(autouse=True)
def data(folder: Path) -> None:
    (folder / "f.csv").write_text("x\n1\n2\n")


def frame(data: bytes) -> pd.DataFrame:
    return pa.ipc.open_stream(data).read_all().to_pandas()


async def opened(server: Served) -> str:
    source_id: str = (await server.opened("f"))["source_id"]
    return source_id


async def test_the_answer_is_a_map_of_four_keys_with_an_arrow_stream(serve: Serve):
    server = await serve(CATALOG)
    answer = await server.read(await opened(server), 0)
    value = answer.value
    assert list(value) == ["format", "compression", "container", "data"]
    assert (value["format"], value["compression"], value["container"]) == ("msgpack", "none", "dataframe")
    assert value["data"].startswith(b"\xff\xff\xff\xff")
    assert int(answer.headers["Content-Length"]) == len(answer.body)


@pytest.mark.parametrize(
    ("formats", "compressions", "outcome"),
    [
        (ALL, ["snappy", "gzip", "none"], ("msgpack", "none")),
        (None, None, ("msgpack", "none")),
        (["msgpack"], [], ("msgpack", "none")),
        (["msgpack"], ["gzip"], ("msgpack", "gzip")),
        (["msgpack"], ["zstd"], ("msgpack", "none")),
        (["msgpack"], ["gzip", "snappy"], ("msgpack", "snappy")),
        (["pickle2", "pickle1"], ["none"], None),
        ([], ["none"], None),
        (["arrow"], ["none"], None),
    ],
)
async def test_negotiation(serve: Serve, formats: Any, compressions: Any, outcome: tuple[str, str] | None):
    server = await serve(CATALOG)
    answer = await server.read(await opened(server), 0, accepted_formats=formats, accepted_compression=compressions)
    if outcome is None:
        assert (answer.status, answer.reason) == (400, "Unable to find compatible format")
    else:
        assert (answer.value["format"], answer.value["compression"]) == outcome


async def test_compressed_data_are_what_they_say(serve: Serve):
    server = await serve(CATALOG)
    source_id = await opened(server)
    zipped = (await server.read(source_id, 0, accepted_compression=["gzip"])).value["data"]
    snapped = (await server.read(source_id, 0, accepted_compression=["snappy"])).value["data"]
    raw = (await server.read(source_id, 0)).value["data"]
    assert gzip.decompress(zipped) == raw
    assert pa.decompress(snapped, len(raw), codec="snappy", asbytes=True) == raw


async def test_the_operator_may_prefer_a_compression(serve: Serve):
    server = await serve(CATALOG, prefer_compression="gzip")
    answer = await server.read(await opened(server), 0, accepted_compression=["snappy", "gzip", "none"])
    assert answer.value["compression"] == "gzip"


async def test_pickle_is_sent_only_if_the_operator_allows_it_and_nothing_else_is_accepted(serve: Serve):
    server = await serve(CATALOG, pickle=True)
    source_id = await opened(server)
    answer = (await server.read(source_id, 0, accepted_formats=["pickle1"])).value
    assert answer["format"] == "pickle1"
    assert pickle.loads(answer["data"])["x"].tolist() == [1, 2]
    assert (await server.read(source_id, 0, accepted_formats=ALL)).value["format"] == "msgpack"


@pytest.mark.parametrize(
    ("partition", "status"),
    [(0, 200), (None, 200), ([0], 200), (1, 400), (-1, 400), (True, 400), ("0", 400), (0.5, 400)],
)
async def test_which_partitions_there_are(serve: Serve, partition: Any, status: int):
    server = await serve(CATALOG)
    assert (await server.read(await opened(server), partition)).status == status


@pytest.mark.parametrize("source_id", ["x" * 32, "", "é", "../../etc/passwd", "x" * 5000])
async def test_an_unknown_id_is_gone(serve: Serve, source_id: str):
    assert (await (await serve(CATALOG)).read(source_id, 0)).status == 410


async def test_a_read_without_an_id_is_a_bad_request(serve: Serve):
    server = await serve(CATALOG)
    assert (await server.post({"action": "read"})).status == 400
    assert (await server.post({"action": "read", "source_id": 7})).status == 400


async def test_catalogs_and_searches_cannot_be_read(serve: Serve):
    server = await serve("sources: {again: {driver: yaml_file_cat, args: {path: '{{ CATALOG_DIR }}/catalog.yml'}}}")
    assert (await server.read((await server.opened("again"))["source_id"], 0)).status == 400
    assert (await server.read(await server.search("again"), 0)).status == 400


async def test_the_parents_source_id_in_a_header_is_ignored(serve: Serve):
    server = await serve(CATALOG)
    message = {"action": "read", "source_id": await opened(server), "partition": 0}
    assert (await server.post(message, source_id="x" * 32)).status == 200


async def test_a_partition_over_the_limit_is_refused(serve: Serve):
    server = await serve(CATALOG, max_partition=100)
    answer = await server.read(await opened(server), 0)
    assert (answer.status, "limit" in answer.reason) == (413, True)


async def test_an_id_stays_valid_when_its_source_was_closed_for_idleness(serve: Serve):
    server = await serve(CATALOG)
    source_id = await opened(server)
    server.server.sources.close()
    assert frame((await server.read(source_id, 0)).value["data"])["x"].tolist() == [1, 2]


async def test_a_partition_is_encoded_once_for_many_equal_reads(serve: Serve, slow_reads: SlowReads):
    server = await serve(CATALOG)
    source_id = await opened(server)
    reads = [asyncio.create_task(server.read(source_id, 0)) for _ in range(10)]
    await slow_reads.has_begun()
    slow_reads.go_on.set()
    assert {read.status for read in await asyncio.gather(*reads)} == {200}
    assert (await server.read(source_id, 0)).status == 200
    assert slow_reads.count == 1


async def test_a_slow_source_does_not_hold_up_listings_opens_and_other_sources(
    serve: Serve, folder: Path, slow_reads: SlowReads
):
    (folder / "other.txt").write_text("hello")
    server = await serve(
        """
        sources:
          f: {driver: csv, args: {urlpath: '{{ CATALOG_DIR }}/f.csv'}}
          other: {driver: textfiles, args: {urlpath: '{{ CATALOG_DIR }}/other.txt'}}
        """
    )
    source_id = await opened(server)
    stuck = [asyncio.create_task(server.read(source_id, 0)) for _ in range(5)]
    await slow_reads.has_begun()
    assert await server.names() == ["f", "other"]
    assert b"hello" in await server.data("other")
    slow_reads.go_on.set()
    assert {read.status for read in await asyncio.gather(*stuck)} == {200}


async def test_a_source_that_hangs_is_given_up_and_the_others_go_on(serve: Serve, folder: Path, slow_reads: SlowReads):
    (folder / "other.txt").write_text("hello")
    server = await serve(
        """
        sources:
          f: {driver: csv, args: {urlpath: '{{ CATALOG_DIR }}/f.csv'}}
          other: {driver: textfiles, args: {urlpath: '{{ CATALOG_DIR }}/other.txt'}}
        """,
        read_timeout_s=1.0,
        threads=2,
    )
    answer = await server.read(await opened(server), 0)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert server.server.read_threads.abandoned == 1
    assert b"hello" in await server.data("other")
    slow_reads.go_on.set()


async def test_more_reads_than_may_wait_are_told_to_come_back(serve: Serve, folder: Path, slow_reads: SlowReads):
    for n in range(3):
        (folder / f"g{n}.csv").write_text("x\n1\n")
    server = await serve("sources: {g: {driver: csv, args: {urlpath: '{{ CATALOG_DIR }}/g*.csv'}}}", threads=1, queue=1)
    source_id = (await server.opened("g"))["source_id"]
    first = asyncio.create_task(server.read(source_id, 0))
    await slow_reads.has_begun()
    second = asyncio.create_task(server.read(source_id, 1))
    await until(lambda: server.server.read_threads.waiting == 1)
    third = await server.read(source_id, 2)
    assert (third.status, third.headers["Retry-After"]) == (503, "1")
    slow_reads.go_on.set()
    assert [(await first).status, (await second).status] == [200, 200]


class SlowReads:
    """Makes CSV reads wait until the test lets them go on."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.count = 0

    async def has_begun(self) -> None:
        await asyncio.to_thread(self.begun.wait, 10)


@pytest.fixture
def slow_reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowReads]:
    slow = SlowReads()
    read = csv_driver.CsvSource.read

    def slowly(self: csv_driver.CsvSource, partition: Any) -> Any:
        slow.count += 1
        slow.begun.set()
        assert slow.go_on.wait(10)
        return read(self, partition)

    monkeypatch.setattr(csv_driver.CsvSource, "read", slowly)
    yield slow
    slow.go_on.set()
