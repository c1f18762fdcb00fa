"""The express lane: answers like aiohttp's, in order, within bounds, and a way out for everything unusual."""

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
from shared.http.fast_path import ExpressLane
from shared.http.fast_routes import HotRoute
from shared.http.lifecycle import Answer, Manners
from shared.http.request_head import MAX_HEAD_BYTES
from tests.shared.http.two_servers import TEXT, Lanes, MemoryTransport, get, post, settle, two_lanes

ORIGIN = "Origin: http://a.example"
GET = b"GET /other HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
async def lanes():
    async with two_lanes(patience_s=3600) as lanes:
        yield lanes


def is_in_lane(lanes: Lanes, connection: MemoryTransport) -> bool:
    return connection.protocol in lanes.lane.connections


async def both(lanes: Lanes, *chunks: bytes) -> tuple[bytes, bytes]:
    """What a connection in the lane and one at aiohttp answer to the same bytes."""
    express, full = lanes.express(), lanes.full()
    for connection in (express, full):
        for chunk in chunks:
            connection.receive(chunk)
            await settle()
    return express.answers, full.answers


@pytest.mark.parametrize("more", [(), (ORIGIN,), ("Origin: http://b.example",), ("X-Suffix: !",)])
@pytest.mark.parametrize("path", ["/echo", "/later", "/coroutine", "/refuse", "/bug", "/own"])
@pytest.mark.parametrize("body", [b"", b"{}", b'{"a": 1}', b"[]", b"\xff", b"x" * 1999])
async def test_the_lane_answers_as_aiohttp_does(lanes: Lanes, path: str, body: bytes, more: tuple[str, ...]):
    express, full = await both(lanes, post(path, body, *more))
    assert express == full
    assert express.startswith(b"HTTP/1.1 ")


async def test_plain_requests_stay_in_the_lane(lanes: Lanes):
    connection = lanes.express()
    for number in range(3):
        connection.receive(post("/echo", b"%d" % number))
    assert is_in_lane(lanes, connection)
    assert connection.written.count(b"HTTP/1.1 200 OK") == 3


@pytest.mark.parametrize("path", ["/refuse", "/bug"])
async def test_an_error_names_the_request_id_that_the_client_gave(lanes: Lanes, path: str):
    express, full = await both(lanes, post(path, b"", "X-Request-Id: id-17"))
    assert b"\r\nX-Request-Id: id-17\r\n" in express
    assert express == full


async def test_a_bug_is_logged_under_its_id_and_tells_no_detail(lanes: Lanes, capsys: pytest.CaptureFixture[str]):
    connection = lanes.express()
    connection.receive(post("/bug", b"", "X-Request-Id: id-17"))
    await settle()
    assert connection.written.endswith(b"internal error, request id id-17")
    logged = "".join(capsys.readouterr())
    assert "unexpected error" in logged
    assert "id-17" in logged
    assert "a secret detail" in logged


async def test_requests_of_both_lanes_are_counted_alike(lanes: Lanes):
    await both(lanes, post("/echo"), post("/refuse"))
    counted = generate_latest(lanes.metrics.registry).decode()
    assert 'subject_request_seconds_count{route="/echo",status="200"} 2.0' in counted
    assert 'subject_request_seconds_count{route="/refuse",status="422"} 2.0' in counted


async def test_a_request_may_come_in_any_pieces(lanes: Lanes):
    connection = lanes.express()
    request = post("/echo", b"abc")
    for position in range(len(request)):
        connection.receive(request[position : position + 1])
    assert connection.written.endswith(b"\r\n\r\nabc")
    assert is_in_lane(lanes, connection)


async def test_pipelined_requests_are_answered_in_order(lanes: Lanes):
    connection = lanes.express()
    connection.receive(post("/gated", b"first") + post("/echo", b"second") + GET + post("/echo", b"last"))
    await settle()
    assert connection.written == b""
    lanes.gate.set()
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
async def test_everything_unusual_takes_the_connection_to_aiohttp(lanes: Lanes, odd: bytes):
    before, after = post("/echo", b"before"), post("/echo", b"after")
    express, full = await both(lanes, before, odd, after)
    assert express == full
    assert not lanes.lane.connections


