"""Notices that files changed: by watching their folders, as editors and deployments replace files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path


async def file_changes(paths: Iterable[Path], stop: asyncio.Event | None = None) -> AsyncIterator[None]:
    """Yield whenever one of some files changes, is replaced, appears or disappears, also behind a symbolic link.

    Args:
        paths: The files; their folders must exist, they themselves need not.
        stop: Ends the iteration.
    """
    from watchfiles import awatch  # takes its time to import, and few daemons need it

    files = sorted({path.absolute() for path in paths})
    known = _fingerprints(files)
    folders = {file.parent for file in files}
    async for _ in awatch(*folders, stop_event=stop, recursive=False, step=20, debounce=200):
        found = _fingerprints(files)
        if found != known:
            known = found
            yield


def _fingerprints(files: Sequence[Path]) -> list[tuple[int, int, int] | None]:
    """What tells two states of a file apart; None for one that cannot be looked at."""
    return [_fingerprint(file) for file in files]


def _fingerprint(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
