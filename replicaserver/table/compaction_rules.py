"""Rules by which a compaction removes rows or changes their expiry (protocol §9.6). Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from shared.pegasus.wire.keys import EPOCH

_MATCHES: Mapping[str, Callable[[bytes, bytes], bool]] = {
    "SMT_MATCH_ANYWHERE": lambda text, pattern: pattern in text,
    "SMT_MATCH_PREFIX": bytes.startswith,
    "SMT_MATCH_POSTFIX": bytes.endswith,
}


class Subject(NamedTuple):
    """What rules are applied to: a row without its data."""

    hash_key: bytes
    sort_key: bytes
    expire: int


@dataclass(frozen=True, slots=True)
class KeyPattern:
    """Rows whose hash or sort key contains a pattern somewhere; an empty pattern matches none."""

    is_hash_key: bool
    pattern: bytes
    match_type: str

    def matches(self, row: Subject, _now: int) -> bool:
        """Whether a row is meant."""
        key = row.hash_key if self.is_hash_key else row.sort_key
        return bool(self.pattern) and _MATCHES[self.match_type](key, self.pattern)


@dataclass(frozen=True, slots=True)
class TtlRange:
    """Rows that have between so and so many seconds left; two zeroes mean rows that do not expire."""

    start_ttl: int
    stop_ttl: int

    def matches(self, row: Subject, now: int) -> bool:
        """Whether a row is meant."""
        if self.start_ttl == 0 and self.stop_ttl == 0 and row.expire == 0:
            return True
        return row.expire != 0 and now + self.start_ttl <= row.expire <= now + self.stop_ttl


Rule = KeyPattern | TtlRange


@dataclass(frozen=True, slots=True)
class Operation:
    """What happens to the rows that all rules match.

    Attributes:
        ttl_kind: How their expiry changes; None removes them.
        value: The seconds for the change.
        rules: At least one.
    """

    ttl_kind: str | None
    value: int
    rules: Sequence[Rule]

    def applies(self, row: Subject, now: int) -> bool:
        """Whether a row is meant."""
        return all(rule.matches(row, now) for rule in self.rules)

    def new_expiry(self, expire: int, now: int) -> int:
        """The changed expiry of a row."""
        if self.ttl_kind == "UTOT_FROM_NOW":
            return now + self.value
        if self.ttl_kind == "UTOT_TIMESTAMP":
            return self.value - EPOCH
        return expire + self.value if expire else 0


REMOVED = -1


def decide(operations: Sequence[Operation], row: Subject, now: int) -> int:
    """The expiry that a row shall have after a compaction, or `REMOVED`."""
    for operation in operations:
        if operation.applies(row, now):
            if operation.ttl_kind is None:
                return REMOVED
            row = row._replace(expire=operation.new_expiry(row.expire, now))
    return row.expire


def parse_operations(text: str) -> list[Operation]:
    """The operations of a setting; what cannot be understood is no operation."""
    document = _object(text)
    operations = document.get("ops")
    if not isinstance(operations, list):
        return []
    return [parsed for item in operations if isinstance(item, dict) and (parsed := _operation(item))]


def _operation(item: Mapping[str, Any]) -> Operation | None:
    listed = item.get("rules")
    rules = [rule for entry in listed if (rule := _rule(entry))] if isinstance(listed, list) else []
    if not rules:
        return None
    if item.get("type") == "COT_DELETE":
        return Operation(None, 0, rules)
    parameters = _object(item.get("params"))
    kind, value = parameters.get("type"), parameters.get("value")
    if kind not in ("UTOT_FROM_NOW", "UTOT_FROM_CURRENT", "UTOT_TIMESTAMP") or not isinstance(value, int):
        return None
    return Operation(kind, value, rules) if item.get("type") == "COT_UPDATE_TTL" else None


def _rule(entry: Any) -> Rule | None:
    if not isinstance(entry, dict):
        return None
    parameters = _object(entry.get("params"))
    kind = entry.get("type")
    if kind in ("FRT_HASHKEY_PATTERN", "FRT_SORTKEY_PATTERN"):
        pattern, match_type = parameters.get("pattern"), parameters.get("match_type")
        if isinstance(pattern, str) and isinstance(match_type, str) and match_type in _MATCHES:
            return KeyPattern(kind == "FRT_HASHKEY_PATTERN", pattern.encode(), match_type)
    if kind == "FRT_TTL_RANGE":
        start, stop = parameters.get("start_ttl"), parameters.get("stop_ttl")
        if isinstance(start, int) and isinstance(stop, int):
            return TtlRange(start, stop)
    return None


def _object(text: Any) -> Mapping[str, Any]:
    """The object of a JSON text; empty when it is none."""
    try:
        value = orjson.loads(text) if isinstance(text, str) else {}
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
