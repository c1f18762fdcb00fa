"""Clients of Pegasus against a metaserver and a replica server, both started by their commands."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from pathlib import Path

import pytest

from shared.pegasus.client import PegasusClient
from shared.pegasus.wire.errors import RpcError
from shared.pegasus.wire.structures.rrdb import CheckAndMutateRequest, CheckAndSetRequest, CheckType, Mutate
from tests.conformance.environments import client_python, run_client
from tests.processes import run_command, start_daemon

OLD_CLIENT = Path(__file__).with_name("pegasus_python_client.py")
NOT_FOUND, INCOMPLETE = 23, 38  # what this client makes of rocksdb's codes 1 and 7


class Daemons:
    def __init__(self, meta, replica, files):
        self.meta, self.replica, self.files = meta, replica, files
        self.address = meta.url.removeprefix("http://")

    def get(self, target, daemon=None):
        with urllib.request.urlopen(f"{(daemon or self.meta).url}{target}", timeout=10) as answer:
            return json.load(answer)

    def run(self, *arguments):
        """A sub-command of metaserver, with JSON output."""
        done = run_command("metaserver", *arguments, "--meta", self.address, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def refused(self, *arguments):
        """What a sub-command that fails says."""
        done = run_command("metaserver", *arguments, "--meta", self.address)
        assert (done.returncode, done.stdout) == (1, "")
        return done.stderr.strip()


@pytest.fixture(scope="module")
def daemons(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pegasus")
    provider = ("--provider", f"local_service={folder / 'files'}")
    with start_daemon("metaserver", "--data-dir", folder / "meta", "--compat-omit-host-port", *provider) as meta:
        address = meta.url.removeprefix("http://")
        arguments = ("--data-dir", folder / "replica", "--meta", address, *provider)
        with start_daemon("replicaserver", *arguments) as replica:
            yield Daemons(meta, replica, folder / "files")
            assert replica.terminate() == 0
        assert meta.terminate() == 0


@pytest.fixture
async def table(daemons):
    async with PegasusClient([daemons.address], timeout_s=30) as client:
        yield await client.table("temp")


async def test_the_published_python_client_does_everything_it_can(daemons, table):
    python = client_python("pypegasus3-0.0.1.1")
    results = json.loads(run_client(python, OLD_CLIENT.read_text(encoding="utf-8"), daemons.address, "temp"))
    values = {f"k{number:02}": f"v{number}" for number in range(20)}
    assert results == {
        "init": True,
        "get nothing": [NOT_FOUND, ""],
        "set": [0, None],
        "get": [0, "value"],
        "exist": [0, results["ttl"][1]],
        "not exist": [NOT_FOUND, 0],
        "ttl": [0, pytest.approx(3600, abs=60)],
        "set for ever": [0, None],
        "ttl for ever": [0, -1],
        "empty hash key": [0, None],
        "get by sort key": [0, "v2"],
        "multi_set": [0, None],
        "sort_key_count": [0, 20],
        "multi_get": [0, {"k03": "v3", "k05": "v5"}],
        "multi_get all": [0, values],
        "multi_get limited": [INCOMPLETE, {key: values[key] for key in ("k00", "k01", "k02")}],
        "multi_get_opt": [0, {"k10": "v10", "k11": "v11"}],
        "get_sort_keys": [INCOMPLETE, {"k00": "", "k01": ""}],
        "remove": [0, None],
        "get removed": [NOT_FOUND, ""],
        "multi_del": [0, 2],
        "sort_key_count after": [0, 17],
        "200 sets": [0],
        "200 gets": True,
    }
    assert await table.get(b"user199") == b"199"


async def test_values_are_put_read_counted_and_removed(table):
    await table.put(b"user-1", b"name", b"Ada", ttl_s=3600)
    assert await table.get(b"user-1", b"name") == b"Ada"
    assert 3500 < await table.ttl(b"user-1", b"name") <= 3600
    assert await table.get(b"user-1", b"other") is None
    assert await table.ttl(b"user-1", b"other") is None
    await table.remove(b"user-1", b"name")
    assert not await table.exists(b"user-1", b"name")


async def test_many_values_of_a_hash_key(table):
    values = {b"%03d" % number: b"v%d" % number for number in range(50)}
    await table.multi_put(b"of one key", values)
    assert await table.multi_get(b"of one key") == values
    assert await table.multi_get(b"of one key", [b"007", b"nosuch"]) == {b"007": b"v7"}
    assert await table.multi_get(b"of one key", max_count=2, no_value=True) == {b"000": b"", b"001": b""}
    assert await table.sortkey_count(b"of one key") == 50
    assert [row async for row in table.scan(b"of one key", batch_size=7)] == sorted(values.items())
    assert await table.multi_remove(b"of one key", [b"000", b"001"]) == 2
    assert await table.sortkey_count(b"of one key") == 48


async def test_more_values_of_a_hash_key_than_a_server_gives_at_once(table):
    values = {b"%05d" % number: b"" for number in range(7000)}
    await table.multi_put(b"large", values)
    assert await table.multi_get(b"large") == values
    assert await table.multi_get(b"large", [*values, b"nosuch"]) == values
    assert list(await table.multi_get(b"large", max_count=4000)) == list(values)[:4000]
    assert list(await table.multi_get(b"large", list(values), max_count=4000)) == list(values)[:4000]
    part = [key async for key, _ in table.scan(b"large", start=b"00100", stop=b"06000", no_value=True)]
    assert part == list(values)[100:6000]


async def test_a_full_scan_finds_every_row_once(table):
    await asyncio.gather(*(table.put(b"scan-%d" % n, b"s", b"%d" % n) for n in range(300)))
    found = [(h, v) async for h, s, v in table.full_scan(batch_size=11) if h.startswith(b"scan-")]
    assert sorted(found) == sorted((b"scan-%d" % n, b"%d" % n) for n in range(300))


async def test_values_anywhere_in_one_call(table):
    await asyncio.gather(*(table.put(b"batch-%d" % n, b"s", b"%d" % n) for n in range(20)))
    wanted = [(b"batch-%d" % n, b"s") for n in (3, 5, 19, 77)]
    found = {(b"batch-%d" % n, b"s"): b"%d" % n for n in (3, 5, 19)}
    assert await table.batch_get(wanted) == found


async def test_numbers_grow_and_conditions_hold(table):
    assert await table.incr(b"n", b"", 10) == 10
    assert await table.incr(b"n", b"", -15) == -5
    request = CheckAndSetRequest(b"cas", b"k", CheckType.VALUE_NOT_EXIST, b"", False, b"", b"first", 0, True)
    assert (await table.check_and_set(request)).error == 0
    again = await table.check_and_set(request)
    assert (again.error, again.check_value_exist, again.check_value) == (13, True, b"first")
    mutate = CheckAndMutateRequest(
        b"cas", b"k", CheckType.VALUE_BYTES_EQUAL, b"first", [Mutate(0, b"a", b"1"), Mutate(1, b"k")]
    )
    assert (await table.check_and_mutate(mutate)).error == 0
    assert await table.multi_get(b"cas") == {b"a": b"1"}


async def test_a_table_that_is_not_there(daemons):
    async with PegasusClient([daemons.address], timeout_s=5) as client:
        with pytest.raises(RpcError) as failed:
            await client.table("nosuch")
    assert failed.value.code == "ERR_OBJECT_NOT_FOUND"


async def test_an_operator_runs_a_table_from_the_command_line(daemons):
    (created,) = daemons.run("create-table", "shop", "--partitions", "4", "--replicas", "1", "--env", "default_ttl=99")
    assert (created["name"], created["partitions"]) == ("shop", 4)
    assert daemons.refused("create-table", "shop", "--partitions", "4", "--replicas", "1") == (
        "Error: ERR_APP_EXIST: there is a table 'shop' already"
    )
    async with PegasusClient([daemons.address]) as client:
        shop = await client.table("shop")
        await shop.put(b"h", b"s", b"kept")
        assert 0 < await shop.ttl(b"h", b"s") <= 99
    assert daemons.run("set-envs", "shop", "business.info=a=b", "--delete", "default_ttl") == [
        {"name": "business.info", "value": "a=b"}
    ]
    assert "should be a boolean" in daemons.refused("set-envs", "shop", "manual_compact.disabled=1")
    assert daemons.run("rename-table", "shop", "store")[0]["name"] == "store"
    assert daemons.run("drop-table", "store")[0]["status"] == "dropped"
    (dropped,) = daemons.run("list-tables", "--status", "dropped")
    assert (dropped["app_id"], dropped["name"]) == (created["app_id"], "store")
    assert daemons.run("recall-table", str(created["app_id"]), "--name", "again")[0]["name"] == "again"
    async with PegasusClient([daemons.address], timeout_s=30) as client:
        assert await (await client.table("again")).get(b"h", b"s") == b"kept"
    assert [row["name"] for row in daemons.run("list-tables")] == ["stat", "temp", "again"]


async def test_a_table_is_loaded_backed_up_and_restored_from_the_command_line(daemons, tmp_path):
    readings = tmp_path / "readings.csv"
    rows = {(f"sensor-{n % 20}", f"2026-01-{n // 20 + 1:02}"): f"{n}.5" for n in range(600)}
    readings.write_text("sensor,day,value\n" + "".join(f"{s},{d},{v}\n" for (s, d), v in rows.items()))
    daemons.run("create-table", "readings", "--partitions", "4", "--replicas", "1")
    columns = ("--hash-key", "sensor", "--sort-key", "day", "--value", "value")
    prepare = ("bulk-load", "prepare", "readings", str(readings), "--output", str(daemons.files))
    (prepared,) = daemons.run(*prepare, *columns)
    assert prepared["rows"] == 600
    (loaded,) = daemons.run("bulk-load", "start", "readings", "--wait")
    assert (loaded["status"], loaded["running"]) == ("succeed", False)
    assert daemons.run("bulk-load", "clear", "readings")[0]["status"] == "invalid"
    (saved,) = daemons.run("backup", "start", "readings", "--wait")
    assert saved["status"] == "complete"
    daemons.run("backup", "restore", "readings", str(saved["backup_id"]), "copy")
    async with PegasusClient([daemons.address], timeout_s=30) as client:
        for name in ("readings", "copy"):
            table = await client.table(name)
            found = {(h.decode(), s.decode()): v.decode() async for h, s, v in table.full_scan()}
            assert found == rows
    wrong = ("--hash-key", "nosuch", "--value", "value")
    refused = daemons.refused(*prepare, *wrong)
    assert "nosuch" in refused


def test_an_operator_looks_at_the_cluster(daemons):
    (node,) = daemons.run("nodes")
    assert node["node"] == daemons.replica.url.removeprefix("http://")
    assert node["status"] == "alive"
    assert node["primaries"] >= 12
    assert daemons.run("level", "lively") == [{"level": "lively", "before": "steady", "in_force": "lively"}]
    assert daemons.run("level") == [{"level": "lively", "before": "lively", "in_force": "lively"}]
    daemons.run("level", "steady")
    assert "cannot connect" in run_command("metaserver", "nodes", "--meta", "127.0.0.1:1").stderr
    assert run_command("metaserver", "nodes", "--meta", "nowhere").returncode == 2


def test_what_collectors_read_is_there(daemons):
    cluster = daemons.get("/meta/cluster")
    assert cluster["primary_meta_server"] == daemons.address
    apps = daemons.get("/meta/apps")["general_info"]
    assert {app["app_name"] for app in apps.values()} >= {"stat", "temp"}
    (node,) = daemons.get("/meta/nodes")["details"]
    assert node == daemons.replica.url.removeprefix("http://")
    for daemon, role in ((daemons.meta, "meta"), (daemons.replica, "replica")):
        first, second = daemons.get("/metrics?detail=true", daemon), daemons.get("/metrics?detail=true", daemon)
        assert (first["role"], first["port"]) == (role, daemon.port)
        assert second["timestamp_ns"] > first["timestamp_ns"]
        for entity in first["entities"]:
            assert {"type", "id", "attributes", "metrics"} <= entity.keys()
            assert all({"type", "name", "unit", "desc"} <= metric.keys() for metric in entity["metrics"])
    tables = {e["attributes"]["table_id"]: e for e in daemons.get("/metrics?types=table")["entities"]}
    healthy = {m["name"]: m["value"] for m in tables["2"]["metrics"]}
    assert healthy["healthy_partitions"] == 8


def test_a_metaserver_says_in_one_line_why_it_cannot_start(daemons, tmp_path):
    port = daemons.address.rpartition(":")[2]
    for arguments, code, reason in (
        (["--port", port], 1, f"metaserver: cannot listen on 127.0.0.1:{port}: the port is in use"),
        (["--port", "0", "--set", "nosuch=1"], 1, "metaserver: there is no setting 'nosuch'"),
        (["--port", "0", "--set", "nosuch"], 2, "expected NAME=VALUE"),
        (["--host", "0.0.0.0", "--port", "0"], 2, "--insecure"),
        (["--port", "0", "--advertise", "nowhere"], 2, "'nowhere' is not an address"),
    ):
        done = run_command("metaserver", "start", "--data-dir", tmp_path / "m", *arguments)
        assert done.returncode == code, done.stderr
        assert reason in done.stderr
        assert "Traceback" not in done.stderr
