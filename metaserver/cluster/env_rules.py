"""Which environment variables a table may have, and with which values (protocol §9)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from metaserver.cluster.metadata import Rejected
from shared.pegasus.settings.throttles import parse_size_throttle, parse_throttle
from shared.pegasus.settings.values import parse_bool, parse_int
from shared.pegasus.wire.errors import ErrorCode

__all__ = ["INGEST_BEHIND", "RULES", "Rule", "listing", "validate"]

Check = Callable[[str], str]
"""Given a value, says what is wrong with it; the empty string when nothing is."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What is said about one variable, and how its value is checked."""

    type: str
    limitation: str
    sample: str
    check: Check


def _text(_value: str) -> str:
    return ""


def _boolean(value: str) -> str:
    try:
        parse_bool(value)
    except ValueError:
        return f"invalid value '{value}', should be a boolean"
    return ""


def _integer(bits: int, limitation: str, is_allowed: Callable[[int], bool]) -> Check:
    def check(value: str) -> str:
        try:
            number = parse_int(value, bits)
        except ValueError:
            return f"invalid value '{value}', should be an {bits} bits integer"
        return "" if is_allowed(number) else f"invalid value '{value}', should be '{limitation}'"

    return check


def _choice(*choices: str, hint: str = "") -> Check:
    return lambda value: "" if value in choices else hint or " | ".join(choices)


def _parsed_by(parse: Callable[[str], object]) -> Check:
    def check(value: str) -> str:
        try:
            parse(value)
        except ValueError as error:
            return str(error)
        return ""

    return check


# -- the table of variables (§9.1) ----------------------------------------------------------------

_TEXT = Rule("string", "", "", _text)
_UNAVAILABLE = Rule("string", "", "", lambda _value: "access to tables cannot be controlled: nobody would be refused")
_BOOL = Rule("bool", "true | false", "true", _boolean)
_BOTTOMMOST = Rule("string", "force | skip", "skip", _choice("force", "skip"))
_TARGET_LEVEL = Rule(
    "unsigned int64", "-1 or >= 1", "6", _integer(64, "-1 or >= 1", lambda level: level == -1 or level >= 1)
)
_THROTTLING = Rule(
    "string",
    "<size[K|M]>*<delay|reject>*<milliseconds>",
    "10000*delay*100,20000*reject*100",
    _parsed_by(parse_throttle),
)


def _int32(limitation: str, sample: str, lowest: int) -> Rule:
    return Rule("unsigned int32", limitation, sample, _integer(32, limitation, lambda number: number >= lowest))


def _int64(limitation: str, sample: str, lowest: int, highest: int = 2**63) -> Rule:
    return Rule(
        "unsigned int64", limitation, sample, _integer(64, limitation, lambda number: lowest <= number <= highest)
    )


_DENY = [f"{action}*{scope}" for action in ("timeout", "reconfig") for scope in ("all", "write", "read")]
_DENY_HINT = (
    "Invalid deny client args, valid include: timeout*all, timeout*write, timeout*read; "
    "reconfig*all, reconfig*write, reconfig*read"
)

INGEST_BEHIND = "rocksdb.allow_ingest_behind"

RULES: Mapping[str, Rule] = {
    "business.info": _TEXT,
    "default_ttl": _int32(">= 0", "86400", 0),
    "duplication.follower_app_status": _TEXT,
    "duplication.master_app_name": _TEXT,
    "duplication.master_cluster": _TEXT,
    "duplication.master_metas": _TEXT,
    "manual_compact.disabled": _BOOL,
    "manual_compact.max_concurrent_running_count": _int32(">= 0", "8", 0),
    "manual_compact.once.bottommost_level_compaction": _BOTTOMMOST,
    "manual_compact.once.target_level": _TARGET_LEVEL,
    "manual_compact.once.trigger_time": _int64(
        "> 0, timestamp (in seconds) to trigger the once manual compaction", "1700000000", 0
    ),
    "manual_compact.periodic.bottommost_level_compaction": _BOTTOMMOST,
    "manual_compact.periodic.target_level": _TARGET_LEVEL,
    "manual_compact.periodic.trigger_time": _TEXT,
    "replica.backup_request_throttling": _THROTTLING,
    "replica.deny_client_request": Rule("string", " | ".join(_DENY), "timeout*all", _choice(*_DENY, hint=_DENY_HINT)),
    "replica.read_throttling": _THROTTLING,
    "replica.read_throttling_by_size": Rule(
        "string", "", "20000*delay*100,20000*reject*100", _parsed_by(parse_size_throttle)
    ),
    "replica.rocksdb_block_cache_enabled": _BOOL,
    "replica.rocksdb_iteration_threshold_time_ms": _int64(">= 0", "1000", 0),
    "replica.slow_query_threshold": _int64(">= 20", "1000", 20),
    "replica.split.validate_partition_hash": _BOOL,
    "replica.write_throttling": _THROTTLING,
    "replica.write_throttling_by_size": _THROTTLING,
    "replica_access_controller.allowed_users": _UNAVAILABLE,
    "replica_access_controller.ranger_policies": _UNAVAILABLE,
    INGEST_BEHIND: _BOOL,
    "rocksdb.checkpoint.reserve_min_count": _int32("> 0", "2", 1),
    "rocksdb.checkpoint.reserve_time_seconds": _int32(">= 0", "3600", 0),
    "rocksdb.num_levels": _int64("In range [1, 10]", "6", 1, 10),
    "rocksdb.usage_scenario": Rule(
        "string", "bulk_load | normal | prefer_write", "normal", _choice("bulk_load", "normal", "prefer_write")
    ),
    "rocksdb.write_buffer_size": _int64("In range [16777216, 536870912]", "16777216", 16777216, 536870912),
    "user_specified_compaction": _TEXT,
}


def validate(envs: Mapping[str, str]) -> None:
    """Check variables before they are stored.

    Raises:
        Rejected: ERR_INVALID_PARAMETERS with the hint of the first that is wrong (§9.2).
    """
    for name, value in envs.items():
        rule = RULES.get(name)
        hint = f"app_env '{name}' is not supported" if rule is None else rule.check(value)
        if hint:
            raise Rejected(ErrorCode.ERR_INVALID_PARAMETERS, hint)


def listing() -> dict[str, dict[str, str]]:
    """All variables as `/envs/list` shows them (§5.12)."""
    return {
        name: {"limitation": rule.limitation, "sample": rule.sample, "type": rule.type} for name, rule in RULES.items()
    }
