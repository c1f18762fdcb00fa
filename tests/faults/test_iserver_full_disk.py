"""A disk that takes nothing more: requests are refused, and what was acknowledged is there all the same (§11.6)."""

from __future__ import annotations

import asyncio
import resource
import time
from collections import Counter
from importlib import resources
from pathlib import Path

import aiohttp
import duckdb
from yarl import URL

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


async def rate(http: aiohttp.ClientSession, url: str, device: str, impression: str, stars: int) -> int:
    event = {"feature": "RatingBox", "event": "Rating", "impressionId": impression, "args": {"stars": stars}}
    async with http.post(f"{url}/signal", json={"id": {"deviceId": device}, **event}) as answer:
        return answer.status


async def readiness(url: str) -> tuple[int, str]:
    """What `/readyz` says."""
    async with aiohttp.ClientSession() as http, http.get(str(URL(url).origin() / "readyz")) as answer:
        return answer.status, await answer.text()


async def ready(url: str) -> None:
    """Wait until a server is ready."""
    deadline = time.monotonic() + 60
    while (await readiness(url))[0] != 200:
        assert time.monotonic() < deadline, "the server does not become ready"
        await asyncio.sleep(0.1)


async def test_what_was_refused_while_the_disk_was_full_is_in_no_table(tmp_path):
    """Its clients showed control values; what was acknowledged before and afterwards is there, also after a kill."""
    with start_iserver(tmp_path) as daemon:
        async with aiohttp.ClientSession() as http:
            assert await visit(http, daemon.url, "before", "imp-1") == 200
            assert await rate(http, daemon.url, "before", "imp-1", 1) == 200
            limit_files(daemon, 0)
            for _ in range(3):
                refused = [await visit(http, daemon.url, device, "imp-2") for device in ("before", "new", "refused")]
                assert refused == [503, 503, 503]
                assert await rate(http, daemon.url, "before", "imp-1", 2) == 503
            status, reasons = await readiness(daemon.url)
            assert (status, "the journal cannot be written" in reasons) == (503, True)
            limit_files(daemon, resource.RLIM_INFINITY)
            await ready(daemon.url)  # without a request that would be refused
            assert await visit(http, daemon.url, "before", "imp-3") == 200
            assert await visit(http, daemon.url, "new", "imp-3") == 200
            assert await rate(http, daemon.url, "before", "imp-1", 3) == 200
        daemon.kill()
    with start_iserver(tmp_path) as daemon:
        assert daemon.terminate() == 0
    expected = {"RatingBox imp-1": 1, "RatingBox imp-3": 2, "Rating 1": 1, "Rating 3": 1}
    assert logged(tmp_path / "warehouse") == Counter(expected)


async def test_a_session_of_refused_requests_alone_is_in_no_table(tmp_path):
    with start_iserver(tmp_path) as daemon:
        async with aiohttp.ClientSession() as http:
            assert await visit(http, daemon.url, "acknowledged", "imp-1") == 200
            limit_files(daemon, 0)
            assert await visit(http, daemon.url, "refused", "imp-2") == 503
            limit_files(daemon, resource.RLIM_INFINITY)
            await ready(daemon.url)
        assert daemon.terminate() == 0
    sessions = f"read_parquet('{tmp_path}/warehouse/tables/session/*/*/*.parquet')"
    assert duckdb.connect().execute(f"SELECT device_id FROM {sessions}").fetchall() == [("acknowledged",)]


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
