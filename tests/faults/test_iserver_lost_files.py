"""Files of the journal that are gone or damaged stop the start with one line, unless the loss is accepted (§11.6)."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from tests.faults.test_iserver_full_disk import FDL, start_iserver, visit
from tests.faults.test_iserver_kill import logged
from tests.processes import run_command, start_daemon


async def killed(data: Path) -> None:
    """A server that was killed after three visits."""
    with start_iserver(data) as daemon:
        async with aiohttp.ClientSession() as http:
            for number in range(3):
                assert await visit(http, daemon.url, f"dev-{number}", f"imp-{number}") == 200
        daemon.kill()


def start_fails(data: Path) -> str:
    """The one line with which a start ends."""
    done = run_command("iserver", "start", "--port", "0", "--log-format", "json", "--data-dir", data, "--fdl", FDL)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize("file", ["00000001.log", "manifest", ""])
async def test_a_missing_file_of_the_log_stops_the_start(tmp_path: Path, file: str):
    await killed(tmp_path)
    path = tmp_path / "journal" / file
    (path.unlink if file else lambda: shutil.rmtree(path))()
    line = start_fails(tmp_path)
    assert line.startswith(f"iserver: {path} is missing, ")
    assert "--accept-loss" in line
    with start_daemon("iserver", "--data-dir", tmp_path, "--fdl", FDL, "--accept-loss") as daemon:
        async with aiohttp.ClientSession() as http:
            assert await visit(http, daemon.url, "dev-9", "imp-9") == 200
        assert "that was accepted" in daemon.stderr()
        assert daemon.terminate() == 0
    kept = {"imp-0": 1, "imp-1": 1, "imp-2": 1} if file == "manifest" else {}
    expected = {f"RatingBox {name}": times for name, times in {**kept, "imp-9": 1}.items()}
    assert logged(tmp_path / "warehouse") == Counter(expected)


async def test_damage_within_the_newest_file_stops_the_start_and_a_torn_end_does_not(tmp_path: Path):
    await killed(tmp_path)
    path = tmp_path / "journal" / "00000001.log"
    whole = path.read_bytes()
    first, last = whole.index(b"imp-0"), whole.index(b"imp-2")
    path.write_bytes(whole[:first] + b"X" + whole[first + 1 :])
    assert start_fails(tmp_path).startswith(f"iserver: {path} is damaged between bytes ")
    path.write_bytes(whole[:last] + b"X" + whole[last + 1 :])
    with start_iserver(tmp_path) as daemon:
        assert "unacknowledged end of the log dropped" in daemon.stderr()
        assert daemon.terminate() == 0
    assert logged(tmp_path / "warehouse") == Counter({"RatingBox imp-0": 1, "RatingBox imp-1": 1})
