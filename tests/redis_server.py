"""A real Redis server for tests, on a free port of the loopback address."""

from __future__ import annotations

import re
import socket
import subprocess
from pathlib import Path

from tests.requires import program


class RedisServer:
    """One redis-server process. Use it as a context manager: whatever happens, the process is gone afterwards.

    Args:
        folder: Where it keeps its files; with ``durable`` every write is synced there before it is acknowledged.
        port: The port, for a server that is started again; by default a free one.
        durable: Whether it survives its own death.
    """

    def __init__(self, folder: Path, *, port: int | None = None, durable: bool = False) -> None:
        self.port = port or _free_port()
        self.folder = folder
        self.durable = durable
        self._process = self._start()

    def _start(self, *more: str) -> subprocess.Popen[str]:
        options = ["--appendonly", "yes", "--appendfsync", "always"] if self.durable else ["--appendonly", "no"]
        binary = program("redis-server", "redis-server")
        process = subprocess.Popen(
            [
                binary,
                "--port",
                str(self.port),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--dir",
                str(self.folder),
                *options,
                *more,
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if re.search("ready to accept connections", line, re.IGNORECASE):
                return process
        raise AssertionError(f"redis-server ended:\n{''.join(lines)}")

    @property
    def url(self) -> str:
        """Its first database."""
        return f"redis://127.0.0.1:{self.port}/0"

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def start_again(self, *more: str) -> None:
        """Start it on the same port with the same files, and with more options; returns when it has loaded them."""
        self._process = self._start(*more)

    def __enter__(self) -> RedisServer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
