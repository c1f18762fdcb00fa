"""Regular expressions of audiences: RE2's language, whose time is bounded (protocol §9.3)."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iserver.document.patterns import MAX_STEPS, PatternError, PatternWork, compile_pattern

ORDINARY = [
    *(r"^de", r"de$", r"^(de|at|ch)$", r"@example\.(com|org)$", r"^[A-Z]{2}-\d{4,6}$", r"(?i)iphone|ipad", r"^$", ""),
    *(
        r"\bbot\b",
        r"^/(shop|cart)/\d+(\?.*)?$",
        r"[^a-z0-9]",
        r"^\s*$",
        r"a.c",
        r"(?s)a.c",
        r"(?m)^b$",
        r"\.(jpe?g|png)$",
    ),
    *(r"Mozilla/5\.0 \(.*?Android (\d+)", r"^(\+49|0)1[567]\d+$", r"(ab)+?c", r"\x41", r"(?P<name>x)y", r"\Aa", r"ü|ß"),
]
VALUES = [
    *(
        "",
        "de",
        "DE",
        "at",
        "deat",
        "at\nch",
        "a@example.com",
        "a@example.comx",
        "AB-12345",
        "my iPhone 12",
        "a bot",
        "bots",
    ),
    *("/shop/12", "/cart/1?x=y", "/cart/x", " \t", "abc", "a\nc", "a\nb\nc", "x.jpg", "x.jpeg.gif", "ababc", "A", "xy"),
    *("Mozilla/5.0 (Linux; Android 14) x", "+4915123", "030123", "größe", "süß", "日本", "\x00", "👩‍👩‍👧"),
]
EVIL = ["(a+)+$", "(a|a)+$", "(a|aa)+$", "(.*a){20}$", "(x+x+)+y", "^(([a-z])+.)+[A-Z]([a-z])+$", "(a?){30}a{30}b"]


@pytest.mark.parametrize("pattern", ORDINARY)
def test_ordinary_patterns_mean_what_they_mean_in_python(pattern):
    ours, python = compile_pattern(pattern), re.compile(pattern)
    assert [ours.is_in(value) for value in VALUES] == [python.search(value) is not None for value in VALUES]


def groups(inner):
    choices = st.lists(inner, min_size=1, max_size=3).map("|".join)
    repeated = st.tuples(choices, st.sampled_from(["", "?", "*", "+", "*?", "{2}", "{0,2}"]))
    return repeated.map(lambda pair: f"({pair[0]}){pair[1]}") | st.tuples(inner, inner).map("".join)


ATOMS = st.sampled_from(["a", "b", "é", ".", r"\.", "[ab]", "[^a]", r"\d", "[0-9é]", "^", r"\b", "x"])


@given(st.recursive(ATOMS, groups, max_leaves=8), st.text("abéx.1-", max_size=12))
def test_patterns_of_their_common_grammar_agree(pattern, value):
    expected = re.search(pattern, value, re.ASCII) is not None
    assert compile_pattern(pattern).is_in(value) is expected


@given(st.text(string.printable, max_size=12))
def test_whatever_is_written_is_compiled_or_refused(pattern):
    try:
        compile_pattern(pattern).is_in("abc")
    except PatternError as refused:
        assert str(refused)


@pytest.mark.parametrize("pattern", EVIL)
@pytest.mark.parametrize("value", ["a" * 100_000 + "!", "x" * 100_000])
def test_an_evil_pattern_answers_for_a_hundred_kilobytes(pattern, value):
    assert compile_pattern(pattern).is_in(value) is False


def test_a_value_too_long_for_a_large_pattern_matches_nothing():
    large = compile_pattern("(a|b)*a(a|b){900}")
    assert large.is_in("a" * 1000)
    assert not large.is_in("a" * (MAX_STEPS // 900))
    assert compile_pattern("b$").is_in("a" * 2**20 + "b")


def test_bytes_count_and_not_characters():
    pattern = compile_pattern("ä" * 400)
    assert pattern.is_in("ä" * 1000)
    assert not pattern.is_in("ä" * (MAX_STEPS // 800 - 100))


def test_all_patterns_of_a_request_share_a_bound():
    patterns = [compile_pattern("b$") for _ in range(6)]
    value = "a" * 1000 + "b"
    work = PatternWork(4 * patterns[0].steps(value) + 1000)
    assert [work.is_in(pattern, value) for pattern in patterns] == [True] * 4 + [False] * 2
    assert work.is_in(patterns[-1], "b")


def test_a_pattern_looks_at_the_same_value_once():
    pattern = compile_pattern("b$")
    value = "a" * 1000 + "b"
    work = PatternWork(pattern.steps(value))
    assert all(work.is_in(pattern, value) for _ in range(1000))
    assert not work.is_in(compile_pattern("b$"), value)


def test_the_end_is_the_end_and_classes_are_ascii():
    assert not compile_pattern("a$").is_in("a\n")
    assert not compile_pattern(r"\w|\d").is_in("ü٣")
    assert compile_pattern(r"^\p{L}$").is_in("ü")


def test_half_of_a_surrogate_pair_in_a_header_is_no_error():
    assert compile_pattern("a").is_in("\udce4a")


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        (r"(a)\1", r"invalid escape sequence: \1"),
        ("(?=a)b", "invalid perl operator: (?="),
        ("(?<!a)b", "invalid perl operator: (?<!"),
        ("(", "missing ): ("),
        ("a**", "bad repetition operator: **"),
        ("a{1001}", "invalid repetition size: {1001}"),
        ("(a|b){1000}" * 6, "at most 5000 are possible"),
    ],
)
def test_what_cannot_be_used_is_refused(pattern, reason):
    with pytest.raises(PatternError) as refused:
        compile_pattern(pattern)
    assert reason in str(refused.value)
