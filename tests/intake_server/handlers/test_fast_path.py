"""The express lane tells clients exactly what aiohttp tells them: every status, reason, header and body."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from intake_server.auth.plugins import SecretAuth
from intake_server.concurrency.thread_pool import Busy
from intake_server.serialization.control import pack
from tests.intake_server.conftest import PLUGINS, Serve, Served, until

CATALOG = """
    metadata: {owner: "me"}
    sources:
      text:
        driver: textfiles
        args: {urlpath: "{{ CATALOG_DIR }}/*.txt"}
      picked:
        driver: textfiles
        direct_access: allow
        description: grüße
        parameters:
          part: {description: which, type: str, default: a, allowed: [a, b]}
        args: {urlpath: "{{ CATALOG_DIR }}/{{ part }}.txt"}
      array:
        driver: numpy
        args: {path: "{{ CATALOG_DIR }}/block.npy"}
      forced:
        driver: csv
        direct_access: force
        args: {urlpath: "{{ CATALOG_DIR }}/none.csv"}
      again:
        driver: yaml_file
        args: {path: "{{ CATALOG_DIR }}/catalog.yml"}
"""
QUERIES = (
    *("/v1/info", "/v1/info?page_size=2", "/v1/info?page_size=2&page_offset=1", "/v1/info?page_offset=1"),
    *("/v1/info?page_size=x", "/v1/info?page_size=-1", "/v1/info?page_size=", "/v1/info?other=1"),
    *("/v1/source?name=text", "/v1/source?name=again.text", "/v1/source?name=nothing", "/v1/source"),
    *("/v1/source?name=", "/v1/source?name=text&name=picked", "/v1/source?name=picked"),
)
ODD_QUERIES = ("/v1/info?", "/v1/source?name=te%78t", "/v1/source?name=a+b", "/v1/info/", "/v1/source?name")
OPENS: tuple[Any, ...] = (
    {"action": "open", "name": "text", "parameters": {}},
    {"action": "open", "name": "text"},
    {"action": "open", "name": "picked", "parameters": {"part": "b"}, "available_plugins": PLUGINS},
    {"action": "open", "name": "picked", "parameters": {"part": "c"}},
    {"action": "open", "name": "picked", "parameters": []},
    {"action": "open", "name": "forced", "available_plugins": []},
    {"action": "open", "name": "array"},
    {"action": "open", "name": "again"},
    {"action": "open", "name": ["again", "text"]},
    {"action": "open", "name": "nothing\r\nX-Injected: 1"},
    {"action": "open"},
    {"action": "search", "query": [["text"], {}], "source_id": None},
    {"action": "search", "query": 7},
    {"action": "bad"},
    {"action": 7},
    {},
    b"",
    b"\xc1",
    b"\x90",
)
HEADERS: tuple[tuple[str, ...], ...] = (
    (),
    ("User-Agent: python-requests/2", "Accept-Encoding: gzip, deflate", "Accept: */*", "Connection: keep-alive"),
    ("Accept: application/json",),
    ("X-Request-Id: id-17",),
    ("source-id: nothing",),
    ("Origin: http://page.example",),
)

_DATE = re.compile(rb"Date: [^\r]*")
_FRESH_ID = re.compile(rb"X-Request-Id: [0-9a-f]{16}")


class Connection:
    """A keep-alive connection that shows every byte of an answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def to(cls, served: Served) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", served.client.port))

    async def get(self, target: str, *headers: str) -> bytes:
        return await self._ask(f"GET {target} HTTP/1.1", b"", *headers)

    async def post(self, message: Any, *headers: str) -> bytes:
        body = message if isinstance(message, bytes) else pack(message)
        return await self._ask("POST /v1/source HTTP/1.1", body, f"Content-Length: {len(body)}", *headers)

    async def _ask(self, line: str, body: bytes, *headers: str) -> bytes:
        self._writer.write("\r\n".join([line, "Host: x", *headers, "", ""]).encode() + body)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        answer = head + (b"" if length is None else await self._reader.readexactly(int(length[1])))
        return _FRESH_ID.sub(b"X-Request-Id: fresh", _DATE.sub(b"Date: now", answer))

    def close(self) -> None:
        self._writer.close()


def source_id(answer: bytes) -> str:
    return str(msgpack.unpackb(answer.partition(b"\r\n\r\n")[2])["source_id"])


@pytest.fixture
async def lanes(serve: Serve, folder: Path) -> AsyncIterator[tuple[Served, Served]]:
    """The same catalog served with the express lane and without."""
    for name in ("a", "b"):
        (folder / f"{name}.txt").write_text(f"first of {name}\nsecond\n")
    np.save(folder / "block.npy", np.arange(100_000.0))
    yield await serve(CATALOG), await serve(CATALOG, express=False)


