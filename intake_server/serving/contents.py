"""What is in a catalog: descriptions of its entries, and which of them a caller may see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from intake_server.auth.authorizer import Authorizer, Caller
from intake_server.catalog.descriptions import describe
from intake_server.catalog.listings import Listing, Page, PageSlot
from intake_server.catalog.model import Catalog, Entry
from intake_server.concurrency.single_flight import SingleFlight
from intake_server.concurrency.thread_pool import ThreadPool
from intake_server.drivers.registry import ALIAS, CATALOG, DriverRegistry
from intake_server.serialization.control import pack
from intake_server.serving.lookup import CatalogSnapshot

_MAX_ALIASES = 8
_FEW_ENTRIES = 64
"""So many entries are described on the event loop without being noticed."""
_LISTING_S = 600.0


class Contents:
    """Describes and lists what catalogs have.

    Args:
        drivers: The drivers.
        threads: Describes many entries.
        authorizer: Who may see what.
        show_arguments: Whether arguments are shown that clients do not need.
    """

    def __init__(
        self, drivers: DriverRegistry, threads: ThreadPool, authorizer: Authorizer, *, show_arguments: bool
    ) -> None:
        self._drivers = drivers
        self._threads = threads
        self._authorizer = authorizer
        self._show_arguments = show_arguments
        self._encoding: SingleFlight[Page] = SingleFlight()

    def listing(self, snapshot: CatalogSnapshot) -> Listing:
        """The listing of a catalog."""
        known: Listing | None = snapshot.state.derived.get("listing")
        if known is None:
            catalog = snapshot.catalog

            def packed(name: str) -> bytes:
                return pack(self.describe(catalog, catalog.entries[name], name))

            known = snapshot.state.derived["listing"] = Listing(catalog.entries, packed, catalog.metadata)
        return known

    async def page(self, snapshot: CatalogSnapshot, offset: int, size: int | None, caller: Caller) -> Page:
        """One page of what a caller may see of a catalog; many entries are described in a thread."""
        listing = self.listing(snapshot)
        slot = PageSlot(offset, size, caller.audience, await self.visible(snapshot, caller))
        known = listing.known_page(slot)
        if known is not None:
            return known
        if listing.undescribed(slot) <= _FEW_ENTRIES:
            return listing.page(slot)
        key = (id(listing), slot.key if slot.is_cacheable else object())
        page = await self._encoding.run(
            key, lambda: self._threads.run(lambda: listing.encode(slot), key="listing", timeout_s=_LISTING_S)
        )
        listing.cache(slot, page)
        return page

    def describe(self, catalog: Catalog, entry: Entry, name: str) -> dict[str, Any]:
        """The description of an entry; may import drivers, never opens anything."""
        return describe(
            entry, name, self._drivers.infos, self.container(catalog, entry), show_arguments=self._show_arguments
        )

    def container(self, catalog: Catalog, entry: Entry) -> str | None:
        """What an entry opens as, None when unknown; an alias is what its target is."""
        for _ in range(_MAX_ALIASES):
            info = self._drivers.first_known(entry)
            if info is None or info.name != ALIAS:
                return None if info is None else info.container
            target = catalog.entries.get(alias_target(entry.arguments) or "")
            if target is None:
                return None
            entry = target
        return None

    def is_catalog(self, entry: Entry) -> bool:
        """Whether an entry is a nested catalog."""
        info = self._drivers.first_known(entry)
        return info is not None and info.container == CATALOG

    async def visible(self, snapshot: CatalogSnapshot, caller: Caller) -> Sequence[str]:
        """The names of the entries that a caller may see, in order."""
        entries = snapshot.catalog.entries
        if self._authorizer.shows_everything:
            return self.listing(snapshot).names
        key = ("visible", caller.audience)
        known: Sequence[str] | None = snapshot.state.derived.get(key) if caller.audience is not None else None
        if known is not None:
            return known
        allowed = await self._authorizer.visible(caller, [snapshot[name].path_entry for name in entries])
        names = tuple(name for name, ok in zip(entries, allowed, strict=True) if ok)
        if caller.audience is not None:
            snapshot.state.derived[key] = names
        return names


def alias_target(arguments: Mapping[str, Any]) -> str | None:
    """The name of the entry that an alias stands for."""
    target, mapping = arguments.get("target"), arguments.get("mapping")
    if isinstance(mapping, Mapping):
        target = mapping.get(target, target)
    return target if isinstance(target, str) else None
