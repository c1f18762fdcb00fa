"""What every benchmark needs besides a load: the environment it ran in, servers as processes, tables of ratios.

`http_load` has the load generator.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


# The environment


def cache_folder(*parts: str) -> Path:
    """A folder of the user's cache, outside the project, for environments and data that are made once."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base.joinpath("entrepot", "benchmarks", *parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def environment(packages: Sequence[str]) -> list[str]:
    """The machine, the interpreter, the commit and the versions of packages, one fact a line."""
    versions = [f"{name} {_version(name)}" for name in packages]
    system = f"{platform.system()} {platform.release()}"
    return [
        f"machine   {_cpu()}, {os.cpu_count()} cores, {_memory_gib():.0f} GiB, {system}",
        f"python    {platform.python_implementation()} {platform.python_version()}",
        f"commit    {_commit()}",
        f"packages  {', '.join(versions)}",
        f"load      {', '.join(f'{load:.2f}' for load in os.getloadavg())} (1, 5, 15 minutes, at the start)",
    ]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _commit() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def python_environment(name: str, requirements: Sequence[str]) -> Path:
    """The interpreter of a virtual environment with exactly these requirements; made the first time, then kept."""
    digest = hashlib.sha256("\n".join([*requirements, platform.python_version()]).encode()).hexdigest()[:12]
    folder = cache_folder("environments") / f"{name}-{digest}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        say(f"making the environment of {name} in {folder}")
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run(
            [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", *requirements], check=True
        )
        (folder / "complete").touch()
    return python


# Servers


@dataclass(slots=True)
class Server:
    """A server that runs as a process.

    Attributes:
        name: What tables call it.
        url: Where it answers, without a trailing slash.
        pid: Its process.
    """

    name: str
    url: str
    pid: int

    def cpu_s(self) -> float:
        """The processor time it has used so far, all threads together, in seconds."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * _TICK_S

    def peak_mb(self) -> float:
        """The most memory it has held since `forget_peak`, in megabytes (10⁶ bytes)."""
        return self._status_mb("VmHWM")

    def resident_mb(self) -> float:
        """The memory that it holds, in megabytes (10⁶ bytes)."""
        return self._status_mb("VmRSS")

    def _status_mb(self, field: str) -> float:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024 / 1e6
        raise LookupError(field)

    def forget_peak(self) -> None:
        """Begin to measure the peak of its memory anew."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    name: str,
    command: Sequence[str | Path],
    *,
    ready: str,
    log: Path,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 60.0,
) -> Iterator[Server]:
    """Run a server for as long as the block lasts.

    Args:
        name: What tables call it.
        command: How to start it; ``{port}`` in an argument becomes a free port.
        ready: The path that answers 200 once it can work.
        log: Where its output goes.
        env: Environment variables besides ours.
        timeout_s: How long it may take to become ready, in seconds.
    """
    port = free_port()
    argv = [str(word).replace("{port}", str(port)) for word in command]
    with log.open("ab") as output:
        process = subprocess.Popen(argv, stdout=output, stderr=output, env={**os.environ, **(env or {})})
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(process, url + ready, log, timeout_s)
        yield Server(name, url, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"{process.args!r} ended with {process.returncode}:\n{log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise SystemExit(f"{process.args!r} was not ready within {timeout_s:g} s:\n{log.read_text()[-2000:]}")


def stop_cleanly() -> None:
    """Let SIGTERM end the benchmark as an error would, so that the servers it has started end too."""
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))


# Results


@dataclass(frozen=True, slots=True)
class Goal:
    """A value that a result is held to.

    Attributes:
        bound: The value.
        at_least: Whether the result must reach it; otherwise it must stay under it.
        unit: Of both, for people.
    """

    bound: float
    at_least: bool = True
    unit: str = "×"

    def is_met(self, value: float) -> bool:
        """Whether a result meets the goal."""
        return value >= self.bound if self.at_least else value < self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '<'} {self.bound:g} {self.unit}"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a table of results.

    Attributes:
        what: What was measured.
        theirs: The peer's result, as text.
        ours: Our result, as text.
        value: What the goal is about: usually the ratio ours to theirs.
        goal: What it is held to; None when it is only shown.
        unit: Of the value, when there is no goal.
    """

    what: str
    theirs: str
    ours: str
    value: float
    goal: Goal | None = None
    unit: str = "×"

    @property
    def is_met(self) -> bool:
        """Whether the goal, if there is one, is met."""
        return self.goal is None or self.goal.is_met(self.value)

    def cells(self) -> list[str]:
        """The cells of the table."""
        unit = self.goal.unit if self.goal else self.unit
        verdict = "" if self.goal is None else "met" if self.is_met else "MISSED"
        return [self.what, self.theirs, self.ours, f"{_short(self.value)} {unit}", str(self.goal or ""), verdict]


def table(lines: Sequence[Line], theirs: str, ours: str) -> str:
    """A Markdown table of results."""
    return text_table(["", theirs, ours, "result", "goal", ""], [line.cells() for line in lines])


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of text as a Markdown table with aligned columns."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    return "\n".join([line(head), line(["-" * width for width in widths]), *(line(row) for row in rows)])


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def say(text: str) -> None:
    """Tell the person who waits what happens now."""
    print(f"-- {text}", file=sys.stderr, flush=True)
