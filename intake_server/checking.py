"""What ``intake_server check`` says of catalogs: which entries open, and why others do not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import Problem

if TYPE_CHECKING:
    from intake_server.app import CatalogServer
    from intake_server.service.guard import Caller
    from intake_server.service.views import Located, View

MOST_DEPTH = 4


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one entry.

    Attributes:
        name: Its dotted name.
        opens: Whether it opens with its default parameters.
        detail: What it opened as, or why it did not.
    """

    name: str
    opens: bool
    detail: str


async def check(server: CatalogServer, caller: Caller) -> AsyncIterator[Finding]:
    """Open every entry of a catalog, and of the catalogs in it, with its default parameters."""
    view = await server.catalogs.root()
    async for finding in _check_view(server, view, caller, "", frozenset()):
        yield finding


async def _check_view(
    server: CatalogServer, view: View, caller: Caller, prefix: str, seen: frozenset[bytes]
) -> AsyncIterator[Finding]:
    for name in view.catalog.entries:
        located = await server.catalogs.locate(view, [name], caller)
        digest = located.entry.digest()
        if not server.catalogs.is_catalog(located.entry):
            yield await _check_entry(server, located, caller, prefix + name)
            continue
        try:
            inner = await server.catalogs.enter(located, {})
        except Problem as problem:
            yield Finding(prefix + name, False, problem.message)
            continue
        yield Finding(prefix + name, True, f"catalog of {len(inner.catalog)}")
        if digest not in seen and len(seen) < MOST_DEPTH:
            async for finding in _check_view(server, inner, caller, f"{prefix}{name}.", seen | {digest}):
                yield finding


async def _check_entry(server: CatalogServer, located: Located, caller: Caller, name: str) -> Finding:
    try:
        resolved = await server.catalogs.resolve(located.entry, {})
        target, target_resolved = await server.catalogs.target(located, resolved, caller)
        opened = await server.sources.open(target_resolved, target.entry)
    except Problem as problem:
        return Finding(name, False, problem.message)
    schema = opened.source.schema
    partitions = "1 partition" if schema.npartitions == 1 else f"{schema.npartitions} partitions"
    return Finding(name, True, f"{schema.container}, {partitions}, shape {schema.shape}")
