"""Python data as JSON, JSON lines and text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from intake_server.export.data import Data
from intake_server.export.formats import NotAvailable
from intake_server.export.selection import Rows
from intake_server.export.tables import json_value

_STEP = 1024


def json_lines(source: Data, rows: Rows) -> Iterator[bytes]:
    """One JSON value a line, a line an element."""
    for step in _steps(source, rows):
        yield b"".join(json_value(element) + b"\n" for element in step)


def json(source: Data, rows: Rows) -> Iterator[bytes]:
    """One JSON array; a document that is not a list, and is wanted whole, as it is."""
    if source.schema.npartitions == 1 and rows == Rows():
        value = source.read(None)
        if not isinstance(value, (list, tuple)):
            yield json_value(value)
            return
    separator = b"["
    for step in _steps(source, rows):
        yield separator + b",".join(json_value(element) for element in step)
        separator = b","
    yield b"[]" if separator == b"[" else b"]"


def text(source: Data, rows: Rows) -> Iterator[bytes]:
    """The elements one after the other, each ending a line.

    Raises:
        NotAvailable: An element is neither text nor bytes.
    """
    for step in _steps(source, rows):
        yield b"".join(_line(element) for element in step)


def _line(element: Any) -> bytes:
    if isinstance(element, str):
        element = element.encode()
    if not isinstance(element, bytes):
        raise NotAvailable("txt is not possible: the elements are not texts; they can be had as jsonl or json")
    return element if element.endswith(b"\n") else element + b"\n"


def _steps(source: Data, rows: Rows) -> Iterator[list[Any]]:
    passed = 0
    for partition in range(source.schema.npartitions):
        if rows.stop is not None and passed >= rows.stop:
            return
        value = source.read(partition)
        elements = value if isinstance(value, list) else list(value)
        begin = max(0, rows.start - passed)
        end = len(elements) if rows.stop is None else min(len(elements), rows.stop - passed)
        passed += len(elements)
        for start in range(begin, end, _STEP):
            yield elements[start : min(start + _STEP, end)]


STREAMED = {"jsonl": json_lines, "json": json, "txt": text}
"""The formats that are written while they are sent."""
