"""Zarr arrays: the array's own chunks are the blocks. Needs the extra ``[zarr]``."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import zarr

from intake_server.drivers.base import Partition, Schema, Unopenable, Unreadable, block_index, take
from intake_server.serialization.blocks import dtype_text

NAME = "ndzarr"
STAMP_S = 5.0
"""How long a chunk of a store is taken to be unchanged, in seconds: stores have no cheap way to tell."""
ZARR_ERRORS = (OSError, ValueError, KeyError, TypeError, zarr.errors.BaseZarrError)


class ZarrSource:
    """One opened array."""

    pin = None

    def __init__(self, array: Any, where: str, reopen: Any) -> None:
        self._array = array
        self._where = where
        self._reopen = reopen
        shape = tuple(int(length) for length in array.shape)
        chunks = tuple(_lengths(length, step) for length, step in zip(shape, array.chunks, strict=True))
        metadata = {str(key): value for key, value in dict(array.attrs).items()}
        count = math.prod(len(lengths) for lengths in chunks)
        self.schema = Schema("ndarray", dtype_text(np.dtype(array.dtype)), shape, count, chunks, metadata)
        self.version = _version(array)

    def is_current(self) -> bool:
        return _version(self._reopen()) == self.version

    def stamp(self, partition: Partition | None) -> Any:
        block_index(partition, self.schema.chunks or ())
        return int(time.monotonic() / STAMP_S)

    def read(self, partition: Partition | None) -> Any:
        chunks = self.schema.chunks or ()
        block = block_index(partition, chunks)
        starts = [sum(lengths[:n]) for lengths, n in zip(chunks, block, strict=True)]
        lengths = [lengths[n] for lengths, n in zip(chunks, block, strict=True)]
        where = tuple(slice(start, start + length) for start, length in zip(starts, lengths, strict=True))
        try:
            return np.asarray(self._array[where])
        except ZARR_ERRORS as error:
            raise Unreadable(f"{self._where}: {error}") from error

    def close(self) -> None:
        """The store is not kept open."""


class ZarrDriver:
    """Opens one array of a store."""

    container = "ndarray"

    def open(self, arguments: Mapping[str, Any], pin: Any = None) -> ZarrSource:  # noqa: ARG002 - the version tells
        urlpath, storage_options, component, _ = take(
            arguments, NAME, urlpath=..., storage_options=None, component=None, consolidated=None
        )

        def reopen() -> Any:
            return zarr.open_array(urlpath, path=component or "", mode="r", storage_options=storage_options or None)

        try:
            return ZarrSource(reopen(), str(urlpath), reopen)
        except ZARR_ERRORS as error:
            raise Unopenable(f"{urlpath}: {error}") from error


def _lengths(length: int, step: int) -> tuple[int, ...]:
    if length == 0:
        return (0,)
    return (step,) * (length // step) + ((length % step,) if length % step else ())


def _version(array: Any) -> str:
    metadata = json.dumps(array.metadata.to_dict(), sort_keys=True, default=str)
    return hashlib.blake2b(metadata.encode(), digest_size=12).hexdigest()
