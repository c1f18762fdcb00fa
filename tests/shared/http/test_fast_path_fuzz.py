"""Whatever bytes come in whatever pieces: with the lane before it, a server answers as aiohttp does alone."""

from __future__ import annotations

import random
import re
from itertools import pairwise

import pytest

from tests.shared.http.two_servers import Lanes, get, post, settle, two_lanes

PATHS = (
    "/echo",
    "/often",
    "/later",
    "/coroutine",
    "/refuse",
    "/bug",
    "/own",
    "/other",
    "/nothing",
    "/echo?a=1",
    "//echo",
)
TARGETS = (
    *("/ask", "/ask?", "/ask?name", "/ask?name=", "/ask?name=a", "/ask?name=a&name=b&x=1", "/ask?name=a+b", "/ask?=a"),
    *("/ask?name=%61", "/ask?name=a&&b=1", "/ask?name=a;b=1", "/ask?name=a=b", "/ask?name=~a.b-c_d", "/ask?name=a#b"),
    *("/ask/?name=a", "/asks?name=a", "http://x/ask?name=a", "/ask?name=\xe9", "/ask?name= a", "/echo", "/other"),
)
BODIES = (b"", b"{}", b'{"a": 1}', b"x" * 50, b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
HEADERS = (
    *("Origin: http://a.example", "Origin: http://b.example", "X-Suffix: !", "X-Request-Id: id-17", "User-Agent: UA/1"),
    *("Connection: keep-alive", "Connection: close", "Connection: upgrade", "Proxy-Connection: close", "Keep-Alive: 5"),
    *("Content-Length: 0", "Content-Length: 7", "Content-Length: +7", "Content-Length: 7, 7", "Content-Length:"),
    *("Transfer-Encoding: chunked", "Transfer-Encoding: chunked, identity", "Transfer-Encoding:\tchunked"),
    *("Content-Encoding: gzip", "Expect: 100-continue", "Upgrade: websocket", "Host: y", "Host:", "Cookie: a=b"),
    *("X-A : 1", " folded", "X-A", ": 1", "X-A: \x00", "X-A: \x7f", "X-A: \t ", "X-A: a\rb", "X-A: a\nb", "X-\xe9: 1"),
)
MANGLED = (b"\r", b"\n", b"\r\n", b"\x00", b" ", b":", b"\t", b"\xff", b"0", b"HTTP/1.1", b"\r\n\r\n")
_UNREADABLE = re.compile(rb"HTTP/1\.0 400 Bad Request.*", re.DOTALL)
CHUNKED = b"3\r\nabc\r\n0\r\n\r\n"


def request(chance: random.Random) -> bytes:
    """A request that is plain more often than not."""
    if chance.random() < 0.2:
        return get(chance.choice(TARGETS), *(chance.choice(HEADERS) for _ in range(chance.randrange(2))))
    if chance.random() < 0.6:
        path = chance.choice(PATHS[:7])
        return post(path, chance.choice(BODIES), *(chance.choice(HEADERS[:6]) for _ in range(chance.randrange(2))))
    headers = [chance.choice(HEADERS) for _ in range(chance.randrange(4))]
    made = post(chance.choice(PATHS), chance.choice(BODIES), *headers)
    if chance.random() < 0.2:
        made = made.replace(b"Content-Length", b"X-Length", 1)
    if chance.random() < 0.2:
        made = made.replace(b"HTTP/1.1", chance.choice((b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.1 ")), 1)
    if chance.random() < 0.2:
        made = made.replace(b"POST", chance.choice((b"GET", b"OPTIONS", b"post", b"BREW", b" POST")), 1)
    if b"chunked" in made and chance.random() < 0.7:
        made += CHUNKED
    return made


def stream(chance: random.Random) -> bytes:
    """Some requests one after the other, sometimes mangled."""
    made = bytearray(b"".join(request(chance) for _ in range(chance.randrange(1, 6))))
    if chance.random() < 0.4:
        for _ in range(chance.randrange(1, 4)):
            position = chance.randrange(len(made))
            made[position : position + chance.randrange(3)] = chance.choice(MANGLED)
    return bytes(made)


def plain_ends(lanes: Lanes, whole: bytes) -> list[int]:
    """Where the plain requests end with which a stream begins."""
    ends, end = [], 0
    while (head_end := whole.find(b"\r\n\r\n", end)) >= 0:
        head = lanes.lane.heads.read(whole[end:head_end])
        if head is None or len(whole) < head_end + 4 + head.body_bytes:
            break
        body, end = whole[head_end + 4 :], head_end + 4 + head.body_bytes
        ends.append(end)
        if head.route.path == "/often" and head.body_bytes and body.startswith(b"{"):
            break  # its handler leaves it to aiohttp, and all that follows
    return ends


def cut(whole: bytes, cuts: list[int]) -> list[bytes]:
    """The bytes between cuts."""
    return [whole[start:end] for start, end in pairwise(sorted({0, *cuts, len(whole)}))]


def comparable(answers: bytes) -> bytes:
    """aiohttp's last word on bytes that it cannot read shows some of them, which depends on the pieces they came in."""
    return _UNREADABLE.sub(b"unreadable", answers)


async def compare(lanes: Lanes, whole: bytes, cuts: list[int]) -> None:
    """Send the same to both; what the lane still waits with may have been answered by aiohttp already.

    aiohttp forgets complete requests for which an unreadable one follows in the same piece; so it gets them one by one.
    """
    express, full = lanes.express(), lanes.full()
    one_by_one = cuts + plain_ends(lanes, whole)
    for connection, all_cuts in ((express, cuts if lanes.lane.patience_s else one_by_one), (full, one_by_one)):
        for chunk in cut(whole, all_cuts):
            connection.receive(chunk)
            await settle()
    mine, theirs = comparable(express.answers), comparable(full.answers)
    if express.protocol in lanes.lane.connections:
        assert theirs.startswith(mine), (whole, cuts)
    else:
        assert mine == theirs, (whole, cuts)
        assert express.is_closed == full.is_closed, (whole, cuts)
    for connection in (express, full):
        connection.close()
    await settle()


@pytest.mark.parametrize("patience_s", [0, 3600])
@pytest.mark.parametrize("seed", range(4))
async def test_both_lanes_answer_the_same_to_anything(seed: int, patience_s: float):
    chance = random.Random(seed)
    async with two_lanes(patience_s=patience_s) as lanes:
        for _ in range(75):
            whole = stream(chance)
            await compare(lanes, whole, [chance.randrange(len(whole)) for _ in range(chance.randrange(6))])
