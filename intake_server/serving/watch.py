"""Noticing changed catalog files at once; the time to live still catches what is missed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog
import watchfiles

from intake_server.catalog.paths import is_url
from intake_server.serving.files import SUFFIXES, CatalogLocation

log = structlog.get_logger("intake_server.catalogs")
_MAGIC = re.compile(r"[*?\[]")
_DEBOUNCE_MS = 100


def folders(location: CatalogLocation) -> list[Path]:
    """The local folders in which a change may change the catalog; those that do not exist are left to the clock."""
    found = []
    for given in location.paths:
        if is_url(given):
            continue
        path = Path(given.removeprefix("file://")).expanduser().absolute()
        while _MAGIC.search(str(path)) or (not location.several and path == Path(given).absolute()):
            path = path.parent
        if path.suffix in SUFFIXES:
            path = path.parent
        if path.is_dir():
            found.append(path)
    return list(dict.fromkeys(found))


async def watch(location: CatalogLocation, changed: Callable[[], Awaitable[object]]) -> None:
    """Call a function whenever something changes in the folders of a catalog, until cancelled."""
    watched = folders(location)
    if not watched:
        return
    stop = asyncio.Event()
    try:
        async for changes in watchfiles.awatch(
            *watched, recursive=False, debounce=_DEBOUNCE_MS, step=20, stop_event=stop, watch_filter=_concerns
        ):
            log.debug("catalog files changed", count=len(changes))
            await changed()
    finally:
        stop.set()


def _concerns(_change: watchfiles.Change, path: str) -> bool:
    return path.endswith(SUFFIXES)
