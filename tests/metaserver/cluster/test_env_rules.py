"""Which environment variables a table may have (protocol §9, §15)."""

from __future__ import annotations

import pytest

from metaserver.cluster import env_rules
from metaserver.cluster.metadata import Rejected

DENY_HINT = (
    "Invalid deny client args, valid include: timeout*all, timeout*write, timeout*read; "
    "reconfig*all, reconfig*write, reconfig*read"
)
WRITE_BUFFER = "In range [16777216, 536870912]"


def hint(name, value):
    try:
        env_rules.validate({name: value})
    except Rejected as rejected:
        assert rejected.code == "ERR_INVALID_PARAMETERS"
        return rejected.hint
    return ""


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("replica.write_throttling", "100*delay*100", ""),
        ("replica.write_throttling", "20K*delay*100", ""),
        ("replica.write_throttling", "20M*delay*100", ""),
        ("replica.write_throttling", "20M*reject*100", ""),
        ("replica.write_throttling", "20K*delay*100,30K*reject*100", ""),
        ("replica.write_throttling", "20A*delay*100", "'20A' should be an unsigned integer"),
        ("replica.write_throttling", "20m*delay*100", "'20m' should be an unsigned integer"),
        ("replica.write_throttling", "K*delay*100", "'' should be an unsigned integer"),
        ("replica.write_throttling", "-20*delay*100", "'-20' should be an unsigned integer"),
        ("replica.write_throttling", "", "The value shouldn't be empty"),
        ("replica.write_throttling", "20A*delay", "The field count of '20A*delay' separated by '*' must be 3"),
        ("replica.write_throttling", "20K*pass*100", "'pass' should be 'delay' or 'reject'"),
        ("replica.write_throttling", "20K*delay*-100", "'-100' should be an unsigned integer"),
        ("replica.write_throttling", "2K**delay*100", "The field count of '2K**delay*100' separated by '*' must be 3"),
        ("replica.write_throttling", "2K*delay**100", "The field count of '2K*delay**100' separated by '*' must be 3"),
        ("replica.write_throttling", "2K*delay*100,3K*delay*100", "duplicate 'delay' config"),
        ("replica.write_throttling", "2K*reject*100,3K*reject*100", "duplicate 'reject' config"),
        ("replica.write_throttling", f"{2**60}M*delay*100", f"'{2**60}' result is overflow"),
        ("replica.write_throttling_by_size", "300*delay*100", ""),
        ("replica.read_throttling_by_size", "200", ""),
        ("replica.read_throttling_by_size", "200K", ""),
        ("replica.read_throttling_by_size", "20*delay*100,20*reject*100", ""),
        ("replica.read_throttling_by_size", f"{2**64 - 1}*reject*100", ""),
        ("replica.read_throttling_by_size", "20B", "The field count of '20B' separated by '*' must be 3"),
        (
            "replica.read_throttling_by_size",
            "0*reject*100",
            "invalid value '0*reject*100', the reject rate should be > 0",
        ),
        ("replica.slow_query_threshold", "30", ""),
        ("replica.slow_query_threshold", "20", ""),
        ("replica.slow_query_threshold", "19", "invalid value '19', should be '>= 20'"),
        ("replica.slow_query_threshold", "0", "invalid value '0', should be '>= 20'"),
        ("default_ttl", "10", ""),
        ("default_ttl", "-1", "invalid value '-1', should be '>= 0'"),
        ("default_ttl", "soon", "invalid value 'soon', should be an 32 bits integer"),
        ("default_ttl", "4294967296", "invalid value '4294967296', should be an 32 bits integer"),
        ("rocksdb.usage_scenario", "bulk_load", ""),
        ("rocksdb.usage_scenario", "fast", "bulk_load | normal | prefer_write"),
        ("rocksdb.checkpoint.reserve_min_count", "30", ""),
        ("rocksdb.checkpoint.reserve_min_count", "0", "invalid value '0', should be '> 0'"),
        ("rocksdb.checkpoint.reserve_time_seconds", "40", ""),
        ("manual_compact.disabled", "true", ""),
        ("manual_compact.disabled", "1", "invalid value '1', should be a boolean"),
        ("manual_compact.max_concurrent_running_count", "60", ""),
        ("manual_compact.once.trigger_time", "70", ""),
        ("manual_compact.once.trigger_time", "x", "invalid value 'x', should be an 64 bits integer"),
        ("manual_compact.once.target_level", "80", ""),
        ("manual_compact.once.target_level", "-1", ""),
        ("manual_compact.once.target_level", "0", "invalid value '0', should be '-1 or >= 1'"),
        ("manual_compact.periodic.trigger_time", "90", ""),
        ("manual_compact.periodic.target_level", "100", ""),
        ("manual_compact.periodic.bottommost_level_compaction", "skip", ""),
        ("manual_compact.once.bottommost_level_compaction", "maybe", "force | skip"),
        ("business.info", "300", ""),
        ("rocksdb.write_buffer_size", "100", f"invalid value '100', should be '{WRITE_BUFFER}'"),
        ("rocksdb.write_buffer_size", "636870912", f"invalid value '636870912', should be '{WRITE_BUFFER}'"),
        ("rocksdb.write_buffer_size", "67108864", ""),
        ("replica.deny_client_request", "400", DENY_HINT),
        ("replica.deny_client_request", "invalid*all", DENY_HINT),
        ("replica.deny_client_request", "timeout*invalid", DENY_HINT),
        *[
            ("replica.deny_client_request", f"{action}*{scope}", "")
            for action in ("timeout", "reconfig")
            for scope in ("all", "read", "write")
        ],
        ("not_exist_env", "x", "app_env 'not_exist_env' is not supported"),
        ("value_version", "1", "app_env 'value_version' is not supported"),
    ],
)
def test_the_published_values(name, value, expected):
    assert hint(name, value) == expected


def test_there_are_33_variables_each_with_a_valid_sample():
    listed = env_rules.listing()
    assert len(listed) == 33
    for name, row in listed.items():
        assert set(row) == {"limitation", "sample", "type"}
        assert not row["sample"] or hint(name, row["sample"]) == ""
