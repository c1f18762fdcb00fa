"""Arrays from numpy files and zarr stores, over HTTP (protocol §3.3, §3.4, §4.3, §9.6)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import zarr

from tests.intake_server.conftest import Serve, Served


def block(data: bytes) -> np.ndarray[Any, Any]:
    """What the intake client makes of the bytes."""
    parts = msgpack.unpackb(data, raw=False, strict_map_key=False)
    kind = [tuple(field) for field in parts[b"type"]] if parts[b"kind"] == b"V" else parts[b"type"]
    return np.frombuffer(parts[b"data"], dtype=np.dtype(kind)).reshape(parts[b"shape"])


def catalog(path: str, **arguments: Any) -> str:
    given = {"path": "{{ CATALOG_DIR }}/" + path, **arguments}
    return f"sources: {{a: {{driver: numpy, args: {json.dumps(given)}}}}}"


async def put_together(server: Served, name: str = "a") -> np.ndarray[Any, Any]:
    """Every block, checked against `chunks` and assembled as dask does."""
    opened = await server.opened(name)
    whole = np.empty(opened["shape"], dtype=opened["dtype"])
    ends = [np.cumsum([0, *lengths]) for lengths in opened["chunks"]]
    for index in np.ndindex(*(len(lengths) for lengths in opened["chunks"])):
        part = block((await server.read(opened["source_id"], list(index))).value["data"])
        assert list(part.shape) == [lengths[n] for lengths, n in zip(opened["chunks"], index, strict=True)]
        whole[tuple(slice(end[n], end[n + 1]) for end, n in zip(ends, index, strict=True))] = part
    return whole


async def test_rows_are_blocks(serve: Serve, folder: Path):
    np.save(folder / "a.npy", np.arange(100.0).reshape(10, 10))
    server = await serve(catalog("a.npy", chunks=5))
    opened = await server.opened("a")
    assert (opened["dtype"], opened["shape"], opened["npartitions"]) == ("float64", [10, 10], 2)
    assert opened["chunks"] == [[5, 5], [10]]
    assert (await put_together(server) == np.arange(100.0).reshape(10, 10)).all()


async def test_the_last_block_is_shortened(serve: Serve, folder: Path):
    np.save(folder / "a.npy", np.arange(10))
    server = await serve(catalog("a.npy", chunks=3))
    assert (await server.opened("a"))["chunks"] == [[3, 3, 3, 1]]
    assert (await put_together(server)).tolist() == list(range(10))


async def test_several_files_are_stacked_and_every_block_keeps_its_leading_axis(serve: Serve, folder: Path):
    for n in range(3):
        np.save(folder / f"a{n}.npy", np.full((4, 2), n))
    server = await serve(catalog("a*.npy", chunks=2))
    assert (await server.opened("a"))["chunks"] == [[1, 1, 1], [2, 2], [2]]
    assert (await put_together(server))[2].tolist() == [[2, 2]] * 4


@pytest.mark.parametrize("chunks", [None, 2, 3])
async def test_fortran_order_is_honoured(serve: Serve, folder: Path, chunks: int | None):
    written = np.asfortranarray(np.arange(24).reshape(4, 3, 2))
    np.save(folder / "a.npy", written)
    server = await serve(catalog("a.npy", chunks=chunks))
    assert (await put_together(server) == written).all()


@pytest.mark.parametrize(
    "array",
    [
        np.array(["2020-01-01", "NaT"], dtype="M8[ns]"),
        np.array([1, 2], dtype="m8[s]"),
        np.array([1, 2], dtype=">i4"),
        np.array([1 + 2j]),
        np.array([True, False]),
        np.array(["ä", "bc"]),
        np.array([b"a", b"bc"]),
        np.zeros((0, 3)),
        np.zeros((3, 0)),
        np.array(7.0),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
async def test_every_type_and_shape_survives(serve: Serve, folder: Path, array: np.ndarray[Any, Any]):
    np.save(folder / "a.npy", array)
    server = await serve(catalog("a.npy"))
    found = await put_together(server)
    assert found.shape == array.shape
    assert found.tobytes() == array.astype(found.dtype).tobytes()


async def test_structured_types_are_opaque_at_open_and_restored_by_the_blocks(serve: Serve, folder: Path):
    written = np.array([(1, 2.0)], dtype=[("x", "<i4"), ("y", "<f8")])
    np.save(folder / "a.npy", written)
    server = await serve(catalog("a.npy"))
    assert (await server.opened("a"))["dtype"] == "|V12"
    assert block(await server.data("a", [0])).tolist() == [(1, 2.0)]


@pytest.mark.parametrize(
    ("partition", "status"),
    [(0, 200), ([1, 0], 200), ([2, 0], 400), ([-1, 0], 400), ([0], 400), ([0, 0, 0], 400), (True, 400), ("x", 400),
     ([0, "x"], 400), (None, 400), ({"a": 1}, 400), ([True, 0], 400), (2**70, 400)],
)  # fmt: skip
async def test_which_blocks_there_are(serve: Serve, folder: Path, partition: Any, status: int):
    np.save(folder / "a.npy", np.arange(100.0).reshape(10, 10))
    server = await serve(catalog("a.npy", chunks=5))
    source_id = (await server.opened("a"))["source_id"]
    assert (await server.read(source_id, partition)).status == status


async def test_an_array_of_one_block_can_be_read_whole(serve: Serve, folder: Path):
    np.save(folder / "a.npy", np.arange(4))
    server = await serve(catalog("a.npy"))
    source_id = (await server.opened("a"))["source_id"]
    assert block((await server.read(source_id)).value["data"]).tolist() == [0, 1, 2, 3]


async def test_an_array_of_python_objects_is_refused_and_never_unpickled(serve: Serve, folder: Path):
    np.save(folder / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    answer = await (await serve(catalog("a.npy"))).open("a")
    assert (answer.status, "pickled" in answer.reason) == (400, True)


async def test_a_file_shorter_than_its_header_says_is_refused(serve: Serve, folder: Path):
    np.save(folder / "a.npy", np.arange(1000))
    data = (folder / "a.npy").read_bytes()
    (folder / "a.npy").write_bytes(data[:-8])
    assert (await (await serve(catalog("a.npy"))).open("a")).status == 400


async def test_a_file_cut_short_after_the_open_is_an_error_of_that_read_alone(serve: Serve, folder: Path):
    np.save(folder / "a.npy", np.arange(1000))
    server = await serve(catalog("a.npy", chunks=500))
    source_id = (await server.opened("a"))["source_id"]
    with (folder / "a.npy").open("r+b") as opened:
        opened.truncate(5000)
    assert [(await server.read(source_id, [block])).status for block in (0, 1)] == [410, 410]
    assert await server.names() == ["a"]


async def test_stacked_files_must_be_alike(serve: Serve, folder: Path):
    np.save(folder / "a1.npy", np.arange(3))
    np.save(folder / "a2.npy", np.arange(4))
    assert (await (await serve(catalog("a*.npy"))).open("a")).status == 400


ZARR = """
sources:
  a: {driver: ndzarr, args: {urlpath: '{{ CATALOG_DIR }}/store.zarr', component: grid/t2m}}
  store: {driver: zarr_cat, metadata: {m: 1}, args: {urlpath: '{{ CATALOG_DIR }}/store.zarr'}}
