"""Which drivers there are, and what is known of them before they are used."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from intake_server.catalog.descriptions import DriverInfo
from intake_server.catalog.model import Entry
from intake_server.drivers.base import Driver, Unopenable

ALIAS = "alias"
CATALOG = "catalog"


@dataclass(frozen=True, slots=True)
class _BuiltIn:
    """One driver of ours.

    Attributes:
        name: The name that clients know.
        container: What it opens; None for an alias, whose target tells.
        classic: The class of that name in the classic packages; catalogs may mention it too.
        location: ``module:Class`` of the driver; empty for catalogs and aliases, which the server itself opens.
        thread_key: What all sources of the driver share, so that one which hangs holds up the others: together they
            get no more threads than a single source of another driver.
    """

    name: str
    container: str | None
    classic: str
    location: str = ""
    thread_key: str | None = None


_BUILT_IN = (
    _BuiltIn("csv", "dataframe", "intake.source.csv.CSVSource", "csv:CsvDriver"),
    _BuiltIn("parquet", "dataframe", "intake_parquet.source.ParquetSource", "parquet:ParquetDriver"),
    _BuiltIn("textfiles", "python", "intake.source.textfiles.TextFilesSource", "textfiles:TextFilesDriver"),
    _BuiltIn("json", "python", "intake.source.jsonfiles.JSONFileSource", "jsonfiles:JsonDriver"),
    _BuiltIn("jsonl", "python", "intake.source.jsonfiles.JSONLinesFileSource", "jsonfiles:JsonLinesDriver"),
    _BuiltIn("numpy", "ndarray", "intake.source.npy.NPySource", "npy:NumpyDriver"),
    _BuiltIn("ndzarr", "ndarray", "intake.source.zarr.ZarrArraySource", "ndzarr:ZarrDriver"),
    _BuiltIn("delta", "dataframe", "intake_server.drivers.delta.DeltaDriver", "delta:DeltaDriver"),
    _BuiltIn("netcdf", "xarray", "intake_xarray.netcdf.NetCDFSource", "netcdf:NetcdfDriver", thread_key="hdf5"),
    _BuiltIn("zarr", "xarray", "intake_xarray.xzarr.ZarrSource", "zarr_datasets:ZarrDatasetDriver"),
    _BuiltIn("zarr_cat", CATALOG, "intake.catalog.zarr.ZarrGroupCatalog"),
    _BuiltIn(ALIAS, None, "intake.source.derived.AliasSource"),
    _BuiltIn("yaml_file_cat", CATALOG, "intake.catalog.local.YAMLFileCatalog"),
    _BuiltIn("yaml_files_cat", CATALOG, "intake.catalog.local.YAMLFilesCatalog"),
    _BuiltIn("catalog", CATALOG, "intake.catalog.base.Catalog"),
)


class DriverRegistry:
    """The drivers that this server has.

    Args:
        third_party: Finds drivers of other packages by name or dotted class name; None finds none.
    """

    def __init__(self, third_party: Callable[[str], tuple[DriverInfo, Driver] | None] | None = None) -> None:
        self._third_party = third_party
        self._drivers: dict[str, Driver] = {}
        self._locations = {built_in.name: built_in.location for built_in in _BUILT_IN}
        self._thread_keys = {built_in.name: built_in.thread_key for built_in in _BUILT_IN}
        self._infos: dict[str, DriverInfo] = {}
        self._missing: dict[str, str] = {}
        for built_in in _BUILT_IN:
            info = DriverInfo(built_in.name, built_in.container, built_in.classic)
            self._infos[built_in.name] = self._infos[built_in.classic] = info

    @property
    def infos(self) -> Mapping[str, DriverInfo]:
        """What is known of every driver, by every name under which catalogs may mention it."""
        return self._infos

    def learn(self, name: str) -> DriverInfo | None:
        """What is known of a driver, looked for in other packages the first time; blocks on imports then."""
        known = self._infos.get(name)
        if known is not None or self._third_party is None or name in self._missing:
            return known
        try:
            found = self._third_party(name)
        except Unopenable as error:
            self._missing[name] = str(error)
            return None
        if found is None:
            self._missing[name] = f"the driver {name!r} is not installed on this server"
            return None
        self._infos[name], self._drivers[name] = found
        return found[0]

    def first_known(self, entry: Entry) -> DriverInfo | None:
        """What is known of the first of an entry's drivers that this server has."""
        return next((info for choice in entry.drivers if (info := self.learn(choice.driver)) is not None), None)

    def learn_again(self, names: Iterable[str]) -> None:
        """Look for drivers before they are needed, also for those that were missing before; blocks on imports."""
        self._missing.clear()
        for name in set(names):
            self.learn(name)

    def add(self, info: DriverInfo, driver: Driver) -> None:
        """Make a driver of another package known under its name, unless the name is ours."""
        if info.name not in self._locations:
            self._infos[info.name] = self._infos[info.dotted] = info
            self._drivers[info.name] = self._drivers[info.dotted] = driver

    def thread_key(self, name: str) -> str | None:
        """What all sources of a driver share, None when each is by itself."""
        info = self._infos.get(name)
        return None if info is None else self._thread_keys.get(info.name)

    def driver(self, name: str) -> Driver:
        """The driver of a name; blocks on imports.

        Raises:
            Unopenable: There is none, or what it needs is not installed.
        """
        info = self.learn(name)
        if info is None:
            raise Unopenable(self._missing.get(name, f"the driver {name!r} is not installed on this server"))
        known = self._drivers.get(name) or self._drivers.get(info.name)
        if known is None:
            known = self._drivers[info.name] = _load(info.name, self._locations[info.name])
        return known


def _load(name: str, location: str) -> Driver:
    module, _, class_name = location.partition(":")
    if not module:
        raise Unopenable(f"the driver {name!r} does not read data")
    try:
        made: Any = getattr(importlib.import_module(f"intake_server.drivers.{module}"), class_name)()
    except ImportError as error:
        raise Unopenable(f"the driver {name!r} needs a package that is not installed: {error.name}") from error
    driver: Driver = made
    return driver
