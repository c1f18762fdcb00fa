"""Several iservers with the same sessions, in process, over a real Redis."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import duckdb
import orjson
import pytest
from structlog.testing import capture_logs

from iserver.engine.shared_engine import OVERDUE_MS
from iserver.settings import ServerSettings
from tests.iserver.conftest import EXAMPLE, Clock, Ids, running
from tests.iserver.cutting_proxy import CuttingProxy
from tests.iserver.several import RATING, Together, flush, logged, show, until_logged
from tests.redis_server import RedisServer


async def test_a_session_goes_from_server_to_server_and_loses_nothing(join: Together, tmp_path: Path):
    a, b = await join("a"), await join("b")
    sessions = set()
    for number in range(10):
        server, other = (a, b) if number % 2 else (b, a)
        sessions.add((await show(server, f"imp-{number}"))["session"]["sessionId"])
        assert await other.signal(**RATING, impressionId=f"imp-{number}", args={"stars": number}) == 200
    assert len(sessions) == 1
    assert await flush(a) == "flushed 1 sessions to the warehouse\n"
    facts = logged(tmp_path / "warehouse")
    assert set(facts) == {
        *(f"imp-{number}" for number in range(10)),
        *(f"stars {number}" for number in range(10)),
        f"session {sessions.pop()}",
    }
    assert set(facts.values()) == {1}


async def test_servers_that_meet_a_visitor_at_once_make_one_session(join: Together, tmp_path: Path):
    servers = [await join(name) for name in "abc"]
    answers = await asyncio.gather(
        *(show(server, f"imp-{number}-{at}") for number in range(4) for at, server in enumerate(servers))
    )
    assert len({answer["session"]["sessionId"] for answer in answers}) == 1
    await flush(servers[0])
    facts = logged(tmp_path / "warehouse")
    assert len(facts) == 13
    assert set(facts.values()) == {1}


async def test_requests_in_flight_are_done_again_when_another_server_takes_the_session(join: Together, tmp_path: Path):
    a, b = await join("a"), await join("b")
    await show(a, "first")
    shown = [show(server, f"imp-{number}") for number in range(20) for server in (a,)]
    rated = [b.signal(**RATING, impressionId="first", args={"stars": number}) for number in range(20)]
    outcomes = await asyncio.gather(*shown, *rated)
    assert outcomes[20:] == [200] * 20
    await flush(b)
    facts = logged(tmp_path / "warehouse")
    assert len(facts) == 1 + 20 + 20 + 1
    assert set(facts.values()) == {1}


async def test_what_one_server_showed_another_knows_when_it_has_an_older_copy(join: Together):
    a, b = await join("a"), await join("b")
    await show(a, "imp-1")
    await show(b, "imp-2")
    assert await a.signal(**RATING, impressionId="imp-2", args={"stars": 1}) == 200
    assert await b.signal(**RATING, impressionId="never", args={"stars": 1}) == 404


async def test_a_session_key_leads_to_the_session_that_got_it_last_wherever_that_is(join: Together, tmp_path: Path):
    a, b = await join("a"), await join("b")
    await show(a, "imp-a", "dev-a", arrivalId="arrival")
    await show(b, "imp-b", "dev-b", arrivalId="arrival")
    cart = {"id": {"arrivalId": "arrival"}, "event": "AddToCart", "args": {"value": 1.5, "sku": "s"}}
    assert (await a.post("signal", cart)).status == 200
    await flush(a)
    files = f"read_parquet('{tmp_path}/warehouse/tables/session/*/*/*.parquet', union_by_name=true)"
    query = f"SELECT device_id FROM {files} WHERE len(add_to_cart) = 1"
    assert duckdb.connect().execute(query).fetchall() == [("dev-b",)]


async def test_another_value_of_a_session_key_ends_the_session_that_another_server_has(join: Together):
    a, b = await join("a"), await join("b")
    first = (await show(a, "imp-1", arrivalId="one"))["session"]["sessionId"]
    second = (await show(b, "imp-2", arrivalId="two"))["session"]["sessionId"]
    assert first != second
    third = (await show(a, "imp-3"))["session"]["sessionId"]
    assert third == second
    gone = await a.post("signal", {"id": {"arrivalId": "one"}})
    assert gone.status == 410


async def test_the_session_of_a_device_is_told_as_it_is_now(join: Together):
    a, b = await join("a"), await join("b")
    await show(a, "imp-1", userId="before")
    await show(b, "imp-2", userId="after")
    answer = orjson.loads(await (await a.get("session?id=dev-1")).read())
    assert answer["userId"] == "after"


async def test_sessions_of_a_server_that_is_gone_are_finished_by_another(
    join: Together, clock: Clock, tmp_path: Path, redis: RedisServer
):
    a, b = await join("a"), await join("b")
    for number in range(300):
        await show(a, f"imp-{number}", f"dev-{number}")
    await show(b, "alive", "dev-b")
    assert a.components.shared is not None
    await a.components.shared.sessions.client.close()  # as good as dead
    clock.advance(minutes=31)
    assert b.components.shared is not None
    await show(b, "alive again", "dev-b")
    await b.components.shared.adopt_orphans()
    assert len(b.engine.sessions) == 1  # they are left to their owner for a while
    clock.advance(ms=OVERDUE_MS)
    await b.components.shared.adopt_orphans()
    await b.engine.sweep_all()
    assert await b.components.run_etl() == 301
    facts = logged(tmp_path / "warehouse")
    assert {f"imp-{number}" for number in range(300)} <= set(facts)
    assert set(facts.values()) == {1}


async def test_a_server_that_ends_leaves_its_sessions_to_the_others(
    join: Together, tmp_path: Path, clock: Clock, redis: RedisServer
):
    settings = ServerSettings(
        tmp_path / "c", config_file=EXAMPLE / "shop.json", sessions=redis.url, warehouse=str(tmp_path / "warehouse")
    )
    async with running(settings, clock, Ids("c")) as c:
        session = (await show(c, "imp-1"))["session"]["sessionId"]
    b = await join("b")
    assert (await show(b, "imp-2"))["session"]["sessionId"] == session


async def test_a_flush_ends_the_sessions_of_every_server(join: Together):
    a, b = await join("a"), await join("b")
    await show(a, "imp-a", "dev-a")
    await show(b, "imp-b", "dev-b")
    assert await flush(a) == "flushed 2 sessions to the warehouse\n"
    answer = await b.post("signal", {"id": {"deviceId": "dev-b"}})
    assert answer.status == 410


async def test_redis_may_end_and_come_back(join: Together, redis: RedisServer, tmp_path: Path):
    a = await join("a")
    session = (await show(a, "imp-1"))["session"]["sessionId"]
    redis.kill()
    asking = asyncio.create_task(show(a, "imp-2"))
    with capture_logs() as logs:
        await until_logged(logs, "no answer from Redis")
    assert not asking.done()
    await asyncio.to_thread(redis.start_again)
    assert (await asking)["session"]["sessionId"] == session
    await flush(a)
    assert logged(tmp_path / "warehouse") == Counter({"imp-1": 1, "imp-2": 1, f"session {session}": 1})


async def test_without_redis_nothing_is_answered_from_memory(
    join: Together, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
):
    a = await join("a")
    await show(a, "imp-1")
    assert a.components.shared is not None
    monkeypatch.setattr(a.components.shared.sessions.client, "_timeout_s", 0.2)
    redis.kill()
    answer = await a.post("features", {"args": {"deviceId": "dev-1"}, "requests": {"ProductInfo": {}}})
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert (await a.get("session?id=dev-1")).status == 503
    assert len(a.engine.sessions) == 0
    await asyncio.to_thread(redis.start_again)
    assert (await a.get("session?id=dev-1")).status == 200


async def test_an_answer_that_is_lost_is_asked_for_again_and_nothing_is_doubled(
    proxy: CuttingProxy, join: Together, tmp_path: Path
):
    a, b = await join("a", sessions=proxy.url), await join("b")
    await show(a, "first")
    for number in range(5):
        proxy.cuts = 1
        assert await a.signal(**RATING, impressionId="first", args={"stars": number}) == 200
    proxy.cuts = 1
    await show(a, "new", "dev-2")  # a session whose creation goes unanswered
    assert proxy.lost_count == 6
    await show(b, "at b", "dev-1")  # b sees what is stored; a goes by what it has in memory
    proxy.cuts = 1
    await flush(a)
    facts = logged(tmp_path / "warehouse")
    assert set(facts) >= {"first", "new", *(f"stars {number}" for number in range(5))}
    assert set(facts.values()) == {1}


async def test_a_lost_answer_is_found_out_also_after_another_server_took_the_session(
    proxy: CuttingProxy, join: Together, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    a, b = await join("a", sessions=proxy.url), await join("b")
    await show(a, "first")
    monkeypatch.setattr("iserver.storage.redis.client.RETRY_S", 1.0)
    proxy.cuts = 1
    rating = asyncio.create_task(a.signal(**RATING, impressionId="first", args={"stars": 1}))
    await proxy.lost.wait()
    await show(b, "second")  # b has it now, with what a does not know that it stored
    assert await rating == 200
    await flush(b)
    facts = logged(tmp_path / "warehouse")
    assert set(facts) >= {"first", "second", "stars 1"}
    assert set(facts.values()) == {1}


async def test_a_device_hears_of_a_flush_where_it_listens_with_the_time_that_features_tell(
    join: Together, tmp_path: Path
):
    document = orjson.loads((EXAMPLE / "shop.json").read_bytes())
    device = document["qa"]["devices"][0]["persistentId"]
    config = tmp_path / "shop.json"
    config.write_bytes(orjson.dumps(document))
    a, b = await join("a", config_file=config), await join("b", config_file=config)
    told = (await show(b, "imp-1", device))["session"]["lastFlushTime"]
    async with a.client.get(f"/iserver/sse?id={device}") as stream:
        assert await stream.content.readuntil(b"data: ") and int(await stream.content.readline()) == told
        document["qa"]["devices"][0]["flushTime"] = 1_800_000_000_000
        document["revision"] = "another"
        config.write_bytes(orjson.dumps(document))
        await b.components.synchroniser.sync()
        assert b"flushcache" in await stream.content.readuntil(b"data: ")
        new = int(await stream.content.readline())
    assert new > told
    assert (await show(b, "imp-2", device))["session"]["lastFlushTime"] == new
