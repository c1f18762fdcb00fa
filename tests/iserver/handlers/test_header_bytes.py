"""Bytes in headers that are not UTF-8: answered like any others, and no obstacle to the end of any session."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from iserver.settings import ServerSettings
from tests.iserver.conftest import EXAMPLE, running


@pytest.fixture(params=[True, False], ids=["fast path", "aiohttp alone"])
async def iserver(request, tmp_path, clock, ids):
    settings = ServerSettings(data_dir=tmp_path / "data", config_file=EXAMPLE / "shop.json", enable_cmd=True)
    async with running(settings, clock, ids, fast_path=request.param) as iserver:
        yield iserver


async def post_raw(iserver, path, header, body):
    """The status and the body of an answer to a request with one header more, as bytes."""
    data = orjson.dumps(body)
    head = f"POST /iserver/{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\nConnection: close\r\n".encode()
    async with asyncio.timeout(60):
        reader, writer = await asyncio.open_connection(iserver.client.server.host, iserver.client.server.port)
        writer.write(head + header + b"\r\n\r\n" + data)
        answer = await reader.read()
        writer.close()
    return int(answer.split()[1]), answer.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(
    ("header", "name", "value"),
    [
        (b"User-Agent: Caf\xe9/1", "userAgent", "Café/1"),
        (b"User-Agent: \xff", "userAgent", "\xff"),
        (b"User-Agent: Caf\xc3\xa9/1", "userAgent", "Café/1"),
        (b"Referer: http://x/\xfe", "entryUrl", "http://x/\xfe"),
        (b"X-Causal-deviceId: d-\xff", "deviceId", "d-\xff"),
    ],
)
async def test_bytes_that_are_not_utf8_are_read_as_latin1(iserver, header, name, value):
    args = {} if name == "deviceId" else {"deviceId": "d-1"}
    status, body = await post_raw(iserver, "features", header, {"args": args, "reqs": []})
    assert status == 200
    assert orjson.loads(body)["session"][name] == value


async def test_a_session_with_such_a_header_is_written_like_all_others(iserver, clock):
    await post_raw(iserver, "features", b"User-Agent: \xff\xfe", {"args": {"deviceId": "d-1"}, "reqs": []})
    await iserver.features({}, args={"deviceId": "d-2"})
    clock.advance(minutes=31)
    await iserver.engine.sweep_all()
    assert {session.persistent_key for session in iserver.finished()} == {"d-1", "d-2"}
