"""Long work in slices: whoever does it lets everybody else go on in between."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from types import coroutine
from typing import TypeVar

T = TypeVar("T")


@coroutine
def next_turn() -> Generator[None, None, None]:
    """Let everybody else go on first; awaited between the slices of long work."""
    yield


async def in_turns(work: Generator[None, None, T]) -> T:
    """The result of work that yields wherever it may be interrupted."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            result: T = done.value
            return result
        await next_turn()


async def collect(slices: Iterator[list[T]]) -> list[T]:
    """All items of some slices, others being served in between."""
    items: list[T] = []
    for each in slices:
        items += each
        await next_turn()
    return items


def at_once(work: Generator[None, None, T]) -> T:
    """The result of such work without a pause."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            result: T = done.value
            return result
