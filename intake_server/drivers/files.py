"""Which files an entry means: paths, globs, folders and URLs, listed so that a change is noticed cheaply.

Local folders are watched by their own modification times: as long as no folder that was looked into has changed,
the listing is still right, however many files there are.
"""

# ruff: noqa: PTH100, PTH110, PTH111, PTH112, PTH113, PTH116, PTH118, PTH120
# A listing may have many thousands of files, and os is several times faster than pathlib.
from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec

from intake_server.catalog.paths import is_url
from intake_server.drivers.base import Replaced, Unopenable, cause

_MAGIC = re.compile(r"[*?\[]")
_SETTLED_NS = 50_000_000
"""A folder that changed this shortly before it was listed may change again within the same clock tick."""
REMOTE_LISTING_S = 5.0
_MAX_FILES = 200_000


@dataclass(frozen=True, slots=True)
class File:
    """One file as it was when it was listed.

    Attributes:
        path: A path on its file system.
        size: Length in bytes, None when the file system does not tell.
        stamp: Changes when the content does, as well as the file system can tell.
    """

    path: str
    size: int | None
    stamp: str


@dataclass(slots=True)
class FileList:
    """The files that an entry means at one moment.

    Attributes:
        filesystem: Where they are.
        files: In order of their paths (or of the list that the entry gives).
        folders: For local files: the folders that were looked into and their modification times in nanoseconds.
        checked_at: When the listing was last known to be right, by the monotonic clock.
        is_local: Whether the files are local.
    """

    filesystem: Any
    files: tuple[File, ...]
    folders: dict[str, int] = field(default_factory=dict)
    checked_at: float = 0.0
    is_local: bool = True

    @property
    def version(self) -> str:
        """A fingerprint of all paths, sizes and stamps."""
        digest = hashlib.blake2b(digest_size=12)
        for file in self.files:
            digest.update(f"{file.path}\0{file.size}\0{file.stamp}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def is_current(self, relist: Callable[[], FileList]) -> bool:
        """Whether listing again would find the same files with the same content.

        Args:
            relist: Lists again; only called where the file system has no cheaper way to tell.
        """
        if self.is_local:
            return self._folders_unchanged() and all(self._unchanged(file) for file in self.files)
        if time.monotonic() - self.checked_at < REMOTE_LISTING_S:
            return True
        fresh = relist()
        self.checked_at = time.monotonic()
        return fresh.version == self.version

    def _folders_unchanged(self) -> bool:
        try:
            return all(
                modified and os.stat(folder).st_mtime_ns == modified for folder, modified in self.folders.items()
            )
        except OSError:
            return False

    def _unchanged(self, file: File) -> bool:
        return self.stamp(file) == file.stamp

    def stamp(self, file: File) -> str | None:
        """The present stamp of a file, None when it is gone; for remote files the one from the listing."""
        if not self.is_local:
            return file.stamp
        try:
            return _local_stamp(os.stat(file.path))
        except OSError:
            return None

    @contextlib.contextmanager
    def unchanged(self, file: File) -> Iterator[None]:
        """Read a file as the one that was listed: the content of another is not what the source was opened as.

        Raises:
            Replaced: It was another one before or afterwards.
        """
        self.check(file)
        yield
        self.check(file)

    def check(self, file: File) -> None:
        """Refuse a file that is not the one that was listed.

        Raises:
            Replaced: It is another one, or gone.
        """
        if self.stamp(file) != file.stamp:
            raise Replaced(f"{file.path}: the file has changed since the source was opened; open it again")

    def pin(self) -> list[list[Any]]:
        """What `pinned` needs to make the same listing relist."""
        return [[file.path, file.size, file.stamp] for file in self.files]


def listing(urlpath: Any, storage_options: Mapping[str, Any] | None = None, suffix: str = "") -> FileList:
    """List the files that a path, a glob, a folder (with `suffix`) or a list of them means.

    Args:
        urlpath: What the entry says.
        storage_options: Options for the file system.
        suffix: What files in a folder must end with; empty when a folder is not acceptable.

    Raises:
        Unopenable: A path without a glob does not exist, or the file system cannot be used.
    """
    paths = [urlpath] if isinstance(urlpath, (str, os.PathLike)) else urlpath
    if not isinstance(paths, Sequence) or not all(isinstance(path, (str, os.PathLike)) for path in paths):
        raise Unopenable("urlpath: expected a path or a list of paths")
    texts = [os.fspath(path) for path in paths]
    if any(is_url(path) for path in texts):
        return _remote(texts, storage_options or {}, suffix)
    folders: dict[str, int] = {}
    files = [file for text in texts for file in _local(text.removeprefix("file://"), suffix, folders)]
    return FileList(fsspec.filesystem("file"), tuple(files), folders, time.monotonic())


def pinned(urlpath: Any, storage_options: Mapping[str, Any] | None, pin: Sequence[Sequence[Any]]) -> FileList:
    """The listing that a pin stands for, without looking."""
    first = urlpath if isinstance(urlpath, str) else (urlpath or [""])[0]
    files = tuple(File(path, size, stamp) for path, size, stamp in pin)
    if is_url(first):
        filesystem, _ = fsspec.core.url_to_fs(first, **(storage_options or {}))
        return FileList(filesystem, files, is_local=False)
    return FileList(fsspec.filesystem("file"), files)


def _local(path: str, suffix: str, folders: dict[str, int]) -> list[File]:
    path = os.path.abspath(os.path.expanduser(path))
    if _MAGIC.search(path):
        found = list(_glob(path, folders))
        if suffix and found and all(Path(name).is_dir() for name in found):
            found = [inner for name in sorted(found) for inner in _walk(name, suffix, folders)]
    elif suffix and Path(path).is_dir():
        found = list(_walk(path, suffix, folders))
    else:
        found = [path]
    if len(found) > _MAX_FILES:
        raise Unopenable(f"{path}: more than {_MAX_FILES} files")
    files = [_local_file(name) for name in (found if len(found) < 2 else sorted(found))]
    return [file for file in files if file is not None]


def _local_file(path: str) -> File | None:
    try:
        status = os.stat(path)
    except OSError as error:
        raise Unopenable(f"{path}: {error.strerror or error}") from error
    if not os.path.isfile(path):
        if os.path.isdir(path):
            return None
        raise Unopenable(f"{path}: not a file")
    return File(path, status.st_size, _local_stamp(status))


def _local_stamp(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns:x}.{status.st_size:x}.{status.st_ino:x}"


def _entries(folder: str, folders: dict[str, int]) -> list[os.DirEntry[str]]:
    """The members of a folder; notes the folder's time, or 0 when it changed too recently to be trusted."""
    try:
        modified = os.stat(folder).st_mtime_ns
        folders[folder] = modified if time.time_ns() - modified > _SETTLED_NS else 0
        with os.scandir(folder) as members:
            return sorted(members, key=lambda member: member.name)
    except (FileNotFoundError, NotADirectoryError):
        parent = os.path.dirname(folder)
        if parent != folder and parent not in folders:
            _entries(parent, folders)  # the folder may appear there
        return []
    except OSError as error:
        raise Unopenable(f"{folder}: {error.strerror or error}") from error


def _glob(pattern: str, folders: dict[str, int]) -> Iterator[str]:
    segments = pattern.split("/")
    fixed = next(position for position, segment in enumerate(segments) if _MAGIC.search(segment))
    yield from _match("/".join(segments[:fixed]) or "/", segments[fixed:], folders)


def _match(folder: str, segments: Sequence[str], folders: dict[str, int]) -> Iterator[str]:
    head, rest = segments[0], segments[1:]
    if not _MAGIC.search(head):
        path = os.path.join(folder, head)
        if rest:
            yield from _match(path, rest, folders)
        elif os.path.exists(path):
            yield path
        else:
            _entries(folder, folders)
        return
    matcher = re.compile(fnmatch.translate(head)).match
    for member in _entries(folder, folders):
        if head == "**":
            if member.is_dir():
                yield from _match(member.path, segments, folders)
            elif not rest:
                yield member.path
        elif matcher(member.name) and (not member.name.startswith(".") or head.startswith(".")):
            if rest:
                if member.is_dir():
                    yield from _match(member.path, rest, folders)
            else:
                yield member.path
    if head == "**" and rest:
        yield from _match(folder, rest, folders)


def _walk(folder: str, suffix: str, folders: dict[str, int]) -> Iterator[str]:
    for member in _entries(folder, folders):
        if member.name.startswith((".", "_")):
            continue
        if member.is_dir():
            yield from _walk(member.path, suffix, folders)
        elif member.name.endswith(suffix):
            yield member.path


def _remote(paths: Sequence[str], storage_options: Mapping[str, Any], suffix: str) -> FileList:
    try:
        filesystem, _ = fsspec.core.url_to_fs(paths[0], **storage_options)
        filesystem.invalidate_cache()
        files = [file for path in paths for file in _remote_files(filesystem, path, suffix)]
    except (OSError, ValueError, ImportError, TypeError, KeyError) as error:
        raise Unopenable(f"{paths[0]}: {cause(error)}") from error
    return FileList(filesystem, tuple(files), {}, time.monotonic(), is_local=False)


def _remote_files(filesystem: Any, url: str, suffix: str) -> list[File]:
    _, path = fsspec.core.url_to_fs(url) if "::" in url else (None, filesystem._strip_protocol(url))
    if _MAGIC.search(path):
        found = filesystem.glob(path, detail=True)
    elif suffix and filesystem.isdir(path):
        found = filesystem.find(path, detail=True)
        found = {name: info for name, info in found.items() if name.endswith(suffix)}
    else:
        found = {path: filesystem.info(path)}
    return [_remote_file(name, found[name]) for name in sorted(found) if found[name].get("type") != "directory"]


def _remote_file(path: str, info: Mapping[str, Any]) -> File:
    size = info.get("size")
    marks = [
        str(info[key]) for key in ("ETag", "etag", "mtime", "LastModified", "created", "version_id") if info.get(key)
    ]
    return File(path, size, f"{size}.{'.'.join(marks)}")


def open_file(at: FileList, file: File, mode: str = "rb", compression: str | None = None, **text: Any) -> Any:
    """Open one listed file; ``compression`` is an fsspec name, or ``infer`` by its suffix."""
    return fsspec.core.OpenFile(at.filesystem, file.path, mode=mode, compression=compression, **text).open()
