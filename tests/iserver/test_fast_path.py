"""The fast path answers exactly what aiohttp answers: every status, header and body."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import orjson
import pytest

from iserver.errors import NotStoredError
from iserver.settings import ServerSettings
from tests.iserver.conftest import EXAMPLE, Clock, Ids, Iserver, running

DEVICE = {"deviceId": "dev-1"}
BOX = {"RatingBox": {"product": "iPhone"}}
SEARCH = {"Search": {"query": "shoes"}}
RATING = {"feature": "RatingBox", "event": "Rating", "impressionId": "imp-1", "args": {"stars": 5}}
SHOWN = {"RatingBox": {"impression": "imp-1", "newImpression": "imp-2"}}
LOST = {"RatingBox": {"impression": "imp-0", "newImpression": "imp-3"}}

NO_OBJECTS = (b"", b"{", b"[]", b'{"a": NaN}', b"\xff")
ORIGIN = "Origin: https://shop.example"

ANSWERED: list[tuple[str, Any]] = [
    ("features", {"args": DEVICE, "impressionId": "imp-1", "requests": {**BOX, **SEARCH, "ProductInfo": {}}}),
    (
        "feature",
        {"args": DEVICE, "impressionId": "imp-1", "reqs": [{"name": "RatingBox", "args": BOX["RatingBox"]}]},
    ),
    ("features", {"args": DEVICE, "requests": BOX}),
    ("features", {"args": DEVICE, "impressionId": "imp-4", "requests": {"NewCheckout": {}, "Future": {}}}),
    ("features", {"args": DEVICE, "impressionId": "imp-5", "requests": {"RatingBox": {}, "Search": {"query": 1}}}),
    ("features", {"args": DEVICE, "impressionId": "imp-5", "reqs": [{"name": "RatingBox"}, {"name": "ProductInfo"}]}),
    ("features", {"args": DEVICE, "fetchOptions": ["flags"], "reqs": []}),
    ("features", {"args": {"deviceId": "dev-ü", "arrivalId": "arr-1"}, "impressionId": "ïmp", "requests": BOX}),
    ("features", {"args": {"arrivalId": "arr-1"}, "impressionId": "imp-6", "requests": {}}),
    ("signal", {"id": DEVICE, **RATING}),
    ("signal", {"id": DEVICE, "feature": "session", "event": "AddToCart", "args": {"value": 1, "sku": "a"}}),
    ("signal", {"id": DEVICE, "mutate": "userId", "value": "user-1"}),
    ("signal", {"id": DEVICE, "impressions": SHOWN}),
    ("signal", {"id": DEVICE}),
    ("signal", DEVICE),
    ("signal", {"id": DEVICE, "impressions": LOST, "options": {"ignore_missing_imp": True}}),
    ("external", {"id": DEVICE, "feature": "Search", "impressionId": "imp-1", "results": []}),
]
REFUSED: list[tuple[str, Any]] = [
    *(
        (path, body)
        for path in ("features", "signal", "external")
        for body in (b"", b"{", b"[]", b'{"a": NaN}', b"\xff")
    ),
    *((path, {}) for path in ("features", "signal", "external")),
    ("features", {"args": DEVICE, "requests": {}, "reqs": []}),
    ("features", {"args": [], "requests": {}}),
    ("features", {"args": DEVICE, "requests": []}),
    ("features", {"args": DEVICE, "reqs": [7]}),
    ("features", {"args": DEVICE, "reqs": [{"name": 7}]}),
    ("features", {"args": DEVICE, "requests": {"RatingBox": []}}),
    ("features", {"args": {"deviceId": 7}, "requests": {}}),
    ("features", {"args": {**DEVICE, "channel": 7}, "requests": {}}),
    ("features", {"args": {"arrivalId": "arr-2"}, "requests": {}}),
    ("features", {"args": DEVICE, "impressionId": 7, "requests": {}}),
    ("signal", {"id": {"deviceId": "dev-2"}, **RATING}),
    ("signal", {"id": {"deviceId": 7}}),
    ("signal", {"id": DEVICE, **RATING, "impressionId": "imp-0"}),
    ("signal", {"id": DEVICE, **RATING, "event": "Nothing"}),
    ("signal", {"id": DEVICE, **RATING, "feature": "Nothing"}),
    ("signal", {"id": DEVICE, **RATING, "args": {}}),
    ("signal", {"id": DEVICE, "mutate": "channel", "value": "x"}),
    ("signal", {"id": DEVICE, "mutate": "nothing", "value": "x"}),
    ("signal", {"id": DEVICE, "mutate": "userId", "value": 7}),
    ("signal", {"id": DEVICE, "mutate": "userId", "value": "user-2", "impressions": LOST}),
    ("external", {"id": DEVICE, "feature": "Search", "results": []}),
    ("external", {"id": DEVICE, "feature": "Nothing", "results": []}),
    ("external", {"id": DEVICE, "feature": "Search", "impressionId": "imp-0", "results": []}),
    ("external", {"id": DEVICE, "feature": "Search", "impressionId": "imp-1", "dwell": 1}),
    ("external", {"id": DEVICE, "feature": "Search", "impressionId": "imp-1", "results": 7}),
]

_DATE = re.compile(rb"Date: [^\r]*")
_FRESH_ID = re.compile(rb"X-Request-Id: [0-9a-f]{16}")


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[tuple[Iserver, Iserver]]:
    """Two iservers with the same past, one with its fast path and one without."""
    async with AsyncExitStack() as stack:
        made = []
        for fast in (True, False):
            settings = ServerSettings(data_dir=tmp_path / str(fast), config_file=EXAMPLE / "shop.json")
            made.append(await stack.enter_async_context(running(settings, Clock(), Ids(), fast_path=fast)))
        yield made[0], made[1]


class Connection:
    """A keep-alive connection that shows every byte of an answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def to(cls, iserver: Iserver) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", iserver.client.port))

    async def ask(self, path: str, body: Any, *headers: str) -> bytes:
        encoded = body if isinstance(body, bytes) else orjson.dumps(body)
        lines = [f"POST /iserver/{path} HTTP/1.1", "Host: x", f"Content-Length: {len(encoded)}", *headers]
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + encoded)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        assert length is not None
        answer = head + await self._reader.readexactly(int(length[1]))
        return _FRESH_ID.sub(b"X-Request-Id: fresh", _DATE.sub(b"Date: now", answer))

    def close(self) -> None:
        self._writer.close()


