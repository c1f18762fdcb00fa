"""HTTP as clients and tools of Pegasus rely on it: heads, targets, bodies, errors (§2, §15)."""

from __future__ import annotations

import asyncio
import socket

import pytest
from aiohttp import web

from shared.errors import Problem
from shared.http.app import health_routes, read_body
from shared.metrics import Metrics
from shared.pegasus.serving.http import (
    MAX_BODY_BYTES,
    HttpServer,
    answer,
    application,
    arguments,
    call,
    list_of_calls,
    normalised_path,
)
from shared.pegasus.serving.server import PegasusServer

HEAD_END = b"\r\n\r\n"
TEXT = "text/plain"
PARSE_ERROR = "failed to parse request: ERR_INVALID_PARAMETERS: "
HEX_ERROR = "The characters %s do not form a hex value. Please escape it or pass a valid hex value"


async def echo(request: web.Request) -> web.Response:
    shown = "&".join(f"{name}={value}" for name, value in sorted(arguments(request).items()))
    body = await read_body(request, MAX_BODY_BYTES)
    return answer(f"{request.method} {normalised_path(request)}?{shown} {len(body)}")


async def problem(_request: web.Request) -> web.Response:
    raise Problem(404, "not here")


async def elsewhere(_request: web.Request) -> web.Response:
    raise Problem(307, "", headers={"Location": "http://h:1/meta/apps"})


async def bug(_request: web.Request) -> web.Response:
    raise ZeroDivisionError


CALLS = [call("/a/echo", echo), call("/problem", problem), call("/elsewhere", elsewhere), call("/bug", bug)]


class Server:
    """An application behind the sniff, and requests to it as bytes."""

    def __init__(self, prefix: str = "") -> None:
        self.metrics = Metrics("test")
        routes = [*CALLS, *health_routes(list)]
        http = HttpServer(application(routes, prefix=prefix, metrics=self.metrics))
        self.pegasus = PegasusServer(http, {})
        self.bound = socket.create_server(("127.0.0.1", 0))
        self.address = self.bound.getsockname()

    async def exchange(self, *pieces: bytes, answers: int = 1) -> list[tuple[str, dict[str, str], str]]:
        """Send pieces one after the other; status line, headers and body of each answer."""
        reader, writer = await asyncio.open_connection(*self.address)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        found = [await read_answer(reader) for _ in range(answers)]
        writer.close()
        return found

    async def get(self, target: str) -> tuple[int, str]:
        ((line, _, body),) = await self.exchange(get(target))
        return int(line.split()[1]), body


