"""HTTP as Pegasus speaks it: heads, URLs, argument values, JSON bodies (specification §2, §15)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.pegasus.serving.http import (
    HttpReader,
    InvalidParameters,
    Response,
    parse_bool,
    parse_int,
    parse_json_object,
    parse_url,
    percent_decode,
)

GET_ROOT = b"GET / HTTP/1.1\r\n\r\n"


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


def test_an_answer_has_exactly_three_headers():
    assert Response(b'{"a":1}\n').encode() == (
        b'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 8\r\n\r\n{"a":1}\n'
    )


def test_a_redirect_has_a_location_after_them():
    assert Response(b"", 307, "http://h:1/meta/apps").encode() == (
        b"HTTP/1.1 307 Temporary Redirect\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n"
        b"Location: http://h:1/meta/apps\r\n\r\n"
    )


def test_a_hundred_pipelined_requests_are_a_hundred_requests():
    assert len(HttpReader().feed(GET_ROOT * 100)) == 100


@given(st.lists(st.integers(1, 40), max_size=20))
def test_any_segmentation_gives_the_same_requests(cuts):
    stream = (
        b"POST /a?x=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody"
        b"POST /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;e=1\r\nde\r\n0\r\nT: 1\r\n\r\n"
    ) + GET_ROOT
    reader, requests, position = HttpReader(), [], 0
    for cut in [*cuts, len(stream)]:
        requests += reader.feed(stream[position : position + cut])
        position += cut
    assert [(request.path, request.body) for request in requests] == [("a", b"body"), ("b", b"abcde"), ("", b"")]
    assert reader.error is None
    assert reader.buffered_bytes == 0


def test_a_long_url_and_values_with_trailing_spaces_are_accepted():
    (request,) = HttpReader().feed(b"GET /" + b"u" * 4096 + b" HTTP/1.1\r\nX: y  \r\n\r\n")
    assert len(request.path) == 4096


def test_a_client_that_waits_for_continue_is_noticed():
    reader = HttpReader()
    assert reader.feed(b"POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n") == []
    assert reader.wants_continue
    (request,) = reader.feed(b"ok")
    assert request.body == b"ok"
    assert not reader.wants_continue


@pytest.mark.parametrize(
    "malformed",
    [
        b"HEAD / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/2\r\n\r\n",
        b"GET /a b HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n",
        b"GET /" + b"x" * 300_000,
    ],
)
def test_a_malformed_request_is_refused_after_the_good_ones(malformed):
    reader = HttpReader()
    assert len(reader.feed(GET_ROOT + malformed)) == 1
    assert reader.error is not None
    assert reader.feed(GET_ROOT) == []


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader(noise):
    HttpReader().feed(b"GET / HTTP/1.1\r\n" + noise)
    HttpReader().feed(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + noise)


@given(st.text(max_size=60))
def test_no_target_does_anything_but_parse_or_be_refused(target):
    try:
        parse_url(target)
    except InvalidParameters:
        return


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
