"""Bad input and bad surroundings: each a clear answer or one clear line, and nothing stored is lost."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

from tests.processes import DaemonProcess, run_command, start_daemon

FDL = Path(str(resources.files("iserver.example"))) / "shop.fdl"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """One iserver for all of these tests: none of them harms it."""
    data = tmp_path_factory.mktemp("data")
    with start_daemon("iserver", "--fdl", FDL, "--data-dir", data, "--enable-cmd") as process:
        yield process


@pytest.fixture
def unharmed(daemon: DaemonProcess) -> Iterator[DaemonProcess]:
    """The daemon with a session in it that must be there afterwards."""
    visit = {"args": {"deviceId": "dev-safe"}, "impressionId": "imp-1", "requests": {"ProductInfo": {}}}
    before = json.loads(post(daemon, "features", json.dumps(visit).encode())[1])
    yield daemon
    after = json.loads(post(daemon, "features", json.dumps(visit).encode())[1])
    assert after["session"]["sessionId"] == before["session"]["sessionId"]
    assert after["ProductInfo"]["impressionCount"] == 1


def post(daemon: DaemonProcess, path: str, body: bytes) -> tuple[int, str]:
    request = urllib.request.Request(f"{daemon.url}/{path}", data=body, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def connect(daemon: DaemonProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", daemon.port), timeout=10)


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("features", b'{"args":', 400, "malformed JSON"),
        ("features", b"\xff\xfe{}", 400, "malformed JSON"),
        ("features", b"[" * 100_000, 400, "malformed JSON"),
        ("features", b'"a string"', 400, "expected an object, found a string"),
        ("features", b"", 400, "malformed JSON"),
        ("features", b'{"args":{"deviceId":true}}', 400, "Expecting a string for deviceId"),
        ("signal", b'{"id":7,"event":"Rating"}', 400, "expected an object for 'id'"),
        ("signal", b'{"id":{"deviceId":"dev-safe"},"feature":"Nothing","event":"E"}', 404, "unknown feature 'Nothing'"),
        ("external", b'{"id":{"deviceId":"dev-safe"},"feature":"Nothing","x":1}', 404, "unknown feature 'Nothing'"),
        ("cmd", b'{"action":"format c:"}', 400, "unknown action"),
    ],
)
def test_malformed_requests_are_answered_in_words(unharmed, path, body, status, text):
    answered, message = post(unharmed, path, body)
    assert answered == status
    assert text in message
    assert "Traceback" not in message


def test_unknown_features_are_answered_beside_known_ones(unharmed):
    body = b'{"args":{"deviceId":"dev-2"},"impressionId":"i","requests":{"Nothing":{"a":1},"ProductInfo":{}}}'
    status, text = post(unharmed, "features", body)
    answer = json.loads(text)
    assert (status, answer["Nothing"], answer["ProductInfo"]["impressionCount"]) == (200, "UNKNOWN", 1)


def test_a_body_of_ten_mebibytes_is_refused_before_it_is_read(unharmed):
    with connect(unharmed) as peer:
        peer.sendall(b"POST /iserver/features HTTP/1.1\r\nHost: x\r\nContent-Length: 10485760\r\n\r\n")
        assert peer.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_a_body_of_ten_mebibytes_in_chunks_is_refused(unharmed):
    with connect(unharmed) as peer:
        peer.sendall(b"POST /iserver/features HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(160):
                peer.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        except ConnectionError:
            pass  # it may have answered and hung up before it was all sent
        assert peer.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_a_request_that_stops_half_way_disturbs_nobody(unharmed):
    with connect(unharmed) as peer:
        peer.sendall(b'POST /iserver/signal HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{"id":{"dev')
        assert post(unharmed, "signal", b'{"id":{"deviceId":"dev-safe"}}')[0] == 200


def test_what_is_no_http_at_all_is_refused(unharmed):
    with connect(unharmed) as peer:
        peer.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 10 + b"\r\n\r\n")
        assert peer.recv(1000).startswith(b"HTTP/1.0 400 ")


# --- bad surroundings -----------------------------------------------------------------------------


def fails_to_start(*arguments: str | Path) -> tuple[int, str]:
    """Exit code and error output of a server that cannot start."""
    outcome = run_command("iserver", "start", "--port", "0", *arguments)
    assert "Traceback" not in outcome.stderr
    return outcome.returncode, outcome.stderr.strip()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"feature Broken {", "shop.fdl: line 1 char"),
        (b"feature Broken { output { a: Int! } }", "Line 1, Column"),
        (b"\xff\xfe\x00", "shop.fdl: not UTF-8"),
    ],
)
def test_broken_fdl_is_named_with_its_place(tmp_path, content, text):
    (tmp_path / "shop.fdl").write_bytes(content)
    code, message = fails_to_start("--fdl", tmp_path / "shop.fdl", "--data-dir", tmp_path / "data")
    assert code == 1
    assert message.startswith("iserver: ")
    assert text in message


def test_a_missing_fdl_file_is_a_usage_error(tmp_path):
    code, message = fails_to_start("--fdl", tmp_path / "nothing.fdl")
    assert code == 2
    assert "nothing.fdl' does not exist" in message


def test_a_broken_configuration_names_the_path_of_what_is_wrong(tmp_path):
    (tmp_path / "c.json").write_text('{"schemaVersion":1,"revision":"r","environment":{"id":"x","name":"n"},"fdl":[]}')
    code, message = fails_to_start("--config", tmp_path / "c.json", "--data-dir", tmp_path / "data")
    assert (code, message) == (1, 'iserver: environment.id: expected a UUID, found "x"')


def test_a_port_in_use_is_one_clear_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        outcome = run_command("iserver", "--port", str(port), "--fdl", FDL, "--data-dir", tmp_path)
    assert outcome.returncode == 1
    assert outcome.stderr.strip() == f"iserver: cannot listen on 127.0.0.1:{port}: the port is in use"


@pytest.mark.parametrize("place", ["file", "proc"])
def test_a_data_folder_that_cannot_be_written_is_one_clear_line(tmp_path, place):
    (tmp_path / "file").write_text("not a folder")
    data = {"file": tmp_path / "file", "proc": Path("/proc/nothing")}[place]
    reason = {"file": "Not a directory", "proc": "No such file or directory"}[place]
    code, message = fails_to_start("--fdl", FDL, "--data-dir", data)
    assert (code, message) == (1, f"iserver: cannot write to the warehouse {data}/warehouse: {reason}")
    code, message = fails_to_start("--fdl", FDL, "--data-dir", data, "--warehouse", tmp_path / "warehouse")
    assert code == 1
    assert message.startswith(f"iserver: cannot open the database {data}/journal.sqlite")
    assert len(message.splitlines()) == 1


def test_a_warehouse_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    code, message = fails_to_start("--fdl", FDL, "--data-dir", tmp_path / "data", "--warehouse", tmp_path / "file")
    assert code == 1
    assert message.startswith(f"iserver: cannot write to the warehouse {tmp_path / 'file'}")
    assert len(message.splitlines()) == 1


def test_a_journal_that_is_no_database_is_one_clear_line(tmp_path):
    (tmp_path / "journal.sqlite").write_bytes(b"this was never a database" * 100)
    code, message = fails_to_start("--fdl", FDL, "--data-dir", tmp_path)
    assert code == 1
    assert "file is not a database" in message
    assert len(message.splitlines()) == 1


def test_a_server_with_nothing_to_serve_says_what_it_needs():
    code, message = fails_to_start()
    assert code == 2
    assert "nothing to serve: give --fdl FILE, --config FILE.json, or --config-server URL" in message
