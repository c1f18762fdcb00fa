"""A disk that takes nothing more: writes are refused, everything else is served, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from shared.pegasus.client import PegasusClient, TableClient
from shared.pegasus.wire.errors import ErrorCode, RpcError
from tests.faults.test_iserver_full_disk import limit_files, readiness
from tests.processes import start_daemon

SETTINGS = ("--set", "disk_min_available_space_ratio=0", "--set", "disk_stat_interval_seconds=1")
ROWS = {b"a": b"acknowledged", b"b": b"acknowledged"}


async def refused(write: Callable[[], Awaitable[object]]) -> str:
    """The error with which a write is refused."""
    with pytest.raises(RpcError) as caught:
        await write()
    return str(caught.value.code)


async def taken(write: Callable[[], Awaitable[object]]) -> None:
    """Write until it is taken; it is refused for a while."""
    deadline = time.monotonic() + 60
    while True:
        try:
            await write()
        except RpcError as error:
            assert error.code == ErrorCode.ERR_DISK_IO_ERROR
            assert time.monotonic() < deadline, "the replica does not recover"
            await asyncio.sleep(0.05)
        else:
            return


async def check(table: TableClient, counted: bytes) -> None:
    assert await table.multi_get(b"hk") == ROWS | {b"n": counted}


async def test_writes_go_on_when_the_disk_has_room_again_and_what_was_refused_stays_refused(tmp_path: Path):
    with start_daemon("metaserver", "--data-dir", tmp_path / "meta") as meta:
        metas = f"127.0.0.1:{meta.port}"
        arguments = ("--meta", metas, "--data-dir", tmp_path / "replica", *SETTINGS)
        async with PegasusClient([metas]) as client:
            with start_daemon("replicaserver", *arguments) as server:
                table = await client.table("temp")
                await table.multi_put(b"hk", ROWS)
                await table.incr(b"hk", b"n", 5)
                limit_files(server, 0)
                for _ in range(2):
                    assert await refused(lambda: table.multi_put(b"hk", dict.fromkeys(ROWS, b"refused"))) == (
                        ErrorCode.ERR_DISK_IO_ERROR
                    )
                    assert await refused(lambda: table.incr(b"hk", b"n", 100)) == ErrorCode.ERR_DISK_IO_ERROR
                await check(table, b"5")
                assert (await readiness(server.url))[0] == 503
                assert "the disk takes no writes of 1 replicas" in (await readiness(server.url))[1]
                limit_files(server, resource.RLIM_INFINITY)
                await taken(lambda: table.incr(b"hk", b"n", 1))
                await check(table, b"6")
                server.kill()
                address = str(server.port)
            with start_daemon("replicaserver", *arguments, "--port", address) as server:
                await check(table, b"6")
                assert server.terminate() == 0
