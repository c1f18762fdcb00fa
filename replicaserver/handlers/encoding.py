"""Responses that are written by the hundred thousand, straight to bytes (protocol §10.4, §11.3).

The generated codecs give the same bytes, a struct at a time; a page of a scan is a thousand structs.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence

from replicaserver.rows.scans import Page
from replicaserver.rows.store import Responder
from shared.pegasus.wire.structures.rrdb import UpdateResponse

_I32 = struct.Struct(">i").pack
_I64 = struct.Struct(">q").pack
_UPDATE = struct.Struct(">3sBhiBhiBhiBhqBh").pack
_KEY, _VALUE, _EXPIRE = b"\x0c\0\x01", b"\x0c\0\x02", b"\x08\0\x03"


def tail(who: Responder) -> bytes:
    """The end of a reading response: whose row it was, who answered, and the ends of response and result."""
    server = who.server.encode()
    return (
        b"\x08\0\x03"
        + _I32(who.app_id)
        + b"\x08\0\x04"
        + _I32(who.partition_index)
        + b"\x0b\0\x06"
        + _I32(len(server))
        + server
        + b"\0\0"
    )


def get_response(error: int, data: bytes, end: bytes) -> bytes:
    """The result of GET; `end` is `tail`."""
    return b"\x0c\0\0\x08\0\x01" + _I32(error) + _VALUE + _I32(len(data)) + data + end


@functools.lru_cache(maxsize=64)
def _server_end(server: str) -> bytes:
    raw = server.encode()
    return _I32(len(raw)) + raw + b"\0\0"


def update_response(answer: UpdateResponse) -> bytes:
    """The result of PUT and REMOVE."""
    return _UPDATE(
        b"\x0c\0\0", 8, 1, answer.error, 8, 2, answer.app_id, 8, 3, answer.partition_index, 10, 4, answer.decree, 11, 5
    ) + _server_end(answer.server)


def scan_response(page: Page, who: Responder) -> bytes:
    """The result of GET_SCANNER and SCAN."""
    server = who.server.encode()
    parts = [b"\x0c\0\0\x08\0\x01", _I32(page.error), b"\x0f\0\x02\x0c", _I32(len(page.rows))]
    if page.expires is None:
        parts += _key_values(page.rows)
    else:
        for (key, data), expire in zip(page.rows, page.expires, strict=True):
            parts += (_KEY, _I32(len(key)), key, _VALUE, _I32(len(data)), data)
            parts += (_EXPIRE, _I32(expire - (1 << 32) if expire >> 31 else expire), b"\0")
    parts += (b"\x0a\0\x03", _I64(page.context_id), b"\x08\0\x04", _I32(who.app_id))
    parts += (b"\x08\0\x05", _I32(who.partition_index), b"\x0b\0\x06", _I32(len(server)), server)
    if page.count is not None:
        parts += (b"\x08\0\x07", _I32(page.count))
    parts.append(b"\0\0")
    return b"".join(parts)


def _key_values(rows: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
    parts: list[bytes] = []
    for key, data in rows:
        parts += (b"\x0c\0\x01", _I32(len(key)), key, b"\x0c\0\x02", _I32(len(data)), data, b"\0")
    return parts
