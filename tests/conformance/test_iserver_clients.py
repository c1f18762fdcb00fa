"""Generated clients, as processes, against an iserver started by its command (protocol §17)."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.conformance.fdl_oracle import compiler_jar
from tests.conformance.iserver_clients import FDL, flushed, java_client, ruby_client, typescript_client
from tests.processes import DaemonProcess, start_daemon
from tests.requires import program

ENVIRONMENT = "f6d3a522-320e-47f6-9ad7-4534c050cfa0"
EXAMPLE = Path(str(resources.files("iserver.example"))) / "shop.json"


@pytest.fixture
def iserver(tmp_path: Path) -> Iterator[DaemonProcess]:
    """The running example as configured in the protocol page."""
    with start_daemon("iserver", "--config", EXAMPLE, "--data-dir", tmp_path / "data", "--enable-cmd") as daemon:
        yield daemon


@pytest.fixture
def external(tmp_path: Path) -> Iterator[DaemonProcess]:
    """The running example with search results that the application computes."""
    document = orjson.loads(EXAMPLE.read_bytes())
    document["features"]["Search"]["controls"]["results"] = [{"value": {"external": "popularity"}}]
    document["experiments"] = document["experiments"][:1]
    config = tmp_path / "external.json"
    config.write_bytes(orjson.dumps(document))
    with start_daemon("iserver", "--config", config, "--data-dir", tmp_path / "data", "--enable-cmd") as daemon:
        yield daemon


@pytest.fixture
def control(tmp_path: Path) -> Iterator[DaemonProcess]:
    """An iserver at the root that the compiler may push to, with a control value of its own."""
    document = orjson.loads(EXAMPLE.read_bytes())
    document["features"]["RatingBox"]["controls"]["actionButton"] = [{"value": {"constant": "Send it"}}]
    config = tmp_path / "config.json"
    config.write_bytes(orjson.dumps(document))
    options = ("--prefix", "", "--token", "t0ken", "--accept-fdl")
    with start_daemon("iserver", "--config", config, "--data-dir", tmp_path / "data", *options) as daemon:
        yield daemon


def run(command: list[str | Path], *arguments: str) -> str:
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def typescript(iserver: DaemonProcess, scenario: str, device: str = "dev-1") -> Any:
    return json.loads(run(typescript_client(), iserver.url, device, scenario).splitlines()[-1])


def test_the_typescript_client_sees_what_was_decided_and_everything_it_signals_is_logged(iserver, tmp_path):
    assert typescript(iserver, "several") == {
        "flags": {"RatingBox": True, "NewCheckout": False, "Search": True},
        "error": None,
        "button": "Submit",
        "results": [{"id": "a", "title": "A", "score": 0.5}],
        "variants": ["Blue", "control"],
    }
    (row,) = flushed(iserver, tmp_path / "data", "impression_ids, impression_count, rating", "rating_box")
    assert row[:2] == (["imp-1", "imp-2"], 2)
    assert sorted(event["stars"] for event in row[2]) == [4, 5]
    ((cart, agent, entry),) = flushed(iserver, tmp_path / "data", "add_to_cart, user_agent, entry_url", "session")
    assert [(event["value"], event["sku"], event["qty"]) for event in cart] == [(9.5, "s1", 2)]
    assert (agent, entry) == ("UA/1", "/p/1")


def test_the_typescript_client_counts_a_cached_copy_when_it_is_shown(iserver, tmp_path):
    seen = typescript(iserver, "cached")
    assert (seen["before"], seen["button"], seen["variants"]) == (0, "Submit", ["Blue"])
    rows = flushed(iserver, tmp_path / "data", "impression_ids", "rating_box")
    assert rows == [(["imp-7"],)]


def test_the_typescript_client_shows_control_values_for_a_wrong_request(iserver):
    seen = typescript(iserver, "wrong")
    assert (seen["error"], seen["button"]) == ("field", "Send Review")


def test_the_java_client_sees_what_was_decided_and_everything_it_signals_is_logged(external, tmp_path):
    assert run(java_client(), external.url, "dev-1").splitlines() == [
        "box true Submit Café ☃",
        "checkout false",
        "search true popularity",
        "session dev-1 basic",
        "impression imp-1 1",
        "again 2 true",
    ]
    (row,) = flushed(external, tmp_path / "data", "product, impression_ids, rating", "rating_box")
    assert row[:2] == ("Café ☃", ["imp-1"])
    assert [event["stars"] for event in row[2]] == [4]
    ((user, cart),) = flushed(external, tmp_path / "data", "user_id, add_to_cart", "session")
    assert (user, len(cart)) == ("u-7", 1)
    rows = flushed(external, tmp_path / "data", "impression_count, results", "search")
    assert rows == [(2, [])]


def test_the_ruby_client_sees_what_was_decided_warns_where_it_should_and_raises_where_it_must(external, tmp_path):
    environment = {**os.environ, "CAUSAL_ISERVER": external.url}
    command = [*ruby_client(), "dev-1", "dev-35"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == [
        "box true Submit Café ☃",
        "checkout false false",
        "search true popularity false",
        "session prod basic Ruby",
        "again 2 A",
        "bought true",
        "wrong RatingBox: Expecting a string for product: Rate this product!",
    ]
    assert done.stderr == "RatingBox: impression 'imp-9' not foundsession not found or expired"
    sessions = flushed(external, tmp_path / "data", "device_id, user_id, add_to_cart[1].sku", "session")
    assert sorted(sessions) == [("dev-1", "u-7", "s1"), ("dev-35", None, None)]
    ((revenue,),) = flushed(external, tmp_path / "data", "purchase[1].value", "new_checkout")
    assert revenue == 20.5
    ((results, clicks),) = flushed(external, tmp_path / "data", "results, len(click)", "search")
    assert (results, clicks) == ([{"id": "a", "title": "A", "score": 0.5}], 1)
    ((ratings,),) = flushed(external, tmp_path / "data", "len(rating)", "rating_box")
    assert ratings == 1


def test_the_compiler_pushes_fdl_and_compiles_the_control_values_in_force_into_the_client(control, tmp_path):
    fdl, client = tmp_path / "shop.fdl", tmp_path / "client.ts"
    fdl.write_text(FDL.read_text() + "feature Another {}\n")
    java: list[str | Path] = [program("java", "openjdk-17-jre-headless"), "-jar", compiler_jar()]
    server = ["--config-server", control.url, "--webhook-server", control.url, "--token", "t0ken"]
    run(java, *server, "--environment", ENVIRONMENT, "--push-fdl", "--typescript", str(client), str(fdl))
    assert 'readonly actionButton: string = "Send it"' in client.read_text()
    body = b'{"args":{"deviceId":"dev-1"},"impressionId":"imp-1","requests":{"Another":{}}}'
    with urllib.request.urlopen(f"{control.url}/features", data=body, timeout=30) as answer:
        assert json.load(answer)["Another"]["impressionCount"] == 1
