"""Starting, draining, reloading and starting again, as a process (protocol §11.6)."""

from __future__ import annotations

import json
import signal
import urllib.error
import urllib.request
from importlib import resources
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest

from tests.processes import DaemonProcess, start_daemon

EXAMPLE = Path(str(resources.files("iserver.example"))) / "shop.json"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_bytes(EXAMPLE.read_bytes())
    return path


def visit(daemon: DaemonProcess, impression: str = "imp-1") -> Any:
    body = {"args": {"deviceId": "dev-1"}, "impressionId": impression, "requests": {"RatingBox": {"product": "p"}}}
    request = urllib.request.Request(f"{daemon.url}/features", data=orjson.dumps(body))
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def impressions(data: Path) -> list[str]:
    query = f"SELECT unnest(impression_ids) FROM read_parquet('{data}/warehouse/tables/rating_box/*/*/*.parquet')"
    return [text for (text,) in duckdb.connect().execute(query).fetchall()]


def test_a_killed_server_goes_on_where_it_was_and_a_stopped_one_has_written_everything(tmp_path, config):
    with start_daemon("iserver", "--config", config, "--data-dir", tmp_path) as first:
        session = visit(first, "imp-1")["session"]["sessionId"]
        first.kill()
    with start_daemon("iserver", "--config", config, "--data-dir", tmp_path) as second:
        answer = visit(second, "imp-2")
        assert answer["session"]["sessionId"] == session
        assert answer["RatingBox"]["impressionCount"] == 2
        assert second.terminate() == 0
    assert impressions(tmp_path) == ["imp-1", "imp-2"]
    with start_daemon("iserver", "--config", config, "--data-dir", tmp_path) as third:
        assert visit(third)["session"]["sessionId"] != session


def test_a_draining_server_says_so_and_serves_on(tmp_path, config):
    with start_daemon("iserver", "--config", config, "--data-dir", tmp_path, "--drain-seconds", "600") as daemon:
        visit(daemon)
        assert status(f"{daemon.url}/nsessions") == 200
        daemon.send_signal(signal.SIGTERM)
        daemon.wait_for_log('"draining"')
        assert status(f"{daemon.url}/nsessions") == 503
        assert status(daemon.url.removesuffix("/iserver") + "/readyz") == 503
        assert visit(daemon)["RatingBox"]["impressionCount"] == 1
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait() == 128 + signal.SIGTERM
    with start_daemon("iserver", "--config", config, "--data-dir", tmp_path) as daemon:
        assert visit(daemon, "imp-2")["RatingBox"]["impressionCount"] == 2


def test_a_hangup_reads_the_configuration_again_and_keeps_the_old_when_the_new_is_wrong(tmp_path, config):
    with start_daemon("iserver", "--config", config, "--data-dir", tmp_path / "data") as daemon:
        document = orjson.loads(config.read_bytes())
        document["features"]["RatingBox"]["gate"] = {"active": False}
        config.write_bytes(orjson.dumps(document))
        daemon.send_signal(signal.SIGHUP)
        daemon.wait_for_log('"reloaded"')
        assert visit(daemon)["RatingBox"] == "OFF"
        config.write_bytes(b"{")
        daemon.send_signal(signal.SIGHUP)
        daemon.wait_for_log("reload failed")
        assert visit(daemon)["RatingBox"] == "OFF"
        assert daemon.terminate() == 0


def test_nothing_is_written_to_the_tables_with_nolog(tmp_path, config):
    with start_daemon("iserver", "--config", config, "--data-dir", tmp_path, "--nolog") as daemon:
        visit(daemon)
        assert daemon.terminate() == 0
    with start_daemon("iserver", "--config", config, "--data-dir", tmp_path) as daemon:
        visit(daemon, "imp-2")
        assert daemon.terminate() == 0
    assert impressions(tmp_path) == ["imp-2"]


def test_a_second_server_on_the_same_data_is_refused(tmp_path, config):
    with start_daemon("iserver", "--config", config, "--data-dir", tmp_path), pytest.raises(AssertionError) as caught:
        start_daemon("iserver", "--config", config, "--data-dir", tmp_path)
    assert "journal.sqlite is in use by another process" in str(caught.value)
