"""The published csp-gateway Python client, every method, against a gateway that runs its demo (protocol §7.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conformance.environments import client_python, run_client
from tests.processes import DaemonProcess, start_daemon

QUOTES = """
structs:
  Quote:
    python_type: quotes.Quote
    fields: {symbol: 'str = ""', price: float = 0.0, open: bool = false, seen: 'datetime?'}
channels:
  quotes: {type: Quote, send: true}
modules:
  - {use: initialize, values: {quotes: {symbol: DTE, price: 31.5}}}
auth: {api_key: {keys: [sesame], name: token}}
"""
PRELUDE = """
import asyncio, sys
from datetime import datetime, timedelta
from csp_gateway.client import AsyncGatewayClient, GatewayClient, GatewayClientConfig, ReturnType
from csp_gateway.utils.exceptions import (
    ServerRouteNotFoundException, ServerRouteNotMountedException, ServerUnknownException, ServerUnprocessableException,
)
from csp_gateway.utils import Filter, FilterCondition, Query

address = {"host": "127.0.0.1", "port": int(sys.argv[1])}

def raises(kind, function, *arguments, **named):
    try:
        function(*arguments, **named)
    except kind as error:
        return str(error)
    raise AssertionError(f"{function} raised no {kind}")
"""
GRAPH = """
import csp

@csp.node
def note(messages: csp.DynamicBasket[str, object], seen: list):
    if csp.ticked(messages):
        for channel, message in messages.tickeditems():
            seen.append((channel, message))
            echoed = [m for c, m in seen if c == "example" and "777" in str(m)]
            if echoed and any(c == "heartbeat" for c, _ in seen):
                csp.stop_engine()

@csp.graph
def graph(seen: list):
    client = GatewayClient(**address)
    subscribe = csp.curve(str, [(timedelta(0), "example"), (timedelta(seconds=0.1), "heartbeat")])
    data = csp.const({"example": {"x": 777}}, delay=timedelta(seconds=0.5))
    note(client.stream_csp(subscribe=subscribe, data=data), seen)

seen = []
csp.run(graph, seen, starttime=datetime.utcnow(), endtime=timedelta(seconds=30), realtime=True)
assert {"example", "heartbeat"} <= {channel for channel, _ in seen}
assert any("777" in str(message) for _, message in seen), seen[-3:]
"""
Run = Callable[[str], str]


@pytest.fixture(scope="module")
def python() -> Path:
    return client_python("csp-gateway-client-3.0.0")


@pytest.fixture(scope="module")
def demo() -> Iterator[DaemonProcess]:
    with start_daemon("gateway", "--set", "modules=[{use: demo, interval: 100ms}]") as daemon:
        yield daemon


@pytest.fixture(scope="module")
def quotes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    file = tmp_path_factory.mktemp("quotes") / "channels.yml"
    file.write_text(QUOTES)
    with start_daemon("gateway", "--channels", file) as daemon:
        yield daemon


@pytest.fixture
def run(python: Path, demo: DaemonProcess) -> Run:
    return lambda script: run_client(python, PRELUDE + script, str(demo.port))


@pytest.fixture
def run_quotes(python: Path, quotes: DaemonProcess) -> Run:
    return lambda script: run_client(python, PRELUDE + script, str(quotes.port))


def test_the_synchronous_client_reads_and_sends(run: Run):
    run("""
client = GatewayClient(**address)
assert client.last() == ["basket", "controls", "example", "example_list", "example_with_stage", "example_with_state",
                         "example_with_state_multiple", "never_ticks", "str_basket"]
tick, = client.next("example")
assert tick["y"] == str(tick["x"]) * 3
assert client.last("example_list")[0]["id"]
assert len(client.next("basket")) == len(client.last("basket")) == 3
keyed, = client.last("basket/A")
assert keyed["y"] == str(keyed["x"])
assert client.last("str_basket/a") and client.next("str_basket/b")

sent, = client.send("example", {"x": 12, "y": "HEY"})
assert (sent["x"], sent["y"], sent["internal_csp_struct"]) == (12, "HEY", {"z": 12})
assert client.lookup("example", sent["id"]) == [sent]
assert [each["x"] for each in client.send("example", [{"x": 13}, {"x": 14}])] == [13, 14]
assert client.send("basket/B", {"x": 7})[0]["x"] == 7
assert {each["x"] for each in client.send("basket", {"A": {"x": 1}, "C": {"x": 3}})} == {1, 3}
assert client.lookup("example", "no such id") == []
""")


def test_the_synchronous_client_queries_states(run: Run):
    run("""
client = GatewayClient(**address)
ids = [client.send("example", {"x": x, "y": "state"})[0]["id"] for x in (30, 40, 50)]
assert "example_with_state_alternative" in client.state()

def where(*filters):
    found = client.state("example", query=Query(filters=list(filters)))
    return [each["id"] for each in found if each["y"] == "state"]

