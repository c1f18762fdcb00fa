"""Limits on what a partition is asked to do (§9.4, §15)."""

from __future__ import annotations

import pytest

from replicaserver.table.throttling import ByteBucket, Throttler, Verdict
from shared.pegasus.settings.throttles import Limit, Throttle, parse_size_throttle, parse_throttle


@pytest.mark.parametrize(
    ("text", "units", "wait_ms"),
    [
        ("20000*delay*100", 5001, 100),
        ("20K*delay*100", 5121, 100),
        ("20M*delay*100", 5242881, 100),
        ("80000M*delay*100", 20000 * 2**20 + 1, 100),
    ],
)
def test_every_partition_has_its_share_and_one_more(text: str, units: int, wait_ms: int):
    throttler = Throttler(parse_throttle(text), partition_count=4)
    assert throttler.delay_units == units
    assert throttler.throttle.delay is not None
    assert throttler.throttle.delay.wait_ms == wait_ms


@pytest.mark.parametrize(
    ("text", "units"),
    [("4294967296*delay*100", 2**32), ("0x10*delay*100", 16), (f"{2**44 - 1}M*delay*100", 2**64 - 2**20)],
)
def test_whatever_a_metaserver_accepts_acts(text: str, units: int):
    assert Throttler(parse_throttle(text), partition_count=1).throttle.delay == Limit(units, 100)


def test_within_its_share_a_request_passes():
    throttler = Throttler(parse_throttle("8*delay*100,16*reject*200"), partition_count=4)  # 3 and 5 a second
    verdicts = [throttler.judge(1, 10.5, 0) for _ in range(6)]
    assert verdicts[:3] == [(Verdict.PASS, 0)] * 3
    assert verdicts[3:5] == [(Verdict.DELAY, 100)] * 2
    assert verdicts[5] == (Verdict.REJECT, 200)


def test_the_next_second_counts_anew():
    throttler = Throttler(parse_throttle("0*reject*200"), partition_count=4)
    assert throttler.judge(1, 10.9, 0)[0] is Verdict.PASS
    assert throttler.judge(1, 10.9, 0)[0] is Verdict.REJECT
    assert throttler.judge(1, 11.0, 0)[0] is Verdict.PASS


def test_nobody_waits_longer_than_half_the_time_its_client_has():
    throttler = Throttler(parse_throttle("0*delay*200"), partition_count=4)
    assert [throttler.judge(1, 1.0, 100)[1] for _ in range(2)] == [0, 50]


def test_without_limits_everything_passes():
    throttler = Throttler(Throttle(), 4)
    assert all(throttler.judge(10**9, 1.0, 0) == (Verdict.PASS, 0) for _ in range(3))


def test_bytes_read_must_be_paid_back_before_more_are_read():
    bucket = ByteBucket(parse_size_throttle("396*reject*20"), partition_count=4, now_s=0.0)  # 100 bytes a second
    assert bucket.judge(0.0, 0) == (Verdict.PASS, 0)
    bucket.consume(250)
    assert bucket.judge(1.0, 0) == (Verdict.REJECT, 20)
    assert bucket.judge(1.6, 0) == (Verdict.PASS, 0)


def test_an_unlimited_bucket_never_rejects():
    bucket = ByteBucket(Throttle(), 4, 0.0)
    bucket.consume(10**12)
    assert bucket.judge(0.0, 0) == (Verdict.PASS, 0)
