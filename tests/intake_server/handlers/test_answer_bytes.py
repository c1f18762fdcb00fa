"""Answers byte for byte: status, reason phrase, headers and body."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

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
        driver: yaml_file
        args: {path: "{{ CATALOG_DIR }}/catalog.yml"}
"""
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


@pytest.fixture
async def served(serve: Serve, folder: Path) -> Served:
    """The catalog with its files."""
    for name in ("a", "b"):
        (folder / f"{name}.txt").write_text(f"first of {name}\nsecond\n")
    np.save(folder / "block.npy", np.arange(100_000.0))
    return await serve(CATALOG)


async def test_a_conditional_request_is_answered_304(served: Served):
    connection = await Connection.to(served)
    etag = re.search(rb"Etag: ([^\r]*)", await connection.get("/v1/info"))
    assert etag is not None
    answer = await connection.get("/v1/info", f"If-None-Match: {etag[1].decode()}")
    connection.close()
    assert answer.startswith(b"HTTP/1.1 304 ")


async def test_who_may_not_connect_is_refused(serve: Serve, served: Served):
    guarded = await serve(CATALOG, plugin=SecretAuth(secret="s"))
    connection = await Connection.to(guarded)
    answers = [await connection.get("/v1/info"), *[await connection.post(message) for message in OPENS]]
    assert all(answer.startswith(b"HTTP/1.1 403 Access forbidden\r\n") for answer in answers)
    allowed = [
        await connection.get("/v1/info", "Intake-Secret: s"),
        await connection.post(OPENS[0], "intake-secret: s"),
    ]
    assert all(answer.startswith(b"HTTP/1.1 200 OK\r\n") for answer in allowed)
    connection.close()


async def test_no_text_of_a_client_becomes_a_header(served: Served):
    connection = await Connection.to(served)
    for message in OPENS:
        assert b"\r\nX-Injected" not in await connection.post(message)
    connection.close()


async def test_a_full_server_says_when_to_come_back(served: Served, monkeypatch):
    async def run(*_arguments: Any, **_options: Any) -> Any:
        raise Busy("more than 0 requests wait already")

    monkeypatch.setattr(served.server.quick, "run", run)
    connection = await Connection.to(served)
    answer = await connection.post({"action": "open", "name": "text"})
    connection.close()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: " in answer
