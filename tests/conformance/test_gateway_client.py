"""The published csp-gateway clients, synchronous and asynchronous, against the demo (specification §7, §10.1)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.modules.demo import demo_file
from tests.conformance.environments import client_python, run_client
from tests.processes import DaemonProcess, start_daemon

KEY = "test"
CONNECT = """
import asyncio, json, sys
from csp_gateway.client import AsyncGatewayClient, GatewayClient, GatewayClientConfig
from csp_gateway.utils import Filter, Query

port, key = int(sys.argv[1]), sys.argv[2]

def config(**options):
    return GatewayClientConfig(host="127.0.0.1", port=port, **{"api_key": key, "return_type": "raw", **options})

client = GatewayClient(config())
client.next("example")
"""


@pytest.fixture(scope="module")
def python() -> Path:
    return client_python(
        "csp-gateway-client-3.0.0",
        "csp-gateway-client==3.0.0",
        "aiohttp",
        "aiostream",
        "orjson",
        "pandas",
        "polars",
        "pyarrow",
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    file = tmp_path_factory.mktemp("demo") / "demo.yml"
    text = demo_file().replace("interval: 1s", "interval: 0.1")
    file.write_text(f"{text}\nauth: {{api_key: {{keys: [{KEY}]}}}}\n")
    with start_daemon("gateway", "--channels", file) as daemon:
        yield daemon


def run(python: Path, demo: DaemonProcess, script: str, key: str = KEY) -> Any:
    """What a client script prints last, as JSON."""
    return json.loads(run_client(python, CONNECT + script, str(demo.port), key).splitlines()[-1])


def test_every_reading_method_of_the_synchronous_client(python: Path, demo: DaemonProcess):
    found = run(
        python,
        demo,
        """
by_x = Query(filters=[Filter(attr="x", by={"value": 1, "where": "=="})])
last = client.last("example")
print(json.dumps({
    "groups": [client.last(), client.state(), client.send.__name__],
    "basket": len(client.last("basket")),
    "key": client.last("basket/A")[0]["y"] != "",
    "next": client.next("example")[0]["x"] > last[0]["x"],
    "state": [each["x"] for each in client.state("example", query=by_x)],
    "lookup": client.lookup("example", last[0]["id"]) == last,
    "lookup_list": client.lookup("example_list", last[0]["id"]) == last,
    "unknown": client.lookup("example", "nope"),
    "heartbeat": client.controls("heartbeat")[0]["status"],
    "stats": sorted(client.controls("stats")[0]["data"])[:3],
    "spec": sorted(client.openapi_spec),
}))
""",
    )
    assert found["groups"][0][:3] == ["basket", "controls", "example"]
    assert "example_with_state_alternative" in found["groups"][1]
    assert found["basket"] == 3
    assert found["key"]
    assert found["next"]
    assert found["state"] == [1]
    assert found["lookup"]
    assert found["lookup_list"]
    assert found["unknown"] == []
    assert found["heartbeat"] == "ok"
    assert found["stats"] == ["active_threads", "cpu", "csp-now"]
    assert found["spec"] == ["components", "info", "openapi", "paths"]


def test_sending_and_what_is_refused(python: Path, demo: DaemonProcess):
    found = run(
        python,
        demo,
        """
def refusal(call, *arguments):
    try:
        return call(*arguments)
    except Exception as error:
        return [type(error).__name__, str(error)]

sent = client.send("example", {"x": 999, "y": "sent"})
print(json.dumps({
    "one": [sent[0]["x"], client.lookup("example", sent[0]["id"]) == sent],
    "list": [each["x"] for each in client.send("example", [{"x": 1}, {"x": 2}])],
    "key": client.send("basket/A", {"x": 5})[0]["x"],
    "whole": [each["x"] for each in client.send("basket", {"A": {"x": 1}, "B": {"x": 2}})],
    "invalid": refusal(client.send, "example", {"x": -1}),
    "never": refusal(client.last, "never_ticks"),
    "unmounted": refusal(client.last, "nowhere"),
    "listing": refusal(client.send),
    "wrong key": refusal(GatewayClient(config(api_key="wrong")).last, "example"),
}))
""",
    )
    assert found["one"] == [999, True]
    assert found["list"] == [1, 2]
    assert found["key"] == 5
    assert found["whole"] == [1, 2]
    assert found["invalid"][0] == "ServerUnprocessableException"
    assert "value must be non-negative." in found["invalid"][1]
    assert found["never"] == ["ServerRouteNotFoundException", "Channel not found: never_ticks"]
    assert found["unmounted"][0] == "ServerRouteNotMountedException"
    assert found["listing"][0] == "ServerUnknownException"


def test_results_as_pandas_polars_and_wrapped(python: Path, demo: DaemonProcess):
    found = run(
        python,
        demo,
        """
