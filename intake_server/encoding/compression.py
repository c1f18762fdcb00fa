"""Compression of encoded data (specification §4.1): gzip streams and raw snappy blocks."""

from __future__ import annotations

import zlib

import pyarrow as pa

from intake_server.encoding.parts import Parts

_GZIP_LEVEL = 1
_STEP = 1 << 20


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
