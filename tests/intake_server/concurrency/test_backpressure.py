"""Memory of answers in flight is limited, and large answers are sent in steps (§6.2, §12)."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp.test_utils import make_mocked_request

from intake_server.concurrency.backpressure import ITERATION_BYTES, LARGE_BYTES, InFlight
from intake_server.concurrency.thread_pool import Busy
from intake_server.handlers.messages import send_parts
from intake_server.serialization.parts import Parts
from tests.intake_server.conftest import until

PARTS = Parts.of([b"head", bytes(8 * 2**20)])


@pytest.fixture
def in_flight() -> InFlight:
    return InFlight(2**30, most_large=8)


async def send(in_flight: InFlight, parts: Parts) -> None:
    with in_flight.sending(parts, "entry", lambda: None) as sending:
        await send_parts(make_mocked_request("POST", "/v1/source"), sending, 60.0)


async def turns_of_others_while(work: asyncio.Task[None]) -> int:
    turns = 0
    while not work.done():
        turns += 1
        await asyncio.sleep(0)
    await work
    return turns


async def test_a_client_that_keeps_up_does_not_take_the_turns_of_others(in_flight: InFlight):
    assert await turns_of_others_while(asyncio.create_task(send(in_flight, PARTS))) >= 8


async def test_many_clients_share_what_is_sent_in_one_turn(in_flight: InFlight):
    async def all_of_them() -> None:
        await asyncio.gather(*(send(in_flight, PARTS) for _ in range(16)))

    turns = await turns_of_others_while(asyncio.create_task(all_of_them()))
    assert turns >= 16 * PARTS.size // ITERATION_BYTES


def parts(size: int) -> Parts:
    return Parts.of([bytes(size)])


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
