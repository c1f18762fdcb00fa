"""Several gateways on one bus, over a real Redis."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.cluster.redis_bus import PUBLISH, BusOptions, RedisBus
from gateway.handlers.context import Gateway
from gateway.schema.record import Record
from shared.errors import Problem, StartupError
from shared.tasks import Supervisor
from tests.gateway.joined import NOON, QUOTES, Listener, change, everything, feed_of, gateway_of, state_of
from tests.redis_server import RedisServer


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


@dataclass
class Member:
    """One gateway on the bus."""

    gateway: Gateway
    bus: RedisBus
    lost: asyncio.Event

    async def send(self, channel: str, *values: dict[str, Any], key: str | None = None) -> None:
        pending = self.gateway.engine.submit([change(self.gateway, channel, value, key=key) for value in values])
        assert pending is not None
        await pending

    async def sees(self, condition: Callable[[Gateway], bool]) -> None:
        """Wait until something is true here; ticks of others arrive when they arrive."""
        async with asyncio.timeout(60):
            while not condition(self.gateway):  # noqa: ASYNC110 - what others tick is noticed by nobody here
                await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def joined(
    server: RedisServer, *, epoch_ns: int = 1_000_000, text: str = QUOTES, **options: Any
) -> AsyncIterator[Member]:
    gateway = gateway_of(text, epoch_ns=epoch_ns)
    lost = asyncio.Event()
    bus = RedisBus(
        BusOptions(server.url, **options),
        gateway.engine,
        gateway.ids,
        now=lambda: NOON,
        lost=lost.set,
        tasks=Supervisor(),
    )
    await bus.open()
    gateway.engine.bus = bus
    try:
        yield Member(gateway, bus, lost)
    finally:
        await bus.close()


def ticked(channel: str, times: int) -> Callable[[Gateway], bool]:
    return lambda gateway: feed_of(gateway, channel).ticks >= times


async def test_a_tick_sent_to_one_gateway_is_seen_by_subscribers_of_all(redis: RedisServer):
    async with joined(redis) as one, joined(redis) as two:
        listeners = [Listener(member.gateway, ["quotes"]) for member in (one, two)]
        await one.send("quotes", {"symbol": "a", "price": 1})
        await two.sees(ticked("quotes", 1))
        assert listeners[0].messages == listeners[1].messages != []


async def test_a_sender_reads_its_own_write(redis: RedisServer):
    async with joined(redis) as one:
        await one.send("quotes", {"symbol": "a"}, {"symbol": "b"})
        assert feed_of(one.gateway, "quotes").ticks == 2
        assert len(state_of(one.gateway, "quotes")) == 2


async def test_all_gateways_see_one_order_whoever_sends(redis: RedisServer):
    async with joined(redis) as one, joined(redis) as two, joined(redis) as three:
        members = [one, two, three]
        listeners = [Listener(member.gateway, ["quotes"]) for member in members]

        async def send(member: Member, name: str) -> None:
            for number in range(40):
                await member.send("quotes", {"symbol": name, "price": number})

        await asyncio.gather(*(send(member, name) for member, name in zip(members, "abc", strict=True)))
        for member in members:
            await member.sees(ticked("quotes", 120))
        assert listeners[0].messages == listeners[1].messages == listeners[2].messages
        assert everything(one.gateway) == everything(two.gateway) == everything(three.gateway)


async def test_the_keys_of_a_basket_tick_at_the_same_moment_everywhere(redis: RedisServer):
    async with joined(redis) as one, joined(redis) as two:
        answers: list[bytes] = []
        two.gateway.engine.channels["venues"].waiters[answers.append] = None
        pending = one.gateway.engine.submit_together(
            [change(one.gateway, "venues", {"symbol": key}, key=key) for key in ("xetra", "new york")]
        )
        assert pending is not None
        await pending
        await two.sees(lambda gateway: bool(answers))
        assert answers[0].count(b"symbol") == 2


async def test_ids_of_different_gateways_never_meet(redis: RedisServer):
    async with joined(redis, epoch_ns=5_000_000) as one, joined(redis, epoch_ns=5_000_000) as two:
        for member in (one, two):
            await member.send("quotes", *[{"symbol": "s"} for _ in range(100)])
        await one.sees(ticked("quotes", 200))
        ids = [tick.records[0].id for tick in feed_of(one.gateway, "quotes").recent]
        assert len(set(ids)) == len(ids) == 200


async def test_who_joins_later_catches_up_before_it_serves(redis: RedisServer):
    async with joined(redis) as one:
        await one.send("quotes", *[{"symbol": str(number)} for number in range(300)])
        await one.send("venues", {"symbol": "z"}, key="xetra")
        async with joined(redis) as two:
            assert everything(two.gateway) == everything(one.gateway)


async def test_who_joins_much_later_begins_with_a_snapshot(redis: RedisServer):
    client = Redis.from_url(redis.url)
    async with joined(redis, snapshot_every=100) as one:
        await one.send("quotes", *[{"symbol": f"{number:03}"} for number in range(1000)])
        async with asyncio.timeout(60):
            while await client.xlen("gateway:{gateway}:ticks") >= 1000:
                await one.send("quotes", {"symbol": "000"})
        async with joined(redis, snapshot_every=100) as two:
            assert everything(two.gateway) == everything(one.gateway)
            await two.send("quotes", {"symbol": "late"})
            await one.sees(lambda gateway: len(state_of(gateway, "quotes")) == 1001)
            assert everything(two.gateway) == everything(one.gateway)
    await client.aclose()


async def test_what_was_ticked_outlives_every_gateway(redis: RedisServer):
    async with joined(redis) as one:
        await one.send("quotes", {"symbol": "a"})
        before = everything(one.gateway)
    async with joined(redis) as two:
        assert everything(two.gateway) == before


EDGES = """
structs: {Reading: {fields: {at: datetime, n: int}}}
channels: {readings: {type: Reading, send: true, state: {keyby: [at]}}}
"""


async def test_times_at_the_edge_of_the_calendar_are_keys_like_all_others(redis: RedisServer):
    times = ["9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-06:00"]
    async with joined(redis, text=EDGES) as here, joined(redis, text=EDGES) as there:
        await here.send("readings", *({"at": at, "n": n} for n, at in enumerate(times)))
        await there.sees(lambda gateway: gateway.engine.counters.ticks == 3)
        assert len(state_of(there.gateway, "readings")) == 3
        assert everything(there.gateway) == everything(here.gateway)


async def test_an_entry_that_cannot_be_applied_is_left_out_and_everything_goes_on(redis: RedisServer):
    async with joined(redis) as here, joined(redis) as there:
        client = Redis.from_url(redis.url)
        keys = ["gateway:{gateway}:ticks", "gateway:{gateway}:number", "gateway:{gateway}:sequence:other"]
        for sequence, payload in enumerate(
            [b"no msgpack", b"\x91\x93\xa6quotes\xc0\x91\x92\xc4\x05[{}]!\xc0"], start=1
        ):
            await client.eval(PUBLISH, 3, *keys, "other", 60, sequence, payload)
        await client.aclose()
        await here.send("quotes", {"symbol": "DTE"})
        await there.sees(lambda gateway: feed_of(gateway, "quotes").last is not None)
        for member in (here, there):
            assert member.gateway.engine.counters.entries_skipped == 2
            assert member.bus.is_ready
            assert not member.lost.is_set()


async def test_what_cannot_be_applied_is_told_to_its_sender_and_not_published(redis: RedisServer):
    async with joined(redis) as here, joined(redis) as there:
        here.gateway.engine.transform("quotes", cannot)
        with pytest.raises(ArithmeticError):
            await here.send("quotes", {"symbol": "DTE"})
        await here.send("batches", {"symbol": "DTE"})
        await there.sees(lambda gateway: feed_of(gateway, "batches").last is not None)
        assert feed_of(there.gateway, "quotes").last is None


def cannot(_record: Record) -> Record:
    raise ArithmeticError("this cannot be done")


async def test_buses_of_different_names_know_nothing_of_each_other(redis: RedisServer):
    async with joined(redis, name="prices") as one, joined(redis, name="orders") as two:
        await one.send("quotes", {"symbol": "a"})
        await two.send("quotes", {"symbol": "b"})
        assert feed_of(one.gateway, "quotes").ticks == feed_of(two.gateway, "quotes").ticks == 1


async def test_while_redis_is_gone_a_sender_is_told_and_afterwards_everything_goes_on(tmp_path: Path):
    with RedisServer(tmp_path, durable=True) as redis:
        async with joined(redis, timeout_s=0.5) as one, joined(redis) as two:
            await one.send("quotes", {"symbol": "before"})
            redis.kill()
            with pytest.raises(Problem, match="unknown whether this will tick") as caught:
                await one.send("quotes", {"symbol": "meanwhile"})
            assert caught.value.status == 503
            assert not one.bus.is_ready
            redis.start_again()
            await one.sees(lambda _gateway: one.bus.is_ready)
            await one.send("quotes", {"symbol": "after"})
            await two.sees(ticked("quotes", 3))
            symbols = [tick.records[0].symbol for tick in feed_of(two.gateway, "quotes").recent]
            assert symbols == ["before", "meanwhile", "after"]


async def test_a_group_whose_answer_was_lost_is_still_there_only_once(redis: RedisServer):
    client = Redis.from_url(redis.url)
    async with joined(redis) as one, joined(redis) as two:
        await one.send("quotes", {"symbol": "a"})
        [(_, fields)] = await client.xrange("gateway:{gateway}:ticks")
        script = client.register_script(PUBLISH)
        sequence = f"gateway:{{gateway}}:sequence:{fields[b'o'].decode()}"
        keys = ["gateway:{gateway}:ticks", "gateway:{gateway}:number", sequence]
        await script(keys=keys, args=[fields[b"o"], 60, 1, fields[b"g"]])
        await one.send("quotes", {"symbol": "b"})
        await two.sees(ticked("quotes", 2))
        assert await client.xlen("gateway:{gateway}:ticks") == 2
    await client.aclose()


async def test_a_gateway_that_cannot_follow_any_more_stops(redis: RedisServer):
    client = Redis.from_url(redis.url)
    async with joined(redis) as one:
        await one.send("quotes", {"symbol": "a"})
        await client.flushall()
        async with asyncio.timeout(60):
            await one.lost.wait()
    await client.aclose()


async def test_a_bus_that_does_not_answer_is_a_start_up_failure(tmp_path: Path):
    with RedisServer(tmp_path) as gone:
        gone.kill()
        with pytest.raises(StartupError, match=r"cannot join the bus redis://127\.0\.0\.1"):
            async with joined(gone):
                pass


def test_the_name_of_a_bus_is_written_behind_its_address():
    assert BusOptions.of("redis://cache:6379/2#prices") == BusOptions("redis://cache:6379/2", "prices")
    assert BusOptions.of("redis://cache:6379/2").name == "gateway"


def test_the_password_of_a_bus_is_never_shown():
    assert BusOptions.of("redis://gateway:secr@t@cache:6379/2").shown == "redis://cache:6379/2"
