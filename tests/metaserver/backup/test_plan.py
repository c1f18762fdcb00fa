"""When the backups of a policy are due, and which of them are surplus."""

from __future__ import annotations

import dataclasses
import datetime

import pytest

from metaserver.backup import plan
from metaserver.cluster.metadata import Backup, BackupPolicy, Metadata, Rejected

DAY = 86400
POLICY = BackupPolicy("nightly", "local_service", frozenset({2}), DAY, 2, "03:00")


def local(day, clock):
    return datetime.datetime.fromisoformat(f"2026-03-{day:02} {clock}").astimezone()


def made(begun, *, ended=True, failed=False, policy="nightly"):
    start_ms = int(begun.timestamp() * 1000)
    return Backup(start_ms, policy, "local_service", "", {2: "temp"}, start_ms, start_ms + 1 if ended else 0, failed)


def is_due(now, *backups, **difference):
    policy = dataclasses.replace(POLICY, **difference)
    metadata = Metadata(policies={policy.name: policy}, backups={b.id: b for b in backups})
    return bool(plan.due(metadata, now))


def test_the_first_backup_begins_at_its_time_of_day():
    assert not is_due(local(1, "02:59"))
    assert is_due(local(1, "03:00"))
    assert not is_due(local(1, "12:00"))
    assert not is_due(local(1, "03:00"), is_disabled=True)


def test_daily_backups_keep_their_time_of_day():
    last = made(local(1, "03:00"))
    assert not is_due(local(1, "23:00"), last)
    assert not is_due(local(2, "02:58"), last)
    assert is_due(local(2, "03:00"), last)
    assert is_due(local(5, "09:00"), last)  # the daemon was off


def test_more_frequent_backups_follow_their_interval():
    last = made(local(1, "03:00"))
    assert not is_due(local(1, "03:30"), last, interval_s=3600)
    assert is_due(local(1, "04:00"), last, interval_s=3600)
    assert not is_due(local(1, "05:00"), made(local(1, "03:00"), ended=False), interval_s=3600)


def test_the_oldest_backups_beyond_those_kept_are_surplus():
    days = [made(local(day, "03:00")) for day in (1, 2, 3, 4)]
    broken = made(local(5, "03:00"), failed=True)
    metadata = Metadata(backups={b.id: b for b in [*days, broken]})
    assert plan.surplus(metadata, POLICY) == [days[1], days[0]]


@pytest.mark.parametrize("name", ["../../outside", "..", "a/b", "*"])
def test_a_policys_name_is_one_level_of_a_path(name):
    with pytest.raises(Rejected, match="ERR_INVALID_PARAMETERS: policy_name "):
        plan.add_policy(Metadata(), dataclasses.replace(POLICY, name=name), 0)