assert [each["id"] for each in client.state("example") if each["y"] == "state"] == ids
assert where(Filter(attr="x", by=FilterCondition(value=40, where="=="))) == ids[1:2]
assert where(Filter(attr="x", by=FilterCondition(value=50, where="<")),
             Filter(attr="x", by=FilterCondition(value=30, where=">="))) == ids[:2]
assert where(Filter(attr="timestamp", by=FilterCondition(when=datetime(2020, 1, 1), where="<"))) == []
assert where(Filter(attr="id", by=FilterCondition(attr="y", where="<"))) == ids
assert where(Filter(attr="internal_csp_struct.z", by=FilterCondition(value=12, where="=="))) == ids
""")


def test_the_synchronous_client_reads_controls(run: Run):
    run("""
client = GatewayClient(**address)
beat, = client.controls("heartbeat")
assert (beat["name"], beat["status"]) == ("heartbeat", "ok")
stats, = client.controls("stats")
assert {"cpu", "memory", "memory-total", "pid", "active_threads", "max_threads", "now", "csp-now", "host", "user",
        "gateway"} <= set(stats["data"])
assert client.controls() == ["heartbeat", "shutdown", "stats"]
assert client.last("controls")[0]["name"] == "stats"
""")


def test_the_synchronous_client_stages(run: Run):
    run("""
client = GatewayClient(**address)
stage = "example_with_stage"
(area, contents), = client.stage_new(stage).items()
assert contents == []
staged = client.stage_add(stage, {"x": 1, "y": "staged"}, staging_ids=[area])[area]
assert [each["y"] for each in staged] == ["staged"]
assert list(client.stage_list(stage)) == [area] and client.stage_lookup(stage, area) == {area: staged}
assert client.stage(stage, method="list") == [area]
assert client.stage_remove(stage, {**staged[0]}, staging_ids=[area]) == {area: []}
client.stage_add(stage, {"x": 2, "y": "staged"})
released = client.stage_release(stage, staging_ids=[area])
assert [each["x"] for each in released[area]] == [2]
assert client.stage_list(stage) == {}
client.stage_new(stage)
assert len(client.stage_clear(stage, staging_ids=[])) == 1 and client.stage_list(stage) == {}
""")


def test_errors_arrive_as_the_clients_own_exceptions(run: Run):
    run("""
client = GatewayClient(**address)
assert "never_ticks" in raises(ServerRouteNotFoundException, client.last, "never_ticks")
raises(ServerRouteNotMountedException, client.last, "nonsense")
raises(ServerRouteNotFoundException, client.last, "str_basket/zz")
assert "value must be non-negative." in raises(ServerUnprocessableException, client.send, "example", {"x": -1})
assert "Extra inputs" in raises(ServerUnprocessableException, client.send, "example", {"bogus": 1})
raises(ServerRouteNotMountedException, client.send, "example_list", {"x": 1})
assert "405" in raises(ServerUnknownException, client.send)
assert "400" in raises(ServerUnknownException, client.stage_add, "example", None, ["nope"])
""")


@pytest.mark.parametrize(("kind", "integers", "floats", "texts"), [
    ("pandas", "int64", "float64", "str"), ("polars", "Int64", "Float64", "String"),
])  # fmt: skip
def test_results_become_data_frames(run: Run, kind: str, integers: str, floats: str, texts: str):
    run(f"""
client = GatewayClient(**address, return_type="{kind}")
ids = [GatewayClient(**address).send("example", {{"x": x, "y": "frame"}})[0]["id"] for x in (1, 2)]
for frame in (client.last("example"), client.next("example"), client.lookup("example", ids[0]),
              client.send("example", {{"x": 3}}), client.state("example"), client.last("basket/A"),
              client.last("basket"), client.last("example_list"), client.lookup("example", "no such id")):
    assert {{"id", "timestamp", "x", "y", "z", "dt", "d", "internal_csp_struct.z"}} <= set(frame.columns), frame.columns
    assert str(frame["x"].dtype) == "{integers}", frame["x"].dtype
    assert str(frame["y"].dtype) in ("{texts}", "string"), frame["y"].dtype
    assert str(frame["internal_csp_struct.z"].dtype) == "{integers}"
query = Query(filters=[Filter(attr="id", by=FilterCondition(value=ids[1], where="=="))])
assert list(client.state("example", query=query)["x"]) == [2]
assert "heartbeat" in list(client.controls("heartbeat")["name"])
assert client.controls("stats").shape[0] == 1
""")


def test_results_become_structs_of_the_clients_own_classes(run_quotes: Run):
    run_quotes("""
from types import ModuleType
from typing import Optional
from pydantic import BaseModel

class Quote(BaseModel):
    id: str
    timestamp: datetime
    symbol: str
    price: float
    open: bool
    seen: Optional[datetime] = None

