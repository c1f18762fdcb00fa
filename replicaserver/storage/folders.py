"""Where replicas lie on disk, and what they are called while they live and after.

A replica is a folder ``<app_id>.<index>.pegasus`` in a data folder: the table's description in ``.app-info``, the
engine's files below ``data/rdb``. A replica that is not wanted any more becomes ``….gar``, one that cannot be
opened ``….err``; both are deleted some time later, so that a mistake can be undone.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson
import structlog

from shared.errors import StartupError
from shared.pegasus.wire.structures.base import Gpid
from shared.pegasus.wire.structures.layer2 import AppInfo

log = structlog.get_logger("replicaserver.folders")

_REPLICA = re.compile(r"([0-9]+)\.([0-9]+)\.pegasus")
_LEFT = re.compile(r"[0-9]+\.[0-9]+\.pegasus\.([0-9]+)\.(gar|err)")
_MEMBERS = (
    "status",
    "app_type",
    "app_name",
    "app_id",
    "partition_count",
    "is_stateful",
    "max_replica_count",
    "expire_second",
    "create_second",
    "drop_second",
    "init_partition_count",
    "duplicating",
    "is_bulk_loading",
    "atomic_idempotent",
)


class FolderError(Exception):
    """What lies on disk is not as it should be; the text names the file."""


@dataclass(frozen=True, slots=True)
class DataFolder:
    """A folder for replicas, usually one a disk.

    Attributes:
        tag: Its name for tools.
        path: The folder.
    """

    tag: str
    path: Path

    def replicas(self) -> dict[Gpid, Path]:
        """The replicas that lie here."""
        found = {}
        for entry in self.path.iterdir():
            match = _REPLICA.fullmatch(entry.name)
            if match is not None and entry.is_dir():
                found[Gpid(int(match[1]), int(match[2]))] = entry
        return found

    def orphaned(self, kind: str) -> dict[Path, int]:
        """The folders of replicas that are gone (``gar``) or broken (``err``), and when they became that."""
        found = {}
        for entry in self.path.iterdir():
            match = _LEFT.fullmatch(entry.name)
            if match is not None and match[2] == kind:
                found[entry] = int(match[1])
        return found

    def replica(self, gpid: Gpid) -> Path:
        """The folder of a replica, whether it is there or not."""
        return self.path / f"{gpid}.pegasus"

    def measure(self) -> tuple[int, int]:
        """Size of the disk and what is free on it, in bytes."""
        status = os.statvfs(self.path)
        return status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize


def parse_data_folders(text: str, default: Path) -> list[DataFolder]:
    """The folders of the setting ``data_dirs``: ``tag:/path,tag:/path``; empty takes the default.

    Raises:
        ValueError: An item is not of that form, or a tag stands twice.
    """
    if not text.strip():
        return [DataFolder("data1", default)]
    folders: dict[str, DataFolder] = {}
    for item in text.split(","):
        tag, colon, path = item.strip().partition(":")
        if not (tag and colon and path):
            raise ValueError(f"data_dirs: '{item.strip()}' is not of the form tag:/path")
        if tag in folders:
            raise ValueError(f"data_dirs: the tag '{tag}' stands twice")
        folders[tag] = DataFolder(tag, Path(path) / "reps")
    return list(folders.values())


def take_hold(folder: Path) -> IO[str]:
    """Keep other processes out of a folder, for as long as the returned file is open.

    Raises:
        FolderError: Another process has it.
    """
    lock = (folder / "LOCK").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise FolderError(f"the data directory {folder} is in use by another replica server") from error
    return lock


def belong_together(log_folder: Path, log_id: int, disks: Sequence[DataFolder], *, accepts_loss: bool) -> None:
    """Make sure that replicas and the log of their writes are kept together; the data folders name their log.

    Args:
        log_folder: Where the log is.
        log_id: Its random id.
        disks: The data folders.
        accepts_loss: Go on when the log is another one, because theirs is lost.

    Raises:
        StartupError: It is another one, and that is not accepted; or a file cannot be read or written.
    """
    ours = f"{log_id:016x}\n".encode()
    for disk in disks:
        file = disk.path / ".log-id"
        try:
            if file.exists() and file.read_bytes() != ours:
                what = f"the log of writes that belongs to {disk.path} is missing from {log_folder}"
                if not accepts_loss:
                    raise StartupError(
                        f"{what}, and with it acknowledged writes: "
                        "restore it, or give --accept-loss to go on without them"
                    )
                log.error("acknowledged writes are lost, and that was accepted", reason=what)
            elif file.exists():
                continue
            write_durably(file, ours)
        except OSError as error:
            raise StartupError(f"cannot use {file}: {error.strerror}") from error


def engine_folder(replica: Path) -> Path:
    """Where a replica's RocksDB is."""
    return replica / "data" / "rdb"


def save_description(replica: Path, app: AppInfo) -> None:
    """Write down which table a replica belongs to; on disk when this returns."""
    value: dict[str, Any] = {name: getattr(app, name) for name in _MEMBERS}
    value["envs"] = dict(app.envs)
    write_durably(replica / ".app-info", orjson.dumps(value))


def load_description(replica: Path) -> AppInfo:
    """Which table a replica belongs to.

    Raises:
        FolderError: It is not written down, or not readably.
    """
    file = replica / ".app-info"
    try:
        value = orjson.loads(file.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise FolderError(f"{file}: {error}") from error
    if not isinstance(value, Mapping) or not isinstance(value.get("app_id"), int):
        raise FolderError(f"{file}: not a table's description")
    return AppInfo(**{name: value[name] for name in (*_MEMBERS, "envs") if name in value})


def write_durably(file: Path, data: bytes) -> None:
    """Write a file so that after a crash it has either its old or its new content."""
    temporary = file.with_name(file.name + ".tmp")
    with temporary.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)
    sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def set_aside(replica: Path, kind: str, now_s: int) -> Path:
    """Rename the folder of a replica that is gone (``gar``) or broken (``err``); on disk when this returns."""
    stamp = now_s
    while (target := replica.with_name(f"{replica.name}.{stamp}.{kind}")).exists():
        stamp += 1
    replica.rename(target)
    sync_folder(target.parent)
    return target


def delete(folder: Path) -> None:
    """Delete a folder and everything in it; one that is not there is fine."""
    shutil.rmtree(folder, ignore_errors=True)
