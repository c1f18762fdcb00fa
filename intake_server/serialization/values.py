"""Data of any container to encoded bytes: which encoder, and what happens when MessagePack cannot carry it."""

from __future__ import annotations

import pickle
import zlib
from typing import Any

import msgpack
import numpy as np
import pyarrow as pa

from intake_server.serialization import blocks, frames
from intake_server.serialization.blocks import NotABlock
from intake_server.serialization.control import plain
from intake_server.serialization.frames import NotAFrame
from intake_server.serialization.negotiation import WireFormat
from intake_server.serialization.parts import LARGEST_BIN, Parts, envelope

_PICKLE_PROTOCOLS = {"pickle2": 2, "pickle1": 1}
_GZIP_LEVEL = 1
_STEP = 1 << 20


class NotPython(Exception):  # noqa: N818 - a property of the data, reported to the caller
    """A list holds something that MessagePack cannot carry."""


Unsendable = (NotAFrame, NotABlock, NotPython)


def answer(value: Any, container: str, form: WireFormat, *, stringify: bool = False, limit: int = LARGEST_BIN) -> Parts:
    """The whole answer to a read.

    Args:
        value: A table or pandas frame, an array, or Python data.
        container: The container that the source was opened with.
        form: How to send it.
        stringify: Whether frame columns that Arrow cannot carry are sent as text.
        limit: The most bytes that the encoded data may have.

    Raises:
        NotAFrame, NotABlock, NotPython: MessagePack cannot carry the data and pickle is not allowed.
        TooLarge: The encoded data are over the limit.
    """
    format_name = form.format
    if format_name in _PICKLE_PROTOCOLS:
        data = _pickled(value, format_name)
    else:
        try:
            data = encode(value, container, stringify=stringify)
        except Unsendable:
            if form.fallback is None:
                raise
            format_name, data = form.fallback, _pickled(value, form.fallback)
    compressed = compress(data, form.compression)
    return envelope(compressed, format_name=format_name, compression=form.compression, container=container, limit=limit)


def encode(value: Any, container: str, *, stringify: bool = False) -> Parts:
    """Data as the format ``msgpack`` of their container."""
    if container == "dataframe":
        if isinstance(value, pa.Table):
            return frames.encode(value)
        return frames.encode(frames.from_pandas(frames.stringified(value) if stringify else value))
    if container in ("ndarray", "numpy", "xarray"):
        return blocks.encode(value)
    return Parts.of([_python(value)])


def _python(value: Any) -> bytes:
    try:
        packed: bytes = msgpack.packb(value, use_bin_type=True, strict_types=True)
    except (TypeError, ValueError, OverflowError):
        packed = msgpack.packb(plain(value, otherwise=_refuse), use_bin_type=True)
    return packed


def _refuse(value: Any) -> Any:
    raise NotPython(f"the data hold a {type(value).__name__}, which can only be sent as pickle")


def _pickled(value: Any, format_name: str) -> Parts:
    if isinstance(value, pa.Table):
        value = value.to_pandas()
    if isinstance(value, np.ndarray) and not value.flags.owndata:
        value = value.copy()
    return Parts.of([pickle.dumps(value, protocol=_PICKLE_PROTOCOLS[format_name])])


def compress(data: Parts, compression: str) -> Parts:
    """Compress encoded data.

    Args:
        data: What to compress.
        compression: ``none``, ``gzip`` (an ordinary gzip stream) or ``snappy`` (one raw block).
    """
    if compression == "none":
        return data
    if compression == "snappy":
        return Parts.of([pa.compress(data.joined(), codec="snappy", asbytes=True)])
    stream = zlib.compressobj(_GZIP_LEVEL, wbits=31)
    pieces = [
        stream.compress(view[start : start + _STEP]) for view in data.buffers for start in range(0, view.nbytes, _STEP)
    ]
    return Parts.of([*pieces, stream.flush()])
