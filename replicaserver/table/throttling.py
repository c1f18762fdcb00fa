"""Limits on how much a partition is asked to do (specification §9.4). Pure: the time is an argument."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from shared.pegasus.serving.http import parse_int

_SUFFIXES = {"K": 1024, "M": 1024 * 1024}


@dataclass(frozen=True, slots=True)
class Rule:
    """One limit of a setting.

    Attributes:
        units: How many units a second the whole table may use.
        wait_ms: How long a request over the limit is held back.
    """

    units: int
    wait_ms: int


@dataclass(frozen=True, slots=True)
class Throttle:
    """A parsed setting; a rule that is not there does not limit."""

    delay: Rule | None = None
    reject: Rule | None = None


def parse_throttle(text: str) -> Throttle:
    """Read a setting such as ``20K*delay*100,50K*reject*100``.

    Raises:
        ValueError: With the hint of §9.4.
    """
    if not text:
        raise ValueError("The value shouldn't be empty")
    rules: dict[str, Rule] = {}
    for item in text.split(","):
        fields = item.split("*")
        if len(fields) != 3:
            raise ValueError(f"The field count of '{item}' separated by '*' must be 3")
        units = _units(fields[0])
        if fields[1] not in ("delay", "reject"):
            raise ValueError(f"'{fields[1]}' should be 'delay' or 'reject'")
        if fields[1] in rules:
            raise ValueError(f"duplicate '{fields[1]}' config")
        rules[fields[1]] = Rule(units, _unsigned(fields[2]))
    return Throttle(rules.get("delay"), rules.get("reject"))


def parse_size_throttle(text: str) -> Throttle:
    """Read a by-size setting of reads: a bare number of bytes a second, or the form of `parse_throttle`.

    Raises:
        ValueError: With the hint of §9.4.
    """
    if re.fullmatch(r"[0-9]+[KM]?", text):
        return Throttle(reject=Rule(_units(text), 0))
    throttle = parse_throttle(text)
    if throttle.reject is not None and throttle.reject.units == 0:
        raise ValueError(f"'{text}' should reject above more than 0 bytes")
    return throttle


def _units(text: str) -> int:
    digits, factor = (text[:-1], _SUFFIXES[text[-1]]) if text and text[-1] in _SUFFIXES else (text, 1)
    units = _unsigned(digits, shown=text if factor == 1 else digits) * factor
    if units >= 2**64:
        raise ValueError(f"'{digits}' result is overflow")
    return units


def _unsigned(text: str, shown: str | None = None) -> int:
    try:
        return parse_int(text, 64, is_signed=False)
    except ValueError:
        raise ValueError(f"'{text if shown is None else shown}' should be an unsigned integer") from None


class Verdict(Enum):
    """What is done with a request."""

    PASS = "pass"
    DELAY = "delay"
    REJECT = "reject"


class Throttler:
    """Counts what one partition was asked for in the present second, against its part of the table's limit."""

    def __init__(self, throttle: Throttle, partition_count: int) -> None:
        self.throttle = throttle
        self.delay_units = _share(throttle.delay, partition_count)
        self.reject_units = _share(throttle.reject, partition_count)
        self._second = 0
        self._used = 0

    def judge(self, units: int, now_s: float, client_timeout_ms: int) -> tuple[Verdict, int]:
        """Count a request, and say what to do with it.

        Args:
            units: How much it asks for.
            now_s: A clock in seconds.
            client_timeout_ms: How long the client waits; 0 when it did not say.

        Returns:
            The verdict, and how many milliseconds to wait before acting on it.
        """
        second = int(now_s)
        if second != self._second:
            self._second, self._used = second, 0
        self._used += units
        reject, delay = self.throttle.reject, self.throttle.delay
        if reject is not None and self._used > self.reject_units:
            self._used -= units
            return Verdict.REJECT, _at_most(reject.wait_ms, client_timeout_ms)
        if delay is not None and self._used > self.delay_units:
            return Verdict.DELAY, _at_most(delay.wait_ms, client_timeout_ms)
        return Verdict.PASS, 0


class ByteBucket:
    """A token bucket of bytes a second that one partition may read; the last read may overdraw it."""

    def __init__(self, throttle: Throttle, partition_count: int, now_s: float) -> None:
        self.rate = _share(throttle.reject, partition_count)
        self.burst = self.rate
        self._wait_ms = throttle.reject.wait_ms if throttle.reject else 0
        self._is_limited = throttle.reject is not None
        self._tokens = float(self.burst)
        self._at_s = now_s

    def judge(self, now_s: float, client_timeout_ms: int) -> tuple[Verdict, int]:
        """Whether a read may begin now."""
        self._tokens = min(self.burst, self._tokens + (now_s - self._at_s) * self.rate)
        self._at_s = now_s
        if not self._is_limited or self._tokens > 0:
            return Verdict.PASS, 0
        return Verdict.REJECT, _at_most(self._wait_ms, client_timeout_ms)

    def consume(self, size_bytes: int) -> None:
        """Count what a read has returned."""
        self._tokens -= size_bytes


def _share(rule: Rule | None, partition_count: int) -> int:
    return rule.units // partition_count + 1 if rule is not None else 0


def _at_most(wait_ms: int, client_timeout_ms: int) -> int:
    return min(wait_ms, client_timeout_ms // 2) if client_timeout_ms > 0 else wait_ms
