"""What a crash leaves of a log."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path


def copy_log(folder: Path, copy: Path) -> None:
    """Copy a log as it is on disk now.

    Released files go while this runs, the oldest first; so the newest is copied first, and none is missing in between.
    """
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(parents=True)
    for file in sorted(folder.glob("*.log"), reverse=True):
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(file, copy / file.name)
