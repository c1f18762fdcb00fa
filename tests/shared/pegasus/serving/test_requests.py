"""Targets, arguments and JSON bodies by the rules of Pegasus (§2.4, §2.7, §15)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.pegasus.serving.requests import InvalidParameters, parse_json_object, parse_url, percent_decode


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("", ""),
        ("/", ""),
        ("///", ""),
        ("/threads", "threads"),
        ("/threads/?detail", "threads"),
        ("//pprof/heap/", "pprof/heap"),
        ("//pprof///heap?detailed=true", "pprof/heap"),
        ("/pprof///heap///arg/", "pprof/heap/arg"),
        ("/a%20b/%20c%20", "a b/c"),
        ("/x#fragment?not=query", "x"),
    ],
)
@pytest.mark.parametrize("origin", ["", "http://127.0.0.1:34601"])
def test_paths_are_normalised(origin, target, path):
    assert parse_url(origin + target).path == path


@pytest.mark.parametrize(
    ("query", "args"),
    [
        ("?q1", {"q1": ""}),
        ("?q1=", {"q1": ""}),
        ("?q1=v", {"q1": "v"}),
        ("?=", {"": ""}),
        ("?", {}),
        ("?q1=v1&q2=v2", {"q1": "v1", "q2": "v2"}),
        ("?q1=v1&q2", {"q1": "v1", "q2": ""}),
        ("?a=1%26b=2", {"a": "1", "b": "2"}),
        ("?a%3D1", {"a": "1"}),
        ("?a=b=c", {"a": "b=c"}),
        ("?a=1+2", {"a": "1+2"}),
        ("?&&%20a=1%20&", {"a": "1"}),
        ("?flag&flag", {"flag": ""}),
        ("?a=1&a", {"a": "1"}),
    ],
)
@pytest.mark.parametrize("start", ["/", "http://h:1/"])
def test_queries_are_decoded_first_and_split_afterwards(start, query, args):
    assert parse_url(start + query).args == args


def test_a_repeated_argument_is_named():
    with pytest.raises(InvalidParameters, match=r"^duplicate parameter: name$"):
        parse_url("/meta/backup_policy?name=a&name=b")


@pytest.mark.parametrize(
    ("escaped", "raw"),
    [
        ("%20", b" "),
        ("%80", b"\x80"),
        ("%EB%B2%95", "법".encode()),
        ("%21%23%24%26%27%28%29%2A%2B%2C%2F%3A%3B%3D%3F%40%5B%5D", b"!#$&'()*+,/:;=?@[]"),
        ("plain", b"plain"),
    ],
)
def test_percent_escapes_are_bytes(escaped, raw):
    assert percent_decode(escaped).encode(errors="surrogateescape") == raw


@pytest.mark.parametrize("cut", ["%", "%2", "a%"])
def test_an_escape_cut_short_is_named(cut):
    with pytest.raises(InvalidParameters, match=r"^Encountered partial escape sequence at end of string$"):
        percent_decode(cut)


@pytest.mark.parametrize(
    ("escaped", "shown"), [("%%%", "%%"), ("%2%", "2%"), ("%G0", "G0"), ("%0G", "0G"), ("x%zzab", "zzab")]
)
def test_an_escape_that_is_not_hexadecimal_is_quoted_to_the_end(escaped, shown):
    with pytest.raises(InvalidParameters) as refused:
        percent_decode(escaped)
    expected = f"The characters {shown} do not form a hex value. Please escape it or pass a valid hex value"
    assert str(refused.value) == expected


def test_a_lone_digit_at_the_end_of_a_path_counts_as_not_hexadecimal():
    with pytest.raises(InvalidParameters, match=r"^The characters 2 do not form a hex value"):
        parse_url("/a%2")
    with pytest.raises(InvalidParameters, match=r"^Encountered partial escape"):
        parse_url("/?a%2")


@given(st.text(max_size=60))
def test_no_target_does_anything_but_parse_or_be_refused(target):
    try:
        parse_url(target)
    except InvalidParameters:
        return


USAGE = {"app_name": "", "scenario": "", "count": 0}


@pytest.mark.parametrize(
    ("body", "members"),
    [
        (b"{}", USAGE),
        (b'{"app_name":"t"}', USAGE | {"app_name": "t"}),
        (
            b'{"app_name":"t","scenario":"normal","count":3,"extra":1}',
            {"app_name": "t", "scenario": "normal", "count": 3},
        ),
    ],
)
def test_a_body_with_all_known_members_or_only_known_ones_is_accepted(body, members):
    assert parse_json_object(body, USAGE) == members


@pytest.mark.parametrize(
    "body",
    [
        b'{"app":"t","scenario":"x"}',
        b'{"count":"0"}',
        b'{"count":true}',
        b'{"count":1.5}',
        b'{"count":2147483648}',
        b"[]",
        b"",
        b"{",
        b'"x"',
    ],
)
def test_any_other_body_is_an_invalid_request_structure(body):
    with pytest.raises(InvalidParameters, match=r"^invalid request structure$"):
        parse_json_object(body, USAGE)