sys.modules["quotes"] = ModuleType("quotes")
sys.modules["quotes"].Quote = Quote
client = GatewayClient(**address, api_key="sesame", return_type=ReturnType.Struct)
assert client.last("quotes")[0].symbol == "DTE"
sent, = client.send("quotes", {"symbol": "RWE", "price": 40, "seen": "2026-11-21T12:00:00Z"})
assert isinstance(sent, Quote) and sent.seen.year == 2026
assert client.lookup("quotes", sent.id) == [sent]
wrapper = GatewayClient(**address, api_key="sesame", return_type="wrapper").last("quotes")
assert wrapper.as_struct() == [sent] and wrapper.as_json()[0]["symbol"] == "RWE"
assert str(wrapper.as_pandas_df()["price"].dtype) == "float64"
assert str(wrapper.as_polars_df()["open"].dtype) == "Boolean"
""")


def test_keys_are_needed_where_the_gateway_asks_for_them(run_quotes: Run):
    run_quotes("""
assert GatewayClient(**address, api_key="sesame").last("quotes")
assert GatewayClient(**address, bearer_token="sesame").last("quotes")
for options in ({}, {"api_key": "wrong"}, {"bearer_token": "wrong"}):
    stranger = GatewayClient(**address, **options)
    for call, arguments in ((stranger.last, ["quotes"]), (stranger.send, ["quotes", {"price": 1}]),
                            (stranger.controls, ["heartbeat"]), (stranger.lookup, ["quotes", "1"])):
        assert raises(ServerUnknownException, call, *arguments) == "403: unauthorized"

async def stream():
    client = AsyncGatewayClient(GatewayClientConfig(**address, api_key="sesame"))
    async for message in client.stream(["heartbeat"], timeout=10):
        return message

assert asyncio.run(stream()) == {"channel": "heartbeat", "data": "PING"}
""")


def test_the_asynchronous_client_does_the_same(run: Run):
    run("""
async def main():
    client = AsyncGatewayClient(GatewayClientConfig(**address))
    assert "example" in await client.last()
    tick, = await client.next("example")
    sent, = await client.send("example", {"x": 5, "y": "async"})
    assert await client.lookup("example", sent["id"]) == [sent]
    query = Query(filters=[Filter(attr="y", by=FilterCondition(value="async", where="=="))])
    assert sent in await client.state("example", query=query)
    assert (await client.controls("heartbeat"))[0]["status"] == "ok"
    assert len(await client.last("basket")) == 3
    (area, _), = (await client.stage_new("example")).items()
    staged = await client.stage_add("example", {"x": 6, "y": "staged"}, staging_ids=[area])
    assert await client.stage_lookup("example", area) == staged
    assert list(await client.stage_list("example")) == [area]
    assert await client.stage_remove("example", staged[area][0], staging_ids=[area]) == {area: []}
    assert await client.stage_release("example", staging_ids=[area]) == {area: []}
    await client.stage_new("example")
    await client.stage_clear("example", staging_ids=[])
    assert await client.stage("example", method="list") == []
    pandas = AsyncGatewayClient(GatewayClientConfig(**address, return_type="pandas"))
    assert str((await pandas.last("example"))["x"].dtype) == "int64"

asyncio.run(main())
""")


def test_the_asynchronous_client_streams_and_publishes(run: Run):
    run("""
async def main():
    client = AsyncGatewayClient(GatewayClientConfig(**address))
    seen, published = set(), False
    async for message in client.stream(["example", ("basket", "A"), "heartbeat"], timeout=10):
        assert message["channel"] != "basket" or message["key"] == "A"
        seen.add(message["channel"])
        if message["channel"] != "heartbeat":
            seen |= {tick["y"] for tick in message["data"] if not tick["y"].isdigit()}
        if not published:
            published = True
            await client.publish("example", {"x": 777, "y": "published"})
            await client.publish("basket", [{"x": 778, "y": "keyed"}], key="A")
            await client.subscribe("str_basket", key="b")
        if {"example", "basket", "heartbeat", "str_basket", "published", "keyed"} <= seen:
            break
    await client.unsubscribe("example")

asyncio.run(main())
""")


def test_the_synchronous_client_streams(run: Run):
    run("""
class Enough(Exception):
    pass

client = GatewayClient(**address)
seen = []

def note(message):
    seen.append(message["channel"])
    if seen.count("example") >= 2 and "heartbeat" in seen:
        raise Enough

client.publish("example", {"x": 1})
raises(Enough, client.stream, ["example", "heartbeat"], callback=note, timeout=10)
""")


def test_a_csp_graph_follows_the_gateway(python: Path, demo: DaemonProcess, tmp_path: Path):
    file = tmp_path / "graph.py"  # csp reads the source of its nodes
    file.write_text(PRELUDE + GRAPH)
    run_client(python, "import runpy, sys; runpy.run_path(sys.argv[2], run_name='__main__')", str(demo.port), str(file))


def test_the_client_can_shut_the_gateway_down(python: Path):
    with start_daemon("gateway") as daemon:
        run_client(python, PRELUDE + "GatewayClient(**address).controls('shutdown')", str(daemon.port))
        assert daemon.wait() == 0
