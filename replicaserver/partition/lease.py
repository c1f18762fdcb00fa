"""Until when the metaserver waits for this node before it may give its partitions to others."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

from shared.pegasus.wire.errors import ErrorCode, RpcError

_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", None)
clock: Callable[[], float] = time.monotonic if _BOOTTIME is None else functools.partial(time.clock_gettime, _BOOTTIME)
"""Seconds that never jump, and go on while the process is stopped or the machine sleeps."""


class Lease:
    """The node's right to serve, which ends by itself.

    Nothing has to run for it to end: whoever reads or answers asks. So a process that was stopped for long serves
    nobody when it goes on, whatever runs first.

    Args:
        duration_s: For how long an acknowledged beacon is good, counted from when it was sent.
        now_s: The clock.

    Attributes:
        losses: How often it was lost.
    """

    def __init__(self, duration_s: float, now_s: Callable[[], float] = clock) -> None:
        self.losses = 0
        self.now_s = now_s
        self._duration_s = duration_s
        self._until_s = now_s() + duration_s

    def is_held(self) -> bool:
        """Whether this node may serve now."""
        return self.now_s() < self._until_s

    def require(self) -> None:
        """Refuse to answer when the lease has ended.

        Raises:
            RpcError: ERR_INVALID_STATE; clients then ask who serves.
        """
        if not self.is_held():
            raise RpcError(ErrorCode.ERR_INVALID_STATE, "no metaserver acknowledges this node")

    def remaining_s(self) -> float:
        """Seconds until it ends; less than 0 when it has."""
        return self._until_s - self.now_s()

    def renew(self, sent_s: float) -> None:
        """A beacon that was sent at some time of `now_s` is acknowledged."""
        self._until_s = max(self._until_s, sent_s + self._duration_s)
