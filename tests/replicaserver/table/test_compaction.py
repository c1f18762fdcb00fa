"""When a replica compacts by hand, and how (protocol §9.3, §15)."""

from __future__ import annotations

import pytest

from replicaserver.table.compaction import DEEPEST, ManualCompaction, Order, is_disabled, max_running, order, wanted
from shared.pegasus.wire.structures.metadata import ManualCompactionStatus

LAST = 1_500_000_000


def clock(hour: int, minute: int) -> int:
    """The day begins at 2,000,000,000."""
    return 2_000_000_000 + hour * 3600 + minute * 60


def once(text: str | None, last: int = LAST) -> Order | None:
    envs = {} if text is None else {"manual_compact.once.trigger_time": text}
    return wanted(envs, 7, last, clock(12, 0), clock)


def periodic(text: str, finished: int, now: int) -> bool:
    return wanted({"manual_compact.periodic.trigger_time": text}, 7, finished, now, clock) is not None


@pytest.mark.parametrize(("text", "disabled"), [("true", True), ("1", False), ("", False), ("abc", False)])
def test_only_the_exact_word_disables(text: str, disabled: bool):
    envs = {"manual_compact.disabled": text, "manual_compact.once.trigger_time": str(clock(12, 0))}
    assert is_disabled(envs) is disabled
    assert (wanted(envs, 7, LAST, clock(12, 0), clock) is None) is disabled


@pytest.mark.parametrize("text", [None, "", "abc", "-1", "1499999999", "1500000000"])
def test_once_is_not_again(text: str | None):
    assert once(text) is None


@pytest.mark.parametrize("text", ["1500000001", "2000043200", "0x77359400"])
def test_once_is_when_the_trigger_is_after_the_last_time(text: str):
    assert once(text) == Order(DEEPEST, False)


@pytest.mark.parametrize("text", ["", ",", "12:oo", "1500000000", "25:00", "10:61"])
def test_what_is_no_time_of_day_is_ignored(text: str):
    assert not periodic(text, 0, clock(23, 59))


@pytest.mark.parametrize(
    ("text", "finished", "now", "starts"),
    [
        ("9:00", clock(10, 0), clock(12, 0), False),
        ("3:00,9:00", clock(10, 0), clock(12, 0), False),
        ("10:00", clock(10, 0), clock(12, 0), False),
        ("10:00", clock(9, 0), clock(8, 0), False),
        ("10:00", clock(9, 0), clock(9, 30), False),
        ("10:00", clock(9, 0), clock(10, 30), True),
        ("10:00,21:00", clock(9, 0), clock(9, 30), False),
        ("10:00,21:00", clock(9, 0), clock(10, 30), True),
        ("10:00,21:00", clock(11, 0), clock(11, 1), False),
        ("10:00,21:00", clock(11, 0), clock(20, 30), False),
        ("10:00,21:00", clock(11, 0), clock(21, 1), True),
        ("10:00,21:00", clock(21, 50), clock(22, 0), False),
    ],
)
def test_periodic_is_at_its_times_of_day(text: str, finished: int, now: int, starts: bool):
    assert periodic(text, finished, now) is starts


@pytest.mark.parametrize(
    ("envs", "expected"),
    [
        ({}, Order(-1, False)),
        ({"p.target_level": "2", "p.bottommost_level_compaction": "force"}, Order(2, True)),
        ({"p.target_level": "-2", "p.bottommost_level_compaction": "nonono"}, Order(-1, False)),
        ({"p.target_level": "8"}, Order(-1, False)),
        ({"p.target_level": "7", "p.bottommost_level_compaction": "skip"}, Order(7, False)),
    ],
)
def test_how_to_compact(envs: dict[str, str], expected: Order):
    assert order(envs, "p.", levels=7) == expected


def test_once_and_periodic_have_their_own_options():
    envs = {
        "manual_compact.once.trigger_time": "1500000001",
        "manual_compact.once.target_level": "3",
        "manual_compact.periodic.trigger_time": "10:00",
        "manual_compact.periodic.target_level": "4",
    }
    assert wanted(envs, 7, LAST, clock(12, 0), clock) == Order(3, False)
    assert wanted(envs, 7, LAST + 1, clock(12, 0), clock) == Order(4, False)


def test_a_level_and_a_count_may_be_hexadecimal():
    assert order({"manual_compact.once.target_level": "0x3"}, "manual_compact.once.", 7) == Order(3, False)
    assert max_running({"manual_compact.max_concurrent_running_count": "0x2"}) == 2


def test_how_many_may_run_at_a_time():
    assert max_running({"manual_compact.max_concurrent_running_count": "8"}) == 8
    assert max_running({}) == max_running({"manual_compact.max_concurrent_running_count": "x"}) == 0


def test_a_compaction_waits_runs_and_is_finished():
    state = ManualCompaction()
    assert state.status is ManualCompactionStatus.IDLE
    assert state.enqueue(100, 0)
    assert state.status is ManualCompactionStatus.QUEUING
    assert not state.enqueue(101, 0)
    state.start(105)
    assert state.status is ManualCompactionStatus.RUNNING
    assert not state.enqueue(106, 0)
    state.finish(115)
    assert state.status is ManualCompactionStatus.FINISHED
    assert (state.last_finish_s, state.last_used_s) == (115, 10)


def test_after_a_restart_it_is_idle_but_knows_when_it_was_done():
    state = ManualCompaction(last_finish_s=115)
    assert state.status is ManualCompactionStatus.IDLE


def test_a_compaction_that_is_given_up_can_be_ordered_again():
    state = ManualCompaction()
    state.enqueue(100, 0)
    state.start(101)
    state.give_up()
    assert state.status is ManualCompactionStatus.IDLE
    assert state.enqueue(102, 0)


@pytest.mark.parametrize(("after_s", "starts"), [(1800, False), (3609, False), (3610, False), (3611, True)])
def test_the_least_time_between_two_counts_from_the_end_of_the_last(after_s: int, starts: bool):
    state = ManualCompaction()
    state.enqueue(1000, 3600)
    state.start(1000)
    state.finish(1010)
    assert state.enqueue(1000 + after_s, 3600) is starts