def get(target: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {target} HTTP/1.1", "Host: h", *headers, "", ""]).encode()


def post(target: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {target} HTTP/1.1", "Host: h", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


async def read_answer(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], str]:
    line, *lines = (await reader.readuntil(HEAD_END)).decode("latin-1").strip().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    body = await reader.readexactly(int(headers["Content-Length"]))
    return line, headers, body.decode(errors="surrogateescape")


@pytest.fixture
async def server():
    server = Server()
    await server.pegasus.start([server.bound], None)
    yield server
    await server.pegasus.drain()


# -- the list of calls ------------------------------------------------------------------------------


def test_a_server_without_calls_lists_the_list():
    assert list_of_calls([]) == b'{"/":"List all supported calls."}\n'


def test_calls_are_listed_by_path_and_additions_are_not():
    help_texts = {
        "/": "List all supported calls.",
        "/version": "Get the server version.",
        "/recentStartTime": "Gets recentStartTime test",
        "/not/served": "",
    }
    assert list_of_calls(["/version", "/healthz", "/recentStartTime"], help_texts) == (
        b'{"/":"List all supported calls.","/recentStartTime":"Gets recentStartTime test",'
        b'"/version":"Get the server version."}\n'
    )


# -- answers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_bytes", "line", "body"),
    [
        (get("/a/echo"), "HTTP/1.1 200 OK", "GET a/echo? 0"),
        (post("//a///echo/?x", b"abc"), "HTTP/1.1 200 OK", "POST a/echo?x= 3"),
        (get("/a/echo", "Content-Length: 3") + b"abc", "HTTP/1.1 200 OK", "GET a/echo? 3"),
        (post("/a/echo", b"abc", "Content-Type: application/json"), "HTTP/1.1 200 OK", "POST a/echo? 3"),
        (post("/a/echo", b"x" * MAX_BODY_BYTES), "HTTP/1.1 200 OK", f"POST a/echo? {MAX_BODY_BYTES}"),
        (get("/a%2Fecho?q=a%20b%26c=d+e"), "HTTP/1.1 200 OK", "GET a/echo?c=d+e&q=a b 0"),
        (get("/%61/echo"), "HTTP/1.1 200 OK", "GET a/echo? 0"),
        (get("http://h:1//a/echo/?x=1#y"), "HTTP/1.1 200 OK", "GET a/echo?x=1 0"),
        (get("/a/echo?f&f"), "HTTP/1.1 200 OK", "GET a/echo?f= 0"),
        (get("/a/echo?x=%EB%B2%95"), "HTTP/1.1 200 OK", "GET a/echo?x=법 0"),
        (get("/a/echo", "X: y  "), "HTTP/1.1 200 OK", "GET a/echo? 0"),
        (get("/problem"), "HTTP/1.1 404 Not Found", "not here"),
        (get("//no///such/"), "HTTP/1.1 404 Not Found", 'service not found for "no/such"'),
        (get("/A/echo"), "HTTP/1.1 404 Not Found", 'service not found for "A/echo"'),
        (get("/a/./echo"), "HTTP/1.1 404 Not Found", 'service not found for "a/./echo"'),
        (get("/a%20b/%20c%20"), "HTTP/1.1 404 Not Found", 'service not found for "a b/c"'),
        (get("/no/%80"), "HTTP/1.1 404 Not Found", 'service not found for "no/\udc80"'),
        (get("/" + "u" * 4096), "HTTP/1.1 404 Not Found", f'service not found for "{"u" * 4096}"'),
        (get("/a/echo?" + "x" * 200_000), "HTTP/1.1 200 OK", f"GET a/echo?{'x' * 200_000}= 0"),
        (get("/a/echo?x=1&x=2"), "HTTP/1.1 400 Bad Request", PARSE_ERROR + "duplicate parameter: x"),
        (get("/a/echo?x=%zzab"), "HTTP/1.1 400 Bad Request", PARSE_ERROR + HEX_ERROR % "zzab"),
        (get("/no%zzab"), "HTTP/1.1 400 Bad Request", PARSE_ERROR + HEX_ERROR % "zzab"),
        (get("/no%2"), "HTTP/1.1 400 Bad Request", PARSE_ERROR + HEX_ERROR % "2"),
        (
            get("/no?x=%2"),
            "HTTP/1.1 400 Bad Request",
            PARSE_ERROR + "Encountered partial escape sequence at end of string",
        ),
        (
            post("/a/echo", b"x" * (MAX_BODY_BYTES + 1)),
            "HTTP/1.1 413 Request Entity Too Large",
            f"the request body is larger than {MAX_BODY_BYTES} bytes",
        ),
        (get("/a/echo", "Expect: 200-nope"), "HTTP/1.1 417 Expectation Failed", "417: Expectation Failed"),
    ],
    ids=lambda value: repr(value[:60]) if isinstance(value, bytes) else "",
)
async def test_answers_are_those_of_the_original(server, request_bytes, line, body):
    ((found_line, headers, found_body),) = await server.exchange(request_bytes)
    assert (found_line, found_body) == (line, body)
    assert headers["Content-Type"].split(";")[0] == TEXT
    assert headers.get("Connection", "keep-alive") == "keep-alive"


async def test_the_content_type_of_every_answer_has_no_charset(server):
    pieces = [get(target) for target in ("/", "/a/echo", "/problem", "/elsewhere", "/bug", "/no", "/no%2")]
    found = await server.exchange(*pieces, answers=len(pieces))
    assert {headers["Content-Type"] for _, headers, _ in found} == {TEXT}


