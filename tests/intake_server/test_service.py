"""Threads, shared work, caches and the book of ids (specification §6.2, §6.3)."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from typing import Any

import pytest

from intake_server.catalog import DriverChoice, Entry, Scope
from intake_server.encoding.parts import Parts
from intake_server.lately_used import LatelyUsed
from intake_server.recipes import Recipe, SearchRecipe, is_id
from intake_server.search import Query
from intake_server.service.recipe_book import RecipeBook
from intake_server.service.sending import LARGE_BYTES, InFlight
from intake_server.service.shared_work import SharedWork
from intake_server.service.workers import Busy, TookTooLong, Workers
from tests.intake_server.conftest import until

KEY = b"k" * 32


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def recipe(name: str, **more: Any) -> Recipe:
    entry = Entry(name, (DriverChoice("csv", "csv"),), Scope("/srv/"))
    return Recipe(None, name, entry, **more)


class Blocked:
    """A job that waits until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.runs = 0

    def __call__(self) -> str:
        self.runs += 1
        assert self.let_go.wait(10)
        return "done"


async def test_a_job_gives_its_result_or_its_exception():
    workers = Workers("test", threads=2, queue=2, per_key=1)
    assert await workers.run(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await workers.run(lambda: 1 / 0)
    assert workers.running == 0
    workers.close()


async def test_one_key_cannot_take_all_threads():
    workers, blocked = Workers("test", threads=2, queue=9, per_key=1), Blocked()
    held = [asyncio.create_task(workers.run(blocked, key="slow")) for _ in range(3)]
    await until(lambda: workers.waiting == 2)
    assert await workers.run(lambda: "other", key="other") == "other"
    blocked.let_go.set()
    assert await asyncio.gather(*held) == ["done"] * 3
    workers.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux knows the niceness of a thread")
async def test_threads_stand_back_as_far_as_they_are_told():
    def own_niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = own_niceness()
    nice, plain = Workers("nice", 1, 1, 1, niceness=before + 1), Workers("plain", 1, 1, 1)
    assert (await nice.run(own_niceness), await plain.run(own_niceness)) == (before + 1, before)
    assert own_niceness() == before
    nice.close()
    plain.close()


async def test_a_full_queue_is_busy():
    workers, blocked = Workers("test", threads=1, queue=1, per_key=1), Blocked()
    held = [asyncio.create_task(workers.run(blocked)) for _ in range(2)]
    await until(lambda: workers.waiting == 1)
    with pytest.raises(Busy):
        await workers.run(lambda: None)
    blocked.let_go.set()
    await asyncio.gather(*held)
    workers.close()


async def test_a_job_that_takes_too_long_is_given_up_and_counted_until_it_ends():
    workers, blocked = Workers("test", threads=1, queue=1, per_key=1), Blocked()
    with pytest.raises(TookTooLong):
        await workers.run(blocked, key="slow", timeout_s=0.01)
    assert (workers.running, workers.lost) == (0, 1)
    assert await workers.run(lambda: "still working", key="other") == "still working"
    blocked.let_go.set()
    await until(lambda: workers.lost == 0)
    assert await workers.run(lambda: "again", key="slow") == "again"
    workers.close()


async def test_a_caller_that_goes_away_leaves_its_place_in_the_line():
    workers, blocked = Workers("test", threads=1, queue=5, per_key=1), Blocked()
    first = asyncio.create_task(workers.run(blocked))
    second = asyncio.create_task(workers.run(blocked))
    await until(lambda: workers.waiting == 1)
    second.cancel()
    await until(lambda: workers.waiting == 0)
    blocked.let_go.set()
    assert (await first, blocked.runs, workers.running) == ("done", 1, 0)
    workers.close()


async def test_equal_work_is_done_once_and_stops_when_nobody_waits():
    shared: SharedWork[int] = SharedWork()
    begun, ended = asyncio.Event(), asyncio.Event()
    runs = 0

    async def work() -> int:
        nonlocal runs
        runs += 1
        begun.set()
        try:
            await ended.wait()
        finally:
            begun.clear()
        return runs

    waiting = [asyncio.create_task(shared.run("key", work)) for _ in range(3)]
    await begun.wait()
    waiting[0].cancel()
    ended.set()
    assert await asyncio.gather(*waiting[1:]) == [1, 1]
    ended.clear()
    alone = asyncio.create_task(shared.run("key", work))
    await begun.wait()
    alone.cancel()
    await until(lambda: not begun.is_set())
    assert len(shared) == 0


def parts(size: int) -> Parts:
    return Parts.of([bytes(size)])


def test_the_cache_drops_what_was_used_longest_ago():
    cache = LatelyUsed[Parts](100, largest=50, idle_s=10, clock=Clock())
    for name in "abc":
        cache.put(name, parts(40))
    assert [cache.get(name) is not None for name in "abc"] == [False, True, True]
    assert (cache.size, cache.hits, cache.misses) == (80, 2, 1)


def test_the_cache_takes_nothing_larger_than_it_may():
    cache = LatelyUsed[Parts](100, largest=50, idle_s=10, clock=Clock())
    cache.put("large", parts(51))
    assert (cache.get("large"), cache.size) == (None, 0)


def test_the_cache_forgets_what_is_idle():
    clock = Clock()
    cache = LatelyUsed[Parts](100, largest=50, idle_s=10, clock=clock)
    cache.put("old", parts(10))
    clock.now = 5
    cache.put("new", parts(10))
    clock.now = 11
    cache.sweep()
    assert (cache.get("old"), cache.get("new") is not None, cache.size) == (None, True, 10)


def test_equal_recipes_have_equal_ids_and_others_have_others():
    book = RecipeBook(KEY, most=100, idle_s=10, clock=Clock())
    one = book.add(recipe("a", parameters={"x": 1, "y": 2}))
    assert one == book.add(recipe("a", parameters={"y": 2, "x": 1}))
    others = [
        recipe("b"), recipe("a", parameters={"x": 1}), recipe("a", version="2"), SearchRecipe(None, Query("a")),
        SearchRecipe(None, Query("a", 3)), SearchRecipe("p", Query("a")),
    ]  # fmt: skip
    assert len({one, *(book.add(other) for other in others)}) == 7
    assert RecipeBook(b"other" * 8, most=1, idle_s=1).add(recipe("a", parameters={"x": 1, "y": 2})) != one


def test_ids_are_opaque_text_that_a_header_can_carry():
    identifier = RecipeBook(KEY, most=1, idle_s=1).add(recipe("日本" * 500))
    assert (is_id(identifier), len(identifier), identifier.isascii()) == (True, 32, True)
    assert not any(map(is_id, ("", "a b", "x" * 129, "a\n", "é")))


def test_ids_expire_when_idle_and_the_oldest_go_when_there_are_too_many():
    clock = Clock()
    book = RecipeBook(KEY, most=2, idle_s=10, clock=clock)
    first, second = book.add(recipe("a")), book.add(recipe("b"))
    assert book.find(first) is not None
    third = book.add(recipe("c"))
    assert [book.find(i) is not None for i in (first, second, third)] == [True, False, True]
    clock.now = 11
    assert book.find(first) is None


async def test_an_answer_sent_to_several_clients_counts_once():
    in_flight, answer = InFlight(limit=100, most_large=1), parts(60)
    with in_flight.sending(answer, "a", lambda: None), in_flight.sending(answer, "a", lambda: None):
        assert in_flight.size == 60
    assert in_flight.size == 0


async def test_an_answer_beyond_the_limit_is_put_off_unless_it_is_alone():
    in_flight = InFlight(limit=100, most_large=1)
    refused = in_flight.sending(parts(10), "other", lambda: None)
    with in_flight.sending(parts(150), "alone", lambda: None), pytest.raises(Busy), refused:
        pass
    assert in_flight.size == 0


async def test_a_large_read_waits_until_a_large_answer_is_gone_and_a_small_one_does_not():
    in_flight = InFlight(limit=10 * LARGE_BYTES, most_large=1)
    held, began = asyncio.Event(), asyncio.Event()

    async def read(expected: int) -> None:
        async with in_flight.reading(expected):
            began.set()

    async def send() -> None:
        with in_flight.sending(parts(LARGE_BYTES), "a", lambda: None):
            await held.wait()

    sending = asyncio.create_task(send())
    await until(lambda: in_flight.size > 0)
    waiting = asyncio.create_task(read(LARGE_BYTES))
    await read(100)
    began.clear()
    await asyncio.sleep(0)
    assert not began.is_set()
    held.set()
    await asyncio.gather(sending, waiting)
    assert began.is_set()


def test_searches_make_no_other_id_invalid():
    book = RecipeBook(KEY, most=20, idle_s=10, clock=Clock())
    opened = book.add(recipe("a"))
    searched = [book.add(SearchRecipe(None, Query(str(n)))) for n in range(1000)]
    assert book.find(opened) is not None
    assert (book.find(searched[0]), book.find(searched[-1]) is not None) == (None, True)


class Shelf:
    """A shelf that only knows which ids it has."""

    def __init__(self) -> None:
        self.has: set[str] = set()

    def put(self, identifier: str, recipe: Any) -> None:
        self.has.add(identifier)

    def touch(self, identifiers: Any) -> None:
        pass

    def drop(self, identifiers: Any) -> None:
        self.has.difference_update(identifiers)


def test_ids_take_a_number_of_bytes_at_most_in_memory_and_on_disk():
    shelf = Shelf()
    book = RecipeBook(KEY, most=10_000, idle_s=10, clock=Clock(), shelf=shelf, most_bytes=200_000)
    ids = [book.add(recipe("a", parameters={"x": str(n) * 1000})) for n in range(1000)]
    assert book.size <= 200_000
    assert shelf.has == {one for one in ids if book.find(one) is not None}
    assert ids[-1] in shelf.has
    many_files = recipe("b", pin=[["/srv/part.parquet", 1, "stamp"]] * 1000)
    book.add(many_files)
    assert book.size <= many_files.size
