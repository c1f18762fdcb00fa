"""The fast path: answers like aiohttp's, in order, within bounds, and aiohttp for everything unusual."""

from __future__ import annotations

import asyncio
import socket
import ssl

import pytest
import trustme
import uvloop
from aiohttp import web
from prometheus_client import generate_latest

from shared.daemon import Listener, WebService, bind
from shared.http.fast_path import MAX_HEAD_BYTES, MAX_PIECES, FastPath
from tests.shared.http.two_servers import TEXT, MemoryTransport, Servers, post, settle, two_servers

ORIGIN = "Origin: http://a.example"
PLAIN = b"POST /echo HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 12\r\n"
GET = b"GET /other HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
async def servers():
    async with two_servers(request_timeout_s=3600) as servers:
        yield servers


def is_on_fast_path(servers: Servers, connection: MemoryTransport) -> bool:
    return connection.protocol in servers.fast_path.connections


async def both(servers: Servers, *chunks: bytes) -> tuple[bytes, bytes]:
    """What a connection on the fast path and one at aiohttp answer to the same bytes."""
    fast, full = servers.fast(), servers.full()
    for connection in (fast, full):
        for chunk in chunks:
            connection.receive(chunk)
            await settle()
    return fast.answers, full.answers


@pytest.mark.parametrize("more", [(), (ORIGIN,), ("Origin: http://b.example",), ("X-Suffix: !",)])
@pytest.mark.parametrize("path", ["/echo", "/later", "/coroutine", "/reject", "/bug", "/own"])
@pytest.mark.parametrize("body", [b"", b"{}", b'{"a": 1}', b"[]", b"\xff", b"x" * 1999])
async def test_the_fast_path_answers_as_aiohttp_does(servers: Servers, path: str, body: bytes, more: tuple[str, ...]):
    fast, full = await both(servers, post(path, body, *more))
    assert fast == full
    assert fast.startswith(b"HTTP/1.1 ")


async def test_plain_requests_stay_on_the_fast_path(servers: Servers):
    connection = servers.fast()
    for number in range(3):
        connection.receive(post("/echo", b"%d" % number))
    assert is_on_fast_path(servers, connection)
    assert connection.written.count(b"HTTP/1.1 200 OK") == 3


@pytest.mark.parametrize("path", ["/reject", "/bug"])
async def test_an_error_names_the_request_id_that_the_client_gave(servers: Servers, path: str):
    fast, full = await both(servers, post(path, b"", "X-Request-Id: id-17"))
    assert b"\r\nX-Request-Id: id-17\r\n" in fast
    assert fast == full


async def test_a_bug_is_logged_under_its_id_and_tells_no_detail(servers: Servers, capsys: pytest.CaptureFixture[str]):
    connection = servers.fast()
    connection.receive(post("/bug", b"", "X-Request-Id: id-17"))
    await settle()
    assert connection.written.endswith(b"internal error, request id id-17")
    logged = "".join(capsys.readouterr())
    assert "unexpected error" in logged
    assert "id-17" in logged
    assert "a secret detail" in logged


async def test_requests_of_both_ways_are_counted_alike(servers: Servers):
    await both(servers, post("/echo"), post("/reject"))
    counted = generate_latest(servers.metrics.registry).decode()
    assert 'subject_request_seconds_count{route="/echo",status="200"} 2.0' in counted
    assert 'subject_request_seconds_count{route="/reject",status="422"} 2.0' in counted


async def test_a_request_may_come_in_any_pieces(servers: Servers):
    connection = servers.fast()
    request = post("/echo", b"abc")
    for position in range(len(request)):
        connection.receive(request[position : position + 1])
    assert connection.written.endswith(b"\r\n\r\nabc")
    assert is_on_fast_path(servers, connection)


async def test_pipelined_requests_are_answered_in_order(servers: Servers):
    connection = servers.fast()
    connection.receive(post("/gated", b"first") + post("/echo", b"second") + GET + post("/echo", b"last"))
    await settle()
    assert connection.written == b""
    servers.gate.set()
    await settle()
    bodies = [part.rpartition(b"\r\n\r\n")[2] for part in connection.written.split(b"HTTP/1.1 200 OK")[1:]]
    assert bodies == [b"first", b"second", b"other ", b"last"]


