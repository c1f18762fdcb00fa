"""Listings as bytes (specification §3.1): every entry is described and packed once for each state of a catalog."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack

from intake_server.encoding.control import pack

PROTOCOL_VERSION = "0.7.0"
_MOST_PAGES = 256
_MOST_CACHED_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Page:
    """One encoded answer of ``GET /v1/info``.

    Attributes:
        body: The MessagePack map.
        etag: A strong entity tag, quoted.
    """

    body: bytes
    etag: str


class Listing:
    """The encoded descriptions of one state of a catalog.

    Args:
        names: The entries' names, in order.
        described: Every entry's description as a packed MessagePack map, in the same order.
        metadata: The catalog's metadata.
    """

    def __init__(self, names: Sequence[str], described: Sequence[bytes], metadata: Any) -> None:
        self.names = tuple(names)
        self._described = tuple(described)
        self._position = {name: position for position, name in enumerate(names)}
        self._metadata = pack(metadata)
        self._pages: dict[Hashable, Page] = {}
        self._cached = 0

    def entry(self, name: str) -> bytes:
        """The packed description of one entry.

        Raises:
            KeyError: There is none of that name.
        """
        return self._described[self._position[name]]

    def page(
        self, offset: int, size: int | None, audience: Hashable = None, visible: Sequence[str] | None = None
    ) -> Page:
        """One page of the listing.

        Args:
            offset: How many visible entries to pass over; ignored without a size.
            size: The most entries to list, None for all.
            audience: Who asks: equal audiences see the same entries. None is not remembered unless all are visible.
            visible: The names that the caller may see, in order; None for all.
        """
        key = (audience, offset if size is not None else 0, size)
        is_cacheable = visible is None or audience is not None
        if is_cacheable and (known := self._pages.get(key)) is not None:
            return known
        page = self._encode(offset, size, visible)
        if is_cacheable:
            self._remember(key, page)
        return page

    def _encode(self, offset: int, size: int | None, visible: Sequence[str] | None) -> Page:
        chosen = self._described if visible is None else [self._described[self._position[name]] for name in visible]
        listed = chosen if size is None else chosen[offset : offset + size]
        body = b"".join(
            (
                b"\x84",
                pack("version"),
                pack(PROTOCOL_VERSION),
                pack("sources"),
                msgpack.Packer().pack_array_header(len(listed)),
                *listed,
                pack("length"),
                pack(len(chosen)),
                pack("metadata"),
                self._metadata,
            )
        )
        return Page(body, f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"')

    def _remember(self, key: Hashable, page: Page) -> None:
        if len(self._pages) >= _MOST_PAGES or self._cached + len(page.body) > _MOST_CACHED_BYTES:
            self._pages.clear()
            self._cached = 0
        self._pages[key] = page
        self._cached += len(page.body)
