"""JSON documents and JSON lines as Python data (specification §9.6): one partition, the whole.

Clients put partitions together as lists, so a document that is a map is a list of one when it is asked for as
partition 0, and itself when it is asked for whole (§8).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any

from intake_server.drivers.base import Schema, Unopenable, Unreadable, take
from intake_server.drivers.file_source import FileSource
from intake_server.drivers.files import File, Listing, listing, open_file, pinned


class _JsonDriver:
    container = "python"
    name = ""

    def open(self, arguments: Mapping[str, Any], pin: Any = None) -> FileSource:
        urlpath, _, encoding, compression, _, storage_options = take(
            arguments,
            self.name,
            urlpath=...,
            text_mode=True,
            text_encoding="utf8",
            compression=None,
            read=True,
            storage_options=None,
        )
        again = functools.partial(listing, urlpath, storage_options)
        at = again() if pin is None else pinned(urlpath, storage_options, pin)
        if len(at.files) != 1:
            raise Unopenable(f"{urlpath}: expected one file, found {len(at.files)}")
        decode = self._decode

        def read_file(file: File, as_partition: bool) -> Any:
            value = _parsed(_text(at, file, compression, encoding or "utf8"), file, decode)
            return [value] if as_partition and not isinstance(value, list) else value

        return FileSource(at, Schema("python", None, None, 1), again, read_file)

    def _decode(self, data: bytes) -> Any:
        raise NotImplementedError


class JsonDriver(_JsonDriver):
    """Opens one JSON document."""

    name = "json"

    def _decode(self, data: bytes) -> Any:
        return json.loads(data)


class JsonLinesDriver(_JsonDriver):
    """Opens one file of JSON documents, one a line."""

    name = "jsonl"

    def _decode(self, data: bytes) -> Any:
        return [json.loads(line) for line in data.splitlines() if line.strip()]


def _text(at: Listing, file: File, compression: str | None, encoding: str) -> bytes:
    try:
        with open_file(at, file, "rb", compression) as opened:
            data: bytes = opened.read()
        if encoding.lower().replace("-", "") not in ("utf8", "ascii"):
            data = data.decode(encoding).encode()
    except (OSError, ValueError, EOFError, LookupError) as error:
        raise Unreadable(f"{file.path}: {error}") from error
    return data.removeprefix(b"\xef\xbb\xbf")


def _parsed(data: bytes, file: File, decode: Callable[[bytes], Any]) -> Any:
    try:
        return decode(data)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{file.path}: not JSON: {error}") from error
