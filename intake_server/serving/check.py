"""What ``intake_server check`` says of catalogs: which entries open, and why others do not."""

from __future__ import annotations

import difflib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import Problem

if TYPE_CHECKING:
    from intake_server.auth.authorizer import Caller
    from intake_server.serving.catalogs import Catalogs
    from intake_server.serving.lookup import Located, View
    from intake_server.sources.pool import Sources

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


async def check_entries(catalogs: Catalogs, sources: Sources, caller: Caller) -> AsyncIterator[Finding]:
    """Open every entry of a catalog, and of the catalogs in it, with its default parameters."""
    view = await catalogs.root()
    async for finding in _check_view(catalogs, sources, view, caller, "", frozenset()):
        yield finding


async def _check_view(
    catalogs: Catalogs, sources: Sources, view: View, caller: Caller, prefix: str, seen: frozenset[bytes]
) -> AsyncIterator[Finding]:
    for name in view.catalog.entries:
        located = await catalogs.locate(view, [name], caller)
        digest = located.entry.digest()
        unknown = _unknown(catalogs, located)
        if unknown is not None:
            yield Finding(prefix + name, False, unknown)
            continue
        if not catalogs.is_catalog(located.entry):
            yield await _check_entry(catalogs, sources, located, caller, prefix + name)
            continue
        try:
            inner = await catalogs.enter(located, {})
        except Problem as problem:
            yield Finding(prefix + name, False, _why(problem))
            continue
        yield Finding(prefix + name, True, f"catalog of {len(inner.catalog)}")
        if digest not in seen and len(seen) < MOST_DEPTH:
            async for finding in _check_view(catalogs, sources, inner, caller, f"{prefix}{name}.", seen | {digest}):
                yield finding


def _why(problem: Problem) -> str:
    """The reason as the operator may read it, with the server's paths."""
    below = problem.__cause__
    return str(below) if below is not None and str(below) else problem.message


def _unknown(catalogs: Catalogs, located: Located) -> str | None:
    """A variable in the templates of an entry that nothing gives, so that it renders as nothing."""
    try:
        unknown = sorted(catalogs.unknown_variables(located.entry))
    except Problem as problem:
        return problem.message
    if not unknown:
        return None
    known = ["CATALOG_DIR", *(parameter.name for parameter in located.entry.parameters)]
    close = difflib.get_close_matches(unknown[0], known, n=1)
    hint = f", did you mean {close[0]!r}?" if close else f"; known are: {', '.join(known)}"
    return f"unknown variable {unknown[0]!r} in the arguments{hint}"


async def _check_entry(catalogs: Catalogs, sources: Sources, located: Located, caller: Caller, name: str) -> Finding:
    try:
        resolved = await catalogs.resolve(located.entry, {})
        target, target_resolved = await catalogs.target(located, resolved, caller)
        opened = await sources.open(target_resolved, target.entry)
    except Problem as problem:
        return Finding(name, False, _why(problem))
    schema = opened.source.schema
    partitions = "1 partition" if schema.npartitions == 1 else f"{schema.npartitions} partitions"
    return Finding(name, True, f"{schema.container}, {partitions}, shape {schema.shape}")
