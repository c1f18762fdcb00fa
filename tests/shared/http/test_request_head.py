"""Which heads are plain: everything else is left to a complete HTTP implementation."""

from __future__ import annotations

import pytest

from shared.http.request_head import MAX_HEAD_BYTES, MAX_HEADERS, MAX_KNOWN, HotHeads

PLAIN = b"POST /hot HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 12"


def heads() -> HotHeads[str]:
    return HotHeads({"/hot": "the hot route", "/p/hotter": "another"}, max_body_bytes=1000)


def test_a_plain_head_leads_to_its_route():
    head = heads().read(PLAIN + b"\r\nX-Request-Id:  id-1 \r\nEmpty:")
    assert head is not None
    assert (head.route, head.body_bytes) == ("the hot route", 12)
    assert (head.headers["x-request-id"], head.headers["EMPTY"]) == ("id-1", "")


def test_a_repeated_head_is_known_again():
    reader = heads()
    assert reader.read(PLAIN) is reader.read(bytes(bytearray(PLAIN)))


def test_what_is_remembered_is_bounded():
    reader = heads()
    first = reader.read(PLAIN)
    for number in range(MAX_KNOWN):
        reader.read(PLAIN + b"\r\nX-Number: %d" % number)
    assert reader.read(PLAIN) is not first


@pytest.mark.parametrize("more", [b"Connection: keep-alive", b"connection: Keep-Alive", b"Keep-Alive: timeout=5"])
def test_a_connection_that_stays_is_plain(more: bytes):
    assert heads().read(PLAIN + b"\r\n" + more) is not None


@pytest.mark.parametrize(
    "line",
    [
        *(b"GET /hot HTTP/1.1", b"post /hot HTTP/1.1", b"OPTIONS /hot HTTP/1.1", b"POST /hot HTTP/1.0", b"POST /hot"),
        *(b"POST /hot?a=1 HTTP/1.1", b"POST /hot/ HTTP/1.1", b"POST //hot HTTP/1.1", b"POST /%68ot HTTP/1.1"),
        *(b"POST  /hot HTTP/1.1", b"POST /hot HTTP/1.1 ", b" POST /hot HTTP/1.1", b"\r\nPOST /hot HTTP/1.1", b""),
        b"POST http://shop.example/hot HTTP/1.1",
    ],
)
def test_any_other_request_line_is_not_plain(line: bytes):
    assert heads().read(line + PLAIN[len(b"POST /hot HTTP/1.1") :]) is None


@pytest.mark.parametrize(
    "more",
    [
        *(b"Transfer-Encoding: chunked", b"transfer-encoding: identity", b"Content-Encoding: gzip", b"TE: trailers"),
        *(b"Expect: 100-continue", b"Trailer: X-Sum", b"Upgrade: websocket", b"HTTP2-Settings: AAMAAABk"),
        *(b"Connection: close", b"Connection: upgrade", b"Connection: keep-alive, close", b"Proxy-Connection: close"),
        *(b"Content-Length: 12", b"content-length: 13", b"Host: other.example", b"X-A: 1\r\nx-a: 2"),
        *(b"X-A : 1", b" X-A: 1", b"X-A: 1\r\n folded", b"X-A: 1\nX-B: 2", b"X-A: 1\rX-B: 2", b"X-A", b": 1", b""),
        *(b"X-A: \x00", b"X-A: \x7f", b"X-A: caf\xc3\xa9", b"X A: 1", b"X\xe9: 1", b"X-A: 1\r"),
    ],
)
def test_a_header_that_is_odd_or_changes_what_follows_is_not_plain(more: bytes):
    assert heads().read(PLAIN + b"\r\n" + more) is None


@pytest.mark.parametrize(
    "length", [b"-1", b"+12", b"0x0c", b"012", b"1,2", b"12, 12", b"1 2", b"", b"1e1", b"\xb2", b"1001"]
)
def test_a_length_that_is_no_plain_number_within_the_limit_is_not_plain(length: bytes):
    assert heads().read(b"POST /hot HTTP/1.1\r\nHost: x\r\nContent-Length: " + length) is None