async def test_a_large_body_is_for_aiohttp_at_once(lanes: Lanes):
    connection = lanes.express()
    connection.receive(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nx")
    assert not is_in_lane(lanes, connection)
    await settle()
    assert connection.written.startswith(b"HTTP/1.1 413 ")


async def test_an_incomplete_head_is_handed_over_before_long():
    async with two_lanes(patience_s=0) as lanes:
        connection = lanes.express()
        whole = post("/echo", b"abc")
        connection.receive(whole[:20])
        assert is_in_lane(lanes, connection)
        await settle()
        assert not is_in_lane(lanes, connection)
        connection.receive(whole[20:])
        await settle()
        assert connection.written.endswith(b"abc")


async def test_a_body_that_comes_in_pieces_is_waited_for_in_the_lane():
    async with two_lanes(patience_s=0) as lanes:
        connection = lanes.express()
        whole = post("/echo", b"abc")
        for piece in (whole[:-2], whole[-2:-1], whole[-1:]):
            connection.receive(piece)
            await settle()
        assert is_in_lane(lanes, connection)
        assert connection.written.endswith(b"abc")


async def test_a_body_that_does_not_come_is_408_in_either_lane():
    async with two_lanes(body_timeout_s=0) as lanes:
        connection = lanes.express()
        connection.receive(post("/echo", b"abc")[:-1])
        await settle()
        assert connection.written.startswith(b"HTTP/1.1 408 ")
        assert connection.written.endswith(b"the request body did not arrive within 0 s")
        assert connection.is_closed
        assert 'route="/echo",status="408"} 1.0' in generate_latest(lanes.metrics.registry).decode()


async def test_a_drain_does_not_wait_long_for_a_body():
    async with two_lanes(patience_s=0) as lanes:
        connection = lanes.express()
        connection.receive(post("/echo", b"abc")[:-1])
        await asyncio.wait_for(lanes.lane.drain(timeout_s=3600), timeout=60)
        assert connection.is_closed
        assert connection.written == b""


async def test_a_client_that_sends_faster_than_it_is_answered_is_not_read_from(lanes: Lanes):
    connection = lanes.express()
    connection.receive(post("/gated", b"first"))
    connection.receive(post("/echo", b"x" * 60_000))
    assert connection.reads
    connection.receive(post("/echo", b"x" * 60_000))
    assert not connection.reads
    lanes.gate.set()
    await settle()
    assert connection.reads
    assert connection.written.count(b"HTTP/1.1 200 OK") == 3


async def test_a_client_that_does_not_read_is_not_answered_on(lanes: Lanes):
    connection = lanes.express()
    connection.protocol.pause_writing()
    connection.receive(post("/echo", b"x" * 60_000) + post("/echo", b"x" * 60_000))
    assert connection.written == b""
    assert not connection.reads
    connection.protocol.resume_writing()
    assert connection.written.count(b"HTTP/1.1 200 OK") == 2
    assert connection.reads


async def test_a_client_that_leaves_harms_nobody_and_its_request_is_carried_out(lanes: Lanes):
    connection = lanes.express()
    connection.receive(post("/gated", b"first") + post("/echo", b"never"))
    connection.close()
    await settle()
    lanes.gate.set()
    await settle()
    assert connection.written == b""
    assert not lanes.lane.connections
    assert 'route="/gated",status="200"} 1.0' in generate_latest(lanes.metrics.registry).decode()


async def test_an_idle_connection_is_closed_in_the_end():
    async with two_lanes(keep_alive_s=0) as lanes:
        connection = lanes.express()
        await settle()
        assert connection.is_closed


async def test_a_drain_answers_what_is_under_way_and_closes_what_is_idle(lanes: Lanes):
    idle, busy, half = lanes.express(), lanes.express(), lanes.express()
    busy.receive(post("/gated", b"first") + post("/echo", b"not any more"))
    half.receive(post("/echo", b"abc")[:-1])
    drained = asyncio.create_task(lanes.lane.drain(timeout_s=10))
    await settle()
    assert (idle.is_closed, busy.is_closed, half.is_closed) == (True, False, False)
    lanes.gate.set()
    half.receive(b"c")
    await drained
    assert busy.written.endswith(b"\r\n\r\nfirst")
    assert half.written.endswith(b"\r\n\r\nabc")
    assert busy.is_closed
    assert half.is_closed
    assert lanes.express().is_closed


async def test_a_drain_cuts_what_takes_too_long(lanes: Lanes):
    busy = lanes.express()
    busy.receive(post("/gated", b"first"))
    await lanes.lane.drain(timeout_s=0)
    assert busy.is_closed


# --- on real sockets --------------------------------------------------------------------------------


async def _serves(lane: ExpressLane, app: web.Application, tls: ssl.SSLContext | None = None) -> tuple[WebService, int]:
    sockets = bind(Listener("127.0.0.1", 0))
    service = WebService(app, express=lane, drain_timeout_s=0.1)
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
    """A client that is answered in the lane, then by aiohttp, on one connection that a drain closes."""
    async with two_lanes() as lanes:
        app = web.Application()
        app.add_routes([web.get("/other", _other)])
        service, port = await _serves(lanes.lane, app, server_tls)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_tls)
        writer.write(post("/echo", b"1") + post("/later", b"2"))
        assert await reader.readuntil(b"\r\n\r\n1")
        assert await reader.readuntil(b"\r\n\r\n2")
        assert len(lanes.lane.connections) == 1
        writer.write(GET)
        assert await reader.readuntil(b"\r\n\r\nother")
        assert not lanes.lane.connections
        idle, _ = await asyncio.open_connection("127.0.0.1", port, ssl=client_tls)
        await service.drain()
        assert await reader.read() == b""
        assert await idle.read() == b""
        writer.close()


