"""scripts/resync.sh: what it sends, and what its exit status means."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.requires import program

SCRIPT = Path(__file__).parents[2] / "scripts" / "resync.sh"


class Iserver(HTTPServer):
    """Answers every request with `status` and remembers it."""

    status = 200
    asked: tuple[str, str, str | None] | None = None


class Handler(BaseHTTPRequestHandler):
    server: Iserver

    def do_POST(self) -> None:
        self.server.asked = (self.command, self.path, self.headers["Authorization"])
        body = b'{"status":"ok"}' if self.server.status == 200 else b"because"
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def iserver() -> Iterator[Iserver]:
    with Iserver(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def resync(*arguments: str) -> subprocess.CompletedProcess[str]:
    program("curl", "curl")
    return subprocess.run([str(SCRIPT), *arguments], capture_output=True, text=True, check=False, timeout=60)


def test_it_posts_the_token_and_prints_the_answer(iserver: Iserver):
    done = resync("s3cret", f"http://127.0.0.1:{iserver.server_port}/iserver/")
    assert (done.returncode, done.stdout) == (0, '{"status":"ok"}\n')
    assert iserver.asked == ("POST", "/iserver/sync", "Bearer s3cret")


@pytest.mark.parametrize(("status", "code"), [(401, 3), (403, 3), (502, 4), (422, 5), (500, 6), (404, 6)])
def test_every_refusal_has_its_exit_status_and_is_explained(iserver: Iserver, status: int, code: int):
    iserver.status = status
    done = resync("s3cret", f"http://127.0.0.1:{iserver.server_port}/iserver")
    assert (done.returncode, done.stdout) == (code, "")
    assert f"answered {status}: because" in done.stderr


def test_nobody_listening_is_exit_status_1():
    with socket.socket() as bound:  # bound but not listening: nobody else takes the port meanwhile
        bound.bind(("127.0.0.1", 0))
        done = resync("s3cret", f"http://127.0.0.1:{bound.getsockname()[1]}/iserver")
    assert done.returncode == 1
    assert "curl" in done.stderr


def test_wrong_usage_is_exit_status_2_and_help_is_0():
    assert resync().returncode == 2
    helped = resync("--help")
    assert helped.returncode == 0
    assert "usage: resync.sh TOKEN" in helped.stderr
