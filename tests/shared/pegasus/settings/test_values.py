"""Integers and booleans as Pegasus reads them (§2.5, §15)."""

from __future__ import annotations

import pytest

from shared.pegasus.settings.values import parse_bool, parse_int


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("42", 42),
        ("-42", -42),
        ("+7", 7),
        ("0xbeef", 48879),
        ("0xBEEF", 48879),
        ("017", 15),
        ("-2147483648", -(2**31)),
        ("2147483647", 2**31 - 1),
    ],
)
def test_integers_follow_the_rules_of_c(text, value):
    assert parse_int(text) == value


@pytest.mark.parametrize("text", ["", "abc", "08", "0x", "1 ", "123\0", "--1", "2147483648", "-2147483649", "1.0", "٣"])
def test_what_is_no_32_bit_integer_is_refused(text):
    with pytest.raises(ValueError):
        parse_int(text)


def test_unsigned_integers_have_no_minus_and_their_own_range():
    assert parse_int("18446744073709551615", 64, is_signed=False) == 2**64 - 1
    for text in ("-1", "-0", "18446744073709551616"):
        with pytest.raises(ValueError):
            parse_int(text, 64, is_signed=False)


@pytest.mark.parametrize(("text", "value"), [("true", True), ("TrUe", True), ("false", False), ("FalSe", False)])
def test_booleans_in_any_case(text, value):
    assert parse_bool(text) is value


@pytest.mark.parametrize("text", ["tru", "true\0", "1", "", "yes"])
def test_what_is_no_boolean_is_refused(text):
    with pytest.raises(ValueError):
        parse_bool(text)