async def _other(_request: web.Request) -> web.Response:
    return web.Response(body=b"other", headers=TEXT)


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("tls", [lambda: (None, None), _tls], ids=["plain", "TLS"])
def test_the_lane_works_on_either_event_loop_and_over_tls(loop_factory, tls):
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(_talk(*tls()))


async def _flood() -> int:
    """How many bytes of requests a server takes from a client that reads no answers."""
    async with two_lanes() as lanes:
        service, port = await _serves(lanes.lane, web.Application())
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


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_client_that_never_reads_is_stopped(loop_factory):
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(_flood()) < 100_000_000


@pytest.mark.parametrize(
    "request_bytes",
    [
        *(get("/ask"), get("/ask?name=a"), get("/ask?name=a&page=1", ORIGIN), get("/ask?name=a", "X-Request-Id: id-1")),
        *(get("/ask?page=1"), get("/ask?name=a", "If-None-Match: x"), get("/ask?name=%61"), get("/nothing?name=a")),
    ],
)
async def test_the_lane_answers_what_is_asked_in_a_query_as_aiohttp_does(lanes: Lanes, request_bytes: bytes):
    express, full = await both(lanes, request_bytes, request_bytes)
    assert express == full
    assert express.count(b"HTTP/1.1 ") == 2


async def test_a_handler_may_leave_a_request_to_aiohttp_and_nothing_is_lost(lanes: Lanes):
    stream = post("/often", b"small") + post("/often", b"{}") + post("/often", b"more") + get("/ask?name=a")
    express, full = await both(lanes, stream)
    assert express == full
    assert express.count(b"often ") == 3


async def test_only_the_request_that_is_left_to_aiohttp_takes_its_connection_along(lanes: Lanes):
    connection = lanes.express()
    connection.receive(post("/often", b"small"))
    await settle()
    assert is_in_lane(lanes, connection)
    connection.receive(post("/often", b"{}"))
    await settle()
    assert not is_in_lane(lanes, connection)


async def test_a_request_that_would_go_to_aiohttp_while_the_server_stops_is_told_so(lanes: Lanes):
    connection = lanes.express()
    connection.receive(post("/often", b"{}"))
    draining = asyncio.ensure_future(lanes.lane.drain(timeout_s=10))
    await draining
    assert connection.written.startswith(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n")
    assert connection.is_closed


@pytest.mark.parametrize("cancels", [True, False])
async def test_a_client_that_goes_away_ends_its_handler_where_that_is_wanted(cancels: bool):
    ended = asyncio.Event()

    async def wait(_body: bytes, _headers: object) -> Answer:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    lane = ExpressLane(
        [HotRoute("/wait", wait)],
        Manners(),
        error_answer=lambda problem, _headers: Answer(problem.message.encode(), TEXT, problem.status),
        handler_cancellation=cancels,
    )
    connection = MemoryTransport(lane.before(asyncio.Protocol)())
    connection.receive(post("/wait"))
    await settle()
    connection.close()
    await settle()
    assert ended.is_set() is cancels


async def test_a_large_answer_is_written_without_a_copy_of_it(lanes: Lanes):
    body = b"x" * 1000
    answer = Answer(body * 100, TEXT)
    pieces = lanes.lane.encoder.encode(answer, None)
    assert pieces[-1] is answer.body
    assert len(lanes.lane.encoder.encode(Answer(body, TEXT), None)) == 1
