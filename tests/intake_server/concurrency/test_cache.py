"""The cache is bounded by bytes and by idle time."""

from __future__ import annotations

from intake_server.concurrency.cache import LruCache
from intake_server.serialization.parts import Parts


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def parts(size: int) -> Parts:
    return Parts.of([bytes(size)])


def test_the_cache_drops_what_was_used_longest_ago():
    cache = LruCache[Parts](most_bytes=100, largest=50, idle_s=10, clock=Clock())
    for name in "abc":
        cache.put(name, parts(40), 40)
    assert [cache.get(name) is not None for name in "abc"] == [False, True, True]
    assert (cache.size, cache.hits, cache.misses) == (80, 2, 1)


def test_the_cache_takes_nothing_larger_than_it_may():
    cache = LruCache[Parts](most_bytes=100, largest=50, idle_s=10, clock=Clock())
    cache.put("large", parts(51), 51)
    assert (cache.get("large"), cache.size) == (None, 0)


def test_the_cache_forgets_what_is_idle():
    clock = Clock()
    cache = LruCache[Parts](most_bytes=100, largest=50, idle_s=10, clock=clock)
    cache.put("old", parts(10), 10)
    clock.now = 5
    cache.put("new", parts(10), 10)
    clock.now = 11
    cache.sweep()
    assert (cache.get("old"), cache.get("new") is not None, cache.size) == (None, True, 10)
