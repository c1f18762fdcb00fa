"""One port for HTTP and RPC (protocol §2.1, §10)."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from dataclasses import replace

import pytest
from aiohttp import web

from shared.errors import Problem
from shared.http.app import read_body
from shared.pegasus.serving import protocol, rpc_protocol
from shared.pegasus.serving import server as server_module
from shared.pegasus.serving.http import (
    MAX_BODY_BYTES,
    HttpServer,
    answer,
    application,
    call,
    client_gone,
    normalised_path,
)
from shared.pegasus.serving.rpc import NO_REPLY, Offloaded, rpc
from shared.pegasus.serving.server import PegasusServer
from shared.pegasus.wire.errors import RpcError
from shared.pegasus.wire.framing import ReplyReader, encode_request
from shared.pegasus.wire.structures.rrdb import ReadResponse, ScanRequest
from shared.pegasus.wire.thrift import I64, codec_of

SEPARATOR = b"\r\n\r\n"


class Parts:
    """Answers whose moment is in the test's hand."""

    def __init__(self) -> None:
        self.later: list[asyncio.Future[ReadResponse]] = []
        self.cleared: list[int] = []
        self.waiting: list[asyncio.Event] = []
        self.open_gate = asyncio.Event()
        self.decoding = threading.Event()
        self.may_decode = threading.Event()

    def get(self, key, request):
        match key:
            case b"busy":
                raise RpcError("ERR_BUSY")
            case b"bug":
                raise ZeroDivisionError
            case b"silence":
                return NO_REPLY
            case b"later":
                self.later.append(asyncio.get_running_loop().create_future())
                return self.later[-1]
            case b"coroutine":
                return self.slow_get(key)
        return ReadResponse(value=key, server=request.peer)

    async def slow_get(self, key):
        await self.open_gate.wait()
        return ReadResponse(value=key)

    def decode_slowly(self, arguments):
        self.decoding.set()
        assert self.may_decode.wait(20)
        return codec_of(bytes).decode_field(arguments)

    def made_slowly(self, key, request):
        return Offloaded(lambda: ReadResponse(value=self.decode_slowly(codec_of(bytes).encode_field(key, 1))))

    def clear(self, context, request):
        self.cleared.append(context)

    async def slow_page(self, request: web.Request) -> web.Response:
        await self.open_gate.wait()
        return answer("slow")

    async def patient_page(self, request: web.Request) -> web.Response:
        self.waiting.append(client_gone(request))
        await client_gone(request).wait()
        return answer()

    async def hasty_page(self, request: web.Request) -> web.Response:
        return answer(await read_body(request, MAX_BODY_BYTES, timeout_s=0.01))

    async def problem(self, request: web.Request) -> web.Response:
        raise Problem(404, "not here")

    async def bug(self, request: web.Request) -> web.Response:
        raise ZeroDivisionError

    async def echo(self, request: web.Request) -> web.Response:
        body = await read_body(request, MAX_BODY_BYTES)
        return answer(f"{request.method} {normalised_path(request)} {len(body)}")


@pytest.fixture
async def parts():
    return Parts()


@pytest.fixture
async def served(parts):
    routes = [
        call("/echo", parts.echo),
        call("/slow", parts.slow_page),
        call("/patient", parts.patient_page),
        call("/hasty", parts.hasty_page),
        call("/problem", parts.problem),
        call("/bug", parts.bug),
    ]
    get = rpc(bytes, ReadResponse, parts.get)
    rpcs = {
        "GET": get,
        "CLEAR": rpc(I64, None, parts.clear),
        "DECODED SLOWLY": replace(get, decode=parts.decode_slowly),
        "MADE SLOWLY": rpc(bytes, ReadResponse, parts.made_slowly),
    }
    server = PegasusServer(HttpServer(application(routes)), rpcs)
    bound = socket.create_server(("127.0.0.1", 0))
    await server.start([bound], None)
    server.address = bound.getsockname()[:2]
    yield server
    parts.open_gate.set()
    parts.may_decode.set()
    for future in parts.later:
        future.cancel()
    await server.drain()


class Client:
    def __init__(self, reader, writer):
        self.reader, self.writer, self.replies = reader, writer, ReplyReader()
        self.ready = []

    def get(self, *keys, code="GET"):
        calls = [
            encode_request(code, number, codec_of(bytes).encode_field(key, 1)) for number, key in enumerate(keys, 1)
        ]
        self.writer.write(b"".join(calls))

    async def reply(self):
        while not self.ready:
            data = await self.reader.read(65536)
            assert data, "the server closed the connection"
            self.ready += self.replies.feed(data)
        return self.ready.pop(0)

    async def http(self):
        head = await self.reader.readuntil(SEPARATOR)
        length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
        return int(head.split()[1]), await self.reader.readexactly(length)


