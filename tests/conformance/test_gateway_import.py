"""Coming from csp-gateway: its published server, the channel files made from it, and its client against both."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.environments import cache_folder, client_python, run_client
from tests.processes import command, start_daemon

DESK = Path(__file__).with_name("csp_gateway_desk.py")
START_TIMEOUT_S = 120
ORDERS = [
    {
        **{"symbol": "DTE", "quantity": 5, "price": 2.5, "side": "sell", "level": "HIGH", "tag": "b", "maybe": 4},
        **{"when": "2026-01-02T03:04:05", "span": 5, "legs": [{"symbol": "A"}], "first": {"symbol": "B", "ratio": 2}},
        **{"names": ["x"], "terms": {"days": 3}, "sizes": [1, 2.5], "either": "z", "anything": {"a": [1]}},
        **{"book": {"bid": [1, 2]}, "code": "AB", "day": "2025-02-03", "at": "10:11:12"},
    },
    {"symbol": "SAP", "when": None, "sizes": [3.5], "maybe": 1, "anything": None},
]
CALLS = """
import json, sys, time
from csp_gateway.client import GatewayClient, GatewayClientConfig, ReturnType
from csp_gateway.utils import Filter, FilterCondition, Query
from csp_gateway.utils.exceptions import ServerRouteNotFoundException, ServerUnprocessableException

client = GatewayClient(GatewayClientConfig(host="127.0.0.1", port=int(sys.argv[1])))
orders = json.loads(sys.argv[2])

def plain(value):
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items() if name not in ("id", "timestamp")}
    return value

def answer(call, *arguments, **named):
    try:
        return plain(call(*arguments, **named))
    except (ServerRouteNotFoundException, ServerUnprocessableException) as error:
        return type(error).__name__

def send(channel, value):
    accepted = client.send(channel, value)
    deadline = time.monotonic() + 30  # csp-gateway answers before the tick has been applied
    while accepted[-1]["id"] not in [each["id"] for each in client.last(channel)] and time.monotonic() < deadline:
        time.sleep(0.02)
    return accepted

where = Query(filters=[Filter(attr="quantity", by=FilterCondition(value=3, where=">"))])
sent = send("orders", orders)
note = send("notes", {"text": "hello"})
fills = [answer(send, "fills", orders), answer(client.last, "fills")]
frame = client.last("fills", return_type_override=ReturnType.Pandas)  # (their document has no types for two fields)
answers = {
    "sent": plain(sent),
    "listings": [sorted(getattr(client, group)("")) for group in ("last", "next", "state")],
    "last": answer(client.last, "orders"),
    "state": answer(client.state, "orders"),
    "filtered": answer(client.state, "orders", query=where),
    "lookup": answer(client.lookup, "orders", sent[0]["id"]),
    "omitted": answer(client.lookup, "notes", note[0]["id"]),
    "fills": fills,
    "by side": answer(client.state, "fills_by_side"),
    "venues": [answer(send, "venues/LSE", {"symbol": "V"}), answer(client.last, "venues/LSE")],
    "desks": [answer(send, "desks/new york", {"symbol": "D"}), answer(client.last, "desks")],
    "unfit": [answer(client.send, "orders", value) for value in (
        {"quantity": -1}, {"price": 0}, {"tag": "c"}, {"side": "hold"}, {"code": "a"}, {"bogus": 1}, {"first": 3},
    )],
    "never": answer(client.last, "never"),
    "staged": plain(list(client.stage_new("orders").values())),
    "frame": {name: str(kind) for name, kind in frame.dtypes.items() if name not in ("span", "sizes")},
}
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def csp_gateway() -> Iterator[int]:
    """The port of the published csp-gateway with the channels of a desk."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    python = client_python("csp-gateway-3.0.0")
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    process = subprocess.Popen(
        [python, DESK, str(port)], cwd=cache_folder(), env=kept, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _answers(port):
            assert process.poll() is None and time.monotonic() < deadline, "csp-gateway did not start"
            time.sleep(0.2)
        yield port
    finally:
        process.kill()
        process.communicate()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/last/", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture(scope="module")
def theirs(csp_gateway: int) -> dict[str, object]:
    """What the published client gets from the published server."""
    return _answered(csp_gateway)


def _answered(port: int) -> dict[str, object]:
    answers: dict[str, object] = json.loads(
        run_client(client_python("csp-gateway-client-3.0.0"), CALLS, str(port), json.dumps(ORDERS))
    )
    return answers


def imported(file: Path, *arguments: str | Path) -> str:
    """Write a channel file with one of the commands; what the command says on standard error."""
    done = subprocess.run(
        [command("gateway"), *arguments, "--output", file], cwd=DESK.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_file_from_the_running_server_serves_the_client_as_the_server_did(
    csp_gateway: int, theirs: dict[str, object], tmp_path: Path
):
    file = tmp_path / "channels.yml"
    said = imported(file, "import-openapi", f"http://127.0.0.1:{csp_gateway}")
    assert "Check orders, notes, venues, desks, never." in said  # fills has ticked two at once: that can only be a list
    assert "structs.Order.anything: the document says nothing of it" in said
    with start_daemon("gateway", "--channels", file, cwd=tmp_path) as ours:
        answers = _answered(ours.port)
    # a field without a default and one whose default is null look the same in the document, and so does an array
    assert _without(answers, "maybe", "anything", "sizes") == _without(theirs, "maybe", "anything", "sizes")


@pytest.mark.parametrize("way", ["source", "classes"])
def test_a_file_from_the_python_channels_serves_the_client_as_the_server_did(
    theirs: dict[str, object], tmp_path: Path, way: str
):
    file = tmp_path / "channels.yml"
    if way == "source":
        imported(file, "import-python", DESK)
    else:
        python = client_python("csp-gateway-3.0.0")
        imported(file, "import-python", "csp_gateway_desk:DeskChannels", "--python", python)
    with start_daemon("gateway", "--channels", file, cwd=tmp_path) as ours:
        assert _answered(ours.port) == theirs


def _without(value: object, *names: str) -> object:
    """The same, without the members that have these names and are null or empty."""
    if isinstance(value, list):
        return [_without(each, *names) for each in value]
    if isinstance(value, dict):
        return {name: _without(each, *names) for name, each in value.items() if name not in names or each}
    return value


def test_without_csp_gateway_the_command_says_what_it_needs(tmp_path: Path):
    done = subprocess.run(
        [command("gateway"), "import-python", "csp_gateway_desk:DeskChannels"],
        cwd=DESK.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "No module named 'csp'" in done.stderr and "--python" in done.stderr and "FILE.py" in done.stderr
