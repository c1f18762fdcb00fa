"""Listings as bytes (protocol §3.1): described as late as possible, and once."""

from __future__ import annotations

from collections import Counter

import msgpack

from intake_server.catalog.listings import Listing, PageSlot
from intake_server.serialization.control import pack


class Described(Counter[str]):
    def __call__(self, name: str) -> bytes:
        self[name] += 1
        return pack({"name": name})


def names(listing: Listing, slot: PageSlot) -> list[str]:
    return [source["name"] for source in msgpack.unpackb(listing.page(slot).body)["sources"]]


def test_a_page_describes_its_own_entries_and_no_others():
    described = Described()
    listing = Listing([f"e{n}" for n in range(70_000)], described, {})
    assert names(listing, PageSlot(500, 2)) == ["e500", "e501"]
    assert described == {"e500": 1, "e501": 1}
    assert listing.undescribed(PageSlot(500, 3)) == 1
    assert msgpack.unpackb(listing.page(PageSlot(500, 2)).body)["length"] == 70_000


def test_every_entry_is_described_once_however_often_it_is_listed():
    described = Described()
    listing = Listing("abc", described, {})
    for slot in (PageSlot(), PageSlot(0, 2), PageSlot(1, 2), PageSlot(), PageSlot(audience="me", visible=("a",))):
        listing.page(slot)
    assert listing.entry("a") == pack({"name": "a"})
    assert described == {"a": 1, "b": 1, "c": 1}


def test_pages_of_callers_who_see_the_same_are_made_once_and_others_every_time():
    listing = Listing("abc", Described(), {})
    mine = PageSlot(audience="me", visible=("a", "c"))
    assert listing.page(mine) is listing.page(PageSlot(audience="me", visible=("a", "c")))
    assert names(listing, mine) == ["a", "c"]
    unknown = PageSlot(audience=None, visible=("b",))
    assert listing.page(unknown) is not listing.page(unknown)
    assert listing.page(PageSlot()) is listing.page(PageSlot(offset=7))
