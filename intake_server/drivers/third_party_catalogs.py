"""Catalog classes of other packages, such as ``sql_cat``: what they list becomes entries of ours.

Nothing of them is used beyond the descriptions of their entries: opening, reading and access are this server's. Their
arguments were found and not written, so they are no templates. They need the extra ``[intake]``.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from typing import Any

from intake_server.catalog.descriptions import masked
from intake_server.catalog.model import Catalog, DriverChoice, Entry, Scope
from intake_server.serialization.control import pack, plain

MAX_ENTRIES = 100_000


class UnreadableForeignCatalog(Exception):  # noqa: N818 - reported to the caller
    """A catalog of another package cannot be loaded, or has entries that are none."""


def load(kind: Any, entry: Entry, arguments: Mapping[str, Any], metadata: Mapping[str, Any], scope: Scope) -> Catalog:
    """The entries that a class lists now.

    Args:
        kind: The class.
        entry: The entry that names it; its direct access is that of the entries in it.
        arguments: The rendered arguments.
        metadata: The metadata of the entry.
        scope: What its entries inherit.

    Raises:
        UnreadableForeignCatalog: The class raised, or its entries have no driver.
    """
    try:
        made = kind(**copy.deepcopy(dict(arguments)))
        names = [str(name) for name, _ in zip(made, range(MAX_ENTRIES), strict=False)]
        described = {name: _described(made, name) for name in names}
        own = plain(dict(getattr(made, "metadata", None) or {}))
    except Exception as error:
        # a class of another package raises what it likes; this catalog alone cannot be read
        raise UnreadableForeignCatalog(f"{entry.name}: {type(error).__name__}: {error}") from error
    entries = {name: _entry(name, description, entry, scope) for name, description in described.items()}
    digest = hashlib.blake2b(pack([[name, one.digest()] for name, one in entries.items()]), digest_size=12)
    return Catalog(entry.name, entries, scope, {**metadata, **own}, generation=digest.hexdigest())


def _described(made: Any, name: str) -> dict[str, Any]:
    """What a catalog says of an entry, without opening it where that can be avoided."""
    entries = getattr(made, "_entries", None)
    found = entries[name] if isinstance(entries, Mapping) else made[name]
    return dict(found.describe())


def _entry(name: str, described: Mapping[str, Any], parent: Entry, scope: Scope) -> Entry:
    given = described.get("driver") or described.get("plugin")
    named = list(given.values()) if isinstance(given, Mapping) else [given] if isinstance(given, str) else given
    drivers = [driver for driver in named or () if isinstance(driver, str)]
    if not drivers:
        raise UnreadableForeignCatalog(f"{parent.name}: entry {name!r} names no driver")
    arguments = described.get("args") or {}
    return Entry(
        name=name,
        drivers=tuple(DriverChoice(driver, driver) for driver in drivers),
        scope=scope,
        arguments={str(key): value for key, value in arguments.items() if key not in ("metadata", "CATALOG_DIR")},
        description=str(masked(str(described.get("description") or ""))),
        metadata=plain(dict(described.get("metadata") or {})),
        direct_access=parent.direct_access,
        is_literal=True,
    )
