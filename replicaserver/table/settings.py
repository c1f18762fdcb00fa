"""What the environment variables of a table mean for its replicas (protocol §9.1). Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from replicaserver.table.compaction_rules import Operation, parse_operations
from shared.pegasus.settings.throttles import Throttle, parse_size_throttle, parse_throttle
from shared.pegasus.settings.values import parse_int

USAGE_SCENARIOS = ("normal", "prefer_write", "bulk_load")


@dataclass(frozen=True, slots=True)
class Deny:
    """Which requests of clients are rejected, and how (§9.5).

    Attributes:
        is_silent: They get no answer at all; otherwise one that makes clients ask for the routing again.
        reads: Whether reads are rejected.
        writes: Whether writes are rejected.
    """

    is_silent: bool
    reads: bool
    writes: bool


@dataclass(frozen=True, slots=True)
class TableSettings:
    """The settings of a table, understood. Every value has the meaning of its environment variable.

    Attributes:
        default_ttl: Seconds; 0 for ever.
        slow_query_ms: Reads that take longer are counted as abnormal; None takes the server's threshold.
        iteration_ms: Time for one range read; 0 has no end, None takes the server's.
    """

    default_ttl: int = 0
    deny: Deny | None = None
    validate_partition_hash: bool = False
    slow_query_ms: int | None = None
    iteration_ms: int | None = None
    read_throttle: Throttle = field(default_factory=Throttle)
    write_throttle: Throttle = field(default_factory=Throttle)
    write_size_throttle: Throttle = field(default_factory=Throttle)
    backup_throttle: Throttle = field(default_factory=Throttle)
    read_size_throttle: Throttle = field(default_factory=Throttle)
    usage_scenario: str = "normal"
    write_buffer_bytes: int | None = None
    allow_ingest_behind: bool = False
    compaction_operations: Sequence[Operation] = ()

    def updated(self, envs: Mapping[str, str]) -> TableSettings:
        """The settings under other environment variables.

        A variable that is not there takes its default; one that cannot be understood keeps what it was.
        """
        fresh = TableSettings()
        values: dict[str, Any] = {}
        for name, (attribute, parse) in _VARIABLES.items():
            if name not in envs:
                values[attribute] = getattr(fresh, attribute)
                continue
            try:
                values[attribute] = parse(envs[name])
            except ValueError:
                values[attribute] = getattr(self, attribute)
        return replace(self, **values)


def _unsigned(text: str) -> int:
    """A number as the metaserver read it when it accepted the variable."""
    number = parse_int(text, 64)
    if number < 0:
        raise ValueError(f"'{text}' is less than 0")
    return number


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(f"'{text}' is not a boolean")
    return text.lower() == "true"


def _scenario(text: str) -> str:
    if text not in USAGE_SCENARIOS:
        raise ValueError(f"'{text}' is not a usage scenario")
    return text


def _deny(text: str) -> Deny:
    how, _, what = text.partition("*")
    if how not in ("timeout", "reconfig") or what not in ("all", "read", "write"):
        raise ValueError(f"'{text}' does not say how to reject what")
    return Deny(how == "timeout", what in ("all", "read"), what in ("all", "write"))


_VARIABLES: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "default_ttl": ("default_ttl", _unsigned),
    "replica.deny_client_request": ("deny", _deny),
    "replica.split.validate_partition_hash": ("validate_partition_hash", _boolean),
    "replica.slow_query_threshold": ("slow_query_ms", _unsigned),
    "replica.rocksdb_iteration_threshold_time_ms": ("iteration_ms", _unsigned),
    "replica.read_throttling": ("read_throttle", parse_throttle),
    "replica.write_throttling": ("write_throttle", parse_throttle),
    "replica.write_throttling_by_size": ("write_size_throttle", parse_throttle),
    "replica.backup_request_throttling": ("backup_throttle", parse_throttle),
    "replica.read_throttling_by_size": ("read_size_throttle", parse_size_throttle),
    "rocksdb.usage_scenario": ("usage_scenario", _scenario),
    "rocksdb.write_buffer_size": ("write_buffer_bytes", _unsigned),
    "rocksdb.allow_ingest_behind": ("allow_ingest_behind", _boolean),
    "user_specified_compaction": ("compaction_operations", parse_operations),
}
