"""`intake_server` as a process, in trouble: killed, starved by clients, held up by sources, started wrongly."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from tests.processes import DaemonProcess, command, start_daemon

HANGING = """
import threading

class Hanging:
    name = "hanging"
    container = "python"
    version = "1"
    partition_access = False
    dtype = None
    shape = None
    npartitions = 1
    metadata = {}

    def __init__(self, where="read"):
        self.where = where

    def discover(self):
        if self.where == "open":
            threading.Event().wait()

    def read(self):
        threading.Event().wait()

    def read_partition(self, partition):
        threading.Event().wait()

    def close(self):
        pass
"""
CATALOG = """
plugins: {source: [{module: hanging_driver}]}
sources:
  text: {driver: textfiles, args: {urlpath: '{{ CATALOG_DIR }}/text.txt'}}
  big: {driver: numpy, args: {path: '{{ CATALOG_DIR }}/big.npy', chunks: 2000000}}
  hangs_at_open: {driver: hanging, args: {where: open}}
  hangs_at_read: {driver: hanging, args: {where: read}}
"""


class Client:
    """Asks as the intake client does: a new connection for every request."""

    def __init__(self, server: DaemonProcess) -> None:
        self._port = server.port

    def _request(self, method: str, path: str, body: bytes | None = None, timeout_s: float = 30) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=timeout_s)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            data = answer.read()
            if answer.status != 200:
                return answer.status
            return msgpack.unpackb(data, strict_map_key=False)
        finally:
            connection.close()

    def post(self, **message: Any) -> Any:
        return self._request("POST", "/v1/source", msgpack.packb(message))

    def open(self, name: str) -> str:
        source_id: str = self.post(action="open", name=name)["source_id"]
        return source_id

    def read(self, source_id: str, partition: Any = 0) -> Any:
        return self.post(action="read", source_id=source_id, partition=partition)

    def names(self) -> list[str]:
        return [source["name"] for source in self._request("GET", "/v1/info")["sources"]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "hanging_driver.py").write_text(HANGING)
    (tmp_path / "catalog.yml").write_text(CATALOG)
    (tmp_path / "text.txt").write_text("hello")
    np.save(tmp_path / "big.npy", np.zeros(8_000_000))
    return tmp_path


def start(folder: Path, *options: str) -> DaemonProcess:
    return start_daemon("intake_server", folder / "catalog.yml", *options, env={"PYTHONPATH": str(folder)})


@pytest.fixture
def server(folder: Path) -> Iterator[DaemonProcess]:
    options = ("--open-timeout", "3", "--read-timeout", "3", "--send-timeout", "2", "--threads", "2")
    with start(folder, *options) as daemon:
        yield daemon


def assert_serves(server: DaemonProcess) -> None:
    client = Client(server)
    assert client.names() == ["text", "big", "hangs_at_open", "hangs_at_read"]
    assert msgpack.unpackb(client.read(client.open("text"))["data"]) == ["hello"]


def stuck_read(server: DaemonProcess, source_id: str, partition: Any) -> socket.socket:
    """A client that asks for a large partition and takes nothing of it."""
    body = msgpack.packb({"action": "read", "source_id": source_id, "partition": partition})
    raw = socket.create_connection(("127.0.0.1", server.port))
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.sendall(b"POST /v1/source HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    return raw


def test_ids_survive_kill_9_and_a_restart(folder: Path):
    with start(folder, "--data-dir", str(folder / "data")) as first:
        client = Client(first)
        text = client.open("text")
        found = client.post(action="search", query=[["textfiles"], {}])["source_id"]
        assert client.read(text)["container"] == "python"
        first.wait_for_log("listening")
        first.terminate()
    with start(folder, "--data-dir", str(folder / "data")) as second:
        assert msgpack.unpackb(Client(second).read(text)["data"]) == ["hello"]
        assert Client(second).read(found) == 400
        again = Client(second).open("text")
        second.kill()
    with start(folder, "--data-dir", str(folder / "data")) as third:
        assert again == text
        assert msgpack.unpackb(Client(third).read(text)["data"]) == ["hello"]


def test_an_id_of_an_entry_that_was_redefined_meanwhile_is_gone(folder: Path):
    with start(folder, "--data-dir", str(folder / "data")) as first:
        text = Client(first).open("text")
        first.terminate()
    (folder / "catalog.yml").write_text(CATALOG.replace("text.txt", "big.npy"))
    with start(folder, "--data-dir", str(folder / "data")) as second:
        assert Client(second).read(text) == 410


def test_sources_that_hang_for_ever_are_given_up_and_the_others_notice_nothing(server: DaemonProcess):
    client = Client(server)
    hanging = client.open("hangs_at_read")
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(client.read(hanging))) for _ in range(4)]
    threads += [
        threading.Thread(target=lambda: answers.append(client.post(action="open", name="hangs_at_open")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for _ in range(20):
        assert_serves(server)
    for thread in threads:
        thread.join(30)
    assert answers == [503] * 8
    assert_serves(server)


def test_clients_that_stop_reading_are_given_up_and_the_others_notice_nothing(server: DaemonProcess):
    source_id = Client(server).open("big")
    stuck = [stuck_read(server, source_id, [n % 4]) for n in range(8)]
    for _ in range(20):
        assert_serves(server)
    server.wait_for_log("a client took no data")
    assert len(Client(server).read(source_id, [0])["data"]) > 16_000_000
    for raw in stuck:
        raw.close()


def test_clients_that_go_away_in_the_middle_leave_nothing_behind(server: DaemonProcess):
    source_id = Client(server).open("big")
    for n in range(20):
        raw = stuck_read(server, source_id, [n % 4])
        if n % 2:
            raw.recv(1000)
        raw.close()
    half = socket.create_connection(("127.0.0.1", server.port))
    half.sendall(b"POST /v1/source HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n\x81")
    half.close()
    assert_serves(server)
    assert len(Client(server).read(source_id, [3])["data"]) > 16_000_000


def test_large_answers_that_nobody_takes_make_room_for_others(folder: Path):
    with start(folder, "--threads", "1", "--cache", "1M", "--send-timeout", "60") as server:
        source_id = Client(server).open("big")
        assert len(Client(server).read(source_id, [0])["data"]) > 16_000_000
        stuck = [stuck_read(server, source_id, [n]) for n in (0, 1)]
        for raw in stuck:
            assert raw.recv(100)
        assert_serves(server)
        assert len(Client(server).read(source_id, [2])["data"]) > 16_000_000
        server.wait_for_log("a client took no data while others waited")
        for raw in stuck:
            raw.close()


def test_bytes_that_are_no_http_end_only_their_own_connection(server: DaemonProcess):
    for noise in (
        b"\x16\x03\x01" * 100,
        b"GET " + b"x" * 100_000,
        b"POST /v1/source HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            raw.sendall(noise)
            raw.shutdown(socket.SHUT_WR)
            while raw.recv(65536):
                pass
    assert_serves(server)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("options", [(), ("--sys-exit-on-sigterm",)])
def test_signals_end_it_with_status_0(folder: Path, number: signal.Signals, options: tuple[str, ...]):
    with start(folder, *options) as server:
        server.send_signal(number)
        assert server.wait() == 0


def test_sighup_reads_the_catalog_again(folder: Path):
    with start(folder, "--no-watch", "--ttl", "3600") as server:
        assert "added" not in Client(server).names()
        (folder / "catalog.yml").write_text(CATALOG + "  added: {driver: csv}\n")
        server.send_signal(signal.SIGHUP)
        server.wait_for_log('"reloaded"')
        assert "added" in Client(server).names()


def run(*arguments: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [command("intake_server"), *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )


def test_what_is_wrong_at_the_start_is_one_line(folder: Path):
    (folder / "broken.yml").write_text("sources: [")
    (folder / "keys.yml").write_text("keys: [{name: me}]")
    catalog = folder / "catalog.yml"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        cases = [
            (1, ["none.yml"], "none.yml: no such file or directory"),
            (1, [folder / "broken.yml"], "broken.yml: line 2: did not find"),
            (1, [catalog, "-p", port], "the port is in use"),
            (1, [catalog, "--api-keys", folder / "keys.yml"], "key 'me': expected a text 'key'"),
            (1, [catalog, "-p", "0", "--data-dir", folder / "text.txt"], "cannot keep source ids"),
            (2, [catalog, "-a", "0.0.0.0"], "--insecure"),
        ]
        for code, arguments, says in cases:
            done = run(*arguments)
            assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
            assert says in done.stderr
            assert code == 2 or len([line for line in done.stderr.splitlines() if not line.startswith("{")]) == 1


def test_check_says_which_entries_open(folder: Path):
    (folder / "checked.yml").write_text(
        "sources:\n"
        "  text: {driver: textfiles, args: {urlpath: '{{ CATALOG_DIR }}/text.txt'}}\n"
        "  missing: {driver: csv, args: {urlpath: '{{ CATALOG_DIR }}/none.csv'}}\n"
    )
    done = run("check", folder / "checked.yml")
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "ok      text: python, 1 partition, shape (None,)",
        f"FAILED  missing: {folder}/none.csv: No such file or directory",
    ]
