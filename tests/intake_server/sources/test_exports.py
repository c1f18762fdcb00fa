"""Exports under way: made piece by piece, made once, and given up when nobody waits for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from intake_server.concurrency.backpressure import Holding, InFlight
from intake_server.concurrency.thread_pool import ThreadPool
from intake_server.drivers.base import Schema, Unreadable
from intake_server.export.formats import by_name
from intake_server.export.selection import Selection
from intake_server.sources.export_files import ExportFiles
from intake_server.sources.exports import Export, Exports
from intake_server.sources.pool import OpenSource
from shared.errors import Problem
from tests.intake_server.conftest import until

ROWS = pa.table({"n": range(1000)})


class Source:
    """A hundred partitions; remembers which were read."""

    version = "1"
    pin = None

    def __init__(self) -> None:
        self.schema = Schema("dataframe", {"n": "int64"}, (None, 1), 100)
        self.read_so_far: list[int] = []
        self.may_read = threading.Event()
        self.may_read.set()
        self.was_asked = threading.Event()
        self.breaks_at: int | None = None

    def read(self, partition: Any) -> pa.Table:
        self.was_asked.set()
        assert self.may_read.wait(30)
        self.read_so_far.append(partition)
        if partition == self.breaks_at:
            raise Unreadable("/srv/secret/part.csv: it broke")
        return ROWS


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def workers() -> Iterator[ThreadPool]:
    made = ThreadPool("test", threads=2, queue=8, per_key=2)
    yield made
    made.close()


@pytest.fixture
def exports(workers: ThreadPool) -> Exports:
    return exports_of(workers)


def exports_of(workers: ThreadPool) -> Exports:
    return Exports(workers, ExportFiles(1 << 20, 60), InFlight(1 << 30, most_large=4), timeout_s=30)


def streamed(exports: Exports, one: Export) -> Any:
    return exports.streamed(one, Holding("entry", lambda: None))


def export(source: Any, form: str, **query: list[str]) -> Export:
    opened = OpenSource(
        key=b"key",
        name="entry",
        directory="/srv/secret/",
        driver="csv",
        arguments={},
        source=source,
        metadata={},
        thread_key=b"key",
        size=0,
    )
    return Export(opened, Selection.parse(query), by_name(form))


async def test_the_next_piece_is_made_when_the_one_before_was_taken(exports, source):
    pieces = streamed(exports, export(source, "csv"))
    assert await anext(pieces) == b'"n"\n'
    for taken in range(1, 6):
        await anext(pieces)
        assert len(source.read_so_far) <= taken + 1
    await pieces.aclose()
    assert len(source.read_so_far) <= 6


async def test_a_stream_that_nobody_takes_any_more_reads_no_further(exports, source, workers):
    pieces = streamed(exports, export(source, "jsonl"))
    await anext(pieces)
    source.was_asked.clear()
    source.may_read.clear()
    waiting = asyncio.ensure_future(anext(pieces))
    await asyncio.to_thread(source.was_asked.wait, 30)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    source.may_read.set()
    await asyncio.gather(*(workers.run(lambda: None) for _ in range(4)))  # whatever was under way has ended by now
    assert len(source.read_so_far) <= 3


async def test_equal_exports_asked_for_at_once_are_made_once(exports, source):
    source.may_read.clear()
    asked = [asyncio.ensure_future(exports.stored(export(source, "parquet"))) for _ in range(5)]
    await asyncio.sleep(0)
    source.may_read.set()
    files = await asyncio.gather(*asked)
    assert len({id(stored.file) for stored in files}) == 1
    assert source.read_so_far == list(range(100))
    assert (await exports.stored(export(source, "parquet"))).file is files[0].file


async def test_an_export_that_nobody_waits_for_any_more_is_not_made_to_its_end(exports, source, workers):
    source.may_read.clear()
    asked = asyncio.ensure_future(exports.stored(export(source, "parquet")))
    await asyncio.to_thread(source.was_asked.wait, 30)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    await asyncio.sleep(0)
    source.may_read.set()
    await asyncio.gather(*(workers.run(lambda: None, key=n) for n in range(8)))
    await until(lambda: workers.running == 0)
    assert len(source.read_so_far) < 100


async def test_a_partition_that_breaks_is_told_without_server_paths(exports, source):
    source.breaks_at = 0
    with pytest.raises(Problem) as caught:
        await exports.stored(export(source, "parquet"))
    assert (caught.value.status, caught.value.message) == (500, "{CATALOG_DIR}/part.csv: it broke")


async def test_a_driver_that_fails_in_its_own_way_fails_this_export_alone(exports, source):
    source.read = lambda partition: {}["nothing"]
    with pytest.raises(Problem) as caught:
        await anext(streamed(exports, export(source, "csv")))
    assert (caught.value.status, caught.value.code) == (500, "unreadable")


async def test_more_work_than_may_wait_is_503(source):
    workers = ThreadPool("test", threads=1, queue=0, per_key=1)
    exports = exports_of(workers)
    source.may_read.clear()
    first = asyncio.ensure_future(exports.stored(export(source, "parquet")))
    await asyncio.to_thread(source.was_asked.wait, 30)
    with pytest.raises(Problem) as caught:
        await exports.stored(export(source, "parquet", rows=["0:5"]))
    assert (caught.value.status, caught.value.headers["Retry-After"]) == (503, "1")
    source.may_read.set()
    await first
    workers.close()


def test_equal_exports_have_equal_tags_and_others_have_not(source):
    same = {export(source, "csv").etag, export(source, "csv").etag}
    other = {
        export(source, "jsonl").etag,
        export(source, "csv", rows=["0:5"]).etag,
        Export(export(source, "csv").opened, Selection(), by_name("csv"), is_gzipped=True).etag,
    }
    source.version = "2"
    assert len(same) == 1
    assert len(same | other | {export(source, "csv").etag}) == 5
