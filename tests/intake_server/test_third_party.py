"""Drivers of other packages, as such classes are written, served through the adapter (specification §9.6)."""

from __future__ import annotations

from pathlib import Path

import msgpack
import numpy as np
import pyarrow as pa
import pytest

from tests.intake_server.conftest import Serve
from tests.intake_server.test_http_arrays import block

MODULE = """
import numpy as np
import pandas as pd
import xarray as xr

class _Base:
    version = "1"
    partition_access = True
    dtype = shape = None
    npartitions = 0
    def __init__(self, **kwargs):
        self.kwargs, self.metadata = kwargs, {"made": "by hand"}
    def discover(self):
        assert self.on_server
    def read(self):
        return self.read_partition(0)
    def close(self):
        self.closed = True

class Frames(_Base):
    name, container = "foreign_frames", "dataframe"
    def discover(self):
        self.dtype, self.shape, self.npartitions = {"x": np.dtype("i8")}, (None, 1), 2
    def read_partition(self, n):
        return pd.DataFrame({"x": [n * self.kwargs["factor"]]})

class Arrays(_Base):
    name, container = "foreign_arrays", "ndarray"
    def discover(self):
        self.dtype, self.shape, self.chunks, self.npartitions = "f4", (4,), (2, 2), 2   # not what chunks should be
    def read_partition(self, n):
        return np.arange(4, dtype="f4")
    def read(self):
        return np.arange(4, dtype="f4")

class Things(_Base):
    name, container = "foreign_things", "python"
    def read_partition(self, n):
        return {"one": "thing"}

class Mixed(_Base):
    name, container = "foreign_mixed", "dataframe"
    def read_partition(self, n):
        return pd.DataFrame({"x": [1, "two", object]})

class Datasets(_Base):
    name, container = "foreign_datasets", "xarray"
    def discover(self):
        raise AssertionError("what these classes write themselves needs zarr 2")
    def to_dask(self):
        return xr.DataArray(np.arange(3.0), dims="n", coords={"n": [1, 2, 3]}, name="x")
    def read_partition(self, n):
        return None

class Streams(_Base):
    name, container = "foreign_streams", "streamz"
    def read_partition(self, n):
        return None

class Raising(_Base):
    name, container = "foreign_raising", "python"
    def discover(self):
        raise KeyError("no good")
    def read_partition(self, n):
        return []

class NotYetWritten(_Base):
    name, container = "foreign_unwritten", "python"
    def read_partition(self, n):
        raise NotImplementedError
"""
CATALOG = """
plugins: {source: [{module: intake_foreign_drivers}, {module: nowhere_to_be_found}]}
sources:
  frames: {driver: foreign_frames, args: {factor: 10}}
  dotted: {driver: intake_foreign_drivers.Frames, args: {factor: 1}}
  arrays: {driver: foreign_arrays}
  things: {driver: foreign_things}
  mixed: {driver: foreign_mixed}
  raising: {driver: foreign_raising}
  unwritten: {driver: foreign_unwritten}
  datasets: {driver: foreign_datasets}
  streams: {driver: foreign_streams}
"""


@pytest.fixture(autouse=True)
def module(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "intake_foreign_drivers.py").write_text(MODULE)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(__import__("sys").modules, "intake_foreign_drivers", raising=False)


async def test_their_containers_are_listed_without_using_them(serve: Serve):
    listed = (await (await serve(CATALOG)).info())["sources"]
    assert [source["container"] for source in listed] == [
        "dataframe", "dataframe", "ndarray", "python", "dataframe", "python", "python", "xarray", "streamz",
    ]  # fmt: skip
    assert listed[0]["plugin"] == ["foreign_frames"]


@pytest.mark.parametrize(("name", "second"), [("frames", 10), ("dotted", 1)])
async def test_frames(serve: Serve, name: str, second: int):
    server = await serve(CATALOG)
    opened = await server.opened(name)
    assert (opened["dtype"], opened["shape"], opened["npartitions"]) == ({"x": "int64"}, [None, 1], 2)
    assert opened["metadata"]["made"] == "by hand"
    data = (await server.read(opened["source_id"], 1)).value["data"]
    assert pa.ipc.open_stream(data).read_all().to_pydict() == {"x": [second]}


async def test_chunks_that_do_not_add_up_become_one_block(serve: Serve):
    server = await serve(CATALOG)
    opened = await server.opened("arrays")
    assert (opened["chunks"], opened["npartitions"], opened["dtype"]) == ([[4]], 1, "float32")
    assert (block((await server.read(opened["source_id"], [0])).value["data"]) == np.arange(4)).all()


async def test_one_thing_is_a_list_of_one_as_a_partition(serve: Serve):
    server = await serve(CATALOG)
    assert msgpack.unpackb(await server.data("things")) == [{"one": "thing"}]


async def test_a_frame_of_mixed_types_is_an_error_or_text_or_pickle_as_the_operator_likes(serve: Serve):
    server = await serve(CATALOG)
    answer = await server.read((await server.opened("mixed"))["source_id"], 0)
    assert (answer.status, "mixes types" in answer.reason) == (500, True)
    server = await serve(CATALOG, stringify=True)
    data = await server.data("mixed")
    assert pa.ipc.open_stream(data).read_all().to_pydict() == {"x": ["1", "two", "<class 'object'>"]}
    server = await serve(CATALOG, pickle=True)
    source_id = (await server.opened("mixed"))["source_id"]
    assert (await server.read(source_id, 0, accepted_formats=["msgpack", "pickle2"])).value["format"] == "pickle2"


async def test_containers_that_are_not_served_say_so(serve: Serve):
    answer = await (await serve(CATALOG)).open("streams")
    assert (answer.status, answer.reason) == (501, "data of the container 'streamz' are not served")


async def test_data_sets_are_described_by_us(serve: Serve):
    server = await serve(CATALOG)
    opened = await server.opened("datasets")
    assert opened["metadata"]["dims"] == {"n": 3}
    assert block((await server.read(opened["source_id"], ["x", 0])).value["data"]).tolist() == [0.0, 1.0, 2.0]


async def test_what_they_raise_concerns_them_alone(serve: Serve):
    server = await serve(CATALOG)
    assert (await server.open("raising")).status == 400
    source_id = (await server.opened("unwritten"))["source_id"]
    assert (await server.read(source_id, 0)).status == 500
    assert (await server.open("things")).status == 200


async def test_a_package_that_cannot_be_imported_is_the_trouble_of_its_entries_alone(serve: Serve, folder: Path):
    (folder / "intake_broken_drivers.py").write_text("raise RuntimeError('no licence')")
    server = await serve("sources: {e: {driver: intake_broken_drivers.Frames}, f: {driver: csv}}")
    assert [source["container"] for source in (await server.info())["sources"]] == [None, "dataframe"]
    answer = await server.open("e")
    assert (answer.status, "no licence" in answer.reason) == (400, True)
