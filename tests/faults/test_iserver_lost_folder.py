"""A data directory that is deleted under a running server: nothing more is acknowledged, and the server still ends."""

from __future__ import annotations

import shutil
from pathlib import Path

import aiohttp

from tests.faults.test_iserver_full_disk import readiness, start_iserver, visit


async def test_a_server_whose_data_directory_is_deleted_refuses_requests_and_ends(tmp_path: Path):
    data = tmp_path / "data"
    with start_iserver(data) as daemon:
        async with aiohttp.ClientSession() as http:
            assert await visit(http, daemon.url, "dev-1", "imp-1") == 200
            shutil.rmtree(data)
            for device in ("dev-1", "dev-2"):
                assert await visit(http, daemon.url, device, "imp-2") == 503
            assert (await readiness(daemon.url))[0] == 503
        assert daemon.terminate() == 0
        assert "Traceback" not in daemon.stderr()
