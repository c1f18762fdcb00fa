"""A metaserver that falls silent, a replica server held for dead: rows stay, and one server at most has them."""

from __future__ import annotations

import asyncio
import json
import signal
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path

from shared.pegasus.client.connection import Call, RpcConnection
from shared.pegasus.wire.errors import ErrorCode, RpcError
from shared.pegasus.wire.keys import encode_key, partition_of
from shared.pegasus.wire.structures import rrdb
from shared.pegasus.wire.structures.base import HostPort
from tests.processes import DaemonProcess, start_daemon

TEMP, PARTITIONS = 2, 8
GET = Call("RPC_RRDB_RRDB_GET", bytes, rrdb.ReadResponse)
PUT = Call("RPC_RRDB_RRDB_PUT", rrdb.UpdateRequest, rrdb.UpdateResponse)
ROWS = {encode_key(b"h%d" % number, b""): b"%d" % number for number in range(40)}
QUICK = (
    *("--set", "fd_lease_seconds=2", "--set", "fd_grace_seconds=3", "--set", "fd_beacon_interval_seconds=1"),
    *("--set", "disk_min_available_space_ratio=0"),
)


async def until(ask: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await ask():  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0.05)


async def call(port: int, call: Call, key: bytes, value: object):
    connection = await RpcConnection.open(HostPort("127.0.0.1", port))
    try:
        return await connection.call(call, value, 5.0, app_id=TEMP, partition_index=partition_of(key, PARTITIONS))
    finally:
        connection.close()


async def error(port: int, key: bytes) -> str:
    """The error with which a row is refused; empty when it is there."""
    try:
        answer = await call(port, GET, key, key)
    except RpcError as refused:
        return str(refused.code)
    return "" if answer.error == 0 else "not found"


async def served(port: int) -> bool:
    return {await error(port, key) for key in ROWS} == {""}


async def write(port: int) -> None:
    async def is_served() -> bool:
        return {await error(port, key) for key in ROWS} == {"not found"}

    await until(is_served)
    for key, value in ROWS.items():
        await call(port, PUT, key, rrdb.UpdateRequest(key, value))


def start_replica(meta: DaemonProcess, folder: Path, port: int = 0) -> DaemonProcess:
    address = ("--port", str(port), "--meta", f"127.0.0.1:{meta.port}")
    return start_daemon("replicaserver", *address, "--data-dir", folder, *QUICK)


async def test_nobody_is_served_while_the_metaserver_is_silent(tmp_path: Path):
    with (
        start_daemon("metaserver", "--data-dir", tmp_path / "meta", *QUICK) as meta,
        start_replica(meta, tmp_path / "replica") as replica,
    ):
        await write(replica.port)
        meta.send_signal(signal.SIGSTOP)

        async def is_refused() -> bool:
            return {await error(replica.port, key) for key in ROWS} == {ErrorCode.ERR_INVALID_STATE}

        await until(is_refused)
        meta.send_signal(signal.SIGCONT)
        await until(lambda: served(replica.port))


async def test_a_replica_server_that_was_stopped_serves_nobody_before_it_is_acknowledged_again(tmp_path: Path):
    with (
        start_daemon("metaserver", "--data-dir", tmp_path / "meta", *QUICK) as meta,
        start_replica(meta, tmp_path / "replica") as replica,
    ):
        await write(replica.port)
        replica.send_signal(signal.SIGSTOP)

        async def is_held_for_dead() -> bool:
            return unreadable(meta) == PARTITIONS

        await until(is_held_for_dead)
        meta.send_signal(signal.SIGSTOP)
        replica.send_signal(signal.SIGCONT)
        assert [await error(replica.port, key) for key in ROWS] == [ErrorCode.ERR_INVALID_STATE] * len(ROWS)
        meta.send_signal(signal.SIGCONT)
        await until(lambda: served(replica.port))


async def test_a_replica_server_that_was_held_for_dead_comes_back_with_its_rows(tmp_path: Path):
    with start_daemon("metaserver", "--data-dir", tmp_path / "meta", *QUICK) as meta:
        with start_replica(meta, tmp_path / "replica") as replica:
            port = replica.port
            await write(port)
            replica.kill()

        async def is_buried() -> bool:
            return unreadable(meta) == PARTITIONS

        await until(is_buried)
        with start_replica(meta, tmp_path / "replica", port):
            await until(lambda: served(port))


def unreadable(meta: DaemonProcess) -> int:
    with urllib.request.urlopen(f"{meta.url}/meta/app?name=temp&detail") as answer:
        return int(json.load(answer)["healthy"]["read_unhealthy_partition_count"])
