"""JSON documents and JSON lines as Python data (protocol §9.6): one partition, the whole.

Clients put partitions together as lists, so a document that is a map is a list of one when it is asked for as
partition 0, and itself when it is asked for whole (§8).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any

from intake_server.drivers.base import Schema, Unopenable, Unreadable, cause, take
from intake_server.drivers.file_source import FileSource
from intake_server.drivers.files import File, FileList, listing, open_file, pinned

_HEAD_BYTES = 65536


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
        relist = functools.partial(listing, urlpath, storage_options)
        at = relist() if pin is None else pinned(urlpath, storage_options, pin)
        if len(at.files) != 1:
            raise Unopenable(f"{urlpath}: expected one file, found {len(at.files)}")
        decode = self._decode
        mistake = self._mistake(_head(at, at.files[0], compression, encoding or "utf8"))
        if mistake:
            raise Unopenable(f"{urlpath}: {mistake}")

        def read_file(file: File, as_partition: bool) -> Any:
            value = _parsed(_text(at, file, compression, encoding or "utf8"), file, decode)
            return [value] if as_partition and not isinstance(value, list) else value

        return FileSource(at, Schema("python", None, None, 1), relist, read_file)

    def _decode(self, data: bytes) -> Any:
        raise NotImplementedError

    def _mistake(self, head: str) -> str | None:
        """What the beginning of a file shows to be wrong with it, if anything."""
        raise NotImplementedError


class JsonDriver(_JsonDriver):
    """Opens one JSON document."""

    name = "json"

    def _decode(self, data: bytes) -> Any:
        return json.loads(data)

    def _mistake(self, head: str) -> str | None:
        try:
            _, end = json.JSONDecoder().raw_decode(head)
        except (ValueError, RecursionError):
            return None  # the document goes on behind the beginning, or reading it will say what is wrong
        more = head[end:].strip()
        return f"more than one JSON document, the second begins with {more[:20]!r}: use 'jsonl'" if more else None


class JsonLinesDriver(_JsonDriver):
    """Opens one file of JSON documents, one a line."""

    name = "jsonl"

    def _decode(self, data: bytes) -> Any:
        return [json.loads(line) for line in data.splitlines() if line.strip()]

    def _mistake(self, head: str) -> str | None:
        first, end, _ = head.partition("\n")
        try:
            if end:
                json.loads(first)
        except (ValueError, RecursionError) as error:
            return f"the first line is no JSON document: {error}"
        return None


def _head(at: FileList, file: File, compression: str | None, encoding: str) -> str:
    """The beginning of a file, without white space and byte order mark; empty when it cannot be read."""
    try:
        with open_file(at, file, "rb", compression) as opened:
            data: bytes = opened.read(_HEAD_BYTES)
        return data.removeprefix(b"\xef\xbb\xbf").decode(encoding, "ignore").lstrip()
    except (OSError, ValueError, EOFError, LookupError):
        return ""


def _text(at: FileList, file: File, compression: str | None, encoding: str) -> bytes:
    try:
        with open_file(at, file, "rb", compression) as opened:
            data: bytes = opened.read()
        if encoding.lower().replace("-", "") not in ("utf8", "ascii"):
            data = data.decode(encoding).encode()
    except (OSError, ValueError, EOFError, LookupError) as error:
        raise Unreadable(f"{file.path}: {cause(error)}") from error
    return data.removeprefix(b"\xef\xbb\xbf")


def _parsed(data: bytes, file: File, decode: Callable[[bytes], Any]) -> Any:
    try:
        return decode(data)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{file.path}: not JSON: {error}") from error
