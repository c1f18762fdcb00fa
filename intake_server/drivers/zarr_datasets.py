"""Zarr groups as data sets. Needs the extra ``[xarray]``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import xarray as xr

from intake_server.catalog.paths import is_url
from intake_server.drivers.base import Unopenable
from intake_server.drivers.datasets import DatasetSource
from intake_server.drivers.ndzarr import STAMP_S, ZARR_ERRORS

NAME = "zarr"
_OURS = ("urlpath", "storage_options", "chunks", "engine", "cache", "preprocess")


class ZarrDatasetDriver:
    """Opens a Zarr group whose arrays name their axes."""

    container = "xarray"

    def open(self, arguments: Mapping[str, Any], pin: Any = None) -> DatasetSource:  # noqa: ARG002 - the version tells
        urlpath = arguments.get("urlpath")
        if not urlpath:
            raise Unopenable("zarr: the argument 'urlpath' is missing")
        try:
            return self._source(urlpath, arguments)
        except ZARR_ERRORS as error:
            raise Unopenable(f"{urlpath}: {error}") from error

    def _source(self, urlpath: Any, arguments: Mapping[str, Any]) -> DatasetSource:
        def version_now() -> str:
            reopened = self._source(urlpath, arguments)
            reopened.close()
            return reopened.version

        source = DatasetSource(
            _dataset(urlpath, arguments),
            arguments.get("chunks"),
            is_current=lambda: version_now() == source.version,
            stamp=lambda: int(time.monotonic() / STAMP_S),
        )
        return source


def _dataset(urlpath: Any, arguments: Mapping[str, Any]) -> xr.Dataset:
    options = {key: value for key, value in arguments.items() if key not in _OURS}
    if options.get("consolidated") is None:
        # a folder is read as it is; over HTTP only consolidated metadata can be found, if there are any
        options["consolidated"] = None if is_url(str(urlpath)) else False
    if arguments.get("storage_options"):
        options["backend_kwargs"] = {
            **(options.get("backend_kwargs") or {}),
            "storage_options": arguments["storage_options"],
        }
    if isinstance(urlpath, list) or "*" in str(urlpath):
        return xr.open_mfdataset(urlpath, engine="zarr", cache=False, **options)
    return xr.open_dataset(urlpath, engine="zarr", cache=False, **options)
