"""Settings, read and changed over HTTP (protocol §4.4 to §4.6, §15, appendix B)."""

from __future__ import annotations

import orjson
import pytest

from shared.errors import StartupError
from shared.pegasus.process.common_routes import CommonRoutes
from shared.pegasus.serving.http import application, call
from shared.pegasus.settings.flags import FlagError, Flags, read_ini

CONFIG_SYNC = (
    b'{"name":"config_sync_interval_ms","section":"replication","type":"FV_UINT32","tags":"flag_tag::FT_MUTABLE",'
    b'"description":"The interval milliseconds of replica server to send replica config-sync requests to meta server",'
    b'"value":"%s"}\n'
)


@pytest.fixture
def flags():
    return Flags()


def served(flags):
    common = CommonRoutes(flags, 1773393302.0)
    return application(
        [
            call("/config", common.config),
            call("/configs", common.configs),
            call("/recentStartTime", common.recent_start_time),
            call("/updateConfig", common.update_config),
            call("/version", common.version),
        ]
    )


@pytest.fixture
async def client(flags, aiohttp_client):
    return await aiohttp_client(served(flags))


async def get(client, path, **args):
    response = await client.get(path, params=args)
    return response.status, await response.read()


def test_the_catalog_has_every_setting_of_the_protocol_and_one_of_ours(flags):
    assert len(flags.catalog) == 280
    assert sum(flag.is_mutable for flag in flags.catalog.values()) == 51
    assert all(flag.description for flag in flags.catalog.values())


async def test_one_setting_is_shown_as_published(client):
    assert (await get(client, "/config", name="config_sync_interval_ms")) == (200, CONFIG_SYNC % b"30000")


@pytest.mark.parametrize(
    ("name", "type", "value"),
    [
        ("enable_http_server", "FV_BOOL", "true"),
        ("rocksdb_bloom_filter_bits_per_key", "FV_DOUBLE", "10.00"),
        ("rocksdb_compression_type", "FV_STRING", "lz4"),
        ("rocksdb_max_open_files", "FV_INT32", "-1"),
        ("rocksdb_block_cache_capacity", "FV_UINT64", "10737418240"),
        ("replica_assign_delay_ms_for_dropouts", "FV_INT64", "600000"),
    ],
)
async def test_values_of_every_type_are_shown_as_text(client, name, type, value):
    shown = orjson.loads((await get(client, "/config", name=name))[1])
    assert (shown["type"], shown["value"]) == (type, value)


async def test_a_missing_or_wrong_name_is_said(client):
    assert (await get(client, "/config")) == (400, b"name shouldn't be empty")
    assert (await get(client, "/config", name="")) == (400, b"name shouldn't be empty")
    assert (await get(client, "/config", name="x", other="y")) == (400, b"")
    assert (await get(client, "/config", name="nosuch")) == (200, b"ERR_OBJECT_NOT_FOUND: 'nosuch' is not found")


async def test_all_settings_are_listed_by_name(client):
    assert (await get(client, "/configs", name="x")) == (400, b"")
    status, body = await get(client, "/configs")
    listed = orjson.loads(body)
    assert status == 200
    assert list(listed) == sorted(listed)
    assert list(listed["timeout_ms"]) == ["name", "section", "type", "tags", "description", "value"]
    assert CONFIG_SYNC.rstrip() % b"30000" in body
    assert body.endswith(b"}}\n")


async def status_of(client, **args):
    status, body = await get(client, "/updateConfig", **args)
    assert status == 200
    return orjson.loads(body)["update_status"]


async def test_an_update_says_when_nothing_depends_on_the_setting(aiohttp_client):
    client = await aiohttp_client(served(Flags({}, {"balance_cluster"})))
    _, acts = await get(client, "/updateConfig", balance_cluster="true")
    assert orjson.loads(acts) == {"update_status": "ERR_OK"}
    _, idle = await get(client, "/updateConfig", hotkey_buckets_num="41")
    assert orjson.loads(idle)["update_status"] != "ERR_OK"  # it is not mutable, and refused as ever
    _, idle = await get(client, "/updateConfig", enable_latency_tracer="true")
    assert orjson.loads(idle) == {
        "update_status": "ERR_OK",
        "note": "nothing in this process depends on enable_latency_tracer",
    }


