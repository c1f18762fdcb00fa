"""The grammar of throttles, and what is said about a wrong one (§9.4)."""

from __future__ import annotations

import pytest

from shared.pegasus.settings.throttles import Limit, Throttle, parse_size_throttle, parse_throttle


def test_both_limits_can_stand_together():
    assert parse_throttle("10*delay*100,20K*reject*200") == Throttle(Limit(10, 100), Limit(20480, 200))


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
    assert parse_size_throttle("200K") == Throttle(reject=Limit(200 * 1024, 0))
    assert parse_size_throttle("1*delay*5,200*reject*7").reject == Limit(200, 7)
    with pytest.raises(ValueError, match="should be > 0"):
        parse_size_throttle("0*reject*7")
