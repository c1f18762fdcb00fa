"""Data sets of named arrays (container ``xarray``, protocol §4.6), whatever they were opened from.

The client makes coordinates anew from what it is sent, and knows only two kinds of them: those that number an axis, and
single values. Other coordinates therefore travel as variables, and variables without an axis as coordinates.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from intake_server.drivers.base import NoSuchPartition, Partition, Schema, Unopenable, Unreadable, block_index
from intake_server.serialization import zarr_store
from intake_server.serialization.blocks import dtype_text
from intake_server.serialization.zarr_store import StoredVariable

BLOCK_BYTES = 64 << 20
"""The size of a block where neither the entry nor the data say one, in bytes."""
_CFTIME = "cftime"


@dataclass(frozen=True, slots=True, eq=False)
class _Variable:
    """One variable as it is served.

    Attributes:
        name: Its name.
        content: The variable itself, its values not yet read.
        dtype: The type of its elements on the wire.
        chunks: The lengths of its blocks along every axis.
        is_whole: Whether it is read as a whole: a coordinate to the client.
        attributes: Free attributes.
    """

    name: str
    content: xr.Variable
    dtype: np.dtype[Any]
    chunks: tuple[tuple[int, ...], ...]
    is_whole: bool
    attributes: Mapping[str, Any]

    def read(self, where: tuple[slice, ...]) -> np.ndarray[Any, Any]:
        """A part of its values, in the type of the wire."""
        return _as(self.dtype, _values(self.content[where]), self.name)


class DatasetSource:
    """One opened data set.

    Args:
        dataset: The data set, its values not yet read.
        chunks: What the entry says of blocks: a length, lengths by dimension, -1 for whole axes, or None.
        version: A fingerprint of the data; empty to take one from the description and the coordinates.
        pin: See `Source`.
        is_current: Whether opening again would find the same data.
        stamp: What cached blocks depend on.
        check: Called before every read; raises `Unreadable` when the data are not those that were opened.

    Raises:
        Unopenable: A variable has values that cannot travel.
    """

    def __init__(
        self,
        dataset: xr.Dataset,
        chunks: Any,
        *,
        version: str = "",
        pin: Any = None,
        is_current: Callable[[], bool],
        stamp: Callable[[], Any],
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._dataset = dataset
        self._is_current = is_current
        self._stamp = stamp
        self._check = check
        self._variables = {str(name): _served(name, dataset, chunks) for name in dataset.variables}
        self.pin = pin
        self.schema = self._schema()
        self.version = version or fingerprint(self.schema)

    @property
    def variables(self) -> Mapping[str, Schema]:
        """Every variable as an array of its own."""
        return {
            name: Schema(
                "ndarray", dtype_text(item.dtype), item.content.shape, _count(item.chunks), item.chunks, item.attributes
            )
            for name, item in self._variables.items()
        }

    @property
    def dimensions(self) -> Mapping[str, tuple[str, ...]]:
        """The names of every variable's axes."""
        return {name: tuple(map(str, item.content.dims)) for name, item in self._variables.items()}

    def _schema(self) -> Schema:
        variables = self._variables.values()
        stored = [
            StoredVariable(
                item.name,
                [str(name) for name in item.content.dims],
                item.content.shape,
                [lengths[0] for lengths in item.chunks],
                item.dtype,
                item.attributes,
                item.read(()) if item.is_whole else None,
            )
            for item in variables
        ]
        attributes = {str(name): value for name, value in self._dataset.attrs.items()}
        axes = {item.name for item in variables if item.is_whole and item.content.dims}
        scalars = [item.name for item in variables if item.is_whole and not item.content.dims]
        metadata = {
            **attributes,
            "dims": {str(name): int(length) for name, length in self._dataset.sizes.items()},
            "data_vars": {
                item.name: [*(str(name) for name in item.content.dims if name in axes), *scalars]
                for item in variables
                if not item.is_whole
            },
            "coords": [item.name for item in variables if item.is_whole],
            "internal": zarr_store.store(attributes, stored),
            "array": False,  # a true value, maybe an attribute, would make the client leave variable names out
        }
        count = sum(_count(item.chunks) for item in variables)
        return Schema("xarray", None, None, max(1, count), metadata=metadata)

    def is_current(self) -> bool:
        return self._is_current()

    def stamp(self, partition: Partition | None) -> Any:
        self._locate(partition)
        return self._stamp()

    def read(self, partition: Partition | None) -> np.ndarray[Any, Any]:
        variable, where = self._locate(partition)
        self._check()
        try:
            return variable.read(where)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise Unreadable(f"{variable.name}: {error}") from error

    def _locate(self, partition: Partition | None) -> tuple[_Variable, tuple[slice, ...]]:
        if not isinstance(partition, tuple) or not partition or not isinstance(partition[0], str):
            raise NoSuchPartition("partition: expected the name of a variable and an integer for each of its axes")
        variable = self._variables.get(partition[0])
        if variable is None:
            raise NoSuchPartition(f"partition: there is no variable {partition[0][:60]!r}")
        if variable.is_whole:
            return variable, ()
        block = block_index(partition[1:] or None, variable.chunks)
        starts = [sum(lengths[:n]) for lengths, n in zip(variable.chunks, block, strict=True)]
        ends = [start + lengths[n] for start, lengths, n in zip(starts, variable.chunks, block, strict=True)]
        return variable, tuple(slice(start, end) for start, end in zip(starts, ends, strict=True))

    def close(self) -> None:
        self._dataset.close()


