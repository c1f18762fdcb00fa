"""A disk that takes nothing more: requests are refused, and what was acknowledged is there all the same (§11.6)."""

from __future__ import annotations

import resource
from collections import Counter
from importlib import resources
from pathlib import Path

import aiohttp

from tests.faults.test_iserver_kill import logged
from tests.processes import DaemonProcess, start_daemon

FDL = Path(str(resources.files("iserver.example"))) / "shop.fdl"


def start_iserver(data: Path) -> DaemonProcess:
    return start_daemon("iserver", "--data-dir", data, "--fdl", FDL)


def limit_files(daemon: DaemonProcess, size_bytes: int) -> None:
    """Let no file of a process grow or be written beyond a size, as a full disk would."""
    _, most = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (size_bytes, most))


async def visit(http: aiohttp.ClientSession, url: str, device: str, impression: str) -> int:
    body = {"args": {"deviceId": device}, "impressionId": impression, "requests": {"RatingBox": {"product": "p"}}}
    async with http.post(f"{url}/features", json=body) as answer:
        return answer.status


async def test_what_was_acknowledged_around_a_full_disk_survives_a_kill(tmp_path):
    with start_iserver(tmp_path) as daemon:
        async with aiohttp.ClientSession() as http:
            assert await visit(http, daemon.url, "before", "imp-1") == 200
            limit_files(daemon, 0)
            refused = [await visit(http, daemon.url, device, "imp-2") for device in ("before", "new")]
            limit_files(daemon, resource.RLIM_INFINITY)
            assert refused == [503, 503]
            assert await visit(http, daemon.url, "before", "imp-3") == 200
            assert await visit(http, daemon.url, "new", "imp-3") == 200
        daemon.kill()
    with start_iserver(tmp_path) as daemon:
        assert daemon.terminate() == 0
    shown = {"imp-1": 1, "imp-2": 2, "imp-3": 2}  # the refused ones were shown too: nobody can tell that they were not
    assert logged(tmp_path / "warehouse") == Counter({f"RatingBox {name}": times for name, times in shown.items()})


async def test_a_server_that_is_stopped_while_the_disk_is_full_ends_cleanly_and_loses_nothing(tmp_path):
    with start_iserver(tmp_path) as daemon:
        async with aiohttp.ClientSession() as http:
            assert await visit(http, daemon.url, "before", "imp-1") == 200
        limit_files(daemon, 0)
        assert daemon.terminate() == 0
        assert "Traceback" not in daemon.stderr()
    with start_iserver(tmp_path) as daemon:
        assert daemon.terminate() == 0
    assert logged(tmp_path / "warehouse") == Counter({"RatingBox imp-1": 1})
