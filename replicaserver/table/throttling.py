"""Limits on how much a partition is asked to do (§9.4). Pure: the time is an argument."""

from __future__ import annotations

from enum import Enum

from shared.pegasus.settings.throttles import Limit, Throttle


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


def _share(limit: Limit | None, partition_count: int) -> int:
    return limit.units // partition_count + 1 if limit is not None else 0


def _at_most(wait_ms: int, client_timeout_ms: int) -> int:
    return min(wait_ms, client_timeout_ms // 2) if client_timeout_ms > 0 else wait_ms