def fingerprint(schema: Schema) -> str:
    """A fingerprint of a description with its coordinates."""
    digest = hashlib.blake2b(digest_size=12)
    for key, value in sorted(schema.metadata["internal"].items()):
        digest.update(f"{key}\0{len(value)}\0".encode("utf-8", "surrogateescape") + value)
    return digest.hexdigest()


def _count(chunks: tuple[tuple[int, ...], ...]) -> int:
    return math.prod(len(lengths) for lengths in chunks)


def _served(name: Hashable, dataset: xr.Dataset, chunks: Any) -> _Variable:
    content = dataset.variables[name]
    attributes = {str(key): value for key, value in content.attrs.items()}
    is_whole = not content.dims or content.dims == (name,)
    if content.dtype.kind in "OT":
        content, dtype, attributes = _without_objects(str(name), content, attributes)
    else:
        dtype = _nanoseconds(content.dtype)
    if dtype.hasobject or dtype.names is not None:
        raise Unopenable(f"{name}: values of the type {content.dtype} cannot be sent; leave it out with drop_variables")
    lengths = content.shape if is_whole else _block(content, dtype, chunks)
    cut = tuple(_lengths(length, step) for length, step in zip(content.shape, lengths, strict=True))
    return _Variable(str(name), content, dtype, cut, is_whole, attributes)


def _without_objects(
    name: str, content: xr.Variable, attributes: dict[str, Any]
) -> tuple[xr.Variable, np.dtype[Any], dict[str, Any]]:
    """A variable of Python objects as one of fixed-width text, bytes, or numbers; its values are looked at once."""
    values = _values(content)
    known = [value for value in values.ravel().tolist() if not _is_missing(value)]
    if known and all(type(value).__module__.startswith(_CFTIME) for value in known):
        # dates of a calendar that numpy does not know: as the numbers that the file has
        encoded = xr.conventions.encode_cf_variable(content.copy(data=values), name=name)
        return encoded, encoded.dtype, {str(key): value for key, value in encoded.attrs.items()}
    for kind, code in ((str, "U"), (bytes, "S")):
        if all(isinstance(value, kind) for value in known):
            return content, np.dtype(f"{code}{max((len(value) for value in known), default=1) or 1}"), attributes
    found = sorted({type(value).__name__ for value in known})
    raise Unopenable(
        f"{name}: values of the types {', '.join(found[:3])} cannot be sent; leave it out with drop_variables"
    )


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def _values(content: xr.Variable) -> np.ndarray[Any, Any]:
    data: Any = content.data
    if hasattr(data, "compute"):
        data = data.compute(scheduler="synchronous")  # this thread is the one that may be busy with it
        return np.asarray(data)
    return np.asarray(content.values)


def _nanoseconds(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(f"{dtype.kind}8[ns]") if dtype.kind in "mM" else dtype


def _as(dtype: np.dtype[Any], values: np.ndarray[Any, Any], name: str) -> np.ndarray[Any, Any]:
    if values.dtype == dtype:
        return values
    if values.dtype.kind == "O":
        empty: Any = "" if dtype.kind == "U" else b""
        values = np.array([empty if _is_missing(value) else value for value in values.ravel()], dtype="O").reshape(
            values.shape
        )
    found = values.astype(dtype)
    if dtype.kind in "mM" and not np.array_equal(found.astype(values.dtype), values, equal_nan=True):
        raise Unreadable(f"{name}: times before 1677 or after 2262 cannot be sent")
    return found


def _block(content: xr.Variable, dtype: np.dtype[Any], wanted: Any) -> tuple[int, ...]:
    """The lengths of a variable's blocks: as the entry wants, else as they are stored, else of a good size."""
    stored = content.encoding.get("preferred_chunks") or {}
    if content.chunks is not None:
        stored = {name: lengths[0] for name, lengths in zip(content.dims, content.chunks, strict=True)}
    fallback = _good_block(content.shape, dtype.itemsize)
    chosen = []
    for name, length, good in zip(content.dims, content.shape, fallback, strict=True):
        own = stored.get(name, good)
        step = _wanted(wanted, name, own[0] if isinstance(own, tuple) else own)
        chosen.append(length if step < 1 else min(int(step), length))
    return tuple(chosen)


def _wanted(wanted: Any, name: Hashable, otherwise: int) -> int:
    if isinstance(wanted, Mapping):
        wanted = wanted.get(name)
    if wanted is None or wanted == "auto":
        return otherwise
    if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted == 0:
        raise Unopenable(f"chunks: expected a length of 1 or more, or -1, found {wanted!r:.60} for {name}")
    return wanted


def _good_block(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """The whole variable if it is small enough, else pieces of its first axes."""
    block = list(shape)
    for axis in range(len(block)):
        size = math.prod(block) * itemsize
        if size <= BLOCK_BYTES:
            break
        block[axis] = max(1, block[axis] * BLOCK_BYTES // size)
    return tuple(block)


def _lengths(length: int, step: int) -> tuple[int, ...]:
    if length == 0 or step == 0:
        return (length,)
    return (step,) * (length // step) + ((length % step,) if length % step else ())
