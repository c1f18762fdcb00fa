"""What a crash leaves of files that are in use: a copy of them as they are at one moment."""

from __future__ import annotations

import shutil
from pathlib import Path

LOCKS = ("lock", "LOCK")


def copy_as_it_is(folder: Path, copy: Path) -> Path:
    """Copy a folder that is in use as it is at one moment: again, if its user has tidied up meanwhile."""

    def present(folder: Path) -> dict[str, bytes | int]:
        files = [file for file in folder.iterdir() if file.name not in LOCKS]
        return {file.name: file.read_bytes() if file.name == "manifest" else file.stat().st_size for file in files}

    while True:
        shutil.rmtree(copy, ignore_errors=True)
        try:
            before = present(folder)
            shutil.copytree(folder, copy, ignore=shutil.ignore_patterns(*LOCKS))
            if present(folder) == before and before.keys() == present(copy).keys():
                return copy
        except (FileNotFoundError, shutil.Error):
            pass  # a file was deleted while it was being copied
