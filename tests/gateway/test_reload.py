"""Reload: what of a channel file changes while the gateway runs, and what waits for a restart (§8.2)."""

from __future__ import annotations

import http.client
import json
import signal
from pathlib import Path

import pytest

from gateway.daemon import reload_declared
from shared.errors import StartupError
from tests.gateway.conftest import Serve, declare
from tests.gateway.examples import DEMO_TYPES
from tests.processes import DaemonProcess, start_daemon

FILE = "auth: {api_key: {keys: [old]}}\n" + DEMO_TYPES


async def test_keys_change_at_once(serve: Serve):
    gateway = await serve(FILE)
    reload_declared(gateway.gateway, declare(FILE.replace("[old]", "[{key: new, read_only: true}]")))
    assert (await gateway.http.get("/api/v1/last/example?token=old")).status == 403
    assert (await gateway.http.get("/api/v1/last/example?token=new")).status == 200
    assert (await gateway.http.post("/api/v1/send/example?token=new", json={})).status == 403


async def test_limits_and_words_change_at_once(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    await gateway.send("example", [{"id": str(number)} for number in range(1, 11)])
    assert (await (await gateway.http.get("/openapi.json")).json())["info"]["title"] == "Gateway"
    changed = "server: {title: Prices}\nlookup: {max_items: 3}\nstate: {strict: true}\nstream: {readonly: true}\n"
    reload_declared(gateway.gateway, declare(changed + DEMO_TYPES.replace("name: Demo", "name: Other")))
    assert (await (await gateway.http.get("/openapi.json")).json())["info"]["title"] == "Prices"
    assert await gateway.get("/lookup/example/7") == []
    assert len(await gateway.get("/lookup/example/8")) == 1
    assert await gateway.get("/field/metadata") == {"name": "Other"}
    query = json.dumps({"filters": [{"attr": "bogus", "by": {"value": 1}}]})
    await gateway.rejected("GET", "/state/by_x", 400, params={"query": query})
    assert gateway.gateway.stream_rules.is_readonly


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        ('y: str = ""', 'y: str = "a"', "structs"),
        ("never_ticks:", "sometimes:", "channels"),
        ("{A: 1, B: 2, C: 3}", "{A: 1, B: 2, C: 4}", "enums"),
        ("fields:\n  metadata", "controls: false\nfields:\n  metadata", "controls"),
        ("fields:\n  metadata", "server: {port: 9}\nfields:\n  metadata", "server.port"),
        ("fields:\n  metadata", "stream: {path: /ws}\nfields:\n  metadata", "stream (only readonly and queue may"),
        ("fields:\n  metadata", "auth: {api_key: {keys: [k]}}\nfields:\n  metadata", "auth (only keys may change)"),
        ("fields:\n  metadata", "modules: [{use: demo}]\nfields:\n  metadata", "modules"),
    ],
)
async def test_what_needs_a_restart_is_named_and_nothing_changes(serve: Serve, before: str, after: str, kept: str):
    gateway = await serve(DEMO_TYPES)
    declared = gateway.gateway.declared
    assert before in DEMO_TYPES
    with pytest.raises(StartupError) as error:
        reload_declared(
            gateway.gateway,
            declare("server: {title: New}\n" * (kept[:6] != "server") + DEMO_TYPES.replace(before, after, 1)),
        )
    assert f"only a restart can change {kept}" in str(error.value) or f", {kept}" in str(error.value)
    assert gateway.gateway.declared is declared


def status(daemon: DaemonProcess, key: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=30)
    connection.request("GET", f"/api/v1/last/example?token={key}")
    return connection.getresponse().status


def replace(file: Path, text: str) -> None:
    """Replace a file as editors and deployments do: by a new one under its name."""
    fresh = file.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(file)


def test_every_replacement_of_the_file_is_noticed_not_only_the_first(tmp_path: Path):
    file = tmp_path / "channels.yml"
    file.write_text(FILE)
    with start_daemon("gateway", "--channels", file) as daemon:
        for number in range(1, 4):
            replace(file, FILE.replace("[old]", f"[key{number}]"))
            daemon.wait_for_logs('"reloaded"', number)
            assert status(daemon, f"key{number}") == 200
            assert status(daemon, f"key{number - 1}" if number > 1 else "old") == 403
        (tmp_path / "other.yml").write_text("channels: [")
        replace(file, FILE.replace("[old]", "[]"))  # a section without keys gets a fresh one
        daemon.wait_for_logs('"reloaded"', 4)
        assert status(daemon, "key3") == 403
        assert daemon.terminate() == 0


def test_a_daemon_notices_that_its_file_changed_and_survives_a_broken_one(tmp_path: Path):
    file = tmp_path / "channels.yml"
    file.write_text(FILE)
    with start_daemon("gateway", "--channels", file) as daemon:
        assert status(daemon, "new") == 403
        file.write_text(FILE.replace("[old]", "[new]"))
        daemon.wait_for_log('"reloaded"')
        assert (status(daemon, "new"), status(daemon, "old")) == (200, 403)
        file.write_text("channels: [")
        daemon.wait_for_log("reload failed, the old state stays in force")
        daemon.send_signal(signal.SIGHUP)
        assert status(daemon, "new") == 200
        assert daemon.terminate() == 0
        assert "Traceback" not in daemon.stderr()
