"""Long work in slices, between which the event loop runs."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from types import coroutine
from typing import TypeVar

T = TypeVar("T")


@coroutine
def yield_to_loop() -> Generator[None, None, None]:
    """Yield to the event loop once; awaited between the slices of long work."""
    yield


async def run_in_slices(work: Generator[None, None, T]) -> T:
    """The result of work that yields between its slices; yields to the event loop each time."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            result: T = done.value
            return result
        await yield_to_loop()


async def collect(slices: Iterator[list[T]]) -> list[T]:
    """All items of some slices; yields to the event loop after each."""
    items: list[T] = []
    for each in slices:
        items += each
        await yield_to_loop()
    return items


def run_at_once(work: Generator[None, None, T]) -> T:
    """The result of such work without yielding to the event loop."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            result: T = done.value
            return result