@pytest.mark.parametrize("lines", [b"Host: x", b"Content-Length: 1"])
def test_a_head_without_host_or_length_is_not_plain(lines: bytes):
    assert heads().read(b"POST /hot HTTP/1.1\r\n" + lines) is None


def test_a_head_that_is_too_large_is_not_plain():
    assert heads().read(PLAIN + b"\r\nX-A: " + b"a" * MAX_HEAD_BYTES) is None
    assert heads().read(PLAIN + b"".join(b"\r\nX-%d: a" % number for number in range(MAX_HEADERS))) is None


@pytest.mark.parametrize("size", [*range(1, len(PLAIN)), len(PLAIN)])
def test_every_beginning_of_a_plain_head_may_become_one(size: int):
    assert heads().may_become_plain(PLAIN[:size])


@pytest.mark.parametrize("beginning", [b"G", b"PUT", b"POST /ho ", b"POST /hot HTTP/1.1\n", b"POST /hots HTTP/1.1\r\n"])
def test_what_cannot_become_plain_is_known_early(beginning: bytes):
    assert not heads().may_become_plain(beginning)


def test_a_head_without_end_is_not_waited_for():
    assert not heads().may_become_plain(PLAIN + b"\r\nX-A: " + b"a" * MAX_HEAD_BYTES)


def gets() -> HotHeads[str]:
    return HotHeads({"/hot": "posted"}, max_body_bytes=1000, gets={"/hot": "got", "/hotter": "another"})


GET_END = b" HTTP/1.1\r\nHost: shop.example"


def test_a_plain_get_leads_to_its_route_with_what_it_asks():
    head = gets().read(b"GET /hot?name=a.b-c_d~e&page=&name=2" + GET_END)
    assert head is not None
    assert (head.route, head.body_bytes) == ("got", 0)
    assert list(head.query.items()) == [("name", "a.b-c_d~e"), ("page", ""), ("name", "2")]


def test_a_get_may_ask_nothing():
    head = gets().read(b"GET /hot" + GET_END)
    assert head is not None
    assert (head.route, list(head.query)) == ("got", [])


@pytest.mark.parametrize(
    "target",
    [
        *(b"/hot?", b"/hot?a", b"/hot?=1", b"/hot?a=1&", b"/hot?a=1&&b=2", b"/hot?a=%41", b"/hot?a=b+c", b"/hot?a=b=c"),
        *(b"/hot?a=1;b=2", b"/hot?a=1#b", b"/hot?a=1 ", b"/hot?a=\xe9", b"/hot?a=1?b", b"/hot/?a=1", b"/nothing"),
        *(b"/hot#a", b"//hot", b"http://shop.example/hot", b"/hot?a=/", b"/hot?a=1\t", b"/hot?a=1\n", b"*"),
    ],
)
def test_a_get_of_anything_that_has_to_be_decoded_is_not_plain(target: bytes):
    assert gets().read(b"GET " + target + GET_END) is None


@pytest.mark.parametrize("more", [b"Content-Length: 0", b"Content-Length: 3", b"Transfer-Encoding: chunked"])
def test_a_get_that_says_it_has_a_body_is_not_plain(more: bytes):
    assert gets().read(b"GET /hot" + GET_END + b"\r\n" + more) is None


@pytest.mark.parametrize(
    "beginning", [b"G", b"GET /hot", b"GET /hot?na", b"GET /hotter HTTP/1.1", b"GET /hot?a=1 HTTP/1.1\r\nHo"]
)
def test_the_beginning_of_a_plain_get_is_waited_for(beginning: bytes):
    assert gets().may_become_plain(beginning)


@pytest.mark.parametrize("beginning", [b"GET /cold", b"GET /hot/", b"HEAD /hot", b"GET /hot?a=%41 HTTP/1.1\r\nHo"])
def test_the_beginning_of_another_get_is_not_waited_for(beginning: bytes):
    assert not gets().may_become_plain(beginning)
