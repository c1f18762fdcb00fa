"""Source ids: equal for equal specs, opaque, and bounded by number, bytes and idle time (§6.2, §6.3)."""

from __future__ import annotations

from typing import Any

from intake_server.catalog.model import DriverChoice, Entry, Scope
from intake_server.catalog.search import Query
from intake_server.sources.registry import RecipeBook
from intake_server.sources.specs import Recipe, SearchRecipe, is_id

KEY = b"k" * 32


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def recipe(name: str, **more: Any) -> Recipe:
    entry = Entry(name, (DriverChoice("csv", "csv"),), Scope("/srv/"))
    return Recipe(None, name, entry, **more)


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
