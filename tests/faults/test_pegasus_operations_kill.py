"""kill -9 of a replica server in the middle of long operations: they end, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from shared.pegasus.client import PegasusClient, TableClient
from tests.processes import DaemonProcess, run_command, start_daemon

ROWS = 3000
SETTINGS = (
    *("--set", "fd_beacon_interval_seconds=1", "--set", "fd_lease_seconds=4", "--set", "fd_grace_seconds=6"),
    *("--set", "disk_min_available_space_ratio=0"),
)


class Nodes:
    """A metaserver and a replica server that can be killed and started again."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.folder = folder
        self.settings = (*SETTINGS, "--provider", f"local_service={folder / 'files'}", *settings)
        self.meta = start_daemon("metaserver", "--data-dir", folder / "meta", *self.settings)
        self.address = f"127.0.0.1:{self.meta.port}"
        self.replica = self.start(0)
        self.port = self.replica.port

    def start(self, port: int) -> DaemonProcess:
        where = ("--data-dir", self.folder / "replica", "--meta", self.address, "--port", str(port))
        return start_daemon("replicaserver", *where, *self.settings)

    def kill_at(self, event: str) -> None:
        """Kill the replica server when its log has an event, and start it again."""
        self.replica.wait_for_log(event)
        self.replica.kill()
        self.replica = self.start(self.port)

    def run(self, *arguments: str | Path) -> list[dict[str, object]]:
        ended = run_command("metaserver", *arguments, "--json", "--meta", self.address, timeout_s=120)
        assert ended.returncode == 0, ended.stderr
        rows: list[dict[str, object]] = json.loads(ended.stdout)
        return rows

    def close(self) -> None:
        for process in (self.replica, self.meta):
            process.__exit__()


async def until(ask: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(90):
        while not await ask():  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0.2)


async def check(table: TableClient) -> None:
    assert await table.get(b"kept", b"x") == b"acknowledged"
    for number in (0, 7, ROWS - 1):
        assert await table.get(b"u%d" % number, b"") == b"%d" % number


@pytest.mark.timeout(400)
async def test_long_operations_end_although_the_server_is_killed_in_the_middle(tmp_path: Path):
    rows = "".join(f"u{number},{number}\n" for number in range(ROWS))
    (tmp_path / "rows.csv").write_text(f"user,amount\n{rows}")
    nodes = Nodes(tmp_path)
    try:
        async with PegasusClient([nodes.address]) as client:
            table = await client.table("temp")
            await table.put(b"kept", b"x", b"acknowledged")
            columns = ("--hash-key", "user", "--value", "amount")
            nodes.run("bulk-load", "prepare", "temp", tmp_path / "rows.csv", "--output", tmp_path / "files", *columns)
            for event in ("download the files", "add the files to the store"):  # the second load follows a first one
                nodes.run("bulk-load", "start", "temp")
                nodes.kill_at(event)

                async def is_loaded() -> bool:
                    return not nodes.run("bulk-load", "status", "temp")[0]["running"]

                await until(is_loaded)
                assert nodes.run("bulk-load", "status", "temp")[0]["status"] == "succeed"
                nodes.run("bulk-load", "clear", "temp")
                await check(table)

            nodes.run("backup", "start", "temp")
            nodes.kill_at("backup begins")

            async def is_backed_up() -> bool:
                return nodes.run("backup", "status", "temp")[0]["status"] != "running"

            await until(is_backed_up)
            [made] = nodes.run("backup", "status", "temp")
            assert made["status"] == "complete"

            restoring = asyncio.to_thread(nodes.run, "backup", "restore", "temp", str(made["backup_id"]), "copy")
            restored = asyncio.ensure_future(restoring)
            await asyncio.to_thread(nodes.kill_at, "replica restored")
            await restored
            await check(await client.table("copy"))
            await check(table)
            assert nodes.replica.terminate() == 0, nodes.replica.stderr()
    finally:
        nodes.close()


KINDS = (b"old", b"new")
OLD_KEYS = {"pattern": "old", "match_type": "SMT_MATCH_PREFIX"}
DELETE_OLD = {
    "ops": [
        {
            "type": "COT_DELETE",
            "params": "",
            "rules": [{"type": "FRT_HASHKEY_PATTERN", "params": json.dumps(OLD_KEYS)}],
        }
    ]
}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("event", ["manual compaction runs", "rules applied"])
async def test_a_manual_compaction_is_made_although_the_server_is_killed_in_the_middle(tmp_path: Path, event: str):
    nodes = Nodes(tmp_path, "--set", "config_sync_interval_ms=500")
    rows = {b"%03d" % number: bytes(200) for number in range(500)}
    try:
        async with PegasusClient([nodes.address]) as client:
            table = await client.table("temp")
            await asyncio.gather(*(table.multi_put(b"%s%d" % (kind, n), rows) for kind in KINDS for n in range(40)))
            envs = {
                "user_specified_compaction": json.dumps(DELETE_OLD),
                "manual_compact.once.trigger_time": str(int(time.time())),
            }
            nodes.run("set-envs", "temp", *(f"{name}={value}" for name, value in envs.items()))
            nodes.kill_at(event)
            await table.put(b"new0", b"000", b"written after the restart")

            async def is_compacted() -> bool:
                left = await asyncio.gather(*(table.sortkey_count(b"old%d" % n) for n in range(40)))
                return not any(left)

            await until(is_compacted)
            assert await asyncio.gather(*(table.sortkey_count(b"new%d" % n) for n in range(40))) == [500] * 40
            assert await table.get(b"new0", b"000") == b"written after the restart"
            assert await table.get(b"new7", b"123") == bytes(200)
            assert nodes.replica.terminate() == 0, nodes.replica.stderr()
    finally:
        nodes.close()