async def test_a_redirect_has_a_location_and_no_body(server):
    ((line, headers, body),) = await server.exchange(post("/elsewhere", b"ignored"))
    assert (line, headers["Location"], body) == ("HTTP/1.1 307 Temporary Redirect", "http://h:1/meta/apps", "")


async def test_a_bug_is_an_answer_with_the_id_under_which_it_is_logged(server):
    ((line, headers, body),) = await server.exchange(get("/bug", "X-Request-Id: r-1"))
    assert (line, body) == ("HTTP/1.1 500 Internal Server Error", "internal error, request id r-1")
    assert headers["X-Request-Id"] == "r-1"


async def test_other_methods_than_get_and_post_are_not_allowed(server):
    put = get("/a/echo").replace(b"GET", b"PUT")
    _, (line, headers, _) = await server.exchange(get("/a/echo") + put, answers=2)
    assert (line, headers["Allow"]) == ("HTTP/1.1 405 Method Not Allowed", "GET, POST")


async def test_calls_may_stand_under_a_prefix():
    server = Server("pegasus/meta")
    await server.pegasus.start([server.bound], None)
    assert await server.get("/pegasus/meta/a/echo") == (200, "GET pegasus/meta/a/echo? 0")
    assert (await server.get("/pegasus/meta/"))[1].startswith('{"/":"List all supported calls."')
    assert (await server.get("/pegasus//meta/healthz"))[0] == 200
    assert await server.get("/a/echo") == (404, 'service not found for "a/echo"')
    await server.pegasus.drain()


async def test_requests_are_counted_by_route_and_status(server):
    await server.get("/a/echo")
    await server.get("/no/such")
    counted = {
        (sample.labels["route"], sample.labels["status"]): sample.value
        for family in server.metrics.registry.collect()
        for sample in family.samples
        if sample.name == "test_request_seconds_count"
    }
    assert counted == {("/a/echo", "200"): 1, ("unknown", "404"): 1}


# -- connections ------------------------------------------------------------------------------------


async def test_a_hundred_pipelined_requests_are_a_hundred_answers(server):
    found = await server.exchange(get("/") * 100, answers=100)
    assert [line for line, _, _ in found] == ["HTTP/1.1 200 OK"] * 100


@pytest.mark.parametrize("size", [1, 3, 17, 100])
async def test_any_segmentation_gives_the_same_answers(server, size):
    chunked = (
        b"POST /a/echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n2;e=1\r\nde\r\n0\r\nT: 1\r\n\r\n"
    )
    stream = post("/a/echo?x=1", b"body") + chunked + get("/a/echo")
    pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
    found = await server.exchange(*pieces, answers=3)
    assert [body for _, _, body in found] == ["POST a/echo?x=1 4", "POST a/echo? 5", "GET a/echo? 0"]


@pytest.mark.parametrize(
    "malformed",
    [
        b"GET / HTTP/2\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
        b"POST /a/echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"POST /a/echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
        b"GET /" + b"x" * 300_000,
    ],
    ids=lambda malformed: repr(malformed[:70]),
)
async def test_a_malformed_request_is_rejected_after_the_good_ones_and_nothing_after_it_is_read(server, malformed):
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(get("/a/echo"))
    assert (await read_answer(reader))[2] == "GET a/echo? 0"
    writer.write(malformed + get("/a/echo"))
    line, _, _ = await read_answer(reader)
    assert line.split()[1:] == ["400", "Bad", "Request"]
    assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize("requests", [1, 3])
async def test_a_client_that_has_said_all_gets_every_answer_and_then_the_end(server, requests):
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(get("/a/echo") * requests)
    writer.write_eof()
    assert [(await read_answer(reader))[2] for _ in range(requests)] == ["GET a/echo? 0"] * requests
    assert await reader.read() == b""
    writer.close()


async def test_a_client_that_ends_in_the_middle_of_a_request_gets_the_end(server):
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(b"GET /a/ec")
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
