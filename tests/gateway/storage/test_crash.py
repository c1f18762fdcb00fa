"""``kill -9`` at random moments: with a journal no acknowledged tick is missing afterwards (§8.3)."""

from __future__ import annotations

import http.client
import json
import random
import threading
from pathlib import Path
from typing import Any

from tests.processes import DaemonProcess, start_daemon

FILE = """
structs:
  Row: {fields: {k: int, writer: int}}
channels:
  rows: {type: Row, send: true, state: {keyby: [k, writer]}}
"""
ROUNDS = 4
WRITERS = 4


def call(daemon: DaemonProcess, method: str, path: str, body: Any = None) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=30)
    text = None if body is None else json.dumps(body)
    connection.request(method, f"/api/v1{path}", text, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    return json.loads(answer.read())


def write(daemon: DaemonProcess, writer: int, first: int, acknowledged: list[dict[str, Any]]) -> None:
    """Send one row after the other until the daemon is gone; note what it acknowledged."""
    k = first
    try:
        while True:
            acknowledged += call(daemon, "POST", "/send/rows", {"k": k, "writer": writer})
            k += 1
    except (OSError, http.client.HTTPException):
        return


def test_every_acknowledged_tick_survives_and_none_is_doubled(tmp_path: Path):
    (tmp_path / "channels.yml").write_text(FILE)
    chance = random.Random(20261121)
    acknowledged: list[dict[str, Any]] = []
    for round_number in range(ROUNDS):
        with start(tmp_path) as daemon:
            check(daemon, acknowledged)
            writers = [
                threading.Thread(target=write, args=(daemon, writer, round_number * 1_000_000, acknowledged))
                for writer in range(WRITERS)
            ]
            enough = len(acknowledged) + chance.randrange(20, 120)
            for writer in writers:
                writer.start()
            while len(acknowledged) < enough:
                writers[0].join(0.001)
            daemon.kill()
            for writer in writers:
                writer.join()
    with start(tmp_path) as daemon:
        check(daemon, acknowledged)
        assert daemon.terminate() == 0


def start(folder: Path) -> DaemonProcess:
    return start_daemon("gateway", "--channels", folder / "channels.yml", "--data-dir", folder / "data", "--journal")


def check(daemon: DaemonProcess, acknowledged: list[dict[str, Any]]) -> None:
    found = call(daemon, "GET", "/state/rows")
    by_id = {row["id"]: row for row in found}
    assert len(by_id) == len(found)
    for row in acknowledged:
        assert by_id[row["id"]] == row
    if acknowledged:
        newest = max(acknowledged, key=lambda row: int(row["id"]))
        (last,) = call(daemon, "GET", "/last/rows")
        assert int(last["id"]) >= int(newest["id"])
        (fresh,) = call(daemon, "POST", "/send/rows", {"k": -1, "writer": -1})
        assert int(fresh["id"]) > max(map(int, by_id))
