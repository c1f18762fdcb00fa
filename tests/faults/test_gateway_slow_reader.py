"""A stream client that does not read, against a gateway as a process: it is told why it is disconnected."""

from __future__ import annotations

import json
import socket
import struct
import urllib.request
from pathlib import Path

from tests.processes import DaemonProcess, start_daemon

FILE = """
structs:
  Row: {fields: {text: str}}
channels:
  rows: {type: Row, send: true}
stream: {queue: {max_messages: 100000, max_bytes: 1MiB, policy: disconnect}}
"""


def silent_subscriber(daemon: DaemonProcess) -> socket.socket:
    """A connection that subscribes, and then does not read."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.settimeout(60)
    raw.connect(("127.0.0.1", daemon.port))
    raw.sendall(
        b"GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    while b"\r\n\r\n" not in raw.recv(4096):
        pass
    for action in (b'{"action":"subscribe","channel":"rows"}', b'{"action":"hello","errors":true}'):
        raw.sendall(bytes((0x81, 0x80 | len(action), 0, 0, 0, 0)) + action)
    while b'"ack"' not in raw.recv(4096):
        pass
    return raw


def send_until_it_is_too_much(daemon: DaemonProcess) -> None:
    rows = json.dumps([{"text": "x" * 10_000}] * 100).encode()
    while "slow consumer disconnected" not in daemon.stderr():
        request = urllib.request.Request(
            f"{daemon.url}/api/v1/send/rows", rows, {"content-type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.status == 200


def test_a_reader_that_goes_on_finds_the_reason_behind_whole_messages(tmp_path: Path):
    (tmp_path / "rows.yml").write_text(FILE)
    with start_daemon("gateway", "--channels", tmp_path / "rows.yml") as daemon, silent_subscriber(daemon) as raw:
        send_until_it_is_too_much(daemon)
        reader = raw.makefile("rb")
        opcodes = []
        while True:
            first, size = reader.read(2)
            opcodes.append(first & 15)
            if size >= 126:
                (size,) = struct.unpack(">H" if size == 126 else ">Q", reader.read(2 if size == 126 else 8))
            payload = reader.read(size)
            assert len(payload) == size
            if opcodes[-1] == 8:
                break
        assert payload == (1013).to_bytes(2, "big") + b"slow consumer"
        raw.sendall(b"\x88\x82\0\0\0\0" + payload[:2])
        assert reader.read() == b""
        assert daemon.terminate() == 0
