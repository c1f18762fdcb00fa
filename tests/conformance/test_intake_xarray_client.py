"""The real intake-xarray client, with libraries of May 2023 and with current ones, reads data sets (§4.6)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from tests.conformance.environments import client_python, run_client
from tests.processes import DaemonProcess, start_daemon

CLIENTS: dict[str, Any] = {"may-2023": {}, "current": {"headers": {"datasets-as": "url"}}}
"""What each client has to say of itself."""

CATALOG = """
sources:
  weather: {driver: netcdf, args: {urlpath: '{{ CATALOG_DIR }}/weather.nc', chunks: {time: 4}}}
  store: {driver: zarr, args: {urlpath: '{{ CATALOG_DIR }}/weather.zarr'}}
  months:
    driver: netcdf
    args:
      urlpath: '{{ CATALOG_DIR }}/month_*.nc'
      concat_dim: time
      xarray_kwargs: {data_vars: minimal, coords: minimal, compat: override}
"""
SCRIPT = """
import json, sys, warnings
warnings.simplefilter("ignore")
import intake, intake_xarray
catalog = intake.open_catalog(sys.argv[1], storage_options=json.loads(sys.argv[2]))
entry = catalog[sys.argv[3]]
lazy = entry.to_dask()
chunks = lazy.t2m.chunks
part = lazy.t2m.isel(time=9, lat=3).values.tolist()
read = entry.read()
def listed(name):
    return [str(item) for item in read[name].values.ravel().tolist()]
print(json.dumps({
    "variables": {name: [str(read[name].dtype), list(read[name].dims), listed(name)] for name in read.variables},
    "part": part, "chunks": chunks, "title": read.title, "units": read.t2m.units,
}))
"""


def weather() -> xr.Dataset:
    values = np.random.default_rng(1).normal(280, 5, size=(10, 4, 3))
    return xr.Dataset(
        {
            "t2m": (("time", "lat", "lon"), values.astype("f4"), {"units": "K"}),
            "station": (("lat",), np.array(["a", "bé", "ccc", ""], dtype=object)),
            "since": (("lat",), pd.to_datetime(["2020-01-01", "2021-01-01", "2022-01-01", None]).as_unit("ns")),
            "days": (("time",), np.arange(10, dtype="i4"), {"units": "days"}),
            "factor": ((), 3.5),
        },
        coords={
            "time": pd.date_range("2024-01-01", periods=10, freq="D").as_unit("ns"),
            "lat": [10.0, 20.0, 30.0, 40.0],
            "lon": [1.0, 2.0, 3.0],
            "area": (("lat", "lon"), np.arange(12.0).reshape(4, 3)),
            "height": 2.0,
        },
        attrs={"title": "Weather", "array": "an attribute that the client would take for itself"},
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    folder = tmp_path_factory.mktemp("datasets")
    found = weather()
    found.to_netcdf(folder / "weather.nc", engine="h5netcdf")
    found.to_zarr(folder / "weather.zarr", encoding={"t2m": {"chunks": (4, 2, 3)}})
    found.isel(time=slice(0, 5)).to_netcdf(folder / "month_1.nc", engine="h5netcdf")
    found.isel(time=slice(5, 10)).to_netcdf(folder / "month_2.nc", engine="h5netcdf")
    (folder / "catalog.yml").write_text(CATALOG)
    with start_daemon("intake_server", folder / "catalog.yml") as daemon:
        yield daemon


@pytest.mark.parametrize(
    ("entry", "chunks"),
    [
        ("weather", [[4, 4, 2], [4], [3]]),
        ("store", [[4, 4, 2], [2, 2], [3]]),
        ("months", [[5, 5], [4], [3]]),
    ],
)
@pytest.mark.parametrize("client", CLIENTS)
def test_data_sets_are_read_whole_and_in_part_with_equal_values(
    server: DaemonProcess, client: str, entry: str, chunks: Any
):
    options = CLIENTS[client]
    python = client_python(f"intake-xarray-{client}")
    url = f"intake://127.0.0.1:{server.port}"
    printed = run_client(python, SCRIPT, url, json.dumps(options), entry)
    answer = json.loads(printed.splitlines()[-1])
    expected = weather()
    assert answer["chunks"] == chunks
    assert answer["part"] == expected.t2m.values[9, 3].tolist()
    assert (answer["title"], answer["units"]) == ("Weather", "K")
    assert answer["variables"].keys() == set(map(str, expected.variables))
    for name, variable in expected.variables.items():
        dtype, dims, values = answer["variables"][str(name)]
        kind = np.dtype(dtype).kind
        assert dims == list(variable.dims)
        assert kind == ("U" if variable.dtype.kind in "OT" else variable.dtype.kind)
        assert values == [str(item) for item in variable.values.astype(dtype).ravel().tolist()]


def test_a_file_that_is_removed_while_it_is_read_is_an_error_of_its_reader_alone(tmp_path: Path):
    weather().to_netcdf(tmp_path / "weather.nc", engine="h5netcdf")
    weather().to_zarr(tmp_path / "weather.zarr")
    (tmp_path / "catalog.yml").write_text(CATALOG)
    script = """
import os, sys, warnings
warnings.simplefilter("ignore")
import intake, intake_xarray
catalog = intake.open_catalog(sys.argv[1])
lazy = catalog.weather.to_dask()
os.remove(sys.argv[2])
try:
    lazy.t2m.values
except Exception as error:
    print(error)
print(catalog.store.read().t2m.shape)
"""
    python = client_python("intake-xarray-may-2023")
    with start_daemon("intake_server", tmp_path / "catalog.yml") as daemon:
        printed = run_client(python, script, f"intake://127.0.0.1:{daemon.port}", str(tmp_path / "weather.nc"))
    assert printed.splitlines() == ["Error reading data", "(10, 4, 3)"]
