"""Requests and replies as they stand on a connection (protocol §10.1 to §10.4).

Sans-I/O: a `RequestReader` or `ReplyReader` is fed with whatever bytes arrived, in any segmentation, and
hands out whole requests or replies. It holds at most one incomplete frame, no longer than the limit of its RPC code;
the content of a longer one is dropped as it arrives.
"""

from __future__ import annotations

import functools
import struct as binary
from collections.abc import Callable
from dataclasses import dataclass, replace

from shared.pegasus.wire.structures.layer2 import RequestMeta
from shared.pegasus.wire.thrift import Codec, ThriftError, codec_of

__all__ = [
    "MAGIC",
    "PLAIN",
    "FramingError",
    "Reply",
    "ReplyReader",
    "Request",
    "RequestReader",
    "encode_error",
    "encode_reply",
    "encode_request",
    "plain_call",
    "reply_front",
]

MAGIC = b"THFT"
MAX_BODY_BYTES = 64 * 1024 * 1024
"""The longest frame; whoever announces more does not speak this protocol."""
SMALL_BODY_BYTES = 64 * 1024
"""Requests up to this size are taken whatever their code is."""

_CALL = b"\x80\x01\x00\x01"
_REPLY = b"\x80\x01\x00\x02"
_MAX_META_BYTES = 4096
_MAX_NAME_BYTES = 256
_MOST_HEAD_BYTES = 12 + _MAX_NAME_BYTES
"""Within so many bytes of its beginning a body says its code and its sequence number."""
_U64 = 0xFFFF_FFFF_FFFF_FFFF

_read_i32 = binary.Struct(">i").unpack_from
_read_u32 = binary.Struct(">I").unpack_from
_read_header_v0 = binary.Struct(">4sIIIIIiiiiQ").unpack_from
_read_plain = binary.Struct(">16xI4xiii4xQ4si").unpack_from
PLAIN = MAGIC + b"\0\0\0\0" + b"\0\0\0\x30"
"""How a request with header version 0 begins."""
_read_header_v1 = binary.Struct(">4sIII").unpack_from
_write_header_v0 = binary.Struct(">4sIIIIIiiiiQ").pack
_write_header_v1 = binary.Struct(">4sIII").pack
_write_i32 = binary.Struct(">i").pack
_HEADER_V0, _HEADER_V1 = 48, 16
_PLAIN_BYTES = _HEADER_V0 + 8

_request_meta: Codec[RequestMeta] = codec_of(RequestMeta)


class FramingError(ValueError):
    """The peer does not speak this protocol; the only answer is to close the connection."""


@dataclass(slots=True)
class Request:
    """One request as it arrived.

    Attributes:
        code: RPC code name, such as `RPC_RRDB_RRDB_GET`.
        seqid: The peer's number for this request; the reply repeats it.
        app_id: Table that the header names, 0 for requests to a metaserver.
        partition_index: Partition of that table.
        timeout_ms: How long the client waits; 0 = not said.
        partition_hash: Unsigned hash of the key, 0 = none.
        is_backup_request: A read that a secondary may serve (header version 1 only).
        arguments: The thrift struct whose first member is the request value; `Codec.decode_field` reads it.
        peer: Where it came from, `ip:port`; set by the server.
        dropped_bytes: The size of a request that is longer than its code allows, whose arguments were not kept.
    """

    code: str
    seqid: int
    app_id: int
    partition_index: int
    timeout_ms: int
    partition_hash: int
    is_backup_request: bool
    arguments: bytes
    peer: str = ""
    dropped_bytes: int = 0

    @property
    def size(self) -> int:
        """How many bytes its arguments have, or had."""
        return self.dropped_bytes or len(self.arguments)


@dataclass(slots=True)
class Reply:
    """One reply as it arrived.

    Attributes:
        error: The error's name; when it is not `ERR_OK` there is no result.
        code: RPC code name with `_ACK` appended.
        result: The thrift struct with the result as its member 0, or nothing.
    """

    error: str
    code: str
    seqid: int
    result: bytes


