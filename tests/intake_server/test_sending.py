"""Large answers are sent in steps, so that small requests do not wait for them (specification §12)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from aiohttp.test_utils import make_mocked_request

from intake_server.encoding.parts import Parts
from intake_server.handlers.wire import send_parts
from intake_server.service.sending import TURN_BYTES, InFlight

PARTS = Parts.of([b"head", bytes(8 * 2**20)])


@pytest.fixture
def in_flight() -> Iterator[InFlight]:
    made = InFlight(2**30, most_large=8)
    yield made
    made.close()


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
    assert turns >= 16 * PARTS.size // TURN_BYTES
