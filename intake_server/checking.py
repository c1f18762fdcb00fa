"""What ``intake_server check`` says of catalogs: which entries open, and why others do not."""

from __future__ import annotations

import difflib
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
        unknown = _unknown(server, located)
        if unknown is not None:
            yield Finding(prefix + name, False, unknown)
            continue
        if not server.catalogs.is_catalog(located.entry):
            yield await _check_entry(server, located, caller, prefix + name)
            continue
        try:
            inner = await server.catalogs.enter(located, {})
        except Problem as problem:
            yield Finding(prefix + name, False, _why(problem))
            continue
        yield Finding(prefix + name, True, f"catalog of {len(inner.catalog)}")
        if digest not in seen and len(seen) < MOST_DEPTH:
            async for finding in _check_view(server, inner, caller, f"{prefix}{name}.", seen | {digest}):
                yield finding


def _why(problem: Problem) -> str:
    """The reason as the operator may read it, with the server's paths."""
    below = problem.__cause__
    return str(below) if below is not None and str(below) else problem.message


def _unknown(server: CatalogServer, located: Located) -> str | None:
    """A variable in the templates of an entry that nothing gives, so that it renders as nothing."""
    try:
        unknown = sorted(server.catalogs.unknown_variables(located.entry))
    except Problem as problem:
        return problem.message
    if not unknown:
        return None
    known = ["CATALOG_DIR", *(parameter.name for parameter in located.entry.parameters)]
    close = difflib.get_close_matches(unknown[0], known, n=1)
    hint = f", did you mean {close[0]!r}?" if close else f"; known are: {', '.join(known)}"
    return f"unknown variable {unknown[0]!r} in the arguments{hint}"


async def _check_entry(server: CatalogServer, located: Located, caller: Caller, name: str) -> Finding:
    try:
        resolved = await server.catalogs.resolve(located.entry, {})
        target, target_resolved = await server.catalogs.target(located, resolved, caller)
        opened = await server.sources.open(target_resolved, target.entry)
    except Problem as problem:
        return Finding(name, False, _why(problem))
    schema = opened.source.schema
    partitions = "1 partition" if schema.npartitions == 1 else f"{schema.npartitions} partitions"
    return Finding(name, True, f"{schema.container}, {partitions}, shape {schema.shape}")
