"""What ``intake_server check`` says of catalogs: which entries open, and why others do not."""

from __future__ import annotations

import difflib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from intake_server.auth.authorizer import Caller
from intake_server.serving.catalogs import Catalogs
from intake_server.serving.contents import Contents
from intake_server.serving.lookup import CatalogSnapshot, LookupResult
from intake_server.serving.resolver import Resolver
from intake_server.sources.pool import SourcePool
from shared.errors import Problem

MAX_DEPTH = 4


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


class EntryCheck:
    """Opens every entry of a catalog, and of the catalogs in it, with its default parameters.

    Args:
        catalogs: Finds entries.
        contents: Tells which are catalogs.
        resolver: Resolves their templates.
        sources: Opens the others.
        caller: As whom.
    """

    def __init__(
        self, catalogs: Catalogs, contents: Contents, resolver: Resolver, sources: SourcePool, caller: Caller
    ) -> None:
        self._catalogs = catalogs
        self._contents = contents
        self._resolver = resolver
        self._sources = sources
        self._caller = caller

    async def findings(self) -> AsyncIterator[Finding]:
        """What was found, entry by entry."""
        async for finding in self._check(await self._catalogs.root(), "", frozenset()):
            yield finding

    async def _check(self, snapshot: CatalogSnapshot, prefix: str, seen: frozenset[bytes]) -> AsyncIterator[Finding]:
        for name in snapshot.catalog.entries:
            result = await self._catalogs.lookup(snapshot, [name], self._caller)
            digest = result.entry.digest()
            unknown = self._unknown_variable(result)
            if unknown is not None:
                yield Finding(prefix + name, False, unknown)
                continue
            if not self._contents.is_catalog(result.entry):
                yield await self._open(result, prefix + name)
                continue
            try:
                inner = await self._catalogs.open_nested(result)
            except Problem as problem:
                yield Finding(prefix + name, False, _why(problem))
                continue
            yield Finding(prefix + name, True, f"catalog of {len(inner.catalog)}")
            if digest not in seen and len(seen) < MAX_DEPTH:
                async for finding in self._check(inner, f"{prefix}{name}.", seen | {digest}):
                    yield finding

    def _unknown_variable(self, result: LookupResult) -> str | None:
        """A variable in the templates of an entry that nothing gives, so that it renders as nothing."""
        try:
            unknown = sorted(self._resolver.unknown_variables(result.entry))
        except Problem as problem:
            return problem.message
        if not unknown:
            return None
        known = ["CATALOG_DIR", *(parameter.name for parameter in result.entry.parameters)]
        close = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f", did you mean {close[0]!r}?" if close else f"; known are: {', '.join(known)}"
        return f"unknown variable {unknown[0]!r} in the arguments{hint}"

    async def _open(self, result: LookupResult, name: str) -> Finding:
        try:
            resolved = await self._resolver.resolve(result.entry, {})
            target, resolved = await self._catalogs.follow_aliases(result, resolved, self._caller)
            opened = await self._sources.open(resolved, target.entry)
        except Problem as problem:
            return Finding(name, False, _why(problem))
        schema = opened.source.schema
        partitions = "1 partition" if schema.npartitions == 1 else f"{schema.npartitions} partitions"
        return Finding(name, True, f"{schema.container}, {partitions}, shape {schema.shape}")


def _why(problem: Problem) -> str:
    """The reason as the operator may read it, with the server's paths."""
    below = problem.__cause__
    return str(below) if below is not None and str(below) else problem.message
