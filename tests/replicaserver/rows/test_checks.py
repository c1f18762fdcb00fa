"""Filters of reads and conditions of writes (protocol §11.2, §11.3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicaserver.rows.checks import CheckError, key_filter, parse_int64, passes
from shared.pegasus.wire.structures.rrdb import CheckType, FilterType

C = CheckType


@pytest.mark.parametrize(
    ("kind", "pattern", "key", "expected"),
    [
        (FilterType.MATCH_ANYWHERE, b"shke", b"hashkey", True),
        (FilterType.MATCH_ANYWHERE, b"xx", b"hashkey", False),
        (FilterType.MATCH_PREFIX, b"hash", b"hashkey", True),
        (FilterType.MATCH_PREFIX, b"key", b"hashkey", False),
        (FilterType.MATCH_POSTFIX, b"key", b"hashkey", True),
        (FilterType.MATCH_POSTFIX, b"hash", b"hashkey", False),
        (FilterType.MATCH_POSTFIX, b"hashkey", b"key", False),
        (9, b"hash", b"hashkey", False),
    ],
)
def test_a_filter_looks_for_its_pattern(kind: int, pattern: bytes, key: bytes, expected: bool):
    matches = key_filter(kind, pattern)
    assert matches is not None
    assert matches(key) is expected


@pytest.mark.parametrize("kind", [0, 1, 2, 3])
def test_an_empty_pattern_is_in_every_key(kind: int):
    assert key_filter(kind, b"") is None


def test_no_filter_lets_everything_pass():
    assert key_filter(FilterType.NO_FILTER, b"whatever") is None


@pytest.mark.parametrize(
    ("check", "operand", "value", "expected"),
    [
        (C.NO_CHECK, b"", None, True),
        (C.NO_CHECK, b"", b"a", True),
        (C.VALUE_NOT_EXIST, b"", None, True),
        (C.VALUE_NOT_EXIST, b"", b"", False),
        (C.VALUE_NOT_EXIST_OR_EMPTY, b"", None, True),
        (C.VALUE_NOT_EXIST_OR_EMPTY, b"", b"", True),
        (C.VALUE_NOT_EXIST_OR_EMPTY, b"", b"a", False),
        (C.VALUE_EXIST, b"", b"", True),
        (C.VALUE_EXIST, b"", None, False),
        (C.VALUE_NOT_EMPTY, b"", b"", False),
        (C.VALUE_NOT_EMPTY, b"", b"a", True),
        (C.VALUE_NOT_EMPTY, b"", None, False),
        (C.VALUE_MATCH_ANYWHERE, b"b", b"abc", True),
        (C.VALUE_MATCH_PREFIX, b"b", b"abc", False),
        (C.VALUE_MATCH_POSTFIX, b"c", b"abc", True),
        (C.VALUE_MATCH_ANYWHERE, b"", None, False),
        (C.VALUE_BYTES_LESS, b"b", b"a", True),
        (C.VALUE_BYTES_LESS, b"a", b"a", False),
        (C.VALUE_BYTES_LESS_OR_EQUAL, b"a", b"a", True),
        (C.VALUE_BYTES_EQUAL, b"a", b"a", True),
        (C.VALUE_BYTES_GREATER_OR_EQUAL, b"b", b"a", False),
        (C.VALUE_BYTES_GREATER, b"10", b"9", True),
        (C.VALUE_INT_LESS, b"9", b"10", False),
        (C.VALUE_INT_LESS_OR_EQUAL, b"10", b"10", True),
        (C.VALUE_INT_EQUAL, b"010", b"10", True),
        (C.VALUE_INT_GREATER_OR_EQUAL, b"-5", b"-4", True),
        (C.VALUE_INT_GREATER, b"10", b"9", False),
        (C.VALUE_INT_EQUAL, b"1", None, False),
    ],
)
def test_a_condition_holds_or_not(check: CheckType, operand: bytes, value: bytes | None, expected: bool):
    assert passes(check, operand, value) is expected


@pytest.mark.parametrize(
    ("check", "operand", "value", "message"),
    [
        (C.VALUE_INT_EQUAL, b"1", b"one", "the value is not"),
        (C.VALUE_INT_LESS, b"one", b"1", "the operand is not"),
        (C.VALUE_INT_LESS, b"1", b"9223372036854775808", "the value is not"),
        (18, b"", b"", "no check of type 18"),
        (-1, b"", b"", "no check of type -1"),
    ],
)
def test_a_condition_that_cannot_be_evaluated_says_why(check: int, operand: bytes, value: bytes, message: str):
    with pytest.raises(CheckError, match=message):
        passes(check, operand, value)


@given(st.integers(-(2**63), 2**63 - 1))
def test_every_64_bit_integer_is_read(number: int):
    assert parse_int64(b"%d" % number) == number


@pytest.mark.parametrize("text", [b"", b" 1", b"1 ", b"1.0", b"0x10", b"9223372036854775808", b"-", b"1" * 100])
def test_what_is_no_64_bit_integer_is_none(text: bytes):
    assert parse_int64(text) is None
