"""``next``: waiting for ticks (§2.3)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from tests.gateway.conftest import Client, Serve, until
from tests.gateway.examples import DEMO_TYPES


async def waiting(gateway: Client, count: int) -> None:
    """Return when that many requests wait."""
    channels = list(gateway.gateway.engine.channels)
    await until(lambda: sum(len(c.waiters) + sum(len(f.waiters) for f in c.feeds) for c in channels) == count)


async def after(gateway: Client, path: str, *sends: tuple[str, object]) -> object:
    """What ``next`` answers when those sends follow it."""
    request: Awaitable[object] = asyncio.ensure_future(gateway.get(f"/next/{path}"))
    await waiting(gateway, 1)
    for channel, value in sends:
        await gateway.send(channel, value)
    return await request


async def test_next_is_the_first_tick_after_the_request(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    await gateway.send("example", {"x": 1})
    answer = await after(gateway, "example", ("example", [{"x": 2}, {"x": 3}]))
    assert [record["x"] for record in answer] == [2]


async def test_next_of_a_list_channel_is_the_whole_list(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    answer = await after(gateway, "example_list", ("example_list", [{"x": 2}, {"x": 3}]))
    assert [record["x"] for record in answer] == [2, 3]


async def test_next_of_a_basket_is_completed_by_any_key_and_answers_all_that_ticked(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    await gateway.send("basket/A", {"x": 1})
    answer = await after(gateway, "basket", ("basket/C", {"x": 3}))
    assert [record["x"] for record in answer] == [1, 3]


async def test_next_of_a_key_waits_for_that_very_key(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    answer = await after(gateway, "basket/B", ("basket/A", {"x": 1}), ("basket/B", {"x": 2}))
    assert [record["x"] for record in answer] == [2]


async def test_a_whole_basket_that_ticks_at_once_is_seen_whole(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    answer = await after(gateway, "basket", ("basket", {"A": {"x": 1}, "B": {"x": 2}, "C": {"x": 3}}))
    assert len(answer) == 3


async def test_a_timeout_is_a_408_that_says_where(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    detail = await gateway.rejected("GET", "/next/basket/A?timeout=0.01", 408)
    assert detail == "Timeout: no tick on basket/A within 0.01s"


@pytest.mark.parametrize("timeout", ["soon", "-1", "nan", "inf"])
async def test_a_timeout_that_is_no_number_of_seconds_is_a_422(serve: Serve, timeout: str):
    gateway = await serve(DEMO_TYPES)
    (error,) = await gateway.rejected("GET", f"/next/example?timeout={timeout}", 422)
    assert error["loc"] == ["query", "timeout"]


async def test_after_answers_at_once_with_the_tick_behind_the_one_that_is_known(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    sent = await gateway.send("example", [{"x": 1}, {"x": 2}, {"x": 3}])
    assert await gateway.get(f"/next/example?after={sent[0]['id']}") == [sent[1]]
    await gateway.send("basket/A", {"x": 7, "id": "seven"})
    await gateway.send("basket/A", {"x": 8})
    assert [each["x"] for each in await gateway.get("/next/basket/A?after=seven")] == [8]


async def test_after_the_newest_or_an_unknown_tick_waits(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    sent = await gateway.send("example", {"x": 1})
    for known in (sent[0]["id"], "unknown"):
        answer = await after(gateway, f"example?after={known}", ("example", {"x": 2}))
        assert [record["x"] for record in answer] == [2]


async def test_a_thousand_waiters_are_all_answered_by_one_tick(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    gateway.http.session.connector._limit = 0
    requests = [asyncio.ensure_future(gateway.get("/next/example")) for _ in range(1000)]
    await waiting(gateway, 1000)
    sent = await gateway.send("example", {"x": 5})
    assert await asyncio.gather(*requests) == [sent] * 1000


async def test_a_waiter_whose_client_went_away_is_forgotten(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    gateway.http.session.connector._limit = 0
    requests = [asyncio.ensure_future(gateway.get("/next/example")) for _ in range(100)]
    await waiting(gateway, 100)
    for request in requests:
        request.cancel()
    await asyncio.gather(*requests, return_exceptions=True)
    await waiting(gateway, 0)
    answer = await after(gateway, "example", ("example", {"x": 2}))
    assert [record["x"] for record in answer] == [2]
