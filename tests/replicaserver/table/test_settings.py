"""What the environment variables of a table mean (protocol §9)."""

from __future__ import annotations

import pytest

from replicaserver.table.settings import Deny, TableSettings
from shared.pegasus.settings.throttles import Limit


def test_variables_are_understood():
    settings = TableSettings().updated(
        {
            "default_ttl": "86400",
            "replica.deny_client_request": "reconfig*write",
            "replica.split.validate_partition_hash": "TRUE",
            "replica.slow_query_threshold": "30",
            "replica.rocksdb_iteration_threshold_time_ms": "0",
            "replica.read_throttling": "20*delay*100",
            "replica.write_throttling_by_size": "1K*reject*5",
            "replica.read_throttling_by_size": "200",
            "rocksdb.usage_scenario": "bulk_load",
            "rocksdb.write_buffer_size": "16777216",
            "business.info": "free text",
        }
    )
    assert settings.default_ttl == 86400
    assert settings.deny == Deny(is_silent=False, reads=False, writes=True)
    assert settings.validate_partition_hash
    assert (settings.slow_query_ms, settings.iteration_ms) == (30, 0)
    assert settings.read_throttle.delay == Limit(20, 100)
    assert settings.write_size_throttle.reject == Limit(1024, 5)
    assert settings.read_size_throttle.reject == Limit(200, 0)
    assert (settings.usage_scenario, settings.write_buffer_bytes) == ("bulk_load", 16777216)


@pytest.mark.parametrize(
    ("name", "text", "attribute", "expected"),
    [
        ("default_ttl", "0x10", "default_ttl", 16),
        ("default_ttl", "020", "default_ttl", 16),
        ("default_ttl", "+5", "default_ttl", 5),
        ("replica.slow_query_threshold", str(2**63 - 1), "slow_query_ms", 2**63 - 1),
        ("rocksdb.write_buffer_size", "0x1000000", "write_buffer_bytes", 16777216),
    ],
)
def test_numbers_are_read_as_the_metaserver_reads_them(name: str, text: str, attribute: str, expected: int):
    assert getattr(TableSettings().updated({name: text}), attribute) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("timeout*all", Deny(True, True, True)),
        ("timeout*read", Deny(True, True, False)),
        ("timeout*write", Deny(True, False, True)),
        ("reconfig*all", Deny(False, True, True)),
        ("reconfig*read", Deny(False, True, False)),
    ],
)
def test_who_is_denied_and_how(text: str, expected: Deny):
    assert TableSettings().updated({"replica.deny_client_request": text}).deny == expected


def test_a_variable_that_is_gone_takes_its_default():
    settings = TableSettings().updated({"default_ttl": "5", "replica.deny_client_request": "timeout*all"})
    assert settings.updated({}) == TableSettings()


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("default_ttl", "5", "-5"),
        ("replica.deny_client_request", "timeout*all", "timeout*some"),
        ("replica.deny_client_request", "timeout*all", "invalid*all"),
        ("replica.split.validate_partition_hash", "true", "1"),
        ("replica.read_throttling", "20*delay*100", "20m*delay*100"),
        ("replica.write_throttling", "20*delay*100", "20MB*delay*100"),
        ("rocksdb.usage_scenario", "bulk_load", "wrong"),
    ],
)
def test_a_variable_that_cannot_be_understood_keeps_what_it_was(name: str, good: str, bad: str):
    settings = TableSettings().updated({name: good})
    assert settings != TableSettings()
    assert settings.updated({name: bad}) == settings
