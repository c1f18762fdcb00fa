"""Modules: the Python interface and what a mistake in one does (§8.4)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.modules import api
from gateway.modules.api import Module, ModuleGateway
from gateway.modules.builtin.demo import demo_file
from shared.errors import StartupError
from tests.gateway.conftest import Client, Serve, until

FILE = """
structs:
  Quote: {fields: {x: float, n: int}}
channels:
  bid: {type: Quote, send: true}
  ask: {type: Quote, send: true}
  spread: {type: Quote, state: {keyby: [n]}}
  sides: {type: Quote, keys: [a, b], send: true}
  many: {type: Quote, list: true, send: true}
  nobody: {type: Quote}
modules:
  - {use: "module.py:Example", greeting: hello}
"""


@pytest.fixture
def connect(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Serve the file with a module whose `connect` is the given function."""

    async def start(function: Any, **methods: Any) -> Client:
        class Example(Module):
            requires = methods.pop("requires", ())

            def __init__(self, greeting: str) -> None:
                self.greeting = greeting

            def connect(self, gw: ModuleGateway) -> None:
                function(gw)

        for name, method in methods.items():
            setattr(Example, name, method)
        monkeypatch.setattr("gateway.modules.loader.load_class", lambda path, folder: Example)
        return await serve(FILE, folder=tmp_path)

    return start


async def test_a_module_derives_one_channel_from_others(connect: Any):
    def spread(gw: ModuleGateway) -> None:
        gw.writes("spread")

        @gw.on("bid")
        @gw.on("ask")
        def changed(_tick: Any) -> None:
            bid, ask = gw.last("bid"), gw.last("ask")
            if bid and ask:
                gw.tick("spread", {"x": ask.x - bid.x})

    gateway = await connect(spread)
    await gateway.send("bid", {"x": 1})
    assert await gateway.get("/last/spread") == []
    await gateway.send("ask", {"x": 3})
    (record,) = await gateway.get("/last/spread")
    assert record["x"] == 2.0
    graph = await gateway.get("/channels_graph")
    assert "Example" in graph["bid"]["getters"]
    assert graph["spread"]["setters"] == ["Example"]


async def test_derived_ticks_queue_behind_the_tick_that_caused_them(connect: Any):
    seen: list[str] = []

    def chain(gw: ModuleGateway) -> None:
        gw.writes("spread")

        @gw.on("bid")
        def first(_tick: Any) -> None:
            gw.tick("spread", {"x": 1})
            seen.append("first")

        @gw.on("bid")
        def second(_tick: Any) -> None:
            seen.append("second")

        @gw.on("spread")
        def derived(_tick: Any) -> None:
            seen.append("derived")

    gateway = await connect(chain)
    await gateway.send("bid", {"x": 1})
    assert seen == ["first", "second", "derived"]


async def test_a_module_that_fails_stops_nothing(connect: Any):
    def broken(gw: ModuleGateway) -> None:
        @gw.on("bid")
        def fails(_tick: Any) -> None:
            raise RuntimeError("a bug in a module")

        @gw.on("bid")
        async def fails_later(_tick: Any) -> None:
            raise RuntimeError("another")

    gateway = await connect(broken)
    sent = await gateway.send("bid", [{"x": 1}, {"x": 2}])
    assert await gateway.get("/last/bid") == sent[1:]
    await until(lambda: gateway.gateway.engine.counters.handler_errors == 4)


async def test_what_a_handler_ticks_fails_where_it_is_ticked(connect: Any):
    def broken(gw: ModuleGateway) -> None:
        gw.writes("spread")

        @gw.on("bid")
        def fails(_tick: Any) -> None:
            gw.tick("spread", {"x": 1})

    gateway = await connect(broken)

    def cannot(_record: Any) -> Any:
        raise ArithmeticError("this cannot be done")

    gateway.gateway.engine.transform("spread", cannot)
    sent = await gateway.send("bid", {"x": 1})
    assert await gateway.get("/last/bid") == sent
    assert gateway.gateway.engine.counters.handler_errors == 1
    assert gateway.gateway.engine.channels["spread"].feeds[0].ticks == 0