"""


@pytest.mark.parametrize("version", [2, 3])
async def test_zarr_chunks_are_blocks_by_axis(serve: Serve, folder: Path, version: Any):
    root = zarr.open_group(folder / "store.zarr", mode="w", zarr_format=version)
    array = root.create_group("grid").create_array("t2m", shape=(5, 4), chunks=(2, 4), dtype="f4")
    array[:] = np.arange(20, dtype="f4").reshape(5, 4)
    array.attrs["units"] = "K"
    server = await serve(ZARR)
    opened = await server.opened("a")
    assert (opened["chunks"], opened["dtype"], opened["npartitions"]) == ([[2, 2, 1], [4]], "float32", 3)
    assert opened["metadata"]["units"] == "K"
    assert (await put_together(server) == np.arange(20).reshape(5, 4)).all()


async def test_zarr_groups_are_catalogs(serve: Serve, folder: Path):
    root = zarr.open_group(folder / "store.zarr", mode="w")
    root.create_group("grid").create_array("t2m", shape=(2,), dtype="i4")[:] = [1, 2]
    root.create_array("lat", shape=(3,), dtype="f8")
    root.attrs["title"] = "weather"
    server = await serve(ZARR)
    store = await server.opened("store")
    assert store["container"] == "catalog"
    info = await server.info(source_id=store["source_id"])
    assert [(source["name"], source["container"]) for source in info["sources"]] == [
        ("grid", "catalog"),
        ("lat", "ndarray"),
    ]
    assert (info["metadata"]["title"], info["metadata"]["m"]) == ("weather", 1)
    opened = await server.opened("grid.t2m", source_id=store["source_id"])
    assert block((await server.read(opened["source_id"], [0])).value["data"]).tolist() == [1, 2]


async def test_a_zarr_store_that_is_not_there_is_refused(serve: Serve):
    server = await serve(ZARR)
    assert (await server.open("a")).status == 400
    assert (await server.open("store")).status == 400


async def test_csv_is_offered_for_arrays_of_two_axes_and_not_of_three(serve: Serve, folder: Path):
    for shape, has_csv in (((2, 2), True), ((2, 2, 2), False)):
        np.save(folder / "a.npy", np.zeros(shape))
        answer = await (await serve(catalog("a.npy"))).get("/api/entry/a?open=true")
        assert ("csv" in [form["name"] for form in json.loads(answer.body)["formats"]]) == has_csv
