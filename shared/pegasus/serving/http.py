"""Pegasus' HTTP, byte for byte (protocol §2).

Sans-I/O: an `HttpReader` is fed with whatever bytes arrived and hands out whole requests;
`Response.encode` gives exactly the head of §2.2. Nothing here knows a route.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

__all__ = [
    "HttpError",
    "HttpReader",
    "HttpRequest",
    "InvalidParameters",
    "Response",
    "Url",
    "parse_bool",
    "parse_int",
    "parse_json_object",
    "parse_url",
    "percent_decode",
]

MAX_HEAD_BYTES = 256 * 1024
MAX_BODY_BYTES = 1024 * 1024

REASONS = {
    200: "OK",
    307: "Temporary Redirect",
    400: "Bad Request",
    404: "Not Found",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
}


class HttpError(ValueError):
    """The request cannot be understood."""


class InvalidParameters(ValueError):  # noqa: N818 - the name of the answer: ERR_INVALID_PARAMETERS
    """The request target or an argument is malformed; the text is what the answer quotes (§2.4)."""


# -- answers --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Response:
    """An answer: status, body and, for redirects, where to go.

    Attributes:
        content_type: `text/plain` for every route of Pegasus, binary ones included (§2.2).
    """

    body: bytes = b""
    status: int = 200
    location: str | None = None
    content_type: str = "text/plain"

    @classmethod
    def text(cls, text: str, status: int = 200) -> Response:
        """An answer of plain text."""
        return cls(text.encode(errors="surrogateescape"), status)

    def encode(self) -> bytes:
        """The whole answer as it goes over the wire (§2.2)."""
        location = f"Location: {self.location}\r\n" if self.location is not None else ""
        head = (
            f"HTTP/1.1 {self.status} {REASONS[self.status]}\r\n"
            f"Content-Type: {self.content_type}\r\nContent-Length: {len(self.body)}\r\n{location}\r\n"
        )
        return head.encode(errors="surrogateescape") + self.body


# -- requests -------------------------------------------------------------------------------------


@dataclass(slots=True)
class HttpRequest:
    """One request as it arrived.

    Attributes:
        method: `GET` or `POST`.
        target: The request target as sent, undecoded.
        path: Normalised path without outer slashes (§2.4).
        args: Decoded arguments; a flag without `=` has the value `""`.
        error: Why the target could not be parsed; then path and args are empty.
        gone: Set when the client has closed the connection, or its side of it.
    """

    method: str
    target: str
    body: bytes = b""
    path: str = ""
    args: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None
    gone: asyncio.Event = field(default_factory=asyncio.Event, compare=False, repr=False)


@dataclass(slots=True)
class _Head:
    method: str
    target: str
    content_length: int
    is_chunked: bool
    expects_continue: bool


class HttpReader:
    """Cuts what a client sends into HTTP/1.1 requests.

    Args:
        max_body_bytes: Longest body that is accepted.

    Attributes:
        error: Why nothing more can be read: the request is malformed or too long. The only answer is
            to close the connection (§2.1).
        wants_continue: The client waits for `100 Continue` before it sends its body; whoever answers
            that sets it to False.
        taken: How many requests were handed out.
    """

    def __init__(self, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self._max_body = max_body_bytes
        self._buffer = bytearray()
        self._head: _Head | None = None
        self._searched = 0
        self._chunks: bytearray | None = None
        self.wants_continue = False
        self.error: str | None = None
        self.taken = 0

    @property
    def is_busy(self) -> bool:
        """Whether a request has arrived in part."""
        return self._head is not None or bool(self._buffer)

    @property
    def buffered_bytes(self) -> int:
        """Size of the incomplete request that is held."""
        return len(self._buffer) + len(self._chunks or b"")

    def feed(self, data: bytes) -> list[HttpRequest]:
        """The requests that `data` completes, in order; none any more after an `error`."""
        requests: list[HttpRequest] = []
        if self.error is None:
            self._buffer += data
            try:
                while (request := self._next()) is not None:
                    requests.append(request)
            except HttpError as error:
                self.error = str(error)
        self.taken += len(requests)
        return requests

    def _next(self) -> HttpRequest | None:
        if self._head is None:
            self._head = self._take_head()
            if self._head is None:
                return None
            self.wants_continue = self._head.expects_continue and not self._buffer
        body = self._take_chunks() if self._head.is_chunked else self._take_bytes(self._head.content_length)
        if body is None:
            return None
        head, self._head, self.wants_continue = self._head, None, False
        return _request(head, body)

    def _take_head(self) -> _Head | None:
        while self._buffer.startswith((b"\r\n", b"\n")):  # RFC 9112 §2.2: ignore empty lines between requests
            del self._buffer[: 1 if self._buffer[0] == 10 else 2]
        end = self._buffer.find(b"\r\n\r\n", max(0, self._searched - 3))
        if end < 0:
            self._searched = len(self._buffer)
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise HttpError("the head of a request is too long")
            return None
        if end > MAX_HEAD_BYTES:
            raise HttpError("the head of a request is too long")
        head = _parse_head(bytes(self._buffer[:end]))
        del self._buffer[: end + 4]
        self._searched = 0
        if head.content_length > self._max_body:
            raise HttpError(f"a body of {head.content_length} bytes is longer than {self._max_body}")
        return head

    def _take_bytes(self, count: int) -> bytes | None:
        if len(self._buffer) < count:
            return None
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _take_chunks(self) -> bytes | None:
        """The whole chunked body (RFC 9112 §7.1), once its last chunk and trailers are there."""
        if self._chunks is None:
            self._chunks = bytearray()
        while True:
            line_end = self._buffer.find(b"\r\n", 0, 1024)
            if line_end < 0:
                if len(self._buffer) >= 1024:
                    raise HttpError("the size line of a chunk is too long")
                return None
            size = _chunk_size(bytes(self._buffer[:line_end]))
            if len(self._chunks) + size > self._max_body:
                raise HttpError(f"a chunked body is longer than {self._max_body} bytes")
            if size == 0:
                return self._take_trailers(line_end)
            if len(self._buffer) < line_end + 2 + size + 2:
                return None
            start = line_end + 2
            if self._buffer[start + size : start + size + 2] != b"\r\n":
                raise HttpError("a chunk is longer than its size says")
            self._chunks += self._buffer[start : start + size]
            del self._buffer[: start + size + 2]

    def _take_trailers(self, line_end: int) -> bytes | None:
        if self._buffer[line_end : line_end + 4] == b"\r\n\r\n":
            stop = line_end + 4
        else:
            end = self._buffer.find(b"\r\n\r\n", line_end)
            if end < 0:
                if len(self._buffer) > MAX_HEAD_BYTES:
                    raise HttpError("the trailers of a request are too long")
                return None
            stop = end + 4
        del self._buffer[:stop]
        body, self._chunks = bytes(self._chunks or b""), None
        return body


_REQUEST_LINE = re.compile(rb"(GET|POST) ([^ \t\r\n]+) HTTP/1\.[01]")
_HEADER_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*?)[ \t]*")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?")


def _parse_head(raw: bytes) -> _Head:
    first, *lines = raw.split(b"\r\n")
    request_line = _REQUEST_LINE.fullmatch(first)
    if request_line is None:
        raise HttpError("malformed request line")
    headers: dict[bytes, bytes] = {}
    for line in lines:
        header = _HEADER_LINE.fullmatch(line)
        if header is None:
            raise HttpError("malformed header line")
        name, value = header[1].lower(), header[2]
        if name == b"content-length" and headers.get(name, value) != value:
            raise HttpError("contradicting content lengths")
        headers[name] = value
    length = headers.get(b"content-length", b"0")
    if not re.fullmatch(rb"[0-9]{1,18}", length):
        raise HttpError("malformed content length")
    encoding = headers.get(b"transfer-encoding")
    if encoding is not None and (encoding.lower() != b"chunked" or b"content-length" in headers):
        raise HttpError("unsupported transfer encoding")
    return _Head(
        method=request_line[1].decode(),
        target=request_line[2].decode(errors="surrogateescape"),
        content_length=int(length),
        is_chunked=encoding is not None,
        expects_continue=headers.get(b"expect", b"").lower() == b"100-continue",
    )


def _chunk_size(line: bytes) -> int:
    size = _CHUNK_LINE.fullmatch(line)
    if size is None:
        raise HttpError("malformed chunk size")
    return int(size[1], 16)


def _request(head: _Head, body: bytes) -> HttpRequest:
    try:
        url = parse_url(head.target)
    except InvalidParameters as error:
        return HttpRequest(head.method, head.target, body, error=str(error))
    return HttpRequest(head.method, head.target, body, url.path, url.args)


# -- URLs (§2.4) ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Url:
    """A request target taken apart."""

    path: str
    args: Mapping[str, str]


_ABSOLUTE_FORM = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")


def parse_url(target: str) -> Url:
    """Take a request target apart (§2.4).

    Raises:
        InvalidParameters: A percent escape is malformed, or an argument stands twice.
    """
    target = _ABSOLUTE_FORM.sub("", target, count=1) if not target.startswith("/") else target
    target = target.partition("#")[0]
    path, _, query = target.partition("?")
    segments = (_trim(segment) for segment in _decode(path, is_path=True).split("/"))
    return Url("/".join(segment for segment in segments if segment), _parse_query(_decode(query)))


def _parse_query(query: str) -> dict[str, str]:
    args: dict[str, str] = {}
    for piece in query.split("&"):
        piece = _trim(piece)
        if not piece:
            continue
        name, equals, value = piece.partition("=")
        if name not in args:
            args[name] = value
        elif equals:
            raise InvalidParameters(f"duplicate parameter: {name}")
    return args


def _trim(piece: str) -> str:
    return piece.lstrip(" \t").rstrip(" \t\r\n\v\f")


def percent_decode(text: str) -> str:
    """Decode `%XX` escapes; bytes that are not UTF-8 survive as surrogates.

    Raises:
        InvalidParameters: An escape is cut short or is not hexadecimal.
    """
    return _decode(text)


def _decode(text: str, *, is_path: bool = False) -> str:
    if "%" not in text:
        return text
    raw = text.encode(errors="surrogateescape")
    decoded = bytearray()
    position = 0
    while position < len(raw):
        if raw[position] != 0x25:
            decoded.append(raw[position])
            position += 1
            continue
        digits = raw[position + 1 : position + 3]
        if len(digits) < (1 if is_path else 2):  # in a path, a lone %X at the end is seen as %X and NUL
            raise InvalidParameters("Encountered partial escape sequence at end of string")
        if not _HEX_PAIR.fullmatch(digits):
            rest = raw[position + 1 :].decode(errors="surrogateescape")
            raise InvalidParameters(
                f"The characters {rest} do not form a hex value. Please escape it or pass a valid hex value"
            )
        decoded.append(int(digits, 16))
        position += 3
    return decoded.decode(errors="surrogateescape")


_HEX_PAIR = re.compile(rb"[0-9A-Fa-f]{2}")


# -- argument values (§2.5) -----------------------------------------------------------------------

_INTEGER = re.compile(r"[ \t\n\v\f\r]*([+-]?)(0[xX][0-9A-Fa-f]+|[0-9]+)")


def parse_int(text: str, bits: int = 32, *, is_signed: bool = True) -> int:
    """An integer by C's base-0 rules: `0x1f`, leading `0` for octal, decimal.

    Raises:
        ValueError: It is no integer, has a minus sign where none is allowed, or is out of range.
    """
    match = _INTEGER.fullmatch(text)
    if match is None or (match[1] == "-" and not is_signed):
        raise ValueError(f"'{text}' is not an integer")
    sign, digits = match.groups()
    base = 16 if digits[:2] in ("0x", "0X") else 8 if digits.startswith("0") else 10
    magnitude = int(digits, base)
    value = -magnitude if sign == "-" else magnitude
    lowest, highest = (-(1 << bits - 1), (1 << bits - 1) - 1) if is_signed else (0, (1 << bits) - 1)
    if not lowest <= value <= highest:
        raise ValueError(f"'{text}' is out of range")
    return value


def parse_bool(text: str) -> bool:
    """`true` or `false` in any case, nothing else.

    Raises:
        ValueError: It is neither.
    """
    lowered = text.lower()
    if lowered not in ("true", "false") or not text.isascii():
        raise ValueError(f"'{text}' is not a boolean")
    return lowered == "true"


# -- JSON bodies (§2.7) ---------------------------------------------------------------------------


def parse_json_object(body: bytes, defaults: Mapping[str, str | int]) -> dict[str, Any]:
    """The known members of a JSON body, with defaults for those left out.

    Accepted iff every known member is present, or no unknown one is.

    Args:
        defaults: Every known member with the value it has when left out; its type is the one required.

    Raises:
        InvalidParameters: `invalid request structure`.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidParameters("invalid request structure") from error
    if not isinstance(value, dict):
        raise InvalidParameters("invalid request structure")
    if not (defaults.keys() <= value.keys() or value.keys() <= defaults.keys()):
        raise InvalidParameters("invalid request structure")
    known = {**defaults}
    for name, default in defaults.items():
        if name in value:
            if type(value[name]) is not type(default):
                raise InvalidParameters("invalid request structure")
            if isinstance(default, int) and not -(1 << 31) <= value[name] < 1 << 31:  # the members are int32
                raise InvalidParameters("invalid request structure")
            known[name] = value[name]
    return known