async def test_ticks_that_wait_for_a_slow_handler_are_bounded_and_the_newest_are_kept(
    connect: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(api, "QUEUE_BYTES", 10_000)
    seen: list[float] = []
    go_on = asyncio.Event()

    def slow(gw: ModuleGateway) -> None:
        @gw.on("bid")
        async def waits(tick: Any) -> None:
            await go_on.wait()
            seen.append(tick.x)

    gateway = await connect(slow)
    await gateway.send("bid", [{"x": x} for x in range(100)])
    go_on.set()
    await until(lambda: bool(seen) and seen[-1] == 99)
    assert 5 < len(seen) < 25
    assert seen == sorted(seen)
    assert gateway.gateway.engine.counters.handler_errors == 1


async def test_handlers_that_are_coroutines_work_again_after_the_modules_have_moved_and_come_back(connect: Any):
    seen: list[float] = []
    connected: list[ModuleGateway] = []

    def follows(gw: ModuleGateway) -> None:
        connected.append(gw)

        @gw.on("bid")
        async def note(tick: Any) -> None:
            seen.append(tick.x)

    gateway = await connect(follows)
    await gateway.send("bid", {"x": 1})
    await until(lambda: seen == [1])
    await connected[0].end(Module())
    await connected[0].run(Module())
    await gateway.send("bid", {"x": 2})
    await until(lambda: seen == [1, 2])


async def test_an_id_that_is_no_text_reaches_subscribers_of_every_kind(connect: Any):
    gateway = await connect(lambda gw: gw.writes("spread"))
    answer = await gateway.http.get("/api/v1/sse?channel=spread")
    await asyncio.wait_for(answer.content.readuntil(b"\n\n"), 10)
    feed = gateway.gateway.engine.channels["spread"].feeds[0]
    record = gateway.gateway.engine.types[feed.channel.spec.struct].take_one({"id": "\ud800"})
    gateway.gateway.engine.apply([(feed, [record])])
    assert (await asyncio.wait_for(answer.content.readuntil(b"\n\n"), 10)).startswith(b'data: {"channel":"spread"')
    answer.close()


async def test_a_cycle_of_ticks_ends(connect: Any):
    def endless(gw: ModuleGateway) -> None:
        gw.writes("spread")

        @gw.on("bid")
        def start(_tick: Any) -> None:
            gw.tick("spread", {"x": 1})

        @gw.on("spread")
        def again(_tick: Any) -> None:
            gw.tick("spread", {"x": 1})

    gateway = await connect(endless)
    await gateway.send("bid", {"x": 1})
    assert gateway.gateway.engine.counters.derived_dropped == 1
    assert gateway.gateway.engine.channels["spread"].feeds[0].ticks == 10_000


async def test_handlers_get_keys_and_lists(connect: Any):
    seen: list[Any] = []

    def listen(gw: ModuleGateway) -> None:
        @gw.on("sides")
        def either(tick: Any, key: str | None = None) -> None:
            seen.append((tick.n, key))

        @gw.on("sides", "b")
        def only_b(tick: Any) -> None:
            seen.append(("b", tick.n))

        @gw.on("many")
        async def lists(ticks: Any) -> None:
            seen.append([tick.n for tick in ticks])

    gateway = await connect(listen)
    await gateway.send("sides", {"a": {"n": 1}, "b": {"n": 2}})
    await gateway.send("many", [{"n": 3}, {"n": 4}])
    await until(lambda: len(seen) == 4)
    assert seen == [(1, "a"), (2, "b"), ("b", 2), [3, 4]]


async def test_a_module_reads_states_waits_stages_validates_and_adds_routes(connect: Any):
    held: dict[str, Any] = {}

    def use(gw: ModuleGateway) -> None:
        held["gw"] = gw
        gw.writes("spread")

        def small(record: Any) -> None:
            if record.get("n", 0) > 100:
                raise ValueError("n is too large")

        gw.add_validator("Quote", small)
        from aiohttp import web

        async def hello(_request: web.Request) -> web.Response:
            return web.json_response({"hello": "world"})

        gw.http.add_get("/api/v1/hello", hello)

    gateway = await connect(use)
    gw: ModuleGateway = held["gw"]
    gw.tick("spread", [{"n": 2}, {"n": 1}])
    assert [record.n for record in gw.state("spread").query()] == [1, 2]
    found = gw.state("spread").query({"filters": [{"attr": "n", "by": {"value": 2}}]})
    assert [record.n for record in found] == [2]
    waiting = asyncio.ensure_future(gw.next("bid", timeout=10))
    await until(lambda: bool(gateway.gateway.engine.channels["bid"].feeds[0].waiters))
    await gateway.send("bid", {"x": 5})
    assert (await waiting).x == 5.0
    with pytest.raises(TimeoutError):
        await gw.next("bid", timeout=0)
    (error,) = await gateway.rejected("POST", "/send/bid", 422, json={"n": 101})
    assert error["msg"] == "Value error, n is too large"
    assert await gateway.get("/hello") == {"hello": "world"}


async def test_a_tick_from_another_thread_arrives(connect: Any):
    held: dict[str, Any] = {}

    def use(gw: ModuleGateway) -> None:
        gw.writes("spread")
        held["gw"] = gw

    gateway = await connect(use)
    await asyncio.to_thread(held["gw"].tick_threadsafe, "spread", {"n": 1})
    await until(lambda: gateway.gateway.engine.channels["spread"].feeds[0].ticks == 1)
    await asyncio.to_thread(held["gw"].tick_threadsafe, "spread", {"n": "bad"})
    await until(lambda: gateway.gateway.engine.counters.handler_errors == 1)


async def test_a_channel_that_a_module_requires_must_be_provided(connect: Any):
    with pytest.raises(StartupError, match="module Example needs the channel 'nobody', which nothing provides"):
        await connect(lambda gw: None, requires=["nobody"])


@pytest.mark.parametrize(
    ("use", "complaint"),
    [
        ("dmeo", "did you mean 'demo'"),
        ("nowhere.py:Module", "there is no file"),
        ("json:Nothing", "has no attribute 'Nothing'"),
        ("json:loads", "missing 1 required positional argument"),
        ("builtins:dict", "makes a dict, not a module"),
    ],
)
async def test_a_module_that_cannot_be_had_is_told(serve: Serve, use: str, complaint: str, tmp_path: Path):
    text = FILE.replace("module.py:Example", use).replace(", greeting: hello", "")
    with pytest.raises(StartupError) as error:
        await serve(text, folder=tmp_path)
    assert complaint in str(error.value)


async def test_a_module_may_name_no_channel_that_does_not_exist(connect: Any):
    with pytest.raises(StartupError, match="module Example: there is no channel 'nope'"):
        await connect(lambda gw: gw.writes("nope"))
    with pytest.raises(StartupError, match="module Example: channel 'sides' has no key 'zz'"):
        await connect(lambda gw: gw.writes("sides", "zz"))


async def test_the_demo_fills_every_channel_at_the_same_moment(serve: Serve):
    gateway = await serve(demo_file().replace("interval: 1s", "interval: 0.01, seed: 1"))
    await until(lambda: gateway.gateway.engine.channels["example"].feeds[0].ticks > 0)
    example = await gateway.get("/last/example")
    for channel in ("example_list", "example_with_state", "example_with_state_multiple", "example_with_stage"):
        found = await gateway.get(f"/state/{channel}" if channel == "example_with_state" else f"/last/{channel}")
        assert found[0]["mapping"] == {str(found[0]["x"]): found[0]["x"]}
    assert example[0]["y"] == str(example[0]["x"]) * 3
    assert len(await gateway.get("/last/basket")) == 3
    basket, words = await gateway.get("/next/basket"), await gateway.get("/last/str_basket")
    assert [record["y"] for record in basket] == [str(basket[0]["x"]) * times for times in (1, 2, 3)]
    assert [record["id"] for record in basket] <= [record["id"] for record in words]
    state = await gateway.get("/state/example")
    assert state[0]["x"] == 1


async def test_initialize_and_timer_tick_constants(serve: Serve):
    modules = """
modules:
  - {use: initialize, values: {bid: {x: 1}, sides: {a: {n: 1}}, many: [{n: 1}, {n: 2}]}}
  - {use: timer, channel: spread, value: {n: 5}, interval: 10ms}
"""
    gateway = await serve(FILE.split("modules:")[0] + modules)
    assert [record["x"] for record in await gateway.get("/last/bid")] == [1.0]
    assert [record["n"] for record in await gateway.get("/last/sides/a")] == [1]
    assert [record["n"] for record in await gateway.get("/last/many")] == [1, 2]
    first, second = await gateway.get("/next/spread"), await gateway.get("/next/spread")
    assert first[0]["id"] != second[0]["id"]
    assert (first[0]["n"], second[0]["n"]) == (5, 5)


async def test_a_module_may_be_any_class_and_every_method_is_optional(serve: Serve, tmp_path: Path):
    (tmp_path / "plain.py").write_text("class Plain:\n    def connect(self, gw): gw.writes('spread')\n")
    (tmp_path / "empty.py").write_text("class Empty: pass\n")
    text = FILE.split("modules:")[0] + "modules: [{use: 'plain.py:Plain'}, {use: 'empty.py:Empty', name: nothing}]\n"
    gateway = await serve(text, folder=tmp_path)
    assert await gateway.get("/last/spread") == []


async def test_a_module_that_fails_to_start_fails_the_start(serve: Serve, tmp_path: Path):
    (tmp_path / "bad.py").write_text("class Bad:\n    async def start(self, gw): raise RuntimeError('no luck')\n")
    text = FILE.split("modules:")[0] + "modules: [{use: 'bad.py:Bad'}]\n"
    with pytest.raises(StartupError, match="module Bad did not start: no luck"):
        await serve(text, folder=tmp_path)


async def test_the_module_of_the_documentation_works(serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    page = (Path(__file__).parents[3] / "docs" / "gateway.md").read_text()
    (tmp_path / "desk.py").write_text("class Desk:" + page.partition("class Desk:")[2].partition("```")[0])
    gateway = await serve(
        "structs: {Price: {fields: {symbol: str, bid: float, ask: float}}}\n"
        "channels:\n"
        "  prices: {type: Price, send: true, stage: true, state: {keyby: [symbol]}}\n"
        "  venues: {type: Price, keys: [A, B]}\n"
        "modules: [{use: 'desk.py:Desk'}]\n",
        folder=tmp_path,
    )
    feed = gateway.gateway.engine.channels["prices"].feeds[0]
    await until(lambda: bool(feed.waiters))
    (error,) = await gateway.rejected("POST", "/send/prices", 422, json={"bid": 2, "ask": 1})
    assert error["msg"] == "Value error, bid is above ask"
    sent = await gateway.send("prices", [{"symbol": s, "bid": 1, "ask": ask} for s, ask in (("X", 40), ("Y", 50))])
    venues = gateway.gateway.engine.channels["venues"]
    await until(lambda: all(venue.last is not None for venue in venues.feeds))
    assert await gateway.get("/last/venues/A") == sent[:1]
    assert await gateway.get("/last/venues/B") == sent[1:]
    (staged,) = gateway.gateway.engine.stages["prices"].contents(None).values()
    assert len(staged) == 1
    assert "is staged in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("ask", "complaint"),
    [
        (lambda gw: gw.state("nope"), "there is no state 'nope'"),
        (lambda gw: gw.stage("bid"), "channel 'bid' has no staging areas; 'stage: true' gives it some"),
        (lambda gw: gw.add_validator("Nope", str), "there is no struct 'Nope'"),
    ],
)
async def test_what_a_module_asks_for_and_does_not_exist_is_named(connect: Any, ask: Any, complaint: str):
    with pytest.raises(StartupError) as error:
        await connect(ask)
    assert str(error.value).endswith(f"module Example: {complaint}")


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("import nothing_of_that_name\n", "own.py:1: ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("\nraise RuntimeError('boom')\n", "own.py:2: RuntimeError: boom"),
        ("x = (\n", "own.py:1: '(' was never closed"),
        ("class Own:\n    def __init__(self):\n        1 / 0\n", "own.py:3: ZeroDivisionError: division by zero"),
        ("class Own:\n    def connect(self, gw):\n        1 / 0\n", "own.py:3: ZeroDivisionError: division by zero"),
        ("class Other: pass\n", "has no attribute 'Own'"),
    ],
)
async def test_a_module_that_cannot_be_had_is_told_with_both_places(
    serve: Serve, tmp_path: Path, code: str, complaint: str
):
    (tmp_path / "own.py").write_text(code)
    text = "structs: {S: {fields: {x: int}}}\nchannels: {c: {type: S}}\nmodules:\n  - {use: 'own.py:Own'}\n"
    with pytest.raises(StartupError) as error:
        await serve(text, folder=tmp_path)
    assert str(error.value).startswith("channels.yml:4: modules.0: module ")
    assert str(error.value).endswith(complaint)