pandas = GatewayClient(config(return_type="pandas"))
polars = GatewayClient(config(return_type="polars"))
wrapped = GatewayClient(config(return_type="wrapper")).last("example")
frame = pandas.last("example")
print(json.dumps({
    "pandas": {name: str(kind) for name, kind in frame.dtypes.items()},
    "state": len(pandas.state("example")) > 0,
    "polars": [polars.last("basket").height, str(polars.last("example").schema["x"])],
    "wrapped": [wrapped.as_json()[0]["x"] > 0, list(wrapped.as_pandas_df().columns)],
}))
""",
    )
    assert found["pandas"]["x"] == "int64"
    assert found["pandas"]["internal_csp_struct.z"] == "int64"
    assert found["state"]
    assert found["polars"] == [3, "Int64"]
    assert found["wrapped"][0]
    assert {"id", "timestamp", "x", "y", "data", "dt", "d", "mapping"} <= set(found["wrapped"][1])


def test_staging(python: Path, demo: DaemonProcess):
    found = run(
        python,
        demo,
        """
(area,) = client.stage_new("example")
added = client.stage_add("example", {"x": 5}, staging_ids=[area])
listed = client.stage_list("example")
looked = client.stage_lookup("example", area)
removed = client.stage_remove("example", {"id": added[area][0]["id"]}, staging_ids=[area])
client.stage_add("example", [{"x": 6}][0], staging_ids=[area])
released = client.stage_release("example", staging_ids=[area])
print(json.dumps({
    "added": [each["x"] for each in added[area]],
    "listed": area in listed,
    "looked": looked == added,
    "removed": removed[area],
    "released": [each["x"] for each in released[area]],
    "after": area in client.stage_list("example"),
    "cleared": client.stage_clear("example"),
}))
""",
    )
    assert found == {
        "added": [5],
        "listed": True,
        "looked": True,
        "removed": [],
        "released": [6],
        "after": False,
        "cleared": {},
    }


def test_the_asynchronous_client_reads_and_streams(python: Path, demo: DaemonProcess):
    found = run(
        python,
        demo,
        """
async def main():
    client = AsyncGatewayClient(config())
    last = await client.last("example")
    sent = await client.send("example", {"x": 7})
    state = await client.state("example_with_state")
    seen, echoed = [], False
    async for message in client.stream(["example", ("basket", "A"), "heartbeat"], timeout=20):
        seen.append([message["channel"], message.get("key"), type(message["data"]).__name__])
        if message["channel"] == "example":
            await client.publish("basket", {"x": 777}, key="A")
        if message["channel"] == "basket" and message["data"][0]["x"] == 777:
            echoed = True
        if echoed and ["heartbeat", None, "str"] in seen:
            break
    return {"last": len(last), "sent": sent[0]["x"], "state": len(state) > 0, "seen": sorted(map(str, seen))}

found = asyncio.run(main())
found["kinds"] = sorted(set(found.pop("seen")))
print(json.dumps(found))
""",
    )
    assert found == {
        "last": 1,
        "sent": 7,
        "state": True,
        "kinds": ["['basket', 'A', 'list']", "['example', None, 'list']", "['heartbeat', None, 'str']"],
    }


def test_the_synchronous_client_streams(python: Path, demo: DaemonProcess):
    found = run(
        python,
        demo,
        """
class Enough(Exception):
    pass

seen = []

def note(message):
    seen.append(message["data"][0]["x"])
    if len(seen) == 3:
        raise Enough

try:
    client.stream(["example"], callback=note, timeout=20)
except Enough:
    print(json.dumps(seen), flush=True)
""",
    )
    assert found == sorted(found)
    assert len(found) == 3


def test_a_bearer_token_is_a_key_too(python: Path, demo: DaemonProcess):
    script = """
try:
    bearer = GatewayClientConfig(host="127.0.0.1", port=port, bearer_token=key, return_type="raw")
    print(json.dumps(len(GatewayClient(bearer).last("example"))))
except KeyError as error:
    print(json.dumps(f"no {error} in the document"))
"""
    script = CONNECT.split("client = ")[0] + script
    assert run_client(python, script, str(demo.port), KEY).splitlines()[-1] == "1"
    assert "no 'paths'" in run_client(python, script, str(demo.port), "wrong").splitlines()[-1]


def test_shutdown_ends_the_daemon_cleanly(python: Path):
    with start_daemon("gateway") as daemon:
        script = CONNECT + 'print(json.dumps(client.controls("shutdown")[0]["name"]))'
        assert run_client(python, script, str(daemon.port), "").splitlines()[-1] == '"shutdown"'
        assert daemon.wait() == 0
