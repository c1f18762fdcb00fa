"""Whatever bytes come in whatever pieces: with the fast path before it, a server answers as aiohttp does alone."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from tests.shared.http.two_servers import Servers, get, post, settle, two_servers

PATHS = (
    "/echo",
    "/later",
    "/coroutine",
    "/reject",
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
CHUNKED = b"3\r\nabc\r\n0\r\n\r\n"


def request(chance: random.Random) -> bytes:
    """A request that is plain more often than not."""
    if chance.random() < 0.2:
        return get(chance.choice(TARGETS), *(chance.choice(HEADERS) for _ in range(chance.randrange(2))))
    if chance.random() < 0.6:
        path = chance.choice(PATHS[:6])
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


def cut(whole: bytes, cuts: list[int]) -> list[bytes]:
    """The bytes between cuts."""
    return [whole[start:end] for start, end in pairwise(sorted({0, *cuts, len(whole)}))]


async def compare(servers: Servers, whole: bytes, cuts: list[int]) -> None:
    """Send the same pieces to both; what the fast path still waits for may have been answered by aiohttp already."""
    fast, full = servers.fast(), servers.full()
    for piece in cut(whole, cuts):
        for connection in (fast, full):
            connection.receive(piece)
        await settle()
    if fast.protocol in servers.fast_path.connections:
        assert full.answers.startswith(fast.answers), (whole, cuts)
    else:
        assert fast.answers == full.answers, (whole, cuts)
        assert fast.is_closed == full.is_closed, (whole, cuts)
    for connection in (fast, full):
        connection.close()
    await settle()


@pytest.mark.parametrize("request_timeout_s", [0, 3600])
@pytest.mark.parametrize("seed", range(4))
async def test_both_ways_answer_the_same_to_anything(seed: int, request_timeout_s: float):
    chance = random.Random(seed)
    async with two_servers(request_timeout_s=request_timeout_s) as servers:
        for _ in range(75):
            whole = stream(chance)
            await compare(servers, whole, [chance.randrange(len(whole)) for _ in range(chance.randrange(6))])
