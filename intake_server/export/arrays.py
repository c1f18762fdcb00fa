"""Slices of arrays, slab by slab along the first axis, from nothing but the blocks they touch."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from intake_server.export.data import Data
from intake_server.export.selection import Axis, SelectionError
from intake_server.export.tables import json_value
from intake_server.serialization.blocks import without_objects

_STEP_CELLS = 1 << 16
"""How many elements become text at a time: a client that goes away is noticed between two steps."""


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


def slabs(source: Data, cut: Cut, *, is_flat: bool = False) -> Iterator[np.ndarray[Any, Any]]:
    """The slice of a source of arrays, in pieces along its first axis; memory is needed for one piece only.

    Every piece has all axes, also those that go away; together they are the slice in C order.

    Args:
        source: The data.
        cut: What is wanted of them.
        is_flat: Whether pieces along a later axis will do where every block has one index on the axes before it.
    """
    chunks = source.schema.chunks or ()
    if not cut.ranges:
        yield without_objects(np.asarray(source.read(())))
        return
    if any(len(one) == 0 for one in cut.ranges):
        return
    touched = [list(_touched(lengths, wanted)) for lengths, wanted in zip(chunks, cut.ranges, strict=True)]
    axis = _piece_axis([[len(piece.target) for piece in pieces] for pieces in touched]) if is_flat else 0
    for before in itertools.product(*touched[: axis + 1]):
        blocks = [(*before, *after) for after in itertools.product(*touched[axis + 1 :])]
        if len(blocks) == 1:
            yield _part(source, blocks[0])
            continue
        slab: np.ndarray[Any, Any] | None = None
        for block in blocks:
            part = _part(source, block)
            if slab is None:
                own = [len(piece.target) for piece in before]
                slab = np.empty([*own, *(len(one) for one in cut.ranges[axis + 1 :])], part.dtype)
            moved = (*(_moved(piece) for piece in before), *block[axis + 1 :])
            slab[tuple(slice(piece.target.start, piece.target.stop) for piece in moved)] = part
        if slab is not None:
            yield slab


def _piece_axis(lengths: Sequence[Sequence[int]]) -> int:
    """The first axis along which a block has more than one index, given the lengths of the blocks along each."""
    return next((axis for axis, along in enumerate(lengths) if max(along) > 1), len(lengths) - 1)


def needed(source: Data, cut: Cut, form: str) -> int:
    """How many bytes of memory one step of an export needs: a block, the slab that it is a part of, and the text."""
    itemsize: int = np.dtype(source.schema.dtype).itemsize
    lengths = [len(one) for one in cut.ranges]
    longest = [max(along, default=0) for along in source.schema.chunks or ()]
    if lengths and not (form == "json" and cut.dropped[0]):
        inside = [min(pair) for pair in zip(longest, lengths, strict=True)]
        axis = _piece_axis([[one] for one in inside]) if form == "npy" else 0
        lengths = [*inside[: axis + 1], *lengths[axis + 1 :]]
    slab = math.prod(lengths)
    return itemsize * (math.prod(longest) + slab) + 32 * min(slab, _STEP_CELLS)


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
    pieces = slabs(source, cut, is_flat=True)
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
        if not width:
            continue
        rows = piece.reshape(-1, width)
        step = max(1, _STEP_CELLS // width)
        for start in range(0, len(rows), step):
            yield from _csv_lines(rows[start : start + step])


def _csv_lines(rows: np.ndarray[Any, Any]) -> Iterator[bytes]:
    """Lines for some rows; a line of many cells comes in several pieces."""
    if len(rows) > 1 or rows.shape[1] <= _STEP_CELLS:
        yield _csv_cells(rows)
        return
    for start in range(0, rows.shape[1], _STEP_CELLS):
        cells = _csv_cells(rows[:, start : start + _STEP_CELLS])
        yield cells if start + _STEP_CELLS >= rows.shape[1] else cells[:-1] + b","


def _csv_cells(rows: np.ndarray[Any, Any]) -> bytes:
    if _is_number(rows.dtype) and not (rows.dtype.kind == "f" and np.isinf(rows).any()):
        written = orjson.dumps(np.ascontiguousarray(rows), option=orjson.OPT_SERIALIZE_NUMPY)
        return written[2:-2].replace(b"],[", b"\n").replace(b"null", b"nan") + b"\n"
    if rows.dtype.names is not None:
        lines: list[Any] = rows.reshape(-1).tolist()
    else:
        lines = rows.tolist()
    return b"".join(b",".join(_cell(cell) for cell in line) + b"\n" for line in lines)


def _is_number(kind: np.dtype[Any]) -> bool:
    """Whether the JSON encoder takes an array of this type as it is, hundreds of times faster than its elements."""
    return kind.kind in "iuf" and kind.isnative and kind.itemsize <= 8


def _cell(value: Any) -> bytes:
    if isinstance(value, float):
        return repr(value).encode()
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    return (f'"{text.replace(chr(34), chr(34) * 2)}"' if any(sign in text for sign in ',"\r\n') else text).encode()


def json(source: Data, cut: Cut) -> Iterator[bytes]:
    """The slice as nested JSON arrays, in pieces of some thousand elements."""
    if not cut.shape or cut.dropped[0]:
        yield from _json_pieces(whole(source, cut))
        return
    separator = b"["
    for piece in slabs(source, cut):
        for text in _json_rows(piece.reshape(len(piece), *cut.shape[1:])):
            yield separator + text
            separator = b""
        separator = b","
    yield b"[]" if separator == b"[" else b"]"


def _json_pieces(array: np.ndarray[Any, Any]) -> Iterator[bytes]:
    """One array, in pieces."""
    if array.ndim == 0 or array.size <= _STEP_CELLS:
        yield _json_whole(array)
        return
    yield b"["
    yield from _json_rows(array)
    yield b"]"


def _json_rows(array: np.ndarray[Any, Any]) -> Iterator[bytes]:
    """What stands between the brackets of an array, in pieces."""
    step = max(1, _STEP_CELLS * len(array) // max(1, array.size))
    for start in range(0, len(array), step):
        if start:
            yield b","
        if step > 1 or array.ndim == 1 or array.size // len(array) <= _STEP_CELLS:
            yield _json_whole(array[start : start + step])[1:-1]
        else:
            yield from _json_pieces(array[start])


def _json_whole(array: np.ndarray[Any, Any]) -> bytes:
    if array.ndim and _is_number(array.dtype):
        return orjson.dumps(np.ascontiguousarray(array), option=orjson.OPT_SERIALIZE_NUMPY)
    return json_value(_listed(array))


def _listed(array: np.ndarray[Any, Any]) -> Any:
    if array.dtype.kind in "mM":
        texts = (np.datetime_as_string(array) if array.dtype.kind == "M" else array.astype(str)).astype(object)
        texts[np.isnat(array)] = None
        return texts.tolist()
    return array.tolist()


STREAMED = {"npy": npy, "csv": csv, "json": json}
"""The formats that are written while they are sent."""