@pytest.mark.parametrize("headers", [(), (ORIGIN,), ("X-Request-Id: id-17", "User-Agent: UA/1")])
async def test_both_ways_answer_the_same_bytes(servers: tuple[Iserver, Iserver], headers: tuple[str, ...]):
    fast, full = [await Connection.to(iserver) for iserver in servers]
    for path, body in (*ANSWERED, *REFUSED, *ANSWERED):
        mine, theirs = await fast.ask(path, body, *headers), await full.ask(path, body, *headers)
        assert mine == theirs, (path, body)
        assert mine.startswith(b"HTTP/1.1 200 OK\r\n") is ((path, body) in ANSWERED), (path, body, mine)
    fast.close()
    full.close()


async def test_both_ways_leave_the_same_sessions(servers: tuple[Iserver, Iserver]):
    for iserver in servers:
        connection = await Connection.to(iserver)
        for path, body in (*ANSWERED, *REFUSED):
            await connection.ask(path, body)
        connection.close()
    mine, theirs = [[list(session.describe()) for session in iserver.engine.sessions] for iserver in servers]
    assert mine == theirs
    assert len(mine) == 2


async def test_a_change_that_cannot_be_stored_is_503_in_both_ways(servers: tuple[Iserver, Iserver], monkeypatch):
    async def store(*_sessions: Any) -> None:
        raise NotStoredError("cannot store changes: disk full")

    answers = []
    for iserver in servers:
        monkeypatch.setattr(iserver.components.store, "store", store)
        connection = await Connection.to(iserver)
        answers.append([await connection.ask(path, body) for path, body in ANSWERED[:1]])
        connection.close()
    assert answers[0] == answers[1]
    assert answers[0][0].startswith(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n")
