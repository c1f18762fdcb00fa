"""Data sets of NetCDF and Zarr: what ``open`` says of them, their blocks, and their variables as data."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from tests.intake_server.conftest import Serve, until
from tests.intake_server.drivers.test_arrays import block

CATALOG = """
sources:
  cube: {driver: netcdf, args: {urlpath: "{{ CATALOG_DIR }}/cube.nc", chunks: {time: 4}}}
  plain: {driver: netcdf, args: {urlpath: "{{ CATALOG_DIR }}/cube.nc"}}
  store: {driver: zarr, args: {urlpath: "{{ CATALOG_DIR }}/cube.zarr"}}
  years:
    driver: netcdf
    args: {urlpath: "{{ CATALOG_DIR }}/year_{year:d}.nc", concat_dim: year}
  wrong: {driver: netcdf, args: {urlpath: "{{ CATALOG_DIR }}/cube.nc", chunks: {time: 0}}}
  text: {driver: netcdf, args: {urlpath: "{{ CATALOG_DIR }}/catalog.yml"}}
  lost: {driver: netcdf, args: {urlpath: "{{ CATALOG_DIR }}/nothing.nc"}}
  empty: {driver: zarr, args: {urlpath: "{{ CATALOG_DIR }}/nothing.zarr"}}
"""


def cube() -> xr.Dataset:
    return xr.Dataset(
        {
            "heat": (("time", "lat"), np.arange(20.0).reshape(10, 2), {"units": "K"}),
            "name": (("lat",), np.array(["a", "bé"], dtype=object)),
            "age": (("time",), np.arange(10, dtype="i4"), {"units": "days since 2000-01-01", "missing_value": 7}),
        },
        coords={
            "time": pd.date_range("2024-01-01", periods=10).as_unit("ns"),
            "lat": [1.5, 2.5],
            "area": (("lat",), [1.0, 2.0]),
            "height": 2.0,
        },
        attrs={"title": "A cube", "array": "taken for itself by the client", "version": np.int32(3)},
    )


@pytest.fixture(autouse=True)
def files(folder: Path) -> None:
    found = cube().drop_vars("age")
    encoding: Any = {"heat": {"dtype": "i2", "scale_factor": 0.5, "_FillValue": -1}}
    found.to_netcdf(folder / "cube.nc", engine="h5netcdf", encoding=encoding)
    found.to_zarr(folder / "cube.zarr", encoding={"heat": {"chunks": (3, 2)}})
    for year in (2001, 2002):
        xr.Dataset({"x": ("n", np.arange(3) + year)}).to_netcdf(folder / f"year_{year}.nc", engine="h5netcdf")


def store_of(opened: Any) -> dict[str, bytes]:
    return opened["metadata"]["internal"]


async def test_open_describes_a_data_set_as_a_zarr_store(serve: Serve):
    opened = await (await serve(CATALOG)).opened("cube")
    assert (opened["container"], opened["dtype"], opened["shape"], opened["npartitions"]) == ("xarray", *[None] * 3)
    metadata = opened["metadata"]
    assert metadata["dims"] == {"time": 10, "lat": 2}
    assert metadata["data_vars"] == {
        "heat": ["time", "lat", "height"], "name": ["lat", "height"], "area": ["lat", "height"],
    }  # fmt: skip
    assert sorted(metadata["coords"]) == ["height", "lat", "time"]
    assert (metadata["title"], metadata["version"], metadata["array"]) == ("A cube", 3, False)
    store = store_of(opened)
    assert json.loads(store["heat/.zarray"]) == {
        "zarr_format": 2, "shape": [10, 2], "chunks": [4, 2], "dtype": "<f8", "compressor": None, "fill_value": None,
        "order": "C", "filters": None,
    }  # fmt: skip
    assert json.loads(store["heat/.zattrs"]) == {"units": "K", "_ARRAY_DIMENSIONS": ["time", "lat"]}
    assert np.frombuffer(store["lat/0"]).tolist() == [1.5, 2.5]
    assert json.loads(store["time/.zarray"])["dtype"] == "<M8[ns]"
    assert json.loads(store[".zattrs"])["coordinates"] == "height"
    assert "heat/0.0" not in store


async def test_blocks_and_whole_coordinates_are_read(serve: Serve):
    server = await serve(CATALOG)
    source_id = (await server.opened("cube"))["source_id"]

    async def read(*partition: Any) -> np.ndarray[Any, Any]:
        return block((await server.read(source_id, list(partition))).value["data"])

    assert (await read("heat", 2, 0)).tolist() == [[16.0, 17.0], [18.0, 19.0]]
    assert (await read("lat")).tolist() == [1.5, 2.5]
    assert (await read("time"))[0] == np.datetime64("2024-01-01")
    assert (await read("name", 0)).tolist() == ["a", "bé"]
    assert (await read("height")).tolist() == 2.0


@pytest.mark.parametrize(
    ("partition", "reason"),
    [
        (["nothing", 0], "there is no variable 'nothing'"),
        (["heat", 3, 0], "3 on axis 0 is not between 0 and 2"),
        (["heat", 0], "expected 2 integers, found 1"),
        (["heat", "x", 0], "expected a list of integers"),
        ([0, 0], "expected the name of a variable"),
        (0, "expected the name of a variable"),
        (None, "expected the name of a variable"),
    ],
)
async def test_a_partition_that_does_not_exist_is_a_400(serve: Serve, partition: Any, reason: str):
    server = await serve(CATALOG)
    answer = await server.read((await server.opened("cube"))["source_id"], partition)
    assert (answer.status, reason in answer.reason) == (400, True)


async def test_a_client_says_in_a_header_that_it_takes_the_store_as_an_address(serve: Serve):
    server = await serve(CATALOG)
    opened = await server.opened("cube", headers={"datasets-as": "url"})
    with xr.open_zarr(store_of(opened), consolidated=False) as found:
        assert found["lat"].values.tolist() == [1.5, 2.5]
        assert found["heat"].shape == (10, 2)
    by_default = await serve(CATALOG, datasets_as="url")
    assert isinstance(store_of(await by_default.opened("cube")), str)
    assert isinstance(store_of(await by_default.opened("cube", headers={"datasets-as": "map"})), dict)
    answer = await server.open("cube", headers={"datasets-as": "nonsense"})
    assert (answer.status, answer.reason) == (400, "datasets-as: expected map or url, found 'nonsense'")


async def test_chunks_of_a_zarr_store_are_its_blocks_and_small_variables_are_one(serve: Serve):
    server = await serve(CATALOG)
    assert json.loads(store_of(await server.opened("store"))["heat/.zarray"])["chunks"] == [3, 2]
    assert json.loads(store_of(await server.opened("plain"))["heat/.zarray"])["chunks"] == [10, 2]


async def test_fields_in_file_names_become_coordinates(serve: Serve):
    server = await serve(CATALOG)
    opened = await server.opened("years")
    assert np.frombuffer(store_of(opened)["year/0"], "i8").tolist() == [2001, 2002]
    assert block((await server.read(opened["source_id"], ["x", 1, 0])).value["data"]).tolist() == [[2002, 2003, 2004]]


async def test_attributes_that_ask_clients_to_decode_again_are_renamed(serve: Serve, folder: Path):
    cube().drop_vars("time").to_zarr(folder / "cube.zarr", mode="w")
    server = await serve(
        "sources: {raw: {driver: zarr, args: {urlpath: '{{ CATALOG_DIR }}/cube.zarr', decode_times: false,"
        " mask_and_scale: false}}}"
    )
    attributes = json.loads(store_of(await server.opened("raw"))["age/.zattrs"])
    assert attributes["encoded_units"] == "days since 2000-01-01"
    assert attributes["encoded_missing_value"] == 7


async def test_dates_of_other_calendars_are_numbers_with_their_unit(serve: Serve, folder: Path):
    raw = xr.Dataset({"t": ("n", [0, 59], {"units": "days since 2001-01-01", "calendar": "360_day"})})
    raw.to_netcdf(folder / "calendar.nc", engine="h5netcdf")
    server = await serve("sources: {t: {driver: netcdf, args: {urlpath: '{{ CATALOG_DIR }}/calendar.nc'}}}")
    opened = await server.opened("t")
    attributes = json.loads(store_of(opened)["t/.zattrs"])
    assert (attributes["encoded_units"], attributes["calendar"]) == ("days since 2001-01-01", "360_day")
    assert block((await server.read(opened["source_id"], ["t", 0])).value["data"]).tolist() == [0, 59]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("wrong", "chunks: expected a length of 1 or more, or -1, found 0"),
        ("text", "{CATALOG_DIR}/catalog.yml"),
        ("lost", "{CATALOG_DIR}/nothing.nc: No such file or directory"),
        ("empty", "{CATALOG_DIR}/nothing.zarr"),
    ],
)
async def test_what_cannot_be_opened_says_why(serve: Serve, name: str, reason: str):
    answer = await (await serve(CATALOG)).open(name)
    assert (answer.status, reason in answer.reason) == (400, True), answer.reason


async def test_a_file_that_is_replaced_or_removed_is_another_source(serve: Serve, folder: Path):
    server = await serve(CATALOG, cache_bytes=0)
    first = await server.opened("plain")
    (folder / "cube.nc").unlink()
    (cube().drop_vars("age") * 2).to_netcdf(folder / "cube.nc", engine="h5netcdf")
    server.server.sources.forget_stamps()
    answer = await server.read(first["source_id"], ["heat", 0, 0])
    assert (answer.status, "has changed since" in answer.reason) == (410, True)
    second = await server.opened("plain")
    assert second["source_id"] != first["source_id"]
    assert block((await server.read(second["source_id"], ["heat", 0, 0])).value["data"])[9].tolist() == [36.0, 38.0]
    (folder / "cube.nc").unlink()
    assert (await server.open("plain")).status == 400


async def test_a_changed_zarr_store_is_another_source(serve: Serve, folder: Path):
    server = await serve(CATALOG)
    first = await server.opened("store")
    assert (await server.opened("store"))["source_id"] == first["source_id"]
    cube().isel(time=slice(0, 5)).drop_vars("age").to_zarr(folder / "cube.zarr", mode="w")
    assert (await server.opened("store"))["source_id"] != first["source_id"]


async def test_a_variable_is_data_over_plain_http(serve: Serve):
    server = await serve(CATALOG)
    answer = await server.get("/data/cube.npy?variable=heat&slice=2:5,1")
    assert np.load(io.BytesIO(answer.body)).tolist() == [5.0, 7.0, 9.0]
    assert (await server.get("/data/cube.csv?variable=heat&slice=:2")).body == b"0.0,1.0\n2.0,3.0\n"
    assert (await server.get("/data/cube.json?variable=name")).body == b'["a","b\xc3\xa9"]'
    assert (await server.get("/data/cube.json?variable=height")).body == b"2.0"
    picture = await server.get("/data/cube.png?variable=heat")
    assert (picture.status, picture.body[:4]) == (200, b"\x89PNG")
    assert (await server.get("/data/cube.npy?variable=heat")).headers["ETag"] != answer.headers["ETag"]
    for path in ("/data/cube.npy", "/data/cube?variable=nothing"):
        answer = await server.get(path)
        assert (answer.status, "one of heat, name" in answer.reason) == (400, True), answer.reason
    assert (await server.get("/data/cube.parquet?variable=heat")).status == 406


async def test_the_api_tells_the_variables(serve: Serve):
    entry = json.loads((await (await serve(CATALOG)).get("/api/entry/cube?open=true")).body)
    heat = next(item for item in entry["variables"] if item["name"] == "heat")
    assert (heat["dimensions"], heat["dtype"], heat["shape"]) == (["time", "lat"], "float64", [10, 2])
    assert heat["formats"][0]["url"] == "data/cube.npy?variable=heat"
    assert "internal" not in entry["metadata"]


async def test_listings_tell_the_container_without_opening_anything(serve: Serve):
    listed = (await (await serve(CATALOG)).info())["sources"]
    assert {source["container"] for source in listed} == {"xarray"}
    assert msgpack.packb(listed)


async def test_netcdf_files_that_hang_hold_up_other_netcdf_files_and_nothing_else(
    serve: Serve, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    let_go = threading.Event()
    begun: list[Any] = []
    monkeypatch.setattr(xr, "open_dataset", lambda *_, **__: begun.append(1) or let_go.wait(30))
    (folder / "text.txt").write_text("hello")
    entries = [f"hung{n}: {{driver: netcdf, args: {{urlpath: '{folder}/cube.nc', chunks: {n}}}}}" for n in range(1, 9)]
    text = f"text: {{driver: textfiles, args: {{urlpath: '{folder}/text.txt'}}}}"
    server = await serve("sources: {" + ", ".join([*entries, text]) + "}", open_threads=4)
    opening = [asyncio.create_task(server.open(f"hung{n}")) for n in range(1, 9)]
    await until(lambda: len(begun) == 2)
    assert (await server.open("text")).status == 200
    let_go.set()
    assert {answer.status for answer in await asyncio.gather(*opening)} == {400}
