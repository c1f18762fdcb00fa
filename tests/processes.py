"""Daemons as processes, started by their own command, for the tests whose subject is the process itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

START_TIMEOUT_S = 60.0


class DaemonProcess:
    """One running daemon. Use it as a context manager: whatever happens, the process is gone afterwards."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.addresses: list[str] = []
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self._lines.append(line)
                if '"listening"' in line:
                    self.addresses.append(json.loads(line)["address"])
                self._changed.notify_all()
        with self._changed:
            self._lines.append("")
            self._changed.notify_all()

    def wait_until_listening(self) -> None:
        """Return when the daemon has announced its address; fail with its log when it ends instead."""
        self.wait_for_log('"listening"')

    def wait_for_log(self, text: str, timeout_s: float = START_TIMEOUT_S) -> None:
        """Return when a line of the log contains `text`; fail when the process ends or time is up without one."""
        self.wait_for_logs(text, 1, timeout_s)

    def wait_for_logs(self, text: str, count: int, timeout_s: float = START_TIMEOUT_S) -> None:
        """Return when `count` lines of the log contain `text`, as `wait_for_log` does for one."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while sum(text in line for line in self._lines) < count:
                ended = bool(self._lines) and self._lines[-1] == ""
                if ended or not self._changed.wait(deadline - time.monotonic()):
                    raise AssertionError(f"no {text!r} in the log of {self.process.args!r}:\n{self.stderr()}")

    @property
    def url(self) -> str:
        """The announced address, prefix included, without a trailing slash."""
        return self.addresses[0]

    @property
    def port(self) -> int:
        return int(self.url.split("://", 1)[1].split("/", 1)[0].rsplit(":", 1)[1])

    @property
    def pid(self) -> int:
        return self.process.pid

    def stderr(self) -> str:
        """All that the daemon has logged so far."""
        return "".join(self._lines)

    def send_signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, timeout_s: float = 30.0) -> int:
        """The exit code, once the process has ended."""
        code = self.process.wait(timeout_s)
        self._reader.join(timeout_s)
        return code

    def terminate(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """kill -9: the process has no chance to tidy up."""
        self.process.kill()
        self.wait()

    def __enter__(self) -> DaemonProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


def command(name: str) -> str:
    """The path of a daemon's command in the environment that runs the tests."""
    return str(Path(sys.executable).with_name(name))


# A test says nothing about the disk of the machine it runs on; a later `--set` of the same name wins.
WRITES_ON_A_FULL_DISK = ("--set", "disk_min_available_space_ratio=0")


def start_daemon(
    name: str, *arguments: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> DaemonProcess:
    """Start a daemon on a free port of the loopback address and wait until it listens.

    Args:
        name: The daemon's command, such as ``iserver``.
        arguments: What follows ``start --host 127.0.0.1 --port 0``.
        env: Environment variables besides those of the tests.
        cwd: The folder to start it in.
    """
    settings = WRITES_ON_A_FULL_DISK if name == "replicaserver" else ()
    given = [*settings, *map(str, arguments)]
    process = subprocess.Popen(
        [command(name), "start", "--host", "127.0.0.1", "--port", "0", "--log-format", "json", *given],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
        cwd=cwd,
    )
    daemon = DaemonProcess(process)
    try:
        daemon.wait_until_listening()
    except BaseException:
        daemon.__exit__()
        raise
    return daemon


def run_command(
    name: str, *arguments: str | Path, env: Mapping[str, str] | None = None, timeout_s: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Run a command of ours to its end; standard output and error are captured as text."""
    return subprocess.run(
        [command(name), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
        timeout=timeout_s,
        check=False,
    )
