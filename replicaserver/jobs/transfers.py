"""Blocking work with file providers, given up when it makes no progress.

A provider may hang: a mount whose server is gone, a peer that never answers. Such a call cannot be ended. Each transfer
therefore has a daemon thread of its own, and one that has moved nothing for `STALL_S` fails: its slot is free for the
next one, and its thread ends when the provider returns.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from shared.pegasus.files.providers import ProviderError

T = TypeVar("T")

STALL_S = 300.0
"""Seconds without progress after which a transfer fails."""
STOP_S = 5.0
"""Seconds that a transfer has to end when it is to stop."""


class Transfer:
    """One transfer, as its thread sees it."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._moved_s: float | None = None

    def moved(self, _size: int = 0) -> None:
        """Note progress; the first call begins the measurement.

        Raises:
            ProviderError: The transfer is to stop.
        """
        if self._stop.is_set():
            raise ProviderError("stopped")
        self._moved_s = time.monotonic()

    def idle_s(self) -> float:
        """Seconds without progress."""
        return 0.0 if self._moved_s is None else time.monotonic() - self._moved_s

    def give_up(self) -> None:
        """Let the thread end as soon as the provider returns."""
        self._stop.set()


class Transfers:
    """The transfers of one kind on a node.

    Args:
        most: How many run at a time.
    """

    def __init__(self, most: int) -> None:
        self._slots = asyncio.Semaphore(most)

    async def run(self, work: Callable[[Transfer], T], stop: threading.Event) -> T:
        """Do blocking work in a thread, when a slot is free.

        Args:
            work: Calls `Transfer.moved` whenever it has moved something.
            stop: Set by whoever wants it to end.

        Raises:
            ProviderError: It made no progress, or it was to stop and did not.
        """
        async with self._slots:
            loop, transfer = asyncio.get_running_loop(), Transfer(stop)
            result: asyncio.Future[T] = loop.create_future()
            threading.Thread(target=_work, args=(loop, result, work, transfer), name="transfer", daemon=True).start()
            stopping_s = 0.0
            while True:
                poll_s = min(1.0, STALL_S / 4, STOP_S / 4)
                await asyncio.wait({result}, timeout=poll_s)
                stopping_s = stopping_s + poll_s if stop.is_set() else 0.0
                if result.done():
                    return result.result()
                if transfer.idle_s() > STALL_S or stopping_s > STOP_S:
                    result.cancel()
                    transfer.give_up()
                    raise ProviderError(f"nothing was transferred for {transfer.idle_s():.0f} s")


def _work(
    loop: asyncio.AbstractEventLoop, result: asyncio.Future[T], work: Callable[[Transfer], T], transfer: Transfer
) -> None:
    answer: Callable[[], None]
    try:
        value = work(transfer)
    except Exception as error:  # noqa: BLE001 - whoever awaits the transfer gets it
        answer = _setter(result, result.set_exception, error)
    else:
        answer = _setter(result, result.set_result, value)
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(answer)


def _setter(result: asyncio.Future[T], setter: Callable[..., None], value: object) -> Callable[[], None]:
    return lambda: None if result.done() else setter(value)