class _Gatherer:
    """Holds the pieces of a frame until enough of them have arrived, and joins them once."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.held = 0
        self.wanted = 0

    def add(self, data: bytes) -> bytes:
        """Everything held so far and `data`, or nothing while less than `wanted` has arrived."""
        if not self._pieces:
            if len(data) >= self.wanted:
                return data
        elif self.held + len(data) >= self.wanted:
            data = b"".join((*self._pieces, data))
            self._pieces.clear()
            self.held = 0
            return data
        self._pieces.append(data)
        self.held += len(data)
        return b""

    def keep(self, rest: bytes, wanted: int) -> None:
        """Hold an incomplete frame until `wanted` bytes of it are there."""
        self._pieces = [rest] if rest else []
        self.held = len(rest)
        self.wanted = wanted


# -- requests -------------------------------------------------------------------------------------


def _no_limit(_code: str) -> int:
    return MAX_BODY_BYTES


class RequestReader:
    """Cuts what a client sends into requests.

    Args:
        limit_of: The longest request of a code, in bytes. A longer one is handed out when it is announced, without its
            arguments.

    Attributes:
        error: Why nothing more can be read: what arrived is no request of this protocol, or is too long.
            The only answer is to close the connection.
        taken: How many requests were handed out.
    """

    def __init__(self, limit_of: Callable[[str], int] = _no_limit) -> None:
        self._limit_of = limit_of
        self._gathered = _Gatherer()
        self._dropping = 0
        self.error: str | None = None
        self.taken = 0

    @property
    def is_busy(self) -> bool:
        """Whether what arrives next does not begin a request."""
        return self._gathered.held > 0 or self._dropping > 0 or self.error is not None

    @property
    def buffered_bytes(self) -> int:
        """Size of the incomplete frame that is held."""
        return self._gathered.held

    def feed(self, data: bytes) -> list[Request]:
        """The requests that `data` completes, in order; none any more after an `error`."""
        requests: list[Request] = []
        if self._dropping:
            dropped = min(self._dropping, len(data))
            self._dropping -= dropped
            data = data[dropped:]
        if self.error is None and data:
            try:
                self._cut(self._gathered.add(data), requests)
            except FramingError as error:
                self.error = str(error)
        self.taken += len(requests)
        return requests

    def _cut(self, data: bytes, requests: list[Request]) -> None:
        position, size, wanted = 0, len(data), _HEADER_V1
        while size - position >= _HEADER_V1:
            stop = self._plain(data, position, size, requests)
            if stop:
                position = stop
                continue
            if data[position : position + 4] != MAGIC:
                raise FramingError("a request does not begin with THFT")
            version = _read_u32(data, position + 4)[0]
            if version == 0:
                body, stop = self._version_0(data, position, size)
            elif version == 1:
                body, stop = self._version_1(data, position)
            else:
                raise FramingError(f"there is no request header version {version}")
            if stop - body > SMALL_BODY_BYTES:
                if size < body + _MOST_HEAD_BYTES:
                    wanted = body + _MOST_HEAD_BYTES - position
                    break
                request = _read_request(data, position, body, body + _MOST_HEAD_BYTES, version)
                if stop - body > self._limit_of(request.code):
                    requests.append(replace(request, arguments=b"", dropped_bytes=stop - body))
                    self._dropping = max(0, stop - size)
                    position = min(stop, size)
                    continue
            if stop > size:
                wanted = stop - position
                break
            requests.append(_read_request(data, position, body, stop, version))
            position = stop
        if data:
            self._gathered.keep(data[position:], wanted)

    def _plain(self, data: bytes, start: int, size: int, requests: list[Request]) -> int:
        """Take a whole request with header version 0, as nearly all are, in one go; where it ends, 0 if it is none."""
        if size - start < _PLAIN_BYTES or not data.startswith(PLAIN, start):
            return 0
        body_length, app_id, index, timeout_ms, partition_hash, call, name_length = _read_plain(data, start)
        stop: int = start + _HEADER_V0 + body_length
        name_end: int = start + _PLAIN_BYTES + name_length
        if stop > size or call != _CALL or not 0 <= name_length <= _MAX_NAME_BYTES or name_end + 4 > stop:
            return 0
        if body_length > SMALL_BODY_BYTES:
            return 0
        requests.append(
            Request(
                _name(data[start + _PLAIN_BYTES : name_end]),
                _read_i32(data, name_end)[0],
                app_id,
                index,
                timeout_ms,
                partition_hash,
                False,
                data[name_end + 4 : stop],
            )
        )
        return stop

    def _version_0(self, data: bytes, start: int, size: int) -> tuple[int, int]:
        """Where the body begins and ends."""
        body = start + _HEADER_V0
        if size < body:
            return body, body
        header_length = _read_u32(data, start + 8)[0]
        if header_length != _HEADER_V0:
            raise FramingError(f"a header of version 0 has 48 bytes, not {header_length}")
        return body, body + self._checked(_read_u32(data, start + 16)[0])

    def _version_1(self, data: bytes, start: int) -> tuple[int, int]:
        """Where the body begins and ends."""
        _, _, meta_length, body_length = _read_header_v1(data, start)
        if meta_length > _MAX_META_BYTES:
            raise FramingError(f"request metadata of {meta_length} bytes is longer than {_MAX_META_BYTES}")
        body = start + _HEADER_V1 + meta_length
        return body, body + self._checked(body_length)

    @staticmethod
    def _checked(body_length: int) -> int:
        if body_length > MAX_BODY_BYTES:
            raise FramingError(f"a request of {body_length} bytes is longer than {MAX_BODY_BYTES}")
        return body_length


def _read_request(data: bytes, start: int, body: int, stop: int, version: int) -> Request:
    code, seqid, arguments = _read_message(data, body, stop)
    if version == 0:
        _, _, _, _, _, _, app_id, index, timeout_ms, _, partition_hash = _read_header_v0(data, start)
        return Request(code, seqid, app_id, index, timeout_ms, partition_hash, False, arguments)
    try:
        meta = _request_meta.decode(data[start + _HEADER_V1 : body])
    except ThriftError as error:
        raise FramingError(f"unreadable request metadata: {error}") from error
    return Request(
        code,
        seqid,
        meta.app_id,
        meta.partition_index,
        meta.client_timeout,
        meta.partition_hash & _U64,
        meta.is_backup_request,
        arguments,
    )


def _read_message(data: bytes, position: int, stop: int) -> tuple[str, int, bytes]:
    """Name, sequence number and arguments of a CALL message that ends at `stop`."""
    if data[position : position + 4] != _CALL:
        raise FramingError("a request body is no thrift call")
    if stop - position < 12:
        raise FramingError("a request body ends within its head")
    length = _read_i32(data, position + 4)[0]
    name_end = position + 8 + length
    if not 0 <= length <= _MAX_NAME_BYTES or name_end + 4 > stop:
        raise FramingError("the name of an RPC code is longer than its request")
    return _name(data[position + 8 : name_end]), _read_i32(data, name_end)[0], data[name_end + 4 : stop]


@functools.lru_cache(maxsize=512)
def _name(raw: bytes) -> str:
    try:
        return raw.decode("ascii")
    except UnicodeDecodeError as error:
        raise FramingError("the name of an RPC code is not ASCII") from error


def plain_call(code: str) -> bytes:
    """How the body of a request for a code begins; its sequence number is next."""
    return _CALL + _string(code)


def encode_request(
    code: str,
    seqid: int,
    arguments: bytes,
    *,
    app_id: int = 0,
    partition_index: int = 0,
    timeout_ms: int = 0,
    partition_hash: int = 0,
    is_backup_request: bool = False,
) -> bytes:
    """A request with header version 0, or 1 for a backup request, which version 0 cannot express.

    Args:
        arguments: The args struct, as `Codec.encode_field(value, 1)` makes it.
    """
    body = plain_call(code) + _write_i32(seqid) + arguments
    if is_backup_request:
        signed_hash = partition_hash - (1 << 64) if partition_hash >> 63 else partition_hash
        meta = _request_meta.encode(RequestMeta(app_id, partition_index, timeout_ms, signed_hash, True))
        return _write_header_v1(MAGIC, 1, len(meta), len(body)) + meta + body
    thread_hash = (app_id * 7919 + partition_index) & 0x7FFF_FFFF
    header = _write_header_v0(
        MAGIC,
        0,
        _HEADER_V0,
        0,
        len(body),
        0,
        app_id,
        partition_index,
        timeout_ms,
        thread_hash if app_id else 0,
        partition_hash,
    )
    return header + body


# -- replies --------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=512)
def _reply_head(error: str, code: str) -> bytes:
    return _string(error) + _REPLY + _string(code + "_ACK")


def _string(text: str) -> bytes:
    raw = text.encode()
    return _write_i32(len(raw)) + raw


def encode_reply(code: str, seqid: int, result: bytes) -> bytes:
    """A successful reply.

    Args:
        result: The result struct, as `Codec.encode_field(value)` makes it.
    """
    return reply_front(code, len(result)) + _write_i32(seqid) + result


def reply_front(code: str, size: int) -> bytes:
    """What stands before the sequence number of a successful reply.

    Args:
        size: Length of the result struct, in bytes.
    """
    head = _reply_head("ERR_OK", code)
    return _write_i32(8 + len(head) + size) + head


def encode_error(code: str, seqid: int, error: str) -> bytes:
    """A reply that carries the name of an error and no result."""
    head = _reply_head(error, code)
    return _write_i32(8 + len(head)) + head + _write_i32(seqid)


class ReplyReader:
    """Cuts what a server sends into replies.

    Args:
        max_reply_bytes: Longest reply that is accepted.
    """

    def __init__(self, max_reply_bytes: int = MAX_BODY_BYTES) -> None:
        self._max_reply = max_reply_bytes
        self._gathered = _Gatherer()

    def feed(self, data: bytes) -> list[Reply]:
        """The replies that `data` completes, in order of arrival.

        Raises:
            FramingError: What arrived is no reply of this protocol, or is longer than allowed.
        """
        replies: list[Reply] = []
        data = self._gathered.add(data)
        position, size, wanted = 0, len(data), 4
        while size - position >= 4:
            length = _read_u32(data, position)[0]
            if not 16 <= length <= self._max_reply:
                raise FramingError(f"a reply announces {length} bytes")
            if size - position < length:
                wanted = length
                break
            replies.append(_read_reply(data, position + 4, position + length))
            position += length
        if data:
            self._gathered.keep(data[position:], wanted)
        return replies


def _read_reply(data: bytes, position: int, stop: int) -> Reply:
    error, position = _read_name(data, position, stop)
    if data[position : position + 4] != _REPLY:
        raise FramingError("a reply body is no thrift reply")
    code, position = _read_name(data, position + 4, stop)
    if position + 4 > stop:
        raise FramingError("a reply ends within its head")
    return Reply(error, code, _read_i32(data, position)[0], data[position + 4 : stop])


def _read_name(data: bytes, position: int, stop: int) -> tuple[str, int]:
    if position + 4 > stop:
        raise FramingError("a reply ends within its head")
    length = _read_i32(data, position)[0]
    name_end = position + 4 + length
    if not 0 <= length <= _MAX_NAME_BYTES or name_end > stop:
        raise FramingError("a name is longer than its reply")
    return _name(data[position + 4 : name_end]), name_end
