"""When a replica compacts its store by hand, and how (protocol §9.3). Pure: the time is an argument."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from shared.pegasus.settings.values import parse_int
from shared.pegasus.wire.structures.metadata import ManualCompactionStatus

ONCE = "manual_compact.once."
PERIODIC = "manual_compact.periodic."
DEEPEST = -1
"""The target level that means the last one."""


@dataclass(frozen=True, slots=True)
class Order:
    """A compaction that should run.

    Attributes:
        target_level: Where the rows go, `DEEPEST` for the last level.
        is_forced: Whether the last level is rewritten too.
    """

    target_level: int
    is_forced: bool


def is_disabled(envs: Mapping[str, str]) -> bool:
    """Whether a table forbids manual compaction; only the exact text ``true`` does."""
    return envs.get("manual_compact.disabled") == "true"


def max_running(envs: Mapping[str, str]) -> int:
    """How many replicas of a table may compact at a time on one node; 0 for any number."""
    return max(0, _number(envs, "manual_compact.max_concurrent_running_count", 0))


def wanted(
    envs: Mapping[str, str],
    levels: int,
    last_finish_s: int,
    now_s: int,
    at_today: Callable[[int, int], int],
) -> Order | None:
    """The compaction that a table's settings ask for now, None when there is none.

    Args:
        envs: The table's settings.
        levels: How many levels the store has.
        last_finish_s: When the last compaction finished, unix seconds; 0 never.
        now_s: Unix seconds.
        at_today: The unix seconds of an hour and a minute of the present day, in local time.
    """
    if is_disabled(envs):
        return None
    if _once(envs, last_finish_s):
        return order(envs, ONCE, levels)
    if _periodic(envs, last_finish_s, now_s, at_today):
        return order(envs, PERIODIC, levels)
    return None


def _once(envs: Mapping[str, str], last_finish_s: int) -> bool:
    return _number(envs, ONCE + "trigger_time", 0) > last_finish_s


def _periodic(envs: Mapping[str, str], last_finish_s: int, now_s: int, at_today: Callable[[int, int], int]) -> bool:
    for item in envs.get(PERIODIC + "trigger_time", "").split(","):
        clock = re.fullmatch(r"([0-9]{1,2}):([0-9]{1,2})", item.strip())
        if clock is None:
            continue
        hour, minute = int(clock[1]), int(clock[2])
        if hour < 24 and minute < 60 and last_finish_s < at_today(hour, minute) < now_s:
            return True
    return False


def order(envs: Mapping[str, str], prefix: str, levels: int) -> Order:
    """How to compact, as far as it is said sensibly."""
    level = _number(envs, prefix + "target_level", DEEPEST)
    if not 1 <= level <= levels:
        level = DEEPEST
    return Order(level, envs.get(prefix + "bottommost_level_compaction") == "force")


def _number(envs: Mapping[str, str], name: str, otherwise: int) -> int:
    """A variable as the metaserver read it when it accepted it; `otherwise` when it is no number or not there."""
    try:
        return parse_int(envs.get(name, ""), 64)
    except ValueError:
        return otherwise


@dataclass(slots=True)
class ManualCompaction:
    """How far the manual compaction of one replica is (§6.2). Times are unix seconds, 0 when not.

    Attributes:
        last_finish_s: When the last one finished; kept across restarts.
        enqueued_s: When the present one began to wait.
        running_s: When the present one began to run.
        last_used_s: How long the last one took since this process started, at least 1.
    """

    last_finish_s: int = 0
    enqueued_s: int = 0
    running_s: int = 0
    last_used_s: int = 0

    @property
    def status(self) -> ManualCompactionStatus:
        """The state that tools show."""
        if self.running_s > 0:
            return ManualCompactionStatus.RUNNING
        if self.enqueued_s > 0:
            return ManualCompactionStatus.QUEUING
        if self.last_used_s > 0 and self.last_finish_s > 0:
            return ManualCompactionStatus.FINISHED
        return ManualCompactionStatus.IDLE

    def enqueue(self, now_s: int, min_interval_s: int) -> bool:
        """Take an order, unless one is under way or the last was too short a time ago."""
        too_soon = min_interval_s > 0 and self.last_finish_s and self.last_finish_s + min_interval_s >= now_s
        if self.enqueued_s or self.running_s or too_soon:
            return False
        self.enqueued_s = now_s
        return True

    def start(self, now_s: int) -> None:
        """The order begins to run."""
        self.enqueued_s, self.running_s = 0, now_s

    def finish(self, now_s: int) -> None:
        """The order is done."""
        self.last_used_s = max(1, now_s - self.running_s)
        self.running_s, self.last_finish_s = 0, now_s

    def give_up(self) -> None:
        """The order failed, or the process ends."""
        self.enqueued_s = self.running_s = 0
