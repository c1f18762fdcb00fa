"""Heads of HTTP/1.1 requests that are as plain as can be, and nothing else (RFC 9112 §2 to §6).

The reader has one rule: in doubt it says no. Whatever is rare, old, odd or wrong is for a complete HTTP
implementation to answer or to refuse, so nothing that this module accepts can mean two things: one request line
out of a table, header lines that end with CRLF and are printable ASCII, no name twice, one Content-Length in
plain digits, nothing that says how a body or a connection goes on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from multidict import CIMultiDict, CIMultiDictProxy, MultiDict, MultiDictProxy, MultiMapping

T = TypeVar("T")

MAX_HEAD_BYTES = 8192
MAX_HEADERS = 64

MAX_KNOWN = 1024
MAX_KNOWN_BYTES = 1024
"""Heads are known again by their bytes, since clients repeat them; these limits bound what is remembered."""

_END = b"\r\n\r\n"
_HEADER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?)?[ \t]*")
_LENGTH = re.compile("0|[1-9][0-9]{0,8}")
_PAIR = rb"[0-9A-Za-z._~-]+=[0-9A-Za-z._~-]*"
_QUERY = re.compile(_PAIR + rb"(?:&" + _PAIR + rb")*")
"""Names and values of characters that stand for themselves (RFC 3986 §2.3): nothing is left to decode."""

_NOT_PLAIN = frozenset(
    [
        *("transfer-encoding", "content-encoding", "expect", "te", "trailer"),  # other bodies
        *("upgrade", "http2-settings", "sec-websocket-key", "proxy-connection"),  # other protocols
    ]
)


_NO_QUERY: MultiMapping[str] = MultiDictProxy(MultiDict())


@dataclass(frozen=True, slots=True)
class HotHead(Generic[T]):
    """The head of a request that is plain.

    Attributes:
        route: What the table holds for its request line.
        headers: By name, whatever its case.
        body_bytes: How long the body is; a GET request has none.
        query: What a GET request asks; empty for others.
    """

    route: T
    headers: Mapping[str, str]
    body_bytes: int
    query: MultiMapping[str] = field(default_factory=lambda: _NO_QUERY)


class HotHeads(Generic[T]):
    """Reads the heads of requests for a table of paths.

    Args:
        table: What each path leads to for POST requests.
        max_body_bytes: Requests with a larger body are not plain.
        gets: What each path leads to for GET requests, with a query or without.
    """

    def __init__(self, table: Mapping[str, T], *, max_body_bytes: int, gets: Mapping[str, T] | None = None) -> None:
        self._table = {f"POST {path} HTTP/1.1".encode(): route for path, route in table.items()}
        self._gets = {f"GET {path}".encode(): route for path, route in (gets or {}).items()}
        self._max_body_bytes = max_body_bytes
        self._known: dict[bytes, HotHead[T]] = {}

    def read(self, head: bytes) -> HotHead[T] | None:
        """Read a head.

        Args:
            head: From the request line to the last header, without the empty line at the end.

        Returns:
            None when it is anything but plain.
        """
        known = self._known.get(head)
        if known is not None:
            return known
        read = self._read(head)
        if read is not None and len(head) <= MAX_KNOWN_BYTES:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[head] = read
        return read

    def may_become_plain(self, beginning: bytes) -> bool:
        """Whether bytes without an empty line can be the beginning of a plain head."""
        if len(beginning) > MAX_HEAD_BYTES:
            return False
        line, has_line, _ = beginning.partition(b"\r\n")
        if has_line:
            return line in self._table or self._get(line) is not None
        return _begins_any(line, self._table) or self._begins_get(line)

    def _read(self, head: bytes) -> HotHead[T] | None:
        if len(head) > MAX_HEAD_BYTES:
            return None
        line, *lines = head.split(b"\r\n")
        route = self._table.get(line)
        get = self._get(line) if route is None else None
        if route is None and get is None:
            return None
        headers = _headers(lines)
        if headers is None or "host" not in headers:
            return None
        if headers.get("connection", "keep-alive").lower() != "keep-alive":
            return None
        if route is None:
            return None if get is None or "content-length" in headers else HotHead(get[0], headers, 0, get[1])
        length = headers.get("content-length", "")
        if not _LENGTH.fullmatch(length) or int(length) > self._max_body_bytes:
            return None
        return HotHead(route, headers, int(length))

    def _get(self, line: bytes) -> tuple[T, MultiMapping[str]] | None:
        """Where the line of a GET request leads, and what it asks."""
        target, _, version = line.rpartition(b" ")
        path, asks, query = target.partition(b"?")
        route = self._gets.get(path)
        if route is None or version != b"HTTP/1.1":
            return None
        if not asks:
            return route, _NO_QUERY
        if not _QUERY.fullmatch(query):
            return None
        pairs = (pair.partition("=") for pair in query.decode().split("&"))
        return route, MultiDictProxy(MultiDict((name, value) for name, _, value in pairs))

    def _begins_get(self, beginning: bytes) -> bool:
        """Whether bytes can be the beginning of the line of a GET request."""
        return any(
            start.startswith(beginning) or beginning.startswith((start + b"?", start + b" ")) for start in self._gets
        )


def _begins_any(beginning: bytes, lines: Iterable[bytes]) -> bool:
    without_cr = beginning.removesuffix(b"\r")
    return any(line.startswith(beginning) or line == without_cr for line in lines)


def _headers(lines: list[bytes]) -> Mapping[str, str] | None:
    if len(lines) > MAX_HEADERS:
        return None
    headers: CIMultiDict[str] = CIMultiDict()
    for line in lines:
        header = _HEADER.fullmatch(line)
        if header is None:
            return None
        name = header[1].decode()
        if name in headers or name.lower() in _NOT_PLAIN:
            return None
        headers[name] = (header[2] or b"").decode()
    return CIMultiDictProxy(headers)
