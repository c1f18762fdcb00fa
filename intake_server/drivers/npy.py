"""Numpy files as arrays: blocks of rows; several files are stacked on a new first axis.

Blocks are read straight from the file into the memory that is sent. Files are not mapped: one that is cut short while
it is mapped would end the process.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from intake_server.drivers.base import Partition, Schema, Unopenable, Unreadable, block_index, take
from intake_server.drivers.files import File, FileList, listing, open_file, pinned
from intake_server.serialization.blocks import dtype_text

NAME = "numpy"
_LEAST_RUN_BYTES = 4096


@dataclass(frozen=True, slots=True)
class _Header:
    """What the head of a ``.npy`` file says.

    Attributes:
        shape: The array's shape.
        is_fortran: Whether its first axis varies fastest in the file.
        dtype: The type of its elements.
        offset: Where the data begin, in bytes.
    """

    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype[Any]
    offset: int


class NumpySource:
    """Opened ``.npy`` files."""

    def __init__(self, at: FileList, header: _Header, rows: int | None, relist: Any) -> None:
        self._at = at
        self._header = header
        self._relist = relist
        self._is_stack = len(at.files) > 1
        own = _chunks(header.shape, rows)
        chunks = ((1,) * len(at.files), *own) if self._is_stack else own
        shape = (len(at.files), *header.shape) if self._is_stack else header.shape
        self.version = at.version
        self.pin = at.pin()
        count = math.prod(len(lengths) for lengths in chunks)
        self.schema = Schema("ndarray", dtype_text(header.dtype), shape, count, chunks)

    def is_current(self) -> bool:
        return self._at.is_current(self._relist)

    def stamp(self, partition: Partition | None) -> Any:
        return self._at.stamp(self._locate(partition)[0])

    def _locate(self, partition: Partition | None) -> tuple[File, tuple[int, ...]]:
        block = block_index(partition, self.schema.chunks or ())
        return (self._at.files[block[0]], block[1:]) if self._is_stack else (self._at.files[0], block)

    def read(self, partition: Partition | None) -> np.ndarray[Any, Any]:
        file, block = self._locate(partition)
        own = self._own_chunks
        start = sum(own[0][: block[0]]) if own else 0
        rows = own[0][block[0]] if own else 1
        try:
            with self._at.unchanged(file):
                found = _read_block(self._at, file, self._header, start, rows)
        except (OSError, ValueError, EOFError) as error:
            raise Unreadable(f"{file.path}: {error}") from error
        return found[np.newaxis] if self._is_stack else found

    def divided(self, most_bytes: int) -> NumpySource:
        """The same files in blocks of about so many bytes (`exports.data.Divisible`)."""
        header = self._header
        if not header.shape or not header.shape[0]:
            return self
        rows = max(1, most_bytes * header.shape[0] // max(1, math.prod(header.shape) * header.dtype.itemsize))
        if header.is_fortran and rows * header.dtype.itemsize < _LEAST_RUN_BYTES:
            return self  # a row of such a file is all over it
        return NumpySource(self._at, header, min(rows, max(self._own_chunks[0])), self._relist)

    @property
    def _own_chunks(self) -> tuple[tuple[int, ...], ...]:
        """The blocks of one file."""
        chunks = self.schema.chunks or ()
        return chunks[1:] if self._is_stack else chunks

    def close(self) -> None:
        """Files are open only while they are read."""


class NumpyDriver:
    """Opens ``.npy`` files."""

    container = "ndarray"

    def open(self, arguments: Mapping[str, Any], pin: Any = None) -> NumpySource:
        path, _, _, chunks, storage_options = take(
            arguments, NAME, path=..., dtype=None, shape=None, chunks=None, storage_options=None
        )
        relist = functools.partial(listing, path, storage_options)
        at = relist() if pin is None else pinned(path, storage_options, pin)
        if not at.files:
            raise Unopenable(f"{path}: there are no such files")
        headers = [_header(at, file) for file in at.files]
        for file, header in zip(at.files, headers, strict=True):
            if header != headers[0]:
                raise Unopenable(f"{file.path}: {header.dtype} {header.shape} is not like the first file")
        return NumpySource(at, headers[0], _rows(chunks), relist)


def _rows(chunks: Any) -> int | None:
    if isinstance(chunks, (list, tuple)) and chunks:
        chunks = chunks[0]
    if chunks is None or (isinstance(chunks, int) and chunks < 0):
        return None
    if isinstance(chunks, str) and chunks.isdigit():
        chunks = int(chunks)
    if not isinstance(chunks, int) or isinstance(chunks, bool) or chunks == 0:
        raise Unopenable("numpy: 'chunks' must be a number of rows, 1 or more")
    return chunks


def _chunks(shape: tuple[int, ...], rows: int | None) -> tuple[tuple[int, ...], ...]:
    """The lengths of the blocks along every axis; the last block of rows is shorter if need be."""
    if not shape:
        return ()
    length = shape[0]
    step = min(rows or length, length)
    first = (length,) if step == 0 else (step,) * (length // step) + ((length % step,) if length % step else ())
    return (first, *((size,) for size in shape[1:]))


def _header(at: FileList, file: File) -> _Header:
    try:
        with open_file(at, file) as opened:
            version = np.lib.format.read_magic(opened)
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            if version not in read:
                raise ValueError(f"version {version[0]}.{version[1]} of the format is not read here")
            shape, is_fortran, dtype = read[version](opened)
            header = _Header(shape, is_fortran and len(shape) > 1, dtype, opened.tell())
    except (OSError, ValueError, EOFError) as error:
        raise Unopenable(f"{file.path}: {error}") from error
    if header.dtype.hasobject:
        raise Unopenable(f"{file.path}: the array holds Python objects, which are pickled; they are never read")
    needed = header.offset + math.prod(header.shape) * header.dtype.itemsize
    if file.size is not None and file.size < needed:
        raise Unopenable(f"{file.path}: the file has {file.size} bytes, its header promises {needed}")
    return header


def _read_block(at: FileList, file: File, header: _Header, start: int, rows: int) -> np.ndarray[Any, Any]:
    if not header.shape:
        return _run(at, file, header.dtype, header.offset, 1).reshape(())
    others = header.shape[1:]
    width = math.prod(others)
    itemsize = header.dtype.itemsize
    if not header.is_fortran:
        flat = _run(at, file, header.dtype, header.offset + start * width * itemsize, rows * width)
        return flat.reshape((rows, *others))
    if rows == header.shape[0]:
        flat = _run(at, file, header.dtype, header.offset, rows * width)
        return flat.reshape((rows, *others), order="F")
    return _strided(at, file, header, start, rows)


def _run(at: FileList, file: File, dtype: np.dtype[Any], offset: int, count: int) -> np.ndarray[Any, Any]:
    """`count` elements from one place of a file."""
    found = np.empty(count, dtype)
    with _binary(at, file) as opened:
        opened.seek(offset)
        _fill(opened, found)
    return found


def _strided(at: FileList, file: File, header: _Header, start: int, rows: int) -> np.ndarray[Any, Any]:
    """Some rows of a file in which the first axis varies fastest: a run for every column."""
    width = math.prod(header.shape[1:])
    columns = np.empty((width, rows), header.dtype)
    with _binary(at, file) as opened:
        for column in range(width):
            opened.seek(header.offset + (column * header.shape[0] + start) * header.dtype.itemsize)
            _fill(opened, columns[column])
    return columns.T.reshape((rows, *header.shape[1:]), order="F")


def _fill(opened: Any, target: np.ndarray[Any, Any]) -> None:
    if target.nbytes == 0:
        return
    octets: Any = target.view(np.uint8)
    view = memoryview(octets)
    done = 0
    while done < len(view):
        count = opened.readinto(view[done:])
        if not count:
            raise EOFError("the file is shorter than its header says")
        done += count


def _binary(at: FileList, file: File) -> Any:
    return Path(file.path).open("rb", buffering=0) if at.is_local else at.filesystem.open(file.path, "rb")
