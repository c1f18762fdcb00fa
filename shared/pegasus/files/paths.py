"""Paths below a file provider, made from members of requests.

A request says under which folder, policy, cluster or table its files are. What it says must stay below the provider's
own folder or URL: a name is one level of a path, a folder is several, and no level leads up, is matched as a pattern
by fsspec, or is something else than text. Pure.
"""

from __future__ import annotations

import posixpath
from urllib.parse import unquote

from shared.pegasus.wire.structures.base import Gpid

__all__ = ["BACKUP_METADATA", "BACKUP_ROOT", "PathError", "backup_folder", "backup_partition_folder", "folder", "name"]

BACKUP_ROOT = "backup"
"""Where backups are, below a provider, unless something else is asked for."""
BACKUP_METADATA = "backup_metadata"
"""The file that describes the backup of a partition, in the partition's folder."""
FORBIDDEN = "*?[]\\"
"""Characters that fsspec, or a system of files, takes for something else than a part of a name."""


class PathError(ValueError):
    """A member of a request would lead to another place; the text names it, and says what is expected."""


def name(field: str, value: str) -> str:
    """A member that is one level of a path.

    Args:
        field: What the member is called in the request.
        value: May be empty, which is no level.

    Raises:
        PathError: It leads elsewhere.
    """
    if "/" in value:
        raise PathError(f"{field} '{value}' contains '/', expected one name")
    return _level(field, value, value) if value else ""


def folder(field: str, value: str) -> str:
    """A member that is a path of any number of levels, without slashes at its ends.

    Raises:
        PathError: It leads elsewhere.
    """
    return "/".join(_level(field, value, level) for level in value.split("/") if level)


def backup_folder(root: str, policy_name: str, backup_id: int) -> str:
    """Where a backup is, below a provider.

    Raises:
        PathError: The root or the policy's name leads elsewhere.
    """
    return posixpath.join(folder("backup_path", root) or BACKUP_ROOT, name("policy_name", policy_name), str(backup_id))


def backup_partition_folder(root: str, policy_name: str, backup_id: int, app_name: str, gpid: Gpid) -> str:
    """Where the backup of one partition is, below a provider.

    Raises:
        PathError: The root, the policy's or the table's name leads elsewhere.
    """
    table = name("app_name", f"{app_name}_{gpid.app_id}")
    return posixpath.join(backup_folder(root, policy_name, backup_id), table, str(gpid.partition_index))


def _level(field: str, value: str, level: str) -> str:
    decoded = unquote(level)  # servers of files over HTTP decode it
    if decoded in (".", "..") or "/" in decoded:
        raise PathError(f"{field} '{value}' contains '{level}', expected names of folders below the provider")
    for character in level:
        if character in FORBIDDEN or not character.isprintable():
            raise PathError(
                f"{field} {value!a} contains {character!a}, expected printable characters without any of {FORBIDDEN}"
            )
    return level
