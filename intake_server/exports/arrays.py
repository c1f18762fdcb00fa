"""Slices of arrays, slab by slab along the first axis, from nothing but the blocks they touch."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from intake_server.encoding.blocks import without_objects
from intake_server.exports.data import Data
from intake_server.exports.selection import Axis, SelectionError
from intake_server.exports.tables import json_value


@dataclass(frozen=True, slots=True)
class Cut:
    """A slice of an array, with every axis made definite.

    Attributes:
        ranges: The indices wanted along each axis.
        dropped: Whether each axis goes away, because a single index was asked for.
    """

    ranges: tuple[range, ...]
    dropped: tuple[bool, ...]

    @classmethod
    def of(cls, axes: Sequence[Axis], shape: Sequence[int]) -> Cut:
        """Fit slices to a shape; axes without one are wanted whole.

        Raises:
            SelectionError: There are too many slices, or an index is outside of the array.
        """
        if len(axes) > len(shape):
            raise SelectionError(f"slice: the array has {len(shape)} axes, {len(axes)} are sliced")
        ranges, dropped = [], []
        for number, length in enumerate(shape):
            axis = axes[number] if number < len(axes) else Axis()
            if axis.is_index:
                index = (axis.start or 0) + (length if (axis.start or 0) < 0 else 0)
                if not 0 <= index < length:
                    raise SelectionError(f"slice: {axis.start} is outside of axis {number}, which has {length}")
                ranges.append(range(index, index + 1))
            else:
                ranges.append(range(length)[slice(axis.start, axis.stop, axis.step)])
            dropped.append(axis.is_index)
        return cls(tuple(ranges), tuple(dropped))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the slice."""
        return tuple(len(one) for one, gone in zip(self.ranges, self.dropped, strict=True) if not gone)

    def thinned(self, most: Sequence[int]) -> Cut:
        """The same extent with at most so many indices along each axis."""
        steps = [max(1, -(-len(one) // limit)) for one, limit in zip(self.ranges, most, strict=True)]
        return Cut(tuple(one[::step] for one, step in zip(self.ranges, steps, strict=True)), self.dropped)


def slabs(source: Data, cut: Cut) -> Iterator[np.ndarray[Any, Any]]:
    """The slice of a source of arrays, in pieces along its first axis; memory is needed for one piece only.

    Every piece has all axes, also those that go away; together they are the slice in C order.
    """
    chunks = source.schema.chunks or ()
    if not cut.ranges:
        yield without_objects(np.asarray(source.read(())))
        return
    if any(len(one) == 0 for one in cut.ranges):
        return
    touched = [list(_touched(lengths, wanted)) for lengths, wanted in zip(chunks, cut.ranges, strict=True)]
    for first in touched[0]:
        blocks = [(first, *rest) for rest in itertools.product(*touched[1:])]
        if len(blocks) == 1:
            yield _part(source, blocks[0])
            continue
        slab: np.ndarray[Any, Any] | None = None
        for block in blocks:
            part = _part(source, block)
            if slab is None:
                slab = np.empty([len(first.target), *(len(one) for one in cut.ranges[1:])], part.dtype)
            slab[tuple(slice(piece.target.start, piece.target.stop) for piece in (_moved(first), *block[1:]))] = part
        if slab is not None:
            yield slab


@dataclass(frozen=True, slots=True)
class _Piece:
    """What is wanted of one chunk along one axis.

    Attributes:
        chunk: The chunk's number.
        inside: What to take of it.
        target: Where that goes in the slice.
    """

    chunk: int
    inside: slice
    target: range


def _touched(lengths: Sequence[int], wanted: range) -> Iterator[_Piece]:
    begin = done = 0
    for number, length in enumerate(lengths):
        if done < len(wanted) and wanted[done] < begin + length:
            count = len(range(wanted[done], min(begin + length, wanted.stop), wanted.step))
            first = wanted[done] - begin
            inside = slice(first, first + (count - 1) * wanted.step + 1, wanted.step)
            yield _Piece(number, inside, range(done, done + count))
            done += count
        begin += length


def _moved(piece: _Piece) -> _Piece:
    """The same piece at the beginning of its slab."""
    return _Piece(piece.chunk, piece.inside, range(len(piece.target)))


def _part(source: Data, block: Sequence[_Piece]) -> np.ndarray[Any, Any]:
    value = np.asarray(source.read(tuple(piece.chunk for piece in block)))
    return without_objects(value)[tuple(piece.inside for piece in block)]


def whole(source: Data, cut: Cut) -> np.ndarray[Any, Any]:
    """The slice as one array, without the axes that go away."""
    pieces = list(slabs(source, cut))
    if not pieces:
        return np.empty(cut.shape)
    joined = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
    return joined.reshape(cut.shape)


def npy(source: Data, cut: Cut) -> Iterator[Any]:
    """The slice as a ``.npy`` file in C order: its head, then the memory of one piece after the other."""
    pieces = slabs(source, cut)
    first = next(pieces, None)
    kind = first.dtype if first is not None else np.dtype(source.schema.dtype)
    yield _npy_header(kind, cut.shape)
    for piece in itertools.chain([] if first is None else [first], pieces):
        plain = np.ascontiguousarray(piece if piece.dtype == kind else piece.astype(kind))
        if plain.nbytes:
            yield plain.reshape(-1).view(np.uint8).data


def _npy_header(kind: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    head = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_2_0(head, described)
    return head.getvalue()


def csv(source: Data, cut: Cut) -> Iterator[bytes]:
    """The slice as comma-separated values without a header: a line for each row.

    Raises:
        SelectionError: It has more than two axes.
    """
    if len(cut.shape) > 2:
        raise SelectionError(f"slice: CSV has two axes, this has {len(cut.shape)}; slice it down to two")
    width = cut.shape[1] if len(cut.shape) == 2 else 1
    for piece in slabs(source, cut):
        if piece.dtype.names is not None:
            rows: list[Any] = piece.reshape(-1).tolist()
        else:
            rows = piece.reshape(-1, width).tolist() if width else []
        yield b"".join(b",".join(_cell(cell) for cell in row) + b"\n" for row in rows)


def _cell(value: Any) -> bytes:
    if isinstance(value, float):
        return repr(value).encode()
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    return (f'"{text.replace(chr(34), chr(34) * 2)}"' if any(sign in text for sign in ',"\r\n') else text).encode()


def json(source: Data, cut: Cut) -> Iterator[bytes]:
    """The slice as nested JSON arrays, a piece of the outermost one at a time."""
    if not cut.shape or cut.dropped[0]:
        yield json_value(_listed(whole(source, cut)))
        return
    separator = b"["
    for piece in slabs(source, cut):
        rows = _listed(piece.reshape(len(piece), *cut.shape[1:]))
        yield separator + b",".join(json_value(row) for row in rows)
        separator = b","
    yield b"[]" if separator == b"[" else b"]"


def _listed(array: np.ndarray[Any, Any]) -> Any:
    if array.dtype.kind in "mM":
        texts = (np.datetime_as_string(array) if array.dtype.kind == "M" else array.astype(str)).astype(object)
        texts[np.isnat(array)] = None
        return texts.tolist()
    return array.tolist()


STREAMED = {"npy": npy, "csv": csv, "json": json}
"""The formats that are written while they are sent."""