@pytest.fixture
async def client(served):
    reader, writer = await asyncio.open_connection(*served.address)
    yield Client(reader, writer)
    writer.close()


async def test_get_and_post_are_interchangeable(client):
    client.writer.write(b"GET //echo/ HTTP/1.1\r\nHost: h\r\n\r\n")
    client.writer.write(b"POST /echo?x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
    assert await client.http() == (200, b"GET echo 0")
    assert await client.http() == (200, b"POST echo 3")


async def test_an_unknown_path_is_named_as_it_was_understood(client):
    client.writer.write(b"GET //no///such/ HTTP/1.1\r\nHost: h\r\n\r\n")
    assert await client.http() == (404, b'service not found for "no/such"')


async def test_a_target_that_cannot_be_parsed_says_why(client):
    client.writer.write(b"GET /echo?a=%zzab HTTP/1.1\r\nHost: h\r\n\r\nGET /echo?a=1&a=2 HTTP/1.1\r\nHost: h\r\n\r\n")
    prefix = b"failed to parse request: ERR_INVALID_PARAMETERS: "
    reason = b"The characters zzab do not form a hex value. Please escape it or pass a valid hex value"
    assert await client.http() == (400, prefix + reason)
    assert await client.http() == (400, prefix + b"duplicate parameter: a")


async def test_problems_and_bugs_are_answers(client):
    client.writer.write(b"GET /problem HTTP/1.1\r\nHost: h\r\n\r\nGET /bug HTTP/1.1\r\nHost: h\r\n\r\n")
    assert await client.http() == (404, b"not here")
    status, text = await client.http()
    assert status == 500
    assert text.startswith(b"internal error, request id ")


async def test_pipelined_requests_are_answered_in_order(client, parts):
    client.writer.write(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n" + b"GET /echo HTTP/1.1\r\nHost: h\r\n\r\n" * 99)
    await client.writer.drain()
    parts.open_gate.set()
    assert await client.http() == (200, b"slow")
    assert [await client.http() for _ in range(99)] == [(200, b"GET echo 0")] * 99


async def test_a_client_may_wait_for_continue(client):
    client.writer.write(b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    assert await client.reader.readuntil(SEPARATOR) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.writer.write(b"abc")
    assert await client.http() == (200, b"POST echo 3")


async def test_a_request_may_arrive_byte_by_byte(client):
    for byte in b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc":
        client.writer.write(bytes([byte]))
        await client.writer.drain()
    assert await client.http() == (200, b"POST echo 3")


@pytest.mark.parametrize("first", [b"HEAD / HTTP/1.1\r\n\r\n", b"PUT / HTTP", b"\x16\x03\x01\x02", b"RDSN", b"OPTIONS"])
async def test_any_other_first_bytes_close_the_connection_without_a_word(client, first):
    client.writer.write(first)
    assert await client.reader.read() == b""


async def test_http_can_be_switched_off(parts):
    server = PegasusServer(None, {"GET": rpc(bytes, ReadResponse, parts.get)})
    bound = socket.create_server(("127.0.0.1", 0))
    await server.start([bound], None)
    client = Client(*await asyncio.open_connection(*bound.getsockname()[:2]))
    client.writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert await client.reader.read() == b""
    client.writer.close()
    await server.drain()


async def test_a_malformed_head_closes_the_connection_after_the_good_answers(client):
    client.writer.write(b"GET /echo HTTP/1.1\r\nHost: h\r\n\r\n")
    assert await client.http() == (200, b"GET echo 0")
    client.writer.write(b"GET /echo HTTP/9\r\n\r\n")
    assert (await client.http())[0] == 400
    assert await client.reader.read() == b""


async def test_a_malformed_rpc_closes_the_connection_after_the_good_answers(client):
    client.get(b"a")
    client.writer.write(b"x" * 64)
    assert (await client.reply()).seqid == 1
    assert await client.reader.read() == b""


async def test_an_rpc_is_answered_with_its_result(client):
    client.get(b"hello")
    reply = await client.reply()
    assert (reply.error, reply.code, reply.seqid) == ("ERR_OK", "GET_ACK", 1)
    result = codec_of(ReadResponse).decode_field(reply.result)
    host, port = client.writer.get_extra_info("sockname")
    assert (result.value, result.server) == (b"hello", f"{host}:{port}")


async def test_errors_and_bugs_are_replies_without_result(client):
    client.get(b"busy", b"bug")
    assert [(await client.reply()).error for _ in range(2)] == ["ERR_BUSY", "ERR_UNKNOWN"]


async def test_an_unknown_code_is_said_to_be_unknown(client):
    client.get(b"", code="RPC_NO_SUCH")
    reply = await client.reply()
    assert (reply.error, reply.code) == ("ERR_HANDLER_NOT_FOUND", "RPC_NO_SUCH_ACK")


async def test_unreadable_arguments_are_invalid_data(client):
    client.writer.write(encode_request("GET", 5, codec_of(ScanRequest).encode_field(ScanRequest(3), 1)))
    client.writer.write(encode_request("GET", 6, codec_of(I64).encode_field(3, 1)))
    assert [(await client.reply()).error for _ in range(2)] == ["ERR_INVALID_DATA", "ERR_INVALID_DATA"]


async def test_a_one_way_code_and_a_silent_answer_send_nothing(client, parts):
    client.writer.write(encode_request("CLEAR", 1, codec_of(I64).encode_field(77, 1)))
    client.get(b"silence", b"after")
    assert (await client.reply()).seqid == 2
    assert parts.cleared == [77]


async def test_replies_come_as_they_are_ready(client, parts):
    client.get(b"later", b"coroutine", b"now")
    assert (await client.reply()).seqid == 3
    parts.open_gate.set()
    assert (await client.reply()).seqid == 2
    parts.later[0].set_result(ReadResponse(value=b"done"))
    assert (await client.reply()).seqid == 1


async def test_a_client_that_does_not_read_is_not_read_from(served, client, monkeypatch):
    big = b"v" * 1_000_000
    client.get(*[big] * 40)
    (connection,) = await until(lambda: served.connections and tuple(served.connections))
    await until(lambda: not connection.can_write)
    assert [len(codec_of(ReadResponse).decode_field((await client.reply()).result).value) for _ in range(40)] == [
        len(big)
    ] * 40


@pytest.mark.parametrize(("code", "key"), [("DECODED SLOWLY", bytes(20_000)), ("MADE SLOWLY", b"k")])
async def test_what_takes_long_to_decode_or_to_make_holds_up_no_other_client(served, client, parts, code, key):
    client.get(key, code=code)
    client.get(b"behind it")
    await until(parts.decoding.is_set)
    other = Client(*await asyncio.open_connection(*served.address))
    other.get(b"now")
    assert (await other.reply()).error == "ERR_OK"
    parts.may_decode.set()
    answers = [codec_of(ReadResponse).decode_field((await client.reply()).result).value for _ in range(2)]
    assert answers == [key, b"behind it"]
    other.writer.close()


async def test_a_large_request_that_cannot_be_decoded_is_invalid_data(client):
    client.writer.write(encode_request("GET", 5, b"\x08" + bytes(30_000)))
    assert (await client.reply()).error == "ERR_INVALID_DATA"


async def test_a_request_that_is_too_long_is_refused_when_it_is_announced(client):
    request = encode_request("GET", 5, codec_of(bytes).encode_field(bytes(3_000_000), 1))
    client.writer.write(request[:1000])
    assert (await client.reply()).error == "ERR_INVALID_DATA"
    client.writer.write(request[1000:])
    client.get(b"after")
    assert (await client.reply()).error == "ERR_OK"


async def test_requests_are_refused_while_those_of_all_clients_that_wait_are_too_large(client, parts, monkeypatch):
    monkeypatch.setattr(rpc_protocol, "MAX_WAITING_BYTES", 30)
    client.get(*[b"later"] * 4)
    assert (await client.reply()).error == "ERR_BUSY"
    for later in parts.later:
        later.set_result(ReadResponse())
    assert {(await client.reply()).error for _ in parts.later} == {"ERR_OK"}
    client.get(b"now")
    assert (await client.reply()).error == "ERR_OK"


async def test_a_client_that_has_said_all_gets_its_answers_and_then_the_end(client, parts):
    client.get(b"coroutine", b"now")
    client.writer.write_eof()
    assert (await client.reply()).seqid == 2
    parts.open_gate.set()
    assert (await client.reply()).seqid == 1
    assert await client.reader.read() == b""


async def test_a_page_is_sent_to_a_client_that_has_said_all(client, parts):
    client.writer.write(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
    client.writer.write_eof()
    parts.open_gate.set()
    assert await client.http() == (200, b"slow")
    assert await client.reader.read() == b""


DAY_S = 86_400
REQUEST = encode_request("GET", 1, codec_of(bytes).encode_field(bytes(200_000), 1))
TOO_LONG = encode_request("GET", 1, codec_of(bytes).encode_field(bytes(2_000_000), 1))


@pytest.mark.parametrize(
    "part",
    [
        b"TH",
        REQUEST[:20],
        REQUEST[:60],
        REQUEST[:100_000],
        REQUEST + REQUEST[:100_000],
        TOO_LONG[:100_000],
        b"GE",
        b"GET / HTTP/1.1",
        b"GET / HTTP/1.1\r\nHost: x\r\n",
    ],
)
async def test_a_request_that_stays_incomplete_closes_the_connection(served, client, part):
    client.writer.write(part)
    (connection,) = await until(lambda: tuple(served.connections))
    await until(lambda: connection.received_anything and connection.is_idle())
    now_s = time.monotonic()
    connection.check(now_s)
    connection.check(now_s + 59)
    assert served.connections
    connection.check(now_s + 61)
    await until(lambda: not served.connections)


async def test_a_body_that_stays_incomplete_is_answered_and_closes_the_connection(client):
    client.writer.write(b"POST /hasty HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc")
    assert await client.http() == (408, b"the request body did not arrive within 0.01 s")


async def test_a_client_of_pegasus_may_be_idle_before_its_first_request_and_after(served, client):
    (connection,) = await until(lambda: tuple(served.connections))
    connection.check(time.monotonic() + 10 * DAY_S)  # the Python client connects to all servers when it starts
    client.get(b"k")
    await client.reply()
    connection.check(time.monotonic() + 20 * DAY_S)
    connection.check(time.monotonic() + 30 * DAY_S)
    client.get(b"k")
    await client.reply()


@pytest.mark.parametrize("more", [b"", b"GET"])
async def test_an_idle_connection_that_speaks_http_is_closed(served, client, more):
    client.writer.write(b"GET /echo HTTP/1.1\r\nHost: h\r\n\r\n" + more)
    assert await client.http() == (200, b"GET echo 0")
    (connection,) = served.connections
    await until(connection.is_idle)
    now_s = time.monotonic()
    connection.check(now_s)
    connection.check(now_s + 119)
    assert served.connections
    connection.check(now_s + 121)
    await until(lambda: not served.connections)


async def test_a_client_that_takes_no_answers_is_given_up(served, client):
    client.get(*[b"v" * 1_000_000] * 40)
    (connection,) = await until(lambda: tuple(served.connections))
    await until(lambda: not connection.can_write)
    now_s = time.monotonic()
    connection.check(now_s)
    connection.check(now_s + 61)
    await until(lambda: not served.connections)


async def test_the_client_for_whom_most_waits_is_given_up_when_too_much_waits(served, client, monkeypatch):
    monkeypatch.setattr(server_module, "MAX_ALL_UNSENT_BYTES", 1_000_000)
    client.get(*[b"v" * 1_000_000] * 40)
    await until(lambda: served.connections)
    await until(lambda: not served.connections)


async def test_a_large_request_is_given_up_while_too_many_are_on_their_way(served, client, monkeypatch):
    monkeypatch.setattr(protocol, "MAX_PARTIAL_BYTES", 250_000)
    client.writer.write(REQUEST[:100_000])
    await until(lambda: served.connections and next(iter(served.connections)).received_anything)
    other = Client(*await asyncio.open_connection(*served.address))
    other.writer.write(REQUEST[:190_000])
    assert await other.reader.read() == b""
    other.writer.close()
    client.writer.write(REQUEST[100_000:])
    assert (await client.reply()).error == "ERR_OK"


async def test_an_answer_under_way_learns_that_its_client_is_gone(served, client, parts):
    client.writer.write(b"GET /patient HTTP/1.1\r\nHost: h\r\n\r\n")
    await until(lambda: parts.waiting)
    client.writer.close()
    await parts.waiting[0].wait()


async def test_draining_answers_what_is_in_flight_and_then_closes(served, client, parts):
    client.get(b"later")
    await until(lambda: parts.later)
    draining = asyncio.ensure_future(served.drain())
    await asyncio.sleep(0)
    parts.later[0].set_result(ReadResponse(value=b"done"))
    assert (await client.reply()).error == "ERR_OK"
    assert await client.reader.read() == b""
    await draining


async def test_draining_does_not_wait_for_ever(served, client, parts, monkeypatch):
    monkeypatch.setattr(server_module, "DRAIN_TIMEOUT_S", 0.0)
    client.get(b"later")
    await until(lambda: parts.later)
    await served.drain()
    assert await client.reader.read() == b""


async def until(condition):
    """The first true value of a condition that another task brings about."""
    while not (value := condition()):  # noqa: ASYNC110 - yields to the tasks that bring it about
        await asyncio.sleep(0)
    return value
