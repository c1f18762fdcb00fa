"""Listings as bytes: an entry is described and packed once for each state of a catalog."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack

from intake_server.concurrency.cache import LruCache
from intake_server.serialization.control import pack

PROTOCOL_VERSION = "0.7.0"
_MAX_PAGES = 256
_MAX_CACHED_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Page:
    """One encoded answer of ``GET /v1/info`` or ``GET /v1/source``.

    Attributes:
        body: The MessagePack map.
        etag: A strong entity tag, quoted.
    """

    body: bytes
    etag: str

    @classmethod
    def of(cls, body: bytes) -> Page:
        """A body with its entity tag."""
        return cls(body, f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"')

    @classmethod
    def of_entry(cls, packed: bytes) -> Page:
        """The answer that has the packed description of one entry."""
        return cls.of(b"\x81" + pack("source") + packed)


@dataclass(frozen=True, slots=True)
class PageSlot:
    """Which page of a listing, for whom.

    Attributes:
        offset: How many visible entries to pass over; ignored without a size.
        size: The most entries to list, None for all.
        audience: Who asks: equal audiences see the same entries. None is not cached unless all are visible.
        visible: The names that the caller may see, in order; None for all.
    """

    offset: int = 0
    size: int | None = None
    audience: Hashable = None
    visible: Sequence[str] | None = None

    @property
    def is_cacheable(self) -> bool:
        """Whether others will see the same page."""
        return self.visible is None or self.audience is not None

    @property
    def key(self) -> Hashable:
        """Equal for equal pages."""
        return (self.audience, self.offset if self.size is not None else 0, self.size)

    def names(self, every: Sequence[str]) -> Sequence[str]:
        """The names on the page, given all names of the catalog."""
        chosen = every if self.visible is None else self.visible
        return chosen if self.size is None else chosen[self.offset : self.offset + self.size]


class Listing:
    """The encoded descriptions of one state of a catalog, each made when it is first asked for.

    Args:
        names: The entries' names, in order.
        describe: An entry's description as a packed MessagePack map, by its name.
        metadata: The catalog's metadata.
    """

    def __init__(self, names: Iterable[str], describe: Callable[[str], bytes], metadata: Any) -> None:
        self.names = tuple(names)
        self._describe = describe
        self._described: dict[str, bytes] = {}
        self._metadata = pack(metadata)
        self._pages = LruCache[Page](most=_MAX_PAGES, most_bytes=_MAX_CACHED_BYTES)
        self._entries: dict[str, Page] = {}

    def entry(self, name: str) -> bytes:
        """The packed description of one entry."""
        known = self._described.get(name)
        if known is None:
            known = self._described[name] = self._describe(name)
        return known

    def entry_page(self, name: str) -> Page:
        """The answer that describes one entry."""
        known = self._entries.get(name)
        if known is None:
            known = self._entries[name] = Page.of_entry(self.entry(name))
        return known

    def known_page(self, slot: PageSlot) -> Page | None:
        """A page that was made before, None otherwise."""
        return self._pages.get(slot.key) if slot.is_cacheable else None

    def undescribed(self, slot: PageSlot) -> int:
        """How many entries of a page have to be described yet: how much work the page is."""
        return sum(name not in self._described for name in slot.names(self.names))

    def page(self, slot: PageSlot) -> Page:
        """One page of the listing."""
        page = self.known_page(slot)
        if page is None:
            page = self.encode(slot)
            self.cache(slot, page)
        return page

    def cache(self, slot: PageSlot, page: Page) -> None:
        """Keep a page for others who see the same."""
        if slot.is_cacheable:
            self._pages.put(slot.key, page, len(page.body))

    def encode(self, slot: PageSlot) -> Page:
        """One page of the listing, made anew; unlike the other methods it may run in a thread."""
        listed = [self.entry(name) for name in slot.names(self.names)]
        length = len(self.names if slot.visible is None else slot.visible)
        body = b"".join(
            (
                b"\x84",
                pack("version"),
                pack(PROTOCOL_VERSION),
                pack("sources"),
                msgpack.Packer().pack_array_header(len(listed)),
                *listed,
                pack("length"),
                pack(length),
                pack("metadata"),
                self._metadata,
            )
        )
        return Page.of(body)
