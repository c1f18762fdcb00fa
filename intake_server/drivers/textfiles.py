"""Text files as Python data: one partition a file, a list of its lines with their ends."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

from intake_server.drivers.base import Schema, Unopenable, Unreadable, cause, take
from intake_server.drivers.file_source import FileSource
from intake_server.drivers.files import File, FileList, listing, open_file, pinned

NAME = "textfiles"


class TextFilesDriver:
    """Opens text files and globs."""

    container = "python"

    def open(self, arguments: Mapping[str, Any], pin: Any = None) -> FileSource:
        urlpath, text_mode, encoding, compression, decoder, reads, storage_options = take(
            arguments,
            NAME,
            urlpath=...,
            text_mode=True,
            text_encoding="utf8",
            compression=None,
            decoder=None,
            read=True,
            storage_options=None,
        )
        relist = functools.partial(listing, urlpath, storage_options)
        at = relist() if pin is None else pinned(urlpath, storage_options, pin)
        if not at.files:
            raise Unopenable(f"{urlpath}: there are no such files")
        decode = None if decoder is None else _function(decoder)
        text = {"encoding": encoding or "utf8"} if text_mode else {}

        def read_file(file: File, _as_partition: bool) -> Any:
            return _read(at, file, "rt" if text_mode else "rb", compression, text, decode, bool(reads))

        return FileSource(at, Schema("python", None, (None,), len(at.files)), relist, read_file)


def _read(
    at: FileList,
    file: File,
    mode: str,
    compression: str | None,
    text: Mapping[str, Any],
    decode: Callable[[Any], Any] | None,
    reads: bool,
) -> list[Any]:
    try:
        with open_file(at, file, mode, compression, **text) as opened:
            if decode is None:
                return list(opened)
            decoded = decode(opened.read() if reads else opened)
    except (OSError, ValueError, EOFError) as error:
        raise Unreadable(f"{file.path}: {cause(error)}") from error
    return list(decoded) if isinstance(decoded, (list, tuple)) else [decoded]


def _function(name: Any) -> Callable[[Any], Any]:
    """The function that the catalog file names; callers cannot give one (§9.5)."""
    module, _, attribute = str(name).replace(":", ".").rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise Unopenable(f"textfiles: there is no decoder {name!r}") from error
    if not callable(found):
        raise Unopenable(f"textfiles: the decoder {name!r} is not a function")
    decoder: Callable[[Any], Any] = found
    return decoder