@pytest.mark.parametrize(
    "odd",
    [
        GET,
        post("/echo", b"", "Connection: close"),
        post("/echo", b"", "Expect: 100-continue"),
        post("/echo", b"", "Content-Length: 0"),
        post("/echo", b"", "Host: y"),
        post("/nothing"),
        b"OPTIONS /echo HTTP/1.1\r\nHost: x\r\nOrigin: http://a.example\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"POST /echo HTTP/1.0\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
        b"POST /echo HTTP/1.1\nHost: x\nContent-Length: 3\n\nabc",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS client",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * MAX_HEAD_BYTES,
    ],
)
async def test_everything_unusual_takes_the_connection_to_aiohttp(servers: Servers, odd: bytes):
    before, after = post("/echo", b"before"), post("/echo", b"after")
    fast, full = await both(servers, before, odd, after)
    assert fast == full
    assert not servers.fast_path.connections


@pytest.mark.parametrize(
    "more",
    [
        *(b"Connection: keep-alive", b"connection: Keep-Alive", b"Keep-Alive: timeout=5", b"X-Request-Id:  id-1 "),
        *(b"Empty:", b"Empty:\r\nX-A: 1"),
    ],
)
async def test_a_connection_that_stays_is_plain(servers: Servers, more: bytes):
    fast, full = await both(servers, PLAIN + more + b"\r\n\r\n" + b"x" * 12)
    assert fast == full
    assert fast.startswith(b"HTTP/1.1 200 ")
    assert servers.fast_path.connections


@pytest.mark.parametrize(
    "line",
    [
        *(b"GET /echo HTTP/1.1", b"post /echo HTTP/1.1", b"OPTIONS /echo HTTP/1.1", b"POST /echo HTTP/1.0"),
        *(b"POST /echo", b"POST /echo?a=1 HTTP/1.1", b"POST /echo/ HTTP/1.1", b"POST //echo HTTP/1.1"),
        *(b"POST /%65cho HTTP/1.1", b"POST /echo HTTP/1.1 ", b" POST /echo HTTP/1.1"),
        *(b"", b"POST http://shop.example/echo HTTP/1.1", b"POST /echo HTTP/2.0"),
    ],
)
async def test_any_other_request_line_is_for_aiohttp(servers: Servers, line: bytes):
    fast, full = await both(servers, PLAIN.replace(b"POST /echo HTTP/1.1", line) + b"\r\n" + b"x" * 12)
    assert fast == full
    assert not servers.fast_path.connections


@pytest.mark.parametrize("line", [b"POST  /echo HTTP/1.1", b"\r\nPOST /echo HTTP/1.1", b"\r\n\r\nPOST /echo HTTP/1.1"])
async def test_a_request_line_that_the_parser_forgives_is_answered_as_aiohttp_does(servers: Servers, line: bytes):
    fast, full = await both(servers, PLAIN.replace(b"POST /echo HTTP/1.1", line) + b"\r\n" + b"x" * 12)
    assert fast == full
    assert fast.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "more",
    [
        *(b"Transfer-Encoding: chunked", b"transfer-encoding: identity", b"Content-Encoding: gzip", b"TE: trailers"),
        *(b"Expect: 100-continue", b"Trailer: X-Sum", b"Upgrade: websocket", b"HTTP2-Settings: AAMAAABk"),
        *(b"Connection: close", b"Connection: keep-alive, close", b"Proxy-Connection: close"),
        *(b"Content-Length: 12", b"content-length: 13", b"Host: other.example", b"X-A: 1\r\nx-a: 2"),
        *(b"X-A : 1", b" X-A: 1", b"X-A: 1\r\n folded", b"X-A: 1\nX-B: 2", b"X-A: 1\rX-B: 2", b"X-A", b": 1"),
        *(b"X-A: \x00", b"X-A: \x7f", b"X-A: caf\xc3\xa9", b"X A: 1", b"X\xe9: 1", b"X-A: 1\r"),
        b"X-A: " + b"a" * MAX_HEAD_BYTES,
    ],
)
async def test_a_header_that_is_odd_or_changes_what_follows_is_for_aiohttp(servers: Servers, more: bytes):
    fast, full = await both(servers, PLAIN + more + b"\r\n\r\n" + b"x" * 12)
    assert fast == full
    assert not servers.fast_path.connections


