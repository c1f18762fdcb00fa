"""Drivers of other packages, as such classes are written, served through the adapter (protocol §9.6)."""

from __future__ import annotations

from pathlib import Path

import msgpack
import numpy as np
import pyarrow as pa
import pytest

from tests.intake_server.conftest import Serve
from tests.intake_server.drivers.test_arrays import block

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

class _Found:
    def __init__(self, driver, args):
        self.driver, self.args = driver, args
    def describe(self):
        return {"name": "x", "driver": [self.driver], "plugin": [self.driver], "args": self.args, "direct_access": True,
                "description": "from db://me:s3cret@host/x", "metadata": {"of": "theirs"}, "user_parameters": []}

class Tables:
    name, container, version = "foreign_tables", "catalog", "1"
    def __init__(self, tables, **kwargs):
        if not tables:
            raise ConnectionError("no such database")
        self.metadata = {"kind": "database"}
        self._entries = {
            name: _Found("foreign_frames", {"factor": n, "ignored": "{{ 6 * 7 }} env(HOME)"})
            for n, name in enumerate(tables)
        }
    def __iter__(self):
        return iter(self._entries)
    def __getitem__(self, name):
        raise AssertionError("nothing is opened to list it")

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
  tables: {driver: foreign_tables, args: {tables: [one, two.three]}}
  no_tables: {driver: foreign_tables, args: {tables: []}}
  open_tables: {driver: intake_foreign_drivers.Tables, direct_access: allow, args: {tables: [one]}}
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
        "catalog", "catalog", "catalog",
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


async def test_their_catalogs_list_what_they_find_and_it_opens(serve: Serve):
    server = await serve(CATALOG)
    tables = (await server.opened("tables"))["source_id"]
    listed = await server.info(source_id=tables)
    assert [source["name"] for source in listed["sources"]] == ["one", "two.three"]
    assert (listed["metadata"]["kind"], listed["sources"][0]["container"]) == ("database", "dataframe")
    assert b"s3cret" not in msgpack.packb(listed)
    opened = await server.opened(["tables", "two.three"])
    data = (await server.read(opened["source_id"], 1)).value["data"]
    assert pa.ipc.open_stream(data).read_all().to_pydict() == {"x": [1]}
    assert (await server.opened("two.three", source_id=tables))["metadata"]["of"] == "theirs"


async def test_what_their_catalogs_find_is_data_and_as_open_as_the_catalog(serve: Serve):
    server = await serve(CATALOG)
    message = {"action": "open", "name": "one", "available_plugins": ["foreign_frames"]}
    closed = (await server.opened("tables"))["source_id"]
    assert "plugin" not in (await server.post(message, source_id=closed)).value
    opened = (await server.opened("open_tables"))["source_id"]
    direct = (await server.post(message, source_id=opened)).value
    assert direct["args"]["ignored"] == "{{ 6 * 7 }} env(HOME)"


async def test_a_catalog_of_theirs_that_raises_is_an_error_of_its_own(serve: Serve):
    answer = await (await serve(CATALOG)).open("no_tables")
    assert (answer.status, "ConnectionError: no such database" in answer.reason) == (400, True)


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
