"""The nine keys by which an entry is described on the wire (protocol §3.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from intake_server.catalog.model import Entry
from intake_server.serialization.control import UNSERIALIZABLE, plain

MASK = "********"
_SECRET = re.compile(
    r"(?i)(passw(or)?d|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credential|authorization|sas)"
)
_URL_SECRET = re.compile(r"(?<=://)([^/@\s:]*):([^/@\s]+)@")


@dataclass(frozen=True, slots=True)
class DriverInfo:
    """What listings need to know of a driver without using it.

    Attributes:
        name: The name that clients know it by.
        container: The container of what it opens, None when only opening tells.
        dotted: The class that the classic client would use, for maps of drivers.
    """

    name: str
    container: str | None
    dotted: str


def describe(
    entry: Entry, name: str, drivers: Mapping[str, DriverInfo], container: str | None, show_arguments: bool
) -> dict[str, Any]:
    """Describe an entry.

    Args:
        entry: The entry.
        name: The name to show, dotted for results of a search.
        drivers: The drivers that this server has, by the names under which catalogs may mention them.
        container: What the entry opens as, None when unknown.
        show_arguments: Whether the arguments of entries that clients may not open themselves are shown too.
    """
    shown = show_arguments or entry.direct_access != "forbid"
    plugin = plugins(entry, drivers)
    return {
        "name": name,
        "container": container,
        "plugin": plugin,
        "driver": plugin,
        "description": entry.description,
        "direct_access": entry.direct_access,
        "user_parameters": [plain(parameter.describe()) for parameter in entry.parameters],
        "metadata": plain(entry.metadata),
        "args": masked(plain(entry.arguments, otherwise=_unserializable)) if shown else {},
    }


def plugins(entry: Entry, drivers: Mapping[str, DriverInfo]) -> list[str] | dict[str, str]:
    """The drivers of an entry that this server has: a list of names, or a map when the catalog gives aliases."""
    known = [(choice, drivers[choice.driver]) for choice in entry.drivers if choice.driver in drivers]
    if entry.has_aliases:
        return {choice.alias: info.dotted for choice, info in known}
    return [info.name for _, info in known]


def offered(entry: Entry, drivers: Mapping[str, DriverInfo], available: Sequence[str]) -> str | None:
    """The first of an entry's drivers that the client has; a map of drivers never matches (§3.3)."""
    if entry.has_aliases:
        return None
    names = [drivers[choice.driver].name if choice.driver in drivers else choice.driver for choice in entry.drivers]
    return next((name for name in names if name in available), None)


def masked(value: Any) -> Any:
    """A copy with everything that looks like a secret replaced, for listings."""
    if isinstance(value, dict):
        return {key: MASK if _SECRET.search(key) and item else masked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [masked(item) for item in value]
    if isinstance(value, str):
        return _URL_SECRET.sub(rf"\1:{MASK}@", value)
    return value


def _unserializable(_value: Any) -> str:
    return UNSERIALIZABLE