@pytest.mark.parametrize(
    "length", [b"-1", b"+12", b"0x0c", b"1,2", b"12, 12", b"1 2", b"1e1", b"\xb2", b"1_2", b"99999999999999999999"]
)
async def test_a_length_that_is_no_plain_number_within_the_limit_is_for_aiohttp(servers: Servers, length: bytes):
    fast, full = await both(servers, PLAIN.replace(b"12", length) + b"\r\n" + b"x" * 12)
    assert fast == full
    assert not servers.fast_path.connections


async def test_a_request_without_host_is_for_aiohttp(servers: Servers):
    fast, full = await both(servers, b"POST /echo HTTP/1.1\r\nContent-Length: 1\r\n\r\nx")
    assert fast == full
    assert not servers.fast_path.connections


@pytest.mark.parametrize("more", [b"\r\n", b"P", b"\x00", GET])
async def test_bytes_after_a_request_take_it_to_aiohttp_with_them(servers: Servers, more: bytes):
    fast, full = await both(servers, post("/echo", b"abc") + more)
    assert fast == full
    assert not servers.fast_path.connections


async def test_a_large_body_is_for_aiohttp_at_once(servers: Servers):
    connection = servers.fast()
    connection.receive(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nx")
    assert not is_on_fast_path(servers, connection)
    await settle()
    assert connection.written.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("received", [1, 20, -3, -1])
async def test_an_incomplete_request_is_handed_over_before_long(received: int):
    async with two_servers(request_timeout_s=0) as servers:
        connection = servers.fast()
        whole = post("/echo", b"abc")
        connection.receive(whole[:received])
        assert is_on_fast_path(servers, connection)
        await settle()
        assert not is_on_fast_path(servers, connection)
        connection.receive(whole[received:])
        await settle()
        assert connection.written.endswith(b"abc")


async def test_a_body_that_comes_in_pieces_is_waited_for_on_the_fast_path(servers: Servers):
    connection = servers.fast()
    whole = post("/echo", b"abc")
    for piece in (whole[:-2], whole[-2:-1], whole[-1:]):
        assert connection.written == b""
        connection.receive(piece)
        await settle()
    assert is_on_fast_path(servers, connection)
    assert connection.written.endswith(b"abc")


async def test_a_request_in_very_many_pieces_is_for_aiohttp(servers: Servers):
    connection = servers.fast()
    whole = post("/echo", b"x" * MAX_PIECES)
    for position in range(len(whole)):
        connection.receive(whole[position : position + 1])
    assert not is_on_fast_path(servers, connection)
    await settle()
    assert connection.written.endswith(b"x" * MAX_PIECES)


async def test_a_drain_does_not_wait_long_for_a_body():
    async with two_servers(request_timeout_s=0) as servers:
        connection = servers.fast()
        connection.receive(post("/echo", b"abc")[:-1])
        await asyncio.wait_for(servers.fast_path.drain(timeout_s=3600), timeout=60)
        assert connection.is_closed
        assert connection.written == b""


async def test_a_client_that_sends_faster_than_it_is_answered_is_not_read_from(servers: Servers):
    connection = servers.fast()
    connection.receive(post("/gated", b"first"))
    assert connection.reads
    connection.receive(post("/echo", b"second") + post("/echo", b"third"))
    assert not connection.reads
    connection.protocol.pause_writing()
    connection.protocol.resume_writing()
    assert not connection.reads
    servers.gate.set()
    await settle()
    assert connection.reads
    bodies = [part.rpartition(b"\r\n\r\n")[2] for part in connection.written.split(b"HTTP/1.1 200 OK")[1:]]
    assert bodies == [b"first", b"second", b"third"]


async def test_a_client_that_does_not_read_is_not_read_from(servers: Servers):
    connection = servers.fast()
    connection.receive(post("/gated", b"first"))
    connection.protocol.pause_writing()
    assert not connection.reads
    connection.protocol.resume_writing()
    assert connection.reads


async def test_a_client_that_does_not_read_is_known_to_aiohttp(servers: Servers):
    connection = servers.fast()
    connection.protocol.pause_writing()
    connection.receive(GET + GET)
    await settle()
    assert not is_on_fast_path(servers, connection)
    assert connection.written.count(b"HTTP/1.1 200 OK") == 1
    connection.protocol.resume_writing()
    await settle()
    assert connection.written.count(b"HTTP/1.1 200 OK") == 2


async def test_a_client_that_leaves_harms_nobody_and_its_request_is_carried_out(servers: Servers):
    connection = servers.fast()
    connection.receive(post("/gated", b"first") + post("/echo", b"never"))
    connection.close()
    await settle()
    servers.gate.set()
    await settle()
    assert connection.written == b""
    assert not servers.fast_path.connections
    assert 'route="/gated",status="200"} 1.0' in generate_latest(servers.metrics.registry).decode()


async def test_an_idle_connection_is_closed_in_the_end():
    async with two_servers(keep_alive_s=0) as servers:
        connection = servers.fast()
        await settle()
        assert connection.is_closed


async def test_a_drain_answers_what_is_under_way_and_closes_what_is_idle(servers: Servers):
    idle, busy, half = servers.fast(), servers.fast(), servers.fast()
    busy.receive(post("/gated", b"first"))
    busy.receive(post("/echo", b"not any more"))
    half.receive(post("/echo", b"abc")[:-1])
    drained = asyncio.create_task(servers.fast_path.drain(timeout_s=10))
    await settle()
    assert (idle.is_closed, busy.is_closed, half.is_closed) == (True, False, False)
    servers.gate.set()
    half.receive(b"c")
    await drained
    assert busy.written.endswith(b"\r\n\r\nfirst")
    assert half.written.endswith(b"\r\n\r\nabc")
    assert busy.is_closed
    assert half.is_closed
    assert servers.fast().is_closed


async def test_a_drain_cuts_what_takes_too_long(servers: Servers):
    busy = servers.fast()
    busy.receive(post("/gated", b"first"))
    await servers.fast_path.drain(timeout_s=0)
    assert busy.is_closed


# --- on real sockets --------------------------------------------------------------------------------


async def _serves(
    fast_path: FastPath, app: web.Application, tls: ssl.SSLContext | None = None
) -> tuple[WebService, int]:
    sockets = bind(Listener("127.0.0.1", 0))
    service = WebService(app, fast_path=fast_path, drain_timeout_s=0.1)
    await service.start(sockets, tls)
    return service, sockets[0].getsockname()[1]


def _tls() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What a server and its client know of each other."""
    authority = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    return server, client


async def _talk(server_tls: ssl.SSLContext | None, client_tls: ssl.SSLContext | None) -> None:
    """A client that is answered on the fast path, then by aiohttp, on one connection that a drain closes."""
    async with two_servers() as servers:
        app = web.Application()
        app.add_routes([web.get("/other", _other)])
        service, port = await _serves(servers.fast_path, app, server_tls)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_tls)
        for path, body in (("/echo", b"1"), ("/later", b"2")):
            writer.write(post(path, body))
            assert await reader.readuntil(b"\r\n\r\n" + body)
        assert len(servers.fast_path.connections) == 1
        writer.write(GET)
        assert await reader.readuntil(b"\r\n\r\nother")
        assert not servers.fast_path.connections
        idle, _ = await asyncio.open_connection("127.0.0.1", port, ssl=client_tls)
        await service.drain()
        assert await reader.read() == b""
        assert await idle.read() == b""
        writer.close()


async def _other(_request: web.Request) -> web.Response:
    return web.Response(body=b"other", headers=TEXT)


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("tls", [lambda: (None, None), _tls], ids=["plain", "TLS"])
def test_the_fast_path_works_on_either_event_loop_and_over_tls(loop_factory, tls):
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(_talk(*tls()))


async def _flood() -> int:
    """How many bytes of requests a server takes from a client that reads no answers."""
    async with two_servers() as servers:
        app = web.Application()
        app.add_routes([web.post("/echo", _echo)])
        service, port = await _serves(servers.fast_path, app)
        taken = 0
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            request = post("/echo", b"x" * 10_000)
            try:
                while taken < 100_000_000:
                    async with asyncio.timeout(0.5):  # nothing moves any more
                        await loop.sock_sendall(client, request)
                    taken += len(request)
            except TimeoutError:
                pass
        await service.drain()
        return taken


async def _echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_client_that_never_reads_is_stopped(loop_factory):
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(_flood()) < 100_000_000
