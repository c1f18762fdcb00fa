"""Where files of bulk loads and backups are: folders and fsspec URLs under short names.

The original calls them block services; ``local_service`` is one. All of it blocks its thread.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import get_protocol

from shared.pegasus.files import paths

CHUNK_BYTES = 1 << 20
DESCRIPTION_BYTES = 16 << 20
"""The largest file that is read as a whole: descriptions of other files, a hundred bytes for each."""


class ProviderError(Exception):
    """A file is not there, or cannot be read or written; the text names it."""


class FileProvider:
    """Files below one URL.

    Args:
        url: A folder, or an fsspec URL such as ``s3://bucket/folder``.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        filesystem, root = fsspec.url_to_fs(url)
        self._filesystem: Any = filesystem
        self._root: str = root

    def _path(self, name: str) -> str:
        """Where a file is.

        Raises:
            ProviderError: It would not be below the provider's own folder, by its name or by a symbolic link.
        """
        try:
            inside = paths.folder("the path", name)
        except ValueError as error:
            raise ProviderError(f"{self.url}: {error}") from error
        path = posixpath.join(self._root, inside)
        if isinstance(self._filesystem, LocalFileSystem):
            root, real = os.path.realpath(self._root), os.path.realpath(path)
            if os.path.commonpath((root, real)) != root:
                raise ProviderError(f"{self.url}: a symbolic link leads {name} out of the provider's folder")
        return path

    def read(self, name: str) -> bytes:
        """The content of a small file.

        Raises:
            ProviderError: It is not there, cannot be read, or is larger than `DESCRIPTION_BYTES`.
        """
        with self._telling("read", name), self._filesystem.open(self._path(name), "rb") as source:
            content: bytes = source.read(DESCRIPTION_BYTES + 1)
        if len(content) > DESCRIPTION_BYTES:
            raise ProviderError(f"{self.url}: {name} is larger than {DESCRIPTION_BYTES} bytes")
        return content

    def write(self, name: str, content: bytes) -> None:
        """Write a small file; readers see all of it or none.

        Raises:
            ProviderError: It cannot be written.
        """
        with self._telling("write", name):
            path = self._path(name)
            self._filesystem.makedirs(posixpath.dirname(path), exist_ok=True)
            self._filesystem.pipe_file(path, content)

    def exists(self, name: str) -> bool:
        """Whether there is a file or a folder of a name."""
        with self._telling("look for", name):
            return bool(self._filesystem.exists(self._path(name)))

    def names(self, folder: str) -> list[str]:
        """The names of the files and folders in a folder, sorted; none if it is not there."""
        with self._telling("list", folder):
            try:
                found = self._filesystem.ls(self._path(folder), detail=False)
            except FileNotFoundError:
                return []
            return sorted(posixpath.basename(path.rstrip("/")) for path in found)

    def download(self, name: str, target: Path, received: Callable[[int], None]) -> str:
        """Copy a file here, durably.

        Args:
            name: The file.
            target: Where to; whole when this returns, and then only.
            received: Told how many more bytes have come; may raise to stop.

        Returns:
            The file's MD5 in hexadecimal digits.

        Raises:
            ProviderError: It cannot be read or written.
        """
        digest = hashlib.md5(usedforsecurity=False)
        temporary = target.with_name(target.name + ".part")
        with self._telling("copy", name):
            with self._filesystem.open(self._path(name), "rb") as source, temporary.open("wb") as copy:
                while chunk := source.read(CHUNK_BYTES):
                    copy.write(chunk)
                    digest.update(chunk)
                    received(len(chunk))
                copy.flush()
                os.fsync(copy.fileno())
            temporary.replace(target)
        return digest.hexdigest()

    def upload(self, source: Path, name: str, sent: Callable[[int], None]) -> str:
        """Copy a file there.

        Args:
            source: The file.
            name: Its name there.
            sent: Told how many more bytes have gone; may raise to stop.

        Returns:
            The file's MD5 in hexadecimal digits.

        Raises:
            ProviderError: It cannot be read or written.
        """
        digest = hashlib.md5(usedforsecurity=False)
        with self._telling("copy", name):
            path = self._path(name)
            self._filesystem.makedirs(posixpath.dirname(path), exist_ok=True)
            with source.open("rb") as original, self._filesystem.open(path, "wb") as copy:
                while chunk := original.read(CHUNK_BYTES):
                    copy.write(chunk)
                    digest.update(chunk)
                    sent(len(chunk))
        return digest.hexdigest()

    def delete(self, folder: str) -> None:
        """Delete a folder and everything in it; one that is not there is fine.

        Raises:
            ProviderError: It cannot be deleted.
        """
        if not folder.strip("/"):
            raise ProviderError(f"{self.url}: the provider's own folder is not deleted")
        with self._telling("delete", folder), contextlib.suppress(FileNotFoundError):
            self._filesystem.rm(self._path(folder), recursive=True)

    @contextlib.contextmanager
    def _telling(self, verb: str, name: str) -> Iterator[None]:
        """Have an error say what could not be done with which file."""
        try:
            yield
        except ProviderError:
            raise
        except Exception as error:  # every fsspec backend raises what its own client library does
            raise ProviderError(f"{self.url}: cannot {verb} {name}: {error}") from error


class FileProviders:
    """The providers that a daemon knows, by name."""

    def __init__(self, urls: Mapping[str, str]) -> None:
        self._urls = dict(urls)
        self._opened: dict[str, FileProvider] = {}

    @classmethod
    def parse(cls, items: Iterable[str]) -> FileProviders:
        """Read items of the form ``NAME=URL``.

        Raises:
            ValueError: An item is not of that form, or nothing here can use its URL.
        """
        urls: dict[str, str] = {}
        for item in items:
            name, equals, url = item.partition("=")
            if not (name and equals and url):
                raise ValueError(f"'{item}' is not of the form NAME=URL")
            protocol = get_protocol(url)
            try:
                fsspec.get_filesystem_class(protocol)
            except (ValueError, ImportError) as error:
                raise ValueError(f"'{item}': files at {protocol}:// cannot be used: {error}") from error
            urls[name] = url
        return cls(urls)

    def get(self, name: str) -> FileProvider | None:
        """The provider of a name, None when there is none.

        Raises:
            ProviderError: Its URL cannot be used.
        """
        if name not in self._urls:
            return None
        if name not in self._opened:
            try:
                self._opened[name] = FileProvider(self._urls[name])
            except (OSError, ValueError, ImportError) as error:
                raise ProviderError(f"{self._urls[name]}: {error}") from error
        return self._opened[name]


def md5_of(file: Path) -> str:
    """The MD5 of a file here, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
