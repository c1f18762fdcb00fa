"""What is drawn of a data set: the numeric columns of a frame, or the last two axes of an array."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pyarrow as pa

from intake_server.export import drawing
from intake_server.export.arrays import Cut, slabs, whole
from intake_server.export.data import Data
from intake_server.export.drawing import Envelope, NotDrawable
from intake_server.export.scan import scan
from intake_server.export.selection import Rows, Selection

DRAWN_ROWS = 100_000
"""How many rows are drawn when a request does not say which."""
DRAWN_VALUES = 1_000_000
"""How many values of an array are drawn as a line."""


def draw_frame(source: Data, selection: Selection, name: str) -> bytes:
    """The numeric columns of the selected rows as lines.

    Raises:
        NotDrawable: There are none.
    """
    bounded = selection
    if selection.rows.stop is None:
        start = selection.rows.start
        bounded = dataclasses.replace(selection, rows=Rows(start, start + DRAWN_ROWS))
    read = scan(source, bounded)
    numeric = [field.name for field in read.schema if _is_number(field.type)][: drawing.MAX_LINES]
    if not numeric:
        raise NotDrawable("no column holds numbers that could be drawn")
    lines = {column: Envelope() for column in numeric}
    for batch in read.batches:
        for column, line in lines.items():
            line.add(_floats(batch.column(column)))
    rows = next(iter(lines.values())).count
    first = bounded.rows.start
    return drawing.line_plot(list(lines.items()), f"{name}, rows {first} to {first + rows}")


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _floats(column: pa.Array) -> np.ndarray[Any, Any]:
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))


def draw_array(source: Data, cut: Cut, name: str) -> bytes:
    """A slice of an array: a line for one axis, a picture for two; of more axes, the first element of each.

    Raises:
        NotDrawable: It holds no numbers.
    """
    kind = np.dtype(source.schema.dtype)
    if kind.kind not in "biufc":
        raise NotDrawable(f"an array of {kind} cannot be drawn")
    flat = _flattened(cut)
    if len(flat.shape) <= 1:
        line = Envelope()
        for slab in slabs(source, Cut(tuple(one[:DRAWN_VALUES] for one in flat.ranges), flat.dropped)):
            line.add(_real(slab).reshape(-1))
        return drawing.line_plot([(name, line)], f"{name}, {line.count} values")
    kept = itertools.repeat(drawing.LARGEST_IMAGE)
    return drawing.picture(_real(whole(source, flat.thinned(list(itertools.islice(kept, len(flat.ranges)))))))


def _flattened(cut: Cut) -> Cut:
    """All but the last two axes at their first index."""
    remaining = [number for number, gone in enumerate(cut.dropped) if not gone]
    away = set(remaining[:-2])
    return Cut(
        tuple(one[:1] if number in away else one for number, one in enumerate(cut.ranges)),
        tuple(gone or number in away for number, gone in enumerate(cut.dropped)),
    )


def _real(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.abs(array) if array.dtype.kind == "c" else array
