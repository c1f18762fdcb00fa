"""The load generator counts what servers answer, however they frame it."""

from __future__ import annotations

import json
from collections import defaultdict

import pytest
from aiohttp import web

from benchmarks.http_load import NUMBER, AnswerReader, Measured, Request, load
from benchmarks.iserver import CLIENTS, visits

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=1\r\n world\r\n0\r\n\r\n"
EMPTY = b"HTTP/1.1 304 Not Modified\r\n\r\n"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(("answer", "status", "length"), [(PLAIN, 200, 11), (CHUNKED, 200, 11), (EMPTY, 304, 0)])
def test_an_answer_is_complete_exactly_at_its_last_byte_however_it_is_cut(answer, status, length, size):
    reader = AnswerReader()
    pieces = [memoryview(answer)[at : at + size] for at in range(0, len(answer), size)]
    complete = [reader.feed(piece) for piece in pieces]
    assert complete == [False] * (len(pieces) - 1) + [True]
    assert (reader.status, reader.body_bytes) == (status, length)


async def test_a_load_sends_as_many_requests_as_allowed_and_counts_bodies_and_refusals(aiohttp_server):
    asked = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path_qs)
        return web.Response(body=b"x" * 100, status=200 if request.path == "/good" else 503)

    app = web.Application()
    app.router.add_route("*", "/{anything}", answer)
    server = await aiohttp_server(app)
    requests = [Request(str(server.make_url("/good?n=1"))), Request(str(server.make_url("/bad")), "POST", body=b"{}")]
    measured = await load(requests, clients=2, seconds=30, most=20, warm_up=False)
    assert len(asked) == 20
    assert len(measured.latencies_ms) + measured.refused[503] == 20
    assert measured.body_bytes == 100 * len(measured.latencies_ms)
    assert set(asked) == {"/good?n=1", "/bad"}


async def test_each_client_has_requests_of_its_own_and_numbers_that_no_other_request_has(aiohttp_server):
    senders, numbers = defaultdict(set), []

    async def answer(request: web.Request) -> web.Response:
        senders[request.path].add(request.transport)
        numbers.append(await request.text())
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/{anything}", answer)
    server = await aiohttp_server(app)
    requests = [Request(str(server.make_url(f"/{n}")), "POST", body=NUMBER.encode()) for n in range(12)]
    for _ in range(2):
        await load(requests, clients=4, seconds=30, most=100, warm_up=False)
        assert all(len(transports) == 1 for transports in senders.values())
        senders.clear()
    assert len(set(numbers)) == len(numbers) == 200
    assert {len(number) for number in numbers} == {len(NUMBER)}


def test_the_clients_of_the_iserver_have_devices_of_their_own():
    bodies = [json.loads(request.body) for request in visits("http://127.0.0.1:1")]
    share = len(bodies) // max(CLIENTS)
    parts = [{body["args"]["deviceId"] for body in bodies[at : at + share]} for at in range(0, len(bodies), share)]
    assert len(parts) == max(CLIENTS)
    assert sum(map(len, parts)) == len(set().union(*parts))


def test_percentiles_are_taken_from_the_answers_themselves():
    measured = Measured(seconds=2.0, latencies_ms=[float(n) for n in range(100, 0, -1)])
    assert (measured.percentile(0.5), measured.percentile(0.99), measured.rps) == (51.0, 100.0, 50.0)
