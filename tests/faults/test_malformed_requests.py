"""Requests that are not HTTP, or not text: no daemon answers them with an internal error or logs a traceback."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.processes import DaemonProcess, start_daemon

SHOP = Path(__file__).parents[2] / "iserver" / "example" / "shop.fdl"

HEADERS = [
    *(b"Authorization: Bearer \xff", b"Authorization: \xff\xfe", b"Cookie: token=\xff", b"Origin: \xff"),
    *(b"User-Agent: \xff", b"Referer: \xff", b"X-Request-Id: \xff", b"Accept: \xff", b"If-None-Match: \xff"),
    *(b"Expect: \xff", b"Range: \xff", b"Content-Type: \xff", b"Accept-Encoding: \xff", b"Last-Event-ID: \xff"),
    *(b"Host: \xff", b"Upgrade: \xff", b"Access-Control-Request-Headers: \xff", b"source-id: \xff", b"A\xff: b"),
]
BROKEN = [
    *(b"GARBAGE\r\n\r\n", b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTTP/1.1\r\nHo st: x\r\n\r\n"),
    *(b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\r\n\r\n"),
]
PATHS = {
    "iserver": ["GET /iserver/sync", "POST /iserver/cmd", "POST /iserver/features", "OPTIONS /iserver/features"],
    "gateway": ["GET /api/v1/last/example", "POST /api/v1/send/example", "OPTIONS /api/v1/last/example", "GET /none"],
    "intake_server": ["GET /v1/info", "GET /v1/source", "POST /v1/source", "GET /data/none.csv", "GET /none"],
    "metaserver": ["GET /meta/cluster", "GET /none"],
    "replicaserver": ["GET /version", "GET /none"],
}


def start(name: str, folder: Path) -> DaemonProcess:
    catalog = folder / "catalog.yml"
    catalog.write_text("sources: {}\n")
    options: dict[str, list[str | Path]] = {
        "iserver": ["--fdl", SHOP, "--data-dir", folder, "--token", "secret", "--enable-cmd", "--cmd-token", "secret"],
        "gateway": [],
        "intake_server": [catalog],
        "metaserver": ["--data-dir", folder],
        "replicaserver": ["--data-dir", folder, "--meta", "127.0.0.1:1"],
    }
    return start_daemon(name, *options[name])


def first_line(port: int, sent: bytes) -> bytes:
    """The status line of the answer; empty when the connection is closed without one."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as answer:
            return answer.readline()


@pytest.mark.parametrize("name", list(PATHS))
def test_bytes_that_are_not_text_are_no_internal_error(name: str, tmp_path: Path):
    with start(name, tmp_path) as daemon:
        answers = {}
        for path in PATHS[name]:
            for header in HEADERS:
                head = f"{path} HTTP/1.1\r\nConnection: close\r\nContent-Length: 0\r\n".encode() + header + b"\r\n\r\n"
                answers[path, header] = first_line(daemon.port, head)
        for broken in BROKEN:
            answers["broken", broken] = first_line(daemon.port, broken)
        assert {key: line for key, line in answers.items() if b" 50" in line[:13]} == {}
        assert daemon.process.poll() is None
    assert "Traceback" not in daemon.stderr()
    assert '"level":"error"' not in daemon.stderr().replace("metaserver", "")
