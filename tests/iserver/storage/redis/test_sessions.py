"""What can be wrong with the Redis of several iservers, and what they say and do then."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from iserver.components import open_components
from iserver.errors import NotStoredError
from iserver.settings import ServerSettings
from iserver.storage.redis.client import OutageLog, RedisClient
from iserver.storage.redis.scripts import LOOK
from iserver.storage.redis.sessions import RedisSessions
from shared.errors import StartupError
from tests.iserver.conftest import EXAMPLE, Clock, Iserver
from tests.iserver.plugins.test_runner import HERE
from tests.iserver.several import RATING, Together, flush, logged, show, until_logged
from tests.redis_server import RedisServer


def store_of(server: Iserver) -> RedisSessions:
    assert server.components.shared is not None
    return server.components.shared.sessions


# --- at start -------------------------------------------------------------------------------------


async def test_a_server_without_its_redis_does_not_start(tmp_path: Path):
    settings = ServerSettings(
        tmp_path / "a",
        config_file=EXAMPLE / "shop.json",
        sessions="redis://:secret@127.0.0.1:1/0",
        warehouse=str(tmp_path),
    )
    with pytest.raises(StartupError, match=r"--sessions redis://127\.0\.0\.1:1/0: ") as refused:
        await open_components(settings)
    assert "secret" not in str(refused.value)
    with pytest.raises(StartupError, match="--warehouse"):
        await open_components(replace(settings, warehouse=None))


async def test_a_wrong_password_is_told_at_start_and_not_shown(redis: RedisServer):
    async with Redis.from_url(redis.url) as client:
        await client.config_set("requirepass", "right")
    address = f"127.0.0.1:{redis.port}/0"
    with pytest.raises(StartupError, match=rf"--sessions redis://{address}: .*(password|WRONGPASS)") as refused:
        await RedisClient.open(f"redis://:wrong@{address}")
    assert "wrong@" not in str(refused.value)
    with pytest.raises(StartupError, match=r"--sessions redis://.*Authentication required"):
        await RedisClient.open(redis.url)
    await (await RedisClient.open(f"redis://:right@{address}")).close()


async def test_what_is_no_address_of_a_redis_is_told_at_start():
    with pytest.raises(StartupError, match=r"--sessions http://somewhere: .*redis://"):
        await RedisClient.open("http://somewhere")


async def test_without_the_client_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(StartupError, match=r"entrepot\[redis\]"):
        await RedisClient.open("redis://127.0.0.1:1/0")


def test_a_server_that_cannot_reach_its_redis_ends_with_one_line(tmp_path: Path):
    program = Path(sys.executable).with_name("iserver")
    flags = ["--data-dir", tmp_path, "--config", EXAMPLE / "shop.json", "--warehouse", tmp_path / "warehouse"]
    command = [program, "start", "--port", "0", *flags, "--sessions", "redis://127.0.0.1:1/0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "--sessions redis://127.0.0.1:1/0: " in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("settings", "warning"),
    [
        ({"appendonly": "no"}, "no append-only file"),
        ({"appendfsync": "everysec"}, "may lose the last second"),
        ({"maxmemory-policy": "allkeys-lru"}, "may evict sessions"),
        ({}, None),
    ],
)
async def test_a_redis_that_may_lose_sessions_is_told_at_start(
    redis: RedisServer, settings: dict[str, str], warning: str | None
):
    async with Redis.from_url(redis.url) as client:
        for name, value in settings.items():
            await client.config_set(name, value)
    with capture_logs() as logs:
        await (await RedisClient.open(redis.url)).close()
    warnings = [line["event"] for line in logs if line["log_level"] == "warning"]
    assert len(warnings) == (warning is not None)
    assert warning is None or warning in warnings[0]


async def test_a_clock_that_differs_from_that_of_redis_is_told_at_start(join: Together, clock: Clock):
    with capture_logs() as logs:
        await join("a")  # the test's clock says 2023
    assert any("clock differs" in line["event"] for line in logs)


# --- while it runs --------------------------------------------------------------------------------


async def test_requests_wait_while_redis_is_read_only(join: Together, redis: RedisServer, tmp_path: Path):
    a = await join("a")
    await show(a, "imp-1")
    async with Redis.from_url(redis.url) as client:
        with capture_logs() as logs:
            await client.replicaof("127.0.0.1", "1")
            asking = asyncio.create_task(show(a, "imp-2"))
            await until_logged(logs, "no answer from Redis")
        assert not asking.done()
        await client.replicaof("NO", "ONE")
    await asking
    await flush(a)
    assert {name: count for name, count in logged(tmp_path / "warehouse").items() if name.startswith("imp")} == {
        "imp-1": 1,
        "imp-2": 1,
    }


async def test_requests_wait_while_redis_loads_its_data(join: Together, redis: RedisServer):
    a = await join("a")
    session = (await show(a, "imp-1"))["session"]["sessionId"]
    async with Redis.from_url(redis.url) as client:
        others = client.pipeline()
        for number in range(4000):  # while it loads it answers after every 1024 changes
            others.set(f"other-{number}", "value")
        await others.execute()
    redis.kill()
    slowly = ("--key-load-delay", "300")
    with capture_logs() as logs:
        loading = asyncio.create_task(asyncio.to_thread(redis.start_again, *slowly))
        asking = asyncio.create_task(show(a, "imp-2"))
        await until_logged(logs, "loading the dataset")
        await loading
        assert (await asking)["session"]["sessionId"] == session
    assert not [line for line in logs if line["log_level"] == "error"]


async def test_a_full_redis_refuses_and_forgets_nothing(join: Together, redis: RedisServer, tmp_path: Path):
    a = await join("a")
    await show(a, "imp-1")
    client = store_of(a).client.redis
    await client.config_set("maxmemory", "1")
    answer = await a.post("features", {"args": {"deviceId": "dev-1"}, "requests": {"ProductInfo": {}}})
    assert answer.status == 503
    await client.config_set("maxmemory", "0")
    await client.script_flush()
    await show(a, "imp-2")
    await flush(a)
    assert {name for name in logged(tmp_path / "warehouse") if name.startswith("imp")} == {"imp-1", "imp-2"}


async def test_a_full_redis_gets_empty_as_sessions_end(join: Together, clock: Clock, tmp_path: Path):
    a, b = await join("a"), await join("b")
    await show(a, "imp-1")
    await show(b, "imp-2", "dev-2")
    await store_of(a).client.close()  # as good as dead
    await store_of(b).client.redis.config_set("maxmemory", "1")
    clock.advance(minutes=31)
    assert b.components.shared is not None
    await b.components.shared.adopt_orphans()
    await b.engine.sweep_all()
    assert await b.components.run_etl() == 2
    assert {"imp-1", "imp-2"} <= set(logged(tmp_path / "warehouse"))
    assert await store_of(b).client.command("EXISTS", f"{store_of(b).prefix}finished") == 0
    await store_of(b).client.redis.config_set("maxmemory", "0")


async def test_a_replica_that_has_missed_an_epoch_and_gives_it_again_does_not_confuse_its_owners(
    join: Together, tmp_path: Path
):
    a, b, c = await join("a"), await join("b"), await join("c")
    session = (await show(c, "first"))["session"]["sessionId"]
    client, names = store_of(c).client.redis, [f"{store_of(c).prefix}{kind}:{session}" for kind in "sc"]
    replicated = [await client.dump(name) for name in names]
    assert await a.signal(**RATING, impressionId="first", args={"stars": 1}) == 200  # in an epoch of a's
    for name, data in zip(names, replicated, strict=True):
        await client.restore(name, 0, data, replace=True)  # the replica takes over without it
    assert await b.signal(**RATING, impressionId="first", args={"stars": 2}) == 200  # in an epoch of the same number
    assert await b.signal(**RATING, impressionId="first", args={"stars": 3}) == 200
    assert await a.signal(**RATING, impressionId="first", args={"stars": 4}) == 200
    await flush(b)
    facts = logged(tmp_path / "warehouse")
    assert set(facts) >= {"stars 2", "stars 3", "stars 4"}
    assert set(facts.values()) == {1}


async def test_a_session_that_cannot_be_read_is_told_once_and_stays(join: Together, clock: Clock):
    a, b = await join("a"), await join("b")
    session = (await show(a, "imp-1"))["session"]["sessionId"]
    other = (await show(a, "imp-2", "dev-2"))["session"]["sessionId"]
    store = store_of(b)
    await store.client.command("RPUSH", f"{store.prefix}c:{session}", b'[["from-the-future"]]')
    await store_of(a).client.close()  # as good as dead
    clock.advance(minutes=31)
    assert b.components.shared is not None
    with capture_logs() as logs:
        for _ in range(3):
            await b.components.shared.adopt_orphans()
    assert [line["name"] for line in logs if line["log_level"] == "error"] == [session]
    assert (await b.post("features", {"args": {"deviceId": "dev-1"}, "requests": {}})).status == 200  # it is over
    await b.engine.sweep_all()
    assert [item.session_id for item in b.finished()] == [other]
    assert await store.client.command("EXISTS", f"{store.prefix}s:{session}") == 1


@pytest.mark.parametrize(
    ("chunk", "reason"),
    [
        (b'[["from-the-future", 1]]', 'found the change ["from-the-future",1], expected one of start, touch, '),
        (
            b'[["show", 7, "imp", 1]]',
            'found the change ["show",7,"imp",1], expected the values of its kind: IndexError',
        ),
        (b'[["start"]]', 'found the change ["start"], expected the fingerprint of a definition at 1'),
        (b"17", "found 17, expected a JSON list of changes"),
        (b'[["touch", 1]', 'found [["touch", 1], expected a JSON list of changes'),
    ],
)
async def test_a_request_for_a_session_that_cannot_be_read_is_told_why(join: Together, chunk: bytes, reason: str):
    a, b = await join("a"), await join("b")
    session = (await show(a, "imp-1"))["session"]["sessionId"]
    store = store_of(b)
    await store.client.command("RPUSH", f"{store.prefix}c:{session}", chunk)
    body = {"args": {"deviceId": "dev-1"}, "requests": {}}
    for answer in (await b.post("features", body), await b.post("features", body), await b.get("session?id=dev-1")):
        assert answer.status == 503
        assert (await answer.text()).startswith(f"session {session}: {reason}")


async def lose_the_head(store: RedisSessions, session: str) -> None:
    await store.client.command("LPOP", f"{store.prefix}c:{session}")


async def lose_the_list(store: RedisSessions, session: str) -> None:
    await store.client.command("DEL", f"{store.prefix}c:{session}")


async def lose_the_version(store: RedisSessions, session: str) -> None:
    await store.client.command("HDEL", f"{store.prefix}s:{session}", "version", "expiry")
    await lose_the_list(store, session)


@pytest.mark.parametrize("lose", [lose_the_head, lose_the_list, lose_the_version])
async def test_a_session_that_redis_has_lost_a_part_of_holds_up_no_other(
    join: Together, clock: Clock, lose: Callable[[RedisSessions, str], Awaitable[None]]
):
    a, b = await join("a"), await join("b")
    session = (await show(a, "imp-1", "broken"))["session"]["sessionId"]
    await show(a, "imp-2", "broken")
    await show(a, "imp-3", "dev-2")
    await lose(store_of(b), session)
    answer = await b.post("signal", {"id": {"deviceId": "broken"}})
    assert answer.status in (410, 503)  # 410 when it is not known to run
    assert (await b.post("signal", {"id": {"deviceId": "dev-2"}})).status == 200
    await store_of(a).client.close()  # as good as dead
    clock.advance(minutes=31)
    assert b.components.shared is not None
    await b.components.shared.adopt_orphans()
    await b.engine.sweep_all()
    assert [item.persistent_key for item in b.finished()] == ["dev-2"]
    assert "iserver_sessions_set_aside 1.0" in await (await b.client.get("/metrics")).text()


async def test_what_nobody_can_make_sense_of_ends_no_connection_to_redis(join: Together):
    a, b = await join("a"), await join("b")
    store = store_of(b)
    for message in (b"{", b"[]", b"17", b"\xff"):
        await store.client.command("PUBLISH", f"{store.prefix}flushes", message)
    with pytest.raises(NotStoredError, match="takes only text"):
        await store.client.command("GET", "\udcff")

    def fail(_answer: object) -> None:
        raise AttributeError("unforeseen")

    with pytest.raises(AttributeError, match="unforeseen"):
        await store.client.script(LOOK, [store.prefix, "none", 1], fail)
    for server, impression in ((a, "imp-1"), (b, "imp-2")):
        call = {"args": {"deviceId": "dev-1"}, "impressionId": impression, "requests": {"RatingBox": {"product": "p1"}}}
        statuses = [(await server.post("features", call)).status for _ in range(3)]
        assert statuses[-1] == 200, statuses  # a first one may be told to try again


async def test_a_definition_that_cannot_be_read_is_told_to_who_asks_for_its_sessions(join: Together):
    a, b = await join("a"), await join("b")
    session = (await show(a, "imp-1"))["session"]["sessionId"]
    store = store_of(b)
    (start,) = orjson.loads(await store.client.command("LINDEX", f"{store.prefix}c:{session}", 0))[:1]
    start[1] = "from-the-future"
    await store.client.command("LSET", f"{store.prefix}c:{session}", 0, orjson.dumps([start]))
    answer = await b.post("signal", {"id": {"deviceId": "dev-1"}})
    assert (answer.status, await answer.text()) == (
        503,
        f"session {session}: definition from-the-future: found nothing, expected its FDL",
    )


async def test_a_redis_that_refuses_to_write_is_told_once(join: Together):
    a = await join("a")
    client = store_of(a).client.redis
    await client.config_set("min-replicas-to-write", "1")  # refuses as it does when it cannot save (MISCONF)
    with capture_logs() as logs:
        for _ in range(5):
            answer = await a.post("features", {"args": {"deviceId": "dev-1"}, "requests": {}})
            assert answer.status == 503
            assert "the session store rejects the command: NOREPLICAS" in await answer.text()
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["Redis rejects commands"]
    await client.config_set("min-replicas-to-write", "0")
    await show(a, "imp-1")


def test_trouble_with_redis_is_told_once_and_its_end_too():
    now_s = 0.0
    told: list[str] = []
    trouble = OutageLog(lambda: now_s)
    with capture_logs() as logs:
        for _ in range(20):
            now_s += 1
            trouble.met("MISCONF", lambda: told.append("MISCONF"))
            trouble.passed()  # what writes nothing goes on
        trouble.met("OOM", lambda: told.append("OOM"))
        now_s = 60
        trouble.passed()
        trouble.passed()
        trouble.met("OOM", lambda: told.append("OOM"))
    assert told == ["MISCONF", "OOM", "OOM"]
    assert [(line["event"], line["after"]) for line in logs] == [("Redis works again", "OOM")]


# --- plugins --------------------------------------------------------------------------------------


async def test_plugins_of_two_servers_fill_a_session_that_changes_hands(join: Together):
    plugins = (f"{HERE}:Notes",)
    a, b = await join("a", plugins=plugins), await join("b", plugins=plugins)
    shown = await asyncio.gather(*(show(server, f"imp-{n}") for n in range(6) for server in (a, b)))
    assert {(each["session"]["sessionId"], each["session"]["tier"]) for each in shown} == {
        (shown[0]["session"]["sessionId"], "gold")
    }
    first = await a.features({"Search": {"query": "shoes"}}, impression="s-1")
    assert await b.signal(feature="Search", impressions=[{"impressionId": "s-2"}], impressionId="s-1") in (200, 400)
    again = await b.features({"Search": {"query": "shoes"}}, impression="s-3")
    assert first["Search"]["ranker"] == again["Search"]["ranker"] == "best-shoes"


# --- definitions ----------------------------------------------------------------------------------


async def test_a_definition_goes_when_nothing_refers_to_it_any_more(
    join: Together, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("iserver.storage.redis.sessions.DEFINITION_S", -1)  # also what was in force just now
    config = tmp_path / "shop.json"
    config.write_bytes((EXAMPLE / "shop.json").read_bytes())
    a = await join("a", config_file=config)
    store = store_of(a)

    async def kept() -> set[str]:
        await store.poll()
        return {name.decode() for name in await store.client.command("HKEYS", f"{store.prefix}definitions")}

    await show(a, "imp-1")
    old = a.engine.configuration.definition.fingerprint
    document = orjson.loads(config.read_bytes())
    document["fdl"][0]["content"] += " "
    config.write_bytes(orjson.dumps(document))
    await a.components.synchroniser.sync()
    new = a.engine.configuration.definition.fingerprint
    assert new != old
    assert await kept() == {old, new}  # a session uses it
    clock.advance(minutes=31)
    await a.engine.sweep_all()
    assert await kept() == {old, new}  # the queue to the warehouse does
    assert await a.components.run_etl() == 1
    assert await kept() == {new}
    await show(a, "imp-2")
    assert await kept() == {new}


async def test_a_session_cannot_begin_under_a_definition_that_is_gone(join: Together):
    a = await join("a")
    store = store_of(a)
    await store.client.command("DEL", f"{store.prefix}definitions")
    answer = await a.post("features", {"args": {"deviceId": "dev-1"}, "requests": {"ProductInfo": {}}})
    assert answer.status == 503
    await store.poll()  # as every second
    await show(a, "imp-1")
