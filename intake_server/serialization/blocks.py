"""Numpy blocks (protocol §4.3): a small header, then the array's own buffer as it is."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np

from intake_server.serialization.parts import Parts, bin_header


class NotABlock(Exception):  # noqa: N818 - a property of the data, reported to the caller
    """An array cannot travel without pickle; the text says why."""


def encode(value: Any) -> Parts:
    """An array, a numpy scalar or a complex number as the client's msgpack decoder expects it.

    Raises:
        NotABlock: The array holds Python objects that are neither all text nor all bytes.
    """
    if isinstance(value, np.generic):
        return _packed({b"nd": False, b"type": value.dtype.str, b"data": value.tobytes()})
    if isinstance(value, complex):
        return _packed({b"complex": True, b"data": repr(value)})
    array = without_objects(np.asarray(value))
    contiguous = array if array.flags.c_contiguous else np.ascontiguousarray(array).reshape(array.shape)
    described, kind = _type(contiguous.dtype)
    head = {b"nd": True, b"type": described, b"kind": kind, b"shape": [int(n) for n in contiguous.shape]}
    packed = msgpack.packb(head, use_bin_type=True)
    header = b"\x85" + packed[1:] + b"\xc4\x04data" + bin_header(contiguous.nbytes)
    return Parts.of([header, _buffer(contiguous)])


def without_objects(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The array itself, or its text or bytes at a fixed width if it is an array of Python objects.

    Raises:
        NotABlock: It holds other objects.
    """
    if array.dtype.kind == "T":
        return array.astype(np.str_)
    if not array.dtype.hasobject:
        return array
    items = array.ravel().tolist() if array.dtype.kind == "O" else [None]
    for kind, dtype in ((str, np.str_), (bytes, np.bytes_)):
        if all(isinstance(item, kind) for item in items):
            return array.astype(dtype)
    raise NotABlock("the array holds Python objects, which can only be sent as pickle")


def dtype_text(dtype: np.dtype[Any]) -> str:
    """The dtype as the answer to ``open`` carries it (§3.3): structured ones in the opaque form."""
    if dtype.names is not None:
        return f"|V{dtype.itemsize}"
    if dtype.kind in "mMSUV" or not dtype.isnative:
        return dtype.str if dtype.kind not in "mM" else str(dtype)
    return str(dtype)


def _type(dtype: np.dtype[Any]) -> tuple[Any, bytes]:
    if dtype.names is not None:
        return _as_lists(dtype.descr), b"V"
    return dtype.str, b""


def _as_lists(descr: Any) -> Any:
    return [[_as_lists(item) if isinstance(item, list) else item for item in field] for field in descr]


def _buffer(array: np.ndarray[Any, Any]) -> memoryview:
    """The array's memory as bytes, also for dtypes that the buffer protocol does not know."""
    if array.nbytes == 0:
        return memoryview(b"")
    flat: Any = array.reshape(-1).view(np.uint8)
    return memoryview(flat)


def _packed(value: dict[bytes, Any]) -> Parts:
    return Parts.of([msgpack.packb(value, use_bin_type=True)])
