"""Source ids: equal for equal specs, opaque, and bounded by number, bytes and idle time (§6.2, §6.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from intake_server.catalog.model import DriverChoice, Entry, PathEntry, Scope
from intake_server.catalog.search import Query
from intake_server.sources.registry import SourceRegistry
from intake_server.sources.specs import SourceSpec, is_id

KEY = b"k" * 32


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def spec(name: str, parameters: Mapping[str, Any] | None = None, **more: Any) -> SourceSpec:
    entry = Entry(name, (DriverChoice("csv", "csv"),), Scope("/srv/"))
    return SourceSpec.of(None, name, (PathEntry(entry, (name,), {}),), parameters or {}, **more)


def search(text: str, *depth: int, parent: str | None = None) -> SourceSpec:
    return SourceSpec(parent, query=Query(text, *depth))


def test_equal_specs_have_equal_ids_and_others_have_others():
    registry = SourceRegistry(KEY, most=100, idle_s=10, clock=Clock())
    one = registry.add(spec("a", parameters={"x": 1, "y": 2}))
    assert one == registry.add(spec("a", parameters={"y": 2, "x": 1}))
    others = [
        spec("b"), spec("a", parameters={"x": 1}), spec("a", version="2"), search("a"),
        search("a", 3), search("a", parent="p"),
    ]  # fmt: skip
    assert len({one, *(registry.add(other) for other in others)}) == 7
    assert SourceRegistry(b"other" * 8, most=1, idle_s=1).add(spec("a", parameters={"x": 1, "y": 2})) != one


def test_ids_are_opaque_text_that_a_header_can_carry():
    identifier = SourceRegistry(KEY, most=1, idle_s=1).add(spec("日本" * 500))
    assert (is_id(identifier), len(identifier), identifier.isascii()) == (True, 32, True)
    assert not any(map(is_id, ("", "a b", "x" * 129, "a\n", "é")))


def test_ids_expire_when_idle_and_the_oldest_go_when_there_are_too_many():
    clock = Clock()
    registry = SourceRegistry(KEY, most=2, idle_s=10, clock=clock)
    first, second = registry.add(spec("a")), registry.add(spec("b"))
    assert registry.find(first) is not None
    third = registry.add(spec("c"))
    assert [registry.find(i) is not None for i in (first, second, third)] == [True, False, True]
    clock.now = 11
    assert registry.find(first) is None


def test_searches_make_no_other_id_invalid():
    registry = SourceRegistry(KEY, most=20, idle_s=10, clock=Clock())
    opened = registry.add(spec("a"))
    searched = [registry.add(search(str(n))) for n in range(1000)]
    assert registry.find(opened) is not None
    assert (registry.find(searched[0]), registry.find(searched[-1]) is not None) == (None, True)


class Store:
    """A store that only knows which ids it has."""

    def __init__(self) -> None:
        self.has: set[str] = set()

    def put(self, source_id: str, spec: Any) -> None:
        self.has.add(source_id)

    def touch(self, source_ids: Any) -> None:
        pass

    def drop(self, source_ids: Any) -> None:
        self.has.difference_update(source_ids)


def test_ids_take_a_number_of_bytes_at_most_in_memory_and_on_disk():
    store = Store()
    registry = SourceRegistry(KEY, most=10_000, idle_s=10, clock=Clock(), store=store, most_bytes=200_000)
    ids = [registry.add(spec("a", parameters={"x": str(n) * 1000})) for n in range(1000)]
    assert registry.size <= 200_000
    assert store.has == {one for one in ids if registry.find(one) is not None}
    assert ids[-1] in store.has
    many_files = spec("b", pin=[["/srv/part.parquet", 1, "stamp"]] * 1000)
    registry.add(many_files)
    assert registry.size <= many_files.size
