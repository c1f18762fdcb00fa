"""Answers of HTTP/1.1 as bytes, exactly as aiohttp would send them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from http import HTTPStatus

from aiohttp.http import SERVER_SOFTWARE

from shared.http.lifecycle import Answer

_JOINED_BYTES = 32 * 1024
"""Smaller bodies are copied behind their heads, which is cheaper than two writes."""


class Encoder:
    """Answers as bytes; what is the same for many is made once.

    Args:
        cors_headers: Further headers for an ``Origin``, or for its absence.
    """

    def __init__(self, cors_headers: Callable[[str | None], Mapping[str, str]]) -> None:
        self._cors_headers = cors_headers
        self._starts: dict[int, tuple[Mapping[str, str], bytes]] = {}
        self._ends: dict[str | None, bytes] = {}
        self._second = 0
        self._date = b""

    def encode(self, answer: Answer, origin: str | None) -> tuple[bytes, ...]:
        """The whole answer to a request with this ``Origin``, in one piece when it is small."""
        body = answer.body
        start, date, end = self._start(answer), self._date_line(), self._end(origin)
        if len(body) <= _JOINED_BYTES:
            return (b"%b%d%b%b%b" % (start, len(body), date, end, body),)
        return (b"%b%d%b%b" % (start, len(body), date, end), body)

    def _start(self, answer: Answer) -> bytes:
        if answer.status != 200:
            return _start(answer)
        known = self._starts.get(id(answer.headers))
        if known is None:
            if len(self._starts) >= 16:
                self._starts.clear()
            known = self._starts[id(answer.headers)] = (answer.headers, _start(answer))
        return known[1]

    def _date_line(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second = second
            date = formatdate(second, usegmt=True)
            self._date = f"\r\nDate: {date}\r\nServer: {SERVER_SOFTWARE}\r\n".encode()
        return self._date

    def _end(self, origin: str | None) -> bytes:
        end = self._ends.get(origin)
        if end is None:
            if len(self._ends) >= 256:
                self._ends.clear()
            end = self._ends[origin] = _lines(self._cors_headers(origin)) + b"\r\n"
        return end


def _start(answer: Answer) -> bytes:
    line = f"HTTP/1.1 {answer.status} {answer.reason or HTTPStatus(answer.status).phrase}\r\n".encode()
    return line + _lines(answer.headers) + b"Content-Length: "


def _lines(headers: Mapping[str, str]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
