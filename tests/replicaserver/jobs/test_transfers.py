"""A file provider that hangs fails its transfer, and holds up no other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from replicaserver.jobs import transfers
from replicaserver.jobs.transfers import Transfer, Transfers
from shared.pegasus.files.providers import ProviderError


@pytest.fixture
def answered() -> Iterator[threading.Event]:
    """Set when the provider that hangs answers at last."""
    event = threading.Event()
    yield event
    event.set()


async def test_what_a_transfer_ends_with_is_given_on():
    running = Transfers(1)

    def fail(_transfer: Transfer) -> None:
        raise ValueError("damaged")

    assert await running.run(lambda _transfer: 7, threading.Event()) == 7
    with pytest.raises(ValueError, match="damaged"):
        await running.run(fail, threading.Event())


async def test_a_transfer_without_progress_fails_and_the_next_one_runs(
    answered: threading.Event, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(transfers, "STALL_S", 0.05)
    running, stop, ended = Transfers(1), threading.Event(), threading.Event()

    def hang(transfer: Transfer) -> None:
        transfer.moved()
        answered.wait(60)
        try:
            transfer.moved()
        finally:
            ended.set()

    hanging = asyncio.ensure_future(running.run(hang, stop))
    following = asyncio.ensure_future(running.run(lambda _transfer: "done", threading.Event()))
    with pytest.raises(ProviderError, match="nothing was transferred for"):
        await hanging
    assert await following == "done"
    assert stop.is_set()
    answered.set()
    assert await asyncio.to_thread(ended.wait, 60), "the thread must end when the provider answers"


async def test_a_transfer_that_does_not_stop_is_given_up(answered: threading.Event, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(transfers, "STOP_S", 0.05)
    running, stop = Transfers(1), threading.Event()
    hanging = asyncio.ensure_future(running.run(lambda _transfer: answered.wait(60), stop))
    stop.set()
    with pytest.raises(ProviderError):
        await hanging


def test_only_the_time_since_the_last_progress_counts(monkeypatch: pytest.MonkeyPatch):
    now_s = 0.0
    monkeypatch.setattr("replicaserver.jobs.transfers.time.monotonic", lambda: now_s)
    transfer = Transfer(threading.Event())
    now_s = 1000.0
    assert transfer.idle_s() == 0.0  # it has not begun
    transfer.moved()
    now_s = 1299.0
    assert transfer.idle_s() == 299.0
    transfer.moved(1)
    assert transfer.idle_s() == 0.0
