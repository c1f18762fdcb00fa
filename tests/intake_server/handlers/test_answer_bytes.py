"""Answers byte for byte: status, reason phrase, headers and body."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from intake_server.auth.plugins import SecretAuth
from intake_server.concurrency.thread_pool import Busy
from intake_server.serialization.control import pack
from tests.intake_server.conftest import PLUGINS, Serve, Served

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
        driver: yaml_file_cat
        args: {path: "{{ CATALOG_DIR }}/catalog.yml"}
"""
QUERIES = {
    **dict.fromkeys(("/v1/info", "/v1/info?page_size=2", "/v1/info?page_size=2&page_offset=1"), 200),
    **dict.fromkeys(("/v1/info?page_offset=1", "/v1/info?other=1", "/v1/info?"), 200),
    **dict.fromkeys(("/v1/info?page_size=x", "/v1/info?page_size=-1", "/v1/info?page_size="), 400),
    **dict.fromkeys(("/v1/source?name=text", "/v1/source?name=again.text", "/v1/source?name=te%78t"), 200),
    **dict.fromkeys(("/v1/source?name=text&name=picked", "/v1/source?name=picked"), 200),
    **dict.fromkeys(("/v1/source?name=nothing", "/v1/source?name=", "/v1/source?name=a+b", "/v1/source?name"), 404),
    **{"/v1/source": 400, "/v1/info/": 404},
}
OPENS: tuple[tuple[Any, int], ...] = (
    ({"action": "open", "name": "text", "parameters": {}}, 200),
    ({"action": "open", "name": "text"}, 200),
    ({"action": "open", "name": "picked", "parameters": {"part": "b"}, "available_plugins": PLUGINS}, 200),
    ({"action": "open", "name": "picked", "parameters": {"part": "c"}}, 400),
    ({"action": "open", "name": "picked", "parameters": []}, 400),
    ({"action": "open", "name": "forced", "available_plugins": []}, 400),
    ({"action": "open", "name": "array"}, 200),
    ({"action": "open", "name": "again"}, 200),
    ({"action": "open", "name": ["again", "text"]}, 200),
    ({"action": "open", "name": "nothing\r\nX-Injected: 1"}, 404),
    ({"action": "open"}, 400),
    ({"action": "search", "query": [["text"], {}], "source_id": None}, 200),
    ({"action": "search", "query": 7}, 400),
    ({"action": "bad"}, 400),
    ({"action": 7}, 400),
    ({}, 400),
    (b"", 400),
    (b"\xc1", 400),
    (b"\x90", 400),
)
HEADERS: tuple[tuple[str, ...], ...] = (
    (),
    ("User-Agent: python-requests/2", "Accept-Encoding: gzip, deflate", "Accept: */*", "Connection: keep-alive"),
    ("Accept: application/json",),
    ("X-Request-Id: id-17",),
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
async def served(serve: Serve, folder: Path) -> Served:
    for name in ("a", "b"):
        (folder / f"{name}.txt").write_text(f"first of {name}\nsecond\n")
    np.save(folder / "block.npy", np.arange(100_000.0))
    return await serve(CATALOG)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize("headers", HEADERS)
async def test_every_request_of_a_kept_connection_has_one_whole_answer(served: Served, headers: tuple[str, ...]):
    connection = await Connection.to(served)
    answers = [(target, await connection.get(target, *headers), expected) for target, expected in QUERIES.items()]
    answers += [(message, await connection.post(message, *headers), expected) for message, expected in OPENS]
    for asked, answer, expected in answers:
        assert status(answer) == expected, asked
        assert b"\r\nContent-Length: " in answer
        assert b"X-Injected" not in answer.partition(b"\r\n")[2].partition(b"\r\n\r\n")[0]
    connection.close()


async def test_an_unknown_id_of_a_catalog_is_410(served: Served):
    connection = await Connection.to(served)
    answers = [
        await connection.get("/v1/info", "source-id: nothing"),
        await connection.post(OPENS[0][0], "source-id: n"),
    ]
    assert [status(answer) for answer in answers] == [410, 410]
    connection.close()


async def test_errors_are_packed_or_json_as_the_client_accepts_and_have_the_id_of_the_request(served: Served):
    connection = await Connection.to(served)
    packed = await connection.get("/v1/source?name=nothing", "X-Request-Id: id-17")
    assert b"\r\nContent-Type: application/msgpack\r\n" in packed
    assert b"\r\nX-Request-Id: id-17\r\n" in packed
    as_json = await connection.get("/v1/source?name=nothing", "Accept: application/json")
    assert as_json.partition(b"\r\n\r\n")[2] == b'{"error":{"code":"not_found","reason":"No such entry"}}'
    assert packed.startswith(b"HTTP/1.1 404 No such entry\r\n")
    connection.close()


async def test_reads_are_answered_alike_from_the_file_and_from_the_cache(served: Served):
    for name in ("text", "array"):
        connection = await Connection.to(served)
        read = {"action": "read", "source_id": source_id(await connection.post({"action": "open", "name": name}))}
        answers = [await connection.post({**read, "partition": partition}) for partition in (0, 0, 99, "x")]
        connection.close()
        assert answers[0] == answers[1]
        assert [status(answer) for answer in answers] == [200, 200, 400, 400]


async def test_a_conditional_request_is_answered_304(served: Served):
    connection = await Connection.to(served)
    etag = re.search(rb"Etag: ([^\r]*)", await connection.get("/v1/info"))
    assert etag is not None
    assert status(await connection.get("/v1/info", f"If-None-Match: {etag[1].decode()}")) == 304
    connection.close()


async def test_who_may_not_connect_is_refused(serve: Serve):
    connection = await Connection.to(await serve(CATALOG, plugin=SecretAuth(secret="s")))
    refused = [await connection.get("/v1/info"), *[await connection.post(message) for message, _ in OPENS]]
    assert {answer.split(b"\r\n", 1)[0] for answer in refused} == {b"HTTP/1.1 403 Access forbidden"}
    assert status(await connection.get("/v1/info", "Intake-Secret: s")) == 200
    assert status(await connection.post({"action": "search", "query": [["a"], {}]}, "intake-secret: s")) == 200
    connection.close()


async def test_no_text_of_a_client_becomes_a_header(served: Served):
    connection = await Connection.to(served)
    for message, _ in OPENS:
        assert b"\r\nX-Injected" not in await connection.post(message)
    connection.close()


async def test_a_full_server_says_when_to_come_back(served: Served, monkeypatch):
    async def run(*_arguments: Any, **_options: Any) -> Any:
        raise Busy("more than 0 requests wait already")

    monkeypatch.setattr(served.server.open_threads, "run", run)
    connection = await Connection.to(served)
    answer = await connection.post({"action": "open", "name": "text"})
    connection.close()
    assert status(answer) == 503
    assert b"\r\nRetry-After: " in answer


async def test_a_client_that_goes_away_ends_its_open(served: Served, monkeypatch):
    began, ended = asyncio.Event(), asyncio.Event()

    async def wait(*_arguments: Any) -> Any:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    monkeypatch.setattr(served.server.sources, "open", wait)
    connection = await Connection.to(served)
    asking = asyncio.ensure_future(connection.post({"action": "open", "name": "text"}))
    await asyncio.wait_for(began.wait(), 10)
    asking.cancel()
    connection.close()
    await asyncio.wait_for(ended.wait(), 10)
