"""Rules that remove rows or change their expiry, and passes that apply them (protocol §9.6, §15)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from replicaserver.table.compaction_rules import REMOVED, KeyPattern, Subject, TtlRange, decide, parse_operations
from replicaserver.table.rewriting import Pass
from shared.pegasus.wire.keys import EPOCH, decode_value, encode_key
from tests.replicaserver.memory_rows import NOW, MemoryRows, stored


def rule(kind: str, **parameters: Any) -> dict[str, str]:
    return {"type": kind, "params": json.dumps(parameters)}


TMP = rule("FRT_HASHKEY_PATTERN", pattern="tmp", match_type="SMT_MATCH_PREFIX")


def setting(*operations: dict[str, Any]) -> str:
    return json.dumps({"ops": operations})


def delete(*rules: dict[str, str]) -> dict[str, Any]:
    return {"type": "COT_DELETE", "params": "", "rules": list(rules)}


def update(kind: str, value: int, *rules: dict[str, str]) -> dict[str, Any]:
    return {"type": "COT_UPDATE_TTL", "params": json.dumps({"type": kind, "value": value}), "rules": list(rules)}


def decided(text: str, hash_key: bytes = b"tmp1", sort_key: bytes = b"s", expire: int = 0) -> int:
    return decide(parse_operations(text), Subject(hash_key, sort_key, expire), NOW)


@pytest.mark.parametrize(
    ("key", "pattern", "match_type", "expected"),
    [
        (b"hashkey", b"shke", "SMT_MATCH_ANYWHERE", True),
        (b"hashkey", b"hash", "SMT_MATCH_PREFIX", True),
        (b"hashkey", b"key", "SMT_MATCH_POSTFIX", True),
        (b"hashkey", b"hash", "SMT_MATCH_POSTFIX", False),
        (b"hash", b"hashkey", "SMT_MATCH_POSTFIX", False),
        (b"hashkey", b"", "SMT_MATCH_PREFIX", False),
    ],
)
def test_a_pattern_in_either_key(key: bytes, pattern: bytes, match_type: str, expected: bool):
    assert KeyPattern(True, pattern, match_type).matches(Subject(key, b"", 0), NOW) is expected
    assert KeyPattern(False, pattern, match_type).matches(Subject(b"", key, 0), NOW) is expected


@pytest.mark.parametrize(
    ("start", "stop", "ttl", "expected"),
    [
        (100, 1000, 500, True),
        (100, 1000, 1100, False),
        (100, 1000, 20, False),
        (100, 1000, 0, False),
        (1000, 100, 500, False),
        (0, 1000, 500, True),
        (1000, 0, 500, False),
        (0, 0, 0, True),
    ],
)
def test_a_range_of_seconds_left(start: int, stop: int, ttl: int, expected: bool):
    subject = Subject(b"", b"", NOW + ttl if ttl else 0)
    assert TtlRange(start, stop).matches(subject, NOW) is expected


def test_rows_that_all_rules_match_are_removed():
    text = setting(delete(TMP, rule("FRT_SORTKEY_PATTERN", pattern="s", match_type="SMT_MATCH_ANYWHERE")))
    assert decided(text) == REMOVED
    assert decided(text, sort_key=b"x") == 0
    assert decided(text, hash_key=b"kept", expire=5000) == 5000


@pytest.mark.parametrize(
    ("kind", "value", "expire", "expected"),
    [
        ("UTOT_FROM_NOW", 100, 0, NOW + 100),
        ("UTOT_FROM_CURRENT", 100, 5000, 5100),
        ("UTOT_FROM_CURRENT", 100, 0, 0),
        ("UTOT_TIMESTAMP", EPOCH + 7000, 0, 7000),
    ],
)
def test_expiries_change(kind: str, value: int, expire: int, expected: int):
    assert decided(setting(update(kind, value, TMP)), expire=expire) == expected


def test_later_operations_see_what_earlier_ones_did():
    text = setting(update("UTOT_FROM_NOW", 100, TMP), delete(rule("FRT_TTL_RANGE", start_ttl=50, stop_ttl=150)))
    assert decided(text) == REMOVED


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[]",
        '{"ops": 5}',
        '{"ops": [5]}',
        setting(delete()),
        setting({"type": "COT_DELETE", "rules": 5}),
        setting(delete({"type": "FRT_UNKNOWN", "params": "{}"})),
        setting(delete({"type": "FRT_HASHKEY_PATTERN", "params": "nonsense"})),
        setting(delete(rule("FRT_HASHKEY_PATTERN", pattern="a", match_type="SMT_UNKNOWN"))),
        setting(delete(rule("FRT_TTL_RANGE", start_ttl="a", stop_ttl=1))),
        setting(update("UTOT_UNKNOWN", 1, TMP)),
        setting({"type": "COT_UNKNOWN", "params": '{"type":"UTOT_FROM_NOW","value":1}', "rules": [TMP]}),
    ],
)
def test_what_cannot_be_understood_is_no_operation(text: str):
    assert parse_operations(text) == []


def test_a_sweep_removes_expired_rows_only():
    rows = MemoryRows()
    rows.put(b"h", b"old", b"", NOW)
    rows.put(b"h", b"young", b"", NOW + 1)
    rows.put(b"h", b"forever", b"")
    found = Pass(1, NOW).exchanges(rows.scan(b"", b""))
    assert found == [(encode_key(b"h", b"old"), stored(b"", NOW), None)]


def test_a_pass_gives_rows_without_expiry_the_default_and_applies_rules():
    rows = MemoryRows()
    rows.put(b"h", b"forever", b"v")
    rows.put(b"h", b"young", b"v", NOW + 1)
    rows.put(b"tmp", b"", b"v")
    rows.rows[b"x"] = stored(b"not a raw key")
    work = Pass(1, NOW, 60, parse_operations(setting(delete(TMP))))
    found = {key: value for key, _, value in work.exchanges(rows.scan(b"", b""))}
    assert found[encode_key(b"tmp", b"")] is None
    changed = found[encode_key(b"h", b"forever")]
    assert changed is not None
    assert decode_value(1, changed) == (NOW + 60, 77, b"v")
    assert encode_key(b"h", b"young") not in found
    assert found[b"x"] is not None
