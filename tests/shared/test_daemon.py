"""The life of a daemon, seen from outside its process."""

from __future__ import annotations

import errno
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shared.daemon import Listener, bind
from shared.errors import StartupError
from tests.processes import DaemonProcess

SUBJECT = [sys.executable, "-m", "tests.shared.subject"]


def launch(*arguments: str, env: dict[str, str] | None = None) -> DaemonProcess:
    process = subprocess.Popen(
        [*SUBJECT, "--port", "0", "--log-format", "json", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
    )
    return DaemonProcess(process)


@pytest.fixture
def subject() -> Iterator[DaemonProcess]:
    with launch() as daemon:
        daemon.wait_until_listening()
        yield daemon


def get(daemon: DaemonProcess, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=30)
    connection.request("GET", path)
    response = connection.getresponse()
    answer = response.status, response.read()
    connection.close()
    return answer


def test_it_announces_its_address_and_answers_there(subject: DaemonProcess):
    assert subject.url == f"http://127.0.0.1:{subject.port}/api"
    assert get(subject, "/healthz") == (200, b'{"status":"ok"}')


def test_sigterm_finishes_the_request_in_flight_and_exits_0(subject: DaemonProcess):
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(get, subject, "/api/slow")
        subject.wait_for_log("painting")
        subject.send_signal(signal.SIGTERM)
        assert answer.result()[0] == 200
    assert subject.wait() == 0


def test_ctrl_c_exits_0(subject: DaemonProcess):
    subject.send_signal(signal.SIGINT)
    assert subject.wait() == 0
    assert "Traceback" not in subject.stderr()


def test_sighup_reloads_and_a_failed_reload_changes_nothing(subject: DaemonProcess):
    subject.send_signal(signal.SIGHUP)
    subject.wait_for_log('"reloaded"')
    subject.send_signal(signal.SIGHUP)
    subject.wait_for_log("no paint left")
    assert get(subject, "/healthz")[0] == 200


def test_an_unexpected_error_of_a_reload_is_logged_and_the_next_one_works(subject: DaemonProcess):
    for told, count in (('"reloaded"', 1), ("no paint left", 1), ("KeyError: 'paint'", 1), ('"reloaded"', 2)):
        subject.send_signal(signal.SIGHUP)
        subject.wait_for_logs(told, count)
    assert get(subject, "/healthz")[0] == 200
    subject.send_signal(signal.SIGTERM)
    assert subject.wait() == 0
    (line,) = [json.loads(line) for line in subject.stderr().splitlines() if "KeyError" in line]
    assert (line["level"], line["task"]) == ("error", "reload")
    assert "in reload" in line["exception"]


def test_a_port_in_use_is_one_line_and_exit_code_1(subject: DaemonProcess):
    second = subprocess.run([*SUBJECT, "--port", str(subject.port)], capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert second.stderr == f"subject: cannot listen on 127.0.0.1:{subject.port}: the port is in use\n"


def test_a_service_that_cannot_start_says_why_in_one_line():
    ended = subprocess.run([*SUBJECT, "--port", "0", "--fails"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (1, "subject: the paint is dry\n")


def test_sigterm_while_it_starts_ends_it_with_0():
    with launch("--dawdles") as daemon:
        daemon.wait_for_log("mixing")
        assert daemon.terminate() == 0


def test_an_unknown_host_is_one_line():
    command = [*SUBJECT, "--insecure", "--host", "no such host"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (
        1,
        "subject: cannot listen on no such host:4999: unknown host 'no such host'\n",
    )


def test_a_file_that_is_no_certificate_is_one_line(tmp_path: Path):
    certificate = tmp_path / "certificate.pem"
    certificate.write_text("not a certificate")
    command = [*SUBJECT, "--port", "0", "--tls-cert", str(certificate)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"subject: cannot use the TLS certificate {certificate}: ")
    assert ended.stderr.count("\n") == 1


def test_systemd_hears_ready_and_stopping(tmp_path: Path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(30)
        with launch(env={"NOTIFY_SOCKET": str(tmp_path / "notify")}) as daemon:
            assert systemd.recv(100) == b"READY=1"
            daemon.send_signal(signal.SIGTERM)
            assert systemd.recv(100) == b"STOPPING=1"
            assert daemon.wait() == 0


def test_localhost_is_every_loopback_address():
    with launch("--host", "localhost") as daemon:
        daemon.wait_until_listening()
        assert get(daemon, "/healthz")[0] == 200


def test_a_port_in_use_is_recognised_whatever_number_the_system_has_for_it(monkeypatch: pytest.MonkeyPatch):
    """48 on macOS, 98 on Linux."""

    def in_use(*_: object) -> None:
        raise OSError(48, "Address already in use")

    monkeypatch.setattr(errno, "EADDRINUSE", 48)
    monkeypatch.setattr(socket.socket, "bind", in_use)
    with pytest.raises(StartupError, match=r"cannot listen on 127\.0\.0\.1:4999: the port is in use"):
        bind(Listener("127.0.0.1", 4999))