def in_lane(served: Served) -> int:
    """How many connections are in the lane."""
    server: Any = served.client.server
    return len(server.express.connections)


@pytest.mark.parametrize("headers", HEADERS)
async def test_both_lanes_answer_the_same_bytes(lanes: tuple[Served, Served], headers: tuple[str, ...]):
    express, full = [await Connection.to(served) for served in lanes]
    for target in QUERIES:
        assert await express.get(target, *headers) == await full.get(target, *headers), target
    for message in OPENS:
        assert await express.post(message, *headers) == await full.post(message, *headers), message
    assert in_lane(lanes[0]) == 1
    for target in ODD_QUERIES:
        assert await express.get(target, *headers) == await full.get(target, *headers), target
    assert in_lane(lanes[0]) == 0
    express.close()
    full.close()


async def test_both_lanes_answer_reads_with_the_same_bytes(lanes: tuple[Served, Served]):
    for name in ("text", "array"):
        answers = []
        for served in lanes:
            connection = await Connection.to(served)
            read = {"action": "read", "source_id": source_id(await connection.post({"action": "open", "name": name}))}
            answers.append([await connection.post({**read, "partition": partition}) for partition in (0, 0, 99, "x")])
            connection.close()
        assert answers[0] == answers[1]
        assert answers[0][0].startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_small_cached_partition_is_read_in_the_lane_and_others_are_not(lanes: tuple[Served, Served]):
    async def stays(name: str) -> list[bool]:
        seen = []
        for _ in range(2):
            connection = await Connection.to(lanes[0])
            identifier = source_id(await connection.post({"action": "open", "name": name}))
            await connection.post({"action": "read", "source_id": identifier, "partition": 0})
            seen.append(in_lane(lanes[0]) == 1)
            connection.close()
            await until(lambda: in_lane(lanes[0]) == 0)
        return seen

    assert await stays("text") == [False, True]
    assert await stays("array") == [False, False]


async def test_a_conditional_request_is_answered_304_in_both_ways(lanes: tuple[Served, Served]):
    answers = []
    for served in lanes:
        connection = await Connection.to(served)
        etag = re.search(rb"Etag: ([^\r]*)", await connection.get("/v1/info"))
        assert etag is not None
        answers.append(await connection.get("/v1/info", f"If-None-Match: {etag[1].decode()}"))
        connection.close()
    assert answers[0] == answers[1]
    assert answers[0].startswith(b"HTTP/1.1 304 ")


async def test_who_may_not_connect_is_refused_alike_in_both_ways(serve: Serve, lanes: tuple[Served, Served]):
    answers = []
    for express in (True, False):
        served = await serve(CATALOG, plugin=SecretAuth(secret="s"), express=express)
        connection = await Connection.to(served)
        told = [await connection.get("/v1/info"), await connection.get("/v1/info", "Intake-Secret: s")]
        told += [await connection.post(message) for message in OPENS]
        told += [await connection.post(message, "intake-secret: s") for message in OPENS[:1]]
        answers.append(told)
        connection.close()
    assert answers[0] == answers[1]
    assert answers[0][-1].startswith(b"HTTP/1.1 200 OK")
    assert answers[0][0].startswith(b"HTTP/1.1 403 Access forbidden\r\n")


async def test_a_full_server_says_when_to_come_back_in_both_ways(lanes: tuple[Served, Served], monkeypatch):
    async def run(*_arguments: Any, **_options: Any) -> Any:
        raise Busy("more than 0 requests wait already")

    answers = []
    for served in lanes:
        monkeypatch.setattr(served.server.quick, "run", run)
        connection = await Connection.to(served)
        answers.append(await connection.post({"action": "open", "name": "text"}))
        connection.close()
    assert answers[0] == answers[1]
    assert answers[0].startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: " in answers[0]


async def test_a_client_that_goes_away_ends_its_open_in_the_lane(lanes: tuple[Served, Served], monkeypatch):
    began, ended = asyncio.Event(), asyncio.Event()

    async def wait(*_arguments: Any) -> Any:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    monkeypatch.setattr(lanes[0].server.sources, "open", wait)
    connection = await Connection.to(lanes[0])
    asking = asyncio.ensure_future(connection.post({"action": "open", "name": "text"}))
    await asyncio.wait_for(began.wait(), 10)
    asking.cancel()
    connection.close()
    await asyncio.wait_for(ended.wait(), 10)
