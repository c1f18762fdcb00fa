"""scripts/start: the whole example, twice over the same data, and its end by Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pyarrow.dataset
import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = [sys.executable, str(ROOT / "scripts" / "example" / "start.py"), "--free-ports"]


def start(data: Path) -> subprocess.Popen[str]:
    command = [*EXAMPLE, "--data-dir", str(data)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def until_ready(example: subprocess.Popen[str]) -> str:
    """What it printed until it said how to stop it."""
    assert example.stdout is not None
    printed = ""
    for line in example.stdout:
        printed += line
        if "Ctrl-C stops" in line:
            return printed
    raise AssertionError(printed)


def rating_boxes(data: Path) -> int:
    return pyarrow.dataset.dataset(data / "warehouse" / "tables" / "rating_box", partitioning="hive").count_rows()


def test_help_is_there_before_anything_is_installed():
    done = subprocess.run([ROOT / "scripts" / "start", "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: scripts/start")


@pytest.mark.timeout(180)
def test_it_runs_all_five_daemons_until_ctrl_c_and_the_next_start_finds_the_data(tmp_path: Path):
    for visits in (40, 80):
        example = start(tmp_path)
        try:
            printed = until_ready(example)
            addresses = re.findall(r"^  (\w+) +(http://127\.0\.0\.1:\d+)", printed, re.MULTILINE)
            assert [name for name, _ in addresses] == [
                "gateway",
                "intake_server",
                "iserver",
                "metaserver",
                "replicaserver",
            ]
            for _, origin in addresses:
                with urllib.request.urlopen(f"{origin}/healthz", timeout=30) as answer:
                    assert answer.status == 200
            assert rating_boxes(tmp_path) == visits
            example.send_signal(signal.SIGINT)
            assert example.wait(timeout=60) == 0
        finally:
            if example.poll() is None:
                example.kill()
                example.wait()
            assert example.stdout is not None
            example.stdout.close()
    assert "Traceback" not in "".join(path.read_text() for path in (tmp_path / "logs").iterdir())


def test_a_daemon_that_dies_ends_the_example_with_its_name(tmp_path: Path):
    example = start(tmp_path)
    try:
        until_ready(example)
        victim = next(pid for pid, line in processes_of(example.pid) if "/gateway start" in line)
        os.kill(victim, signal.SIGKILL)
        assert example.stdout is not None
        assert "gateway ended by itself" in example.stdout.read()
        assert example.wait(timeout=60) == 1
        deadline = time.monotonic() + 10
        while processes_of(example.pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert processes_of(example.pid) == []
    finally:
        if example.poll() is None:
            example.kill()
            example.wait()
        assert example.stdout is not None
        example.stdout.close()


def processes_of(parent: int) -> list[tuple[int, str]]:
    """Ids and command lines of the children of a process."""
    children = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdecimal() and int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1]) == parent:
                children.append((int(folder.name), (folder / "cmdline").read_text().replace("\0", " ")))
        except FileNotFoundError:
            continue
    return children
