"""NetCDF files as data sets. Needs the extra ``[xarray]``."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import xarray as xr

from intake_server.drivers import patterns
from intake_server.drivers.base import Unopenable, take
from intake_server.drivers.datasets import DatasetSource
from intake_server.drivers.files import FileList, listing, open_file, pinned

NAME = "netcdf"
_OURS = ("chunks", "preprocess", "cache", "parallel")


class NetcdfDriver:
    """Opens NetCDF files; several are combined into one data set."""

    container = "xarray"

    def open(self, arguments: Mapping[str, Any], pin: Any = None) -> DatasetSource:
        urlpath, chunks, combine, concat_dim, options, by_pattern, storage_options = take(
            arguments, NAME, urlpath=..., chunks=None, combine=None, concat_dim=None, xarray_kwargs=None,
            path_as_pattern=True, storage_options=None,
        )  # fmt: skip
        pattern = by_pattern if isinstance(by_pattern, str) else urlpath if by_pattern else None
        is_pattern = isinstance(pattern, str) and patterns.has_fields(pattern)
        path = patterns.as_glob(urlpath) if is_pattern and isinstance(urlpath, str) else urlpath
        relist = functools.partial(listing, path, storage_options)
        at = relist() if pin is None else pinned(path, storage_options, pin)
        if not at.files:
            raise Unopenable(f"{urlpath}: there are no such files")
        kept = {key: value for key, value in (options or {}).items() if key not in _OURS}
        is_single = isinstance(urlpath, str) and path == urlpath and "*" not in path
        try:
            dataset = (
                xr.open_dataset(_openable(at)[0], cache=False, **kept)
                if is_single
                else _combined(at, pattern if is_pattern else None, combine, concat_dim, kept)
            )
        except (OSError, ValueError, TypeError, KeyError, ImportError) as error:
            raise Unopenable(f"{urlpath}: {error}") from error
        return DatasetSource(
            dataset,
            chunks if chunks is not None else (options or {}).get("chunks"),
            version=at.version,
            pin=at.pin(),
            is_current=lambda: at.is_current(relist),
            stamp=lambda: _stamps(at),
            check=lambda: _check_unchanged(at),
        )


def _openable(at: FileList) -> list[Any]:
    return [file.path if at.is_local else open_file(at, file) for file in at.files]


def _combined(
    at: FileList, pattern: str | None, combine: Any, concat_dim: Any, options: Mapping[str, Any]
) -> xr.Dataset:
    """All files as one data set, with the fields of their names as coordinates."""
    found: dict[str, list[Any]] = {}
    if pattern is not None:
        found = patterns.columns(pattern, [file.path for file in at.files])
    files = iter(range(len(at.files)))

    def with_fields(dataset: xr.Dataset) -> xr.Dataset:
        number = next(files)  # files are opened in their order
        return dataset.assign_coords({name: values[number] for name, values in found.items()})

    combine = combine or options.get("combine") or ("nested" if concat_dim is not None else "by_coords")
    more = {key: value for key, value in options.items() if key not in ("combine", "concat_dim")}
    if concat_dim is not None or "concat_dim" in options:
        more["concat_dim"] = concat_dim if concat_dim is not None else options["concat_dim"]
    return xr.open_mfdataset(_openable(at), preprocess=with_fields, combine=combine, cache=False, **more)


def _stamps(at: FileList) -> tuple[str | None, ...]:
    return tuple(at.stamp(file) for file in at.files)


def _check_unchanged(at: FileList) -> None:
    """Files stay open: what one has become meanwhile is another source."""
    for file in at.files:
        at.check(file)
