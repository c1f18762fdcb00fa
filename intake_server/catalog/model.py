"""Catalogs and their entries, as plain data.

A `Catalog` is one immutable state of a catalog: reloading makes a new one. Nothing here knows how it was
read, who may see it, or how an entry is opened.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import msgpack

from intake_server.catalog.parameters import Parameter, merge
from intake_server.serialization.control import plain

DirectAccess = Literal["forbid", "allow", "force"]


@dataclass(frozen=True, slots=True)
class Scope:
    """Where an entry was written, and what it inherits from there.

    Attributes:
        directory: The value of ``CATALOG_DIR``: an absolute folder with a trailing slash, or a URL without one.
        storage_options: Options of the file system that the catalog was read from, None for plain local files.
        parameters: Catalog-level parameters, outermost catalog first.
    """

    directory: str
    storage_options: Mapping[str, Any] | None = None
    parameters: tuple[Parameter, ...] = ()


@dataclass(frozen=True, slots=True)
class DriverChoice:
    """One driver that an entry names.

    Attributes:
        alias: What callers choose it by; the driver itself unless the catalog gives a map of drivers.
        driver: A driver name or a dotted class name.
        arguments: Arguments added when this driver is chosen.
    """

    alias: str
    driver: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """The unopened description of one data set (§1).

    Attributes:
        name: Its key in the catalog that defines it.
        drivers: The drivers named, in order; never empty.
        has_aliases: Whether the drivers were given as a map, so that callers may choose one with ``plugin``.
        arguments: Constructor arguments, with their templates unrendered.
        scope: Where it was written.
        description: For people.
        metadata: Free map.
        direct_access: Whether clients may, or must, read the data themselves.
        own_parameters: The parameters that the entry itself declares.
        is_literal: Whether the arguments are no templates: they were found, not written by the catalog's author.
    """

    name: str
    drivers: tuple[DriverChoice, ...]
    scope: Scope
    has_aliases: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    direct_access: DirectAccess = "forbid"
    own_parameters: tuple[Parameter, ...] = ()
    is_literal: bool = False

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """The effective parameters: the catalog's first, then its own, which override by name."""
        return merge(self.scope.parameters, self.own_parameters)

    @cached_property
    def _digest(self) -> bytes:
        return hashlib.blake2b(self._packed(), digest_size=16).digest()

    def digest(self) -> bytes:
        """A fingerprint of the definition: entries that would open alike have the same one."""
        return self._digest

    def _packed(self) -> bytes:
        definition = [
            [[choice.alias, choice.driver, plain(choice.arguments)] for choice in self.drivers],
            plain(self.arguments),
            self.scope.directory,
            plain(self.scope.storage_options),
            plain(self.metadata),
            self.direct_access,
            [[plain(parameter.describe()), parameter.is_sent] for parameter in self.parameters],
            self.is_literal,
        ]
        packed: bytes = msgpack.packb(definition, use_bin_type=True)
        return packed


@dataclass(frozen=True, slots=True)
class PathEntry:
    """One entry of the path from the root to something opened: a caller must be allowed each of them.

    Attributes:
        entry: The entry.
        names: The names from the root to it.
        catalog_metadata: Metadata of the catalog that holds it.
    """

    entry: Entry
    names: tuple[str, ...]
    catalog_metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Catalog:
    """One state of a catalog.

    Attributes:
        name: Its name, for search results and pages.
        entries: The entries by name, in catalog order. Search results have dotted names.
        metadata: Free map.
        description: For people.
        scope: What its entries inherit, used for entries of nested catalogs too.
        generation: Changes whenever any content does; equal content has the same one.
        problems: What was wrong with files that are left out of it, for the log and for ``/readyz``.
    """

    name: str
    entries: Mapping[str, Entry]
    scope: Scope
    metadata: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""
    generation: str = ""
    problems: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.entries)


def prefixes(name: str, longest: int) -> Iterator[str]:
    """The first names that a dotted name may begin with, shortest first (§9.1).

    Args:
        name: What a caller sent, of any length.
        longest: The length of the longest name there is; nothing longer is made.

    >>> list(prefixes("a.b.c", 3))
    ['a', 'a.b']
    """
    position = name.find(".", 0, longest + 1)
    while position != -1:
        yield name[:position]
        position = name.find(".", position + 1, longest + 1)