async def test_the_published_sequence_of_updates(client):
    only_one = "ERR_INVALID_PARAMETERS: there should be exactly one config to be updated once"
    assert await status_of(client) == only_one
    assert await status_of(client, config_sync_interval_ms="10", replicas_stat_interval_ms="10") == only_one
    assert await status_of(client, config_sync_interval_ms="-1") == "ERR_INVALID_PARAMETERS: -1 is invalid"
    assert (await get(client, "/config", name="config_sync_interval_ms"))[1] == CONFIG_SYNC % b"30000"
    assert await status_of(client, config_sync_interval_ms="10") == "ERR_OK"
    assert (await get(client, "/config", name="config_sync_interval_ms"))[1] == CONFIG_SYNC % b"10"


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("nosuch", "1", "ERR_OBJECT_NOT_FOUND: nosuch is not found"),
        ("cluster_name", "x", "ERR_INVALID_PARAMETERS: cluster_name is not mutable"),
        ("dup_load_plog_task", "x", "ERR_INVALID_PARAMETERS: string modifications are not supported"),
        ("balance_cluster", "1", "ERR_INVALID_PARAMETERS: 1 is invalid"),
        ("config_sync_interval_ms", "0", "ERR_INVALID_PARAMETERS: value validation failed"),
        ("min_allowed_replica_count", "0", "ERR_INVALID_PARAMETERS: value validation failed"),
        ("max_allowed_replica_count", "0", "ERR_INVALID_PARAMETERS: value validation failed"),
        (
            "min_allowed_replica_count",
            "7",
            'ERR_INVALID_PARAMETERS: group validator "min_max_allowed_replica_count" failed: '
            '"meta_server.min_allowed_replica_count(7) should be <= meta_server.max_allowed_replica_count(5)"',
        ),
    ],
)
async def test_what_cannot_be_updated_says_why_and_stays(client, flags, name, value, status):
    before = {name: flags.describe(name) for name in flags.catalog}
    assert await status_of(client, **{name: value}) == status
    assert {name: flags.describe(name) for name in flags.catalog} == before


def test_the_published_sequence_of_replica_counts(flags):
    flags.update("min_allowed_replica_count", "2")
    flags.update("max_allowed_replica_count", "6")
    with pytest.raises(FlagError, match=r"min_allowed_replica_count\(7\).*max_allowed_replica_count\(6\)"):
        flags.update("min_allowed_replica_count", "7")
    with pytest.raises(FlagError, match=r"min_allowed_replica_count\(2\).*max_allowed_replica_count\(1\)"):
        flags.update("max_allowed_replica_count", "1")
    assert flags.integer("min_allowed_replica_count") == 2
    assert flags.integer("max_allowed_replica_count") == 6


def test_listeners_hear_of_changes_only(flags):
    heard = []
    flags.on_change("config_sync_interval_ms", lambda: heard.append(flags.integer("config_sync_interval_ms")))
    flags.update("config_sync_interval_ms", "500")
    with pytest.raises(FlagError):
        flags.update("config_sync_interval_ms", "0")
    assert heard == [500]


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ({"nosuch": "1"}, "there is no setting 'nosuch'$"),
        ({"fd_grace_second": "9"}, r"there is no setting 'fd_grace_second' \(did you mean 'fd_grace_seconds'\?\)"),
        ({"fd_lease_seconds": "22"}, r"fd_lease_seconds \(22\), fd_grace_seconds \(22\): each must be greater"),
        ({"fd_lease_seconds": "3"}, r"fd_beacon_interval_seconds \(3\), fd_lease_seconds \(3\)"),
        ({"fd_beacon_interval_seconds": "0"}, r"fd_beacon_interval_seconds \(0\)"),
        ({"fd_grace_seconds": "soon"}, r"setting 'fd_grace_seconds' \(FV_INT32\)"),
        ({"hotkey_buckets_num": "36"}, "setting 'hotkey_buckets_num' cannot be '36'"),
        ({"rocksdb_filter_type": "none"}, "cannot be 'none'"),
        ({"perf_counter_read_capacity_unit_size": "1000"}, "cannot be '1000'"),
        ({"min_allowed_replica_count": "6"}, "min_max_allowed_replica_count"),
    ],
)
def test_a_wrong_value_at_start_is_one_clear_line(overrides, reason):
    with pytest.raises(StartupError, match=reason):
        Flags(overrides)


def test_a_configuration_file_of_the_original_is_read(flags):
    text = (
        "[replication]\ncluster_name = onebox\n[apps.meta]\nname = meta\n[meta_server]\ncluster_name = wrong section\n"
    )
    assert read_ini(text, flags.catalog) == {"cluster_name": "onebox"}
    with pytest.raises(StartupError, match="malformed configuration file"):
        read_ini("no section = 1\n", flags.catalog)


async def test_version_and_start_time(client):
    version = orjson.loads((await get(client, "/version"))[1])
    assert version["Version"] == "2.6.0-SNAPSHOT"
    assert set(version) == {"Version", "GitCommit"}
    started = orjson.loads((await get(client, "/recentStartTime"))[1])["RecentStartTime"]
    assert len(started) == 19
