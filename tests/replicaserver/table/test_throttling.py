"""Limits on what a partition is asked to do (specification §9.4, §15)."""

from __future__ import annotations

import pytest

from replicaserver.table.throttling import (
    ByteBucket,
    Rule,
    Throttle,
    Throttler,
    Verdict,
    parse_size_throttle,
    parse_throttle,
)


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
    assert Throttler(parse_throttle(text), partition_count=1).throttle.delay == Rule(units, 100)


def test_both_rules_can_stand_together():
    assert parse_throttle("10*delay*100,20K*reject*200") == Throttle(Rule(10, 100), Rule(20480, 200))


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "The value shouldn't be empty"),
        ("20A*delay*100", "'20A' should be an unsigned integer"),
        ("20m*delay*100", "'20m' should be an unsigned integer"),
        ("20KB*delay*100", "'20KB' should be an unsigned integer"),
        ("-20*delay*100", "'-20' should be an unsigned integer"),
        ("*delay*100", "'' should be an unsigned integer"),
        ("-20K*delay*100", "'-20' should be an unsigned integer"),
        ("20K*delay*-100", "'-100' should be an unsigned integer"),
        (f"{2**44}M*delay*100", f"'{2**44}' result is overflow"),
        ("20A*delay", "The field count of '20A*delay' separated by '*' must be 3"),
        ("2K**delay*100", "The field count of '2K**delay*100' separated by '*' must be 3"),
        ("20K*pass*100", "'pass' should be 'delay' or 'reject'"),
        ("2K*delay*100,3K*delay*100", "duplicate 'delay' config"),
        ("2K*reject*100,3K*reject*100", "duplicate 'reject' config"),
    ],
)
def test_a_wrong_setting_says_what_is_wrong(text: str, hint: str):
    with pytest.raises(ValueError) as caught:
        parse_throttle(text)
    assert str(caught.value) == hint


def test_reads_can_be_limited_by_a_bare_number_of_bytes():
    assert parse_size_throttle("200K") == Throttle(reject=Rule(200 * 1024, 0))
    assert parse_size_throttle("1*delay*5,200*reject*7").reject == Rule(200, 7)
    with pytest.raises(ValueError, match="more than 0"):
        parse_size_throttle("0*reject*7")


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


def test_without_rules_everything_passes():
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
