"""Where the warehouse's files are: a local folder, or anything that fsspec has a URL for.

A filesystem puts a finished local file under its final name in one step: readers see the whole file or none of it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import IO, Protocol

from shared.errors import StartupError

WHOLE_PUTS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss", "memory"})
"""Protocols of object stores: a put becomes visible whole, so no temporary name is needed."""


WRITE_TEST = "_write_test"


class Filesystem(Protocol):
    """A folder for files that never change."""

    location: str

    def stage(self, name: str) -> Path:
        """An empty local folder to build files in; files of an earlier attempt are deleted."""

    def publish(self, staged: Path, path: str) -> None:
        """Put a file from the stage under its final path, replacing what is there."""

    def settle(self) -> None:
        """Return when everything published survives a crash of the machine."""

    def unstage(self, name: str) -> None:
        """Remove a stage."""

    def write(self, path: str, data: bytes) -> None:
        """Create or replace a small file at once; it survives a crash when this returns."""

    def read(self, path: str) -> bytes | None:
        """The content of a small file, `None` when there is none."""

    def remove(self, path: str) -> None:
        """Remove a file."""


def open_filesystem(location: str) -> Filesystem:
    """The filesystem for a path or URL.

    Raises:
        StartupError: Nothing can be written there.
    """
    try:
        filesystem = _filesystem(location)
        name = f"{WRITE_TEST}-{uuid.uuid4()}"
        filesystem.write(name, b"iserver writes and removes this file at every start\n")
        filesystem.remove(name)
    except Exception as error:  # drivers raise whatever their libraries raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise StartupError(f"cannot write to the warehouse {location}: {reason}") from error
    return filesystem


def _filesystem(location: str) -> Filesystem:
    if "://" not in location or location.startswith("file://"):
        return LocalFilesystem(Path(location.removeprefix("file://")))
    return RemoteFilesystem(location)


class LocalFilesystem:
    """A folder on this machine. Files appear by rename, after their content is on disk."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.location = str(self.root)
        self._changed: set[Path] = set()
        self._locks: dict[str, IO[bytes]] = {}

    def stage(self, name: str) -> Path:
        """The folder is on the same disk. Waits for a process that still has a stage of this name: one that its
        server left behind, and that is putting the last files of the same batch in place.
        """
        folder = self.root / ".staging" / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        self._locks[name] = _locked(folder.with_name(f"{name}.lock"))
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def unstage(self, name: str) -> None:
        folder = self.root / ".staging" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.with_name(f"{name}.lock").unlink(missing_ok=True)
        self._locks.pop(name).close()

    def publish(self, staged: Path, path: str) -> None:
        target = self.root / path
        with staged.open("rb") as file:
            os.fsync(file.fileno())
        self._make_folder(target.parent)
        staged.replace(target)
        self._changed.add(target.parent)

    def settle(self) -> None:
        changed, self._changed = self._changed, set()
        for folder in changed:
            _sync_folder(folder)

    def write(self, path: str, data: bytes) -> None:
        target = self.root / path
        self._make_folder(target.parent)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        self._changed.add(target.parent)
        self.settle()

    def read(self, path: str) -> bytes | None:
        try:
            return (self.root / path).read_bytes()
        except FileNotFoundError:
            return None

    def remove(self, path: str) -> None:
        (self.root / path).unlink()

    def _make_folder(self, folder: Path) -> None:
        """Create a folder and remember every folder whose list of names that changed."""
        missing = [item for item in (folder, *folder.parents) if not item.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        self._changed.update(item.parent for item in missing)


class RemoteFilesystem:
    """A URL that fsspec can open. Files are built locally and uploaded whole."""

    def __init__(self, url: str) -> None:
        self.location = url.rstrip("/")
        import fsspec  # large, and a local warehouse does without

        self._files, self._root = fsspec.url_to_fs(self.location)
        protocols = self._files.protocol
        self._puts_whole = not WHOLE_PUTS.isdisjoint({protocols} if isinstance(protocols, str) else protocols)
        self._stages: dict[str, tempfile.TemporaryDirectory[str]] = {}

    def stage(self, name: str) -> Path:
        self.unstage(name)
        folder = self._stages[name] = tempfile.TemporaryDirectory(prefix="iserver-warehouse-")
        return Path(folder.name)

    def unstage(self, name: str) -> None:
        folder = self._stages.pop(name, None)
        if folder is not None:
            folder.cleanup()

    def publish(self, staged: Path, path: str) -> None:
        target = self._path(path)
        if self._puts_whole:
            self._files.put_file(str(staged), target)
            return
        self._files.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
        self._files.put_file(str(staged), f"{target}.tmp")
        self._files.mv(f"{target}.tmp", target)

    def settle(self) -> None:
        """Nothing to do: an upload returns when the store has the file."""

    def write(self, path: str, data: bytes) -> None:
        target = self._path(path)
        if self._puts_whole:
            self._files.pipe_file(target, data)
            return
        self._files.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
        self._files.pipe_file(f"{target}.tmp", data)
        self._files.mv(f"{target}.tmp", target)

    def read(self, path: str) -> bytes | None:
        try:
            content: bytes = self._files.cat_file(self._path(path))
        except FileNotFoundError:
            return None
        return content

    def remove(self, path: str) -> None:
        self._files.rm_file(self._path(path))

    def _path(self, path: str) -> str:
        return f"{self._root.rstrip('/')}/{path}"


def _locked(path: Path) -> IO[bytes]:
    """A lock file that is this process's alone until it is closed."""
    while True:
        file = path.open("wb")
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                return file
        except FileNotFoundError:
            pass  # its owner removed it while this process waited
        file.close()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
