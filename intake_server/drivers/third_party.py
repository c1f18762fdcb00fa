"""Drivers of other packages: classes written for intake before version 2.

They need the extra ``[intake]``.
Nothing that such a class says of itself is trusted without being brought into the form that clients need.
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import inspect
import threading
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from intake_server.catalog.descriptions import DriverInfo
from intake_server.drivers.base import (
    NotServed,
    Partition,
    Schema,
    Source,
    Unopenable,
    Unreadable,
    block_index,
    single_index,
)
from intake_server.serialization.blocks import dtype_text
from intake_server.serialization.control import plain

_REQUIRED = ("name", "container", "discover", "read", "read_partition", "close")
_REQUIRED_OF_CATALOGS = ("name", "container", "__iter__", "__getitem__")


class ForeignSource:
    """An opened source of a foreign class; its methods are called by one thread at a time."""

    pin = None

    def __init__(self, source: Any) -> None:
        self._source = source
        self._lock = threading.Lock()
        self.schema = _schema(source)
        described = repr((type(source).__name__, self.schema.dtype, self.schema.shape, self.schema.npartitions))
        self.version = hashlib.blake2b(described.encode(), digest_size=12).hexdigest()

    def is_current(self) -> bool:
        """A foreign class cannot be asked; it is opened anew by every open."""
        return False

    def stamp(self, partition: Partition | None) -> Any:
        """Nothing tells when the data change: what is cached is only good for this source."""
        self._index(partition)
        return id(self._source)

    def _index(self, partition: Partition | None) -> Any:
        if self.schema.container == "ndarray":
            return block_index(partition, self.schema.chunks or ())
        return single_index(partition, self.schema.npartitions)

    def read(self, partition: Partition | None) -> Any:
        index = self._index(partition)
        with self._lock:
            is_whole = self.schema.npartitions == 1
            value = self._source.read() if is_whole else self._source.read_partition(index)
        if hasattr(value, "compute"):
            value = value.compute(scheduler="synchronous")
        if self.schema.container == "ndarray":
            return np.asarray(value)
        if self.schema.container == "python" and partition is not None and not isinstance(value, (list, tuple)):
            return [value]
        if value is None:
            raise Unreadable("the driver read nothing")
        return value

    def close(self) -> None:
        with self._lock:
            self._source.close()


class ForeignDriver:
    """Opens one foreign class.

    Args:
        kind: The class.
    """

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        self.container = str(kind.container)

    def open(self, arguments: Mapping[str, Any], pin: Any = None) -> Source:  # noqa: ARG002 - not to be had
        if self.container not in ("dataframe", "ndarray", "python", "numpy", "xarray"):
            raise NotServed(f"data of the container {self.container!r} are not served")
        source = self.kind(**copy.deepcopy(dict(arguments)))
        if self.container == "xarray":
            return _dataset(source)
        source.on_server = True
        source.discover()
        return ForeignSource(source)


def _dataset(source: Any) -> Source:
    """A data set of a foreign class, described by us: what such classes write themselves needs zarr 2."""
    try:
        import xarray as xr

        from intake_server.drivers.datasets import DatasetSource
    except ImportError as error:
        raise NotServed(f"data sets need the package {error.name}: pip install 'entrepot[xarray]'") from error
    found = source.to_dask()
    if isinstance(found, xr.DataArray):
        found = found.to_dataset(name=found.name or "data")
    if not isinstance(found, xr.Dataset):
        raise Unopenable(f"the driver opened a {type(found).__name__}, expected an xarray data set")
    return DatasetSource(found, None, is_current=lambda: False, stamp=lambda: id(source))


def warm_up() -> bool:
    """Import the classic package if it is installed, so that the first catalog that needs it does not wait for it.

    Returns:
        Whether it is installed.
    """
    try:
        importlib.import_module("intake.source.base")
    except ImportError:
        return False
    return True


def find(name: str) -> tuple[DriverInfo, ForeignDriver] | None:
    """A driver of another package, by the name it registered or by its dotted class name; None when there is none."""
    kind = _by_dotted_name(name) if "." in name else _by_registered_name(name)
    return None if kind is None else _known(kind, name)


def find_all(module: ModuleType) -> Iterator[tuple[DriverInfo, ForeignDriver]]:
    """Every driver class in a module that a catalog file names."""
    members: list[tuple[str, Any]] = inspect.getmembers(module, inspect.isclass)
    for _, kind in members:
        if _is_driver(kind) and isinstance(kind.name, str):
            yield _known(kind, kind.name)


def _known(kind: Any, name: str) -> tuple[DriverInfo, ForeignDriver]:
    registered = kind.name if isinstance(kind.name, str) else name
    dotted = f"{kind.__module__}.{kind.__qualname__}"
    return DriverInfo(registered, str(kind.container), dotted), ForeignDriver(kind)


def _is_driver(kind: Any) -> bool:
    required = _REQUIRED_OF_CATALOGS if getattr(kind, "container", None) == "catalog" else _REQUIRED
    return inspect.isclass(kind) and all(hasattr(kind, attribute) for attribute in required)


def _by_registered_name(name: str) -> Any:
    from importlib.metadata import entry_points

    for point in entry_points(group="intake.drivers", name=name):
        try:
            kind = point.load()
        except Exception as error:  # whatever a foreign package raises on import, its driver is not to be had
            raise Unopenable(f"the driver {name!r} cannot be imported: {error}") from error
        return kind if _is_driver(kind) else None
    return None


def _by_dotted_name(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), attribute, None)
    except ImportError:
        return None
    except Exception as error:  # whatever a foreign module raises on import, its driver is not to be had
        raise Unopenable(f"the driver {name!r} cannot be imported: {error}") from error
    return kind if _is_driver(kind) else None


def _schema(source: Any) -> Schema:
    container = "ndarray" if source.container == "numpy" else str(source.container)
    metadata = plain(dict(source.metadata or {}))
    count = source.npartitions
    count = count if isinstance(count, int) and count > 0 else 1
    if container == "ndarray":
        return _array_schema(source, metadata)
    if container == "dataframe":
        dtype = _frame_dtype(source.dtype)
        rows = _row_count(source.shape)
        return Schema("dataframe", dtype, (rows, len(dtype or {})), count, metadata=metadata)
    return Schema(container, None, (None,), count, metadata=metadata)


def _frame_dtype(dtype: Any) -> dict[str, str] | None:
    if dtype is None:
        return None
    if hasattr(dtype, "dtypes"):
        dtype = dtype.dtypes
    if hasattr(dtype, "items"):
        return {str(name): str(kind) for name, kind in dtype.items()}
    names = getattr(dtype, "names", None)
    if names:
        return {str(name): str(dtype[name]) for name in names}
    return None


def _row_count(shape: Any) -> int | None:
    rows = shape[0] if isinstance(shape, (list, tuple)) and shape else None
    return int(rows) if isinstance(rows, (int, np.integer)) else None


def _array_schema(source: Any, metadata: Mapping[str, Any]) -> Schema:
    shape = tuple(int(length) for length in source.shape or ())
    reported = getattr(source, "chunks", None) or (getattr(source, "_schema", None) or {}).get("chunks")
    chunks = _axis_chunks(reported, shape)
    count = int(np.prod([len(lengths) for lengths in chunks], dtype=int))
    return Schema("ndarray", dtype_text(np.dtype(source.dtype)), shape, count, chunks, metadata)


def _axis_chunks(reported: Any, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Chunks as lengths by axis if the driver reports them and they add up, else one block."""
    whole = tuple((length,) for length in shape)
    try:
        chunks = tuple(tuple(int(n) for n in axis) for axis in reported or ())
    except TypeError:
        return whole
    return chunks if tuple(sum(axis) for axis in chunks) == shape else whole
