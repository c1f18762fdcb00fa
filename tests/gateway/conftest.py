"""Whole gateways in process, with the clock in the test's hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from gateway.app import Parts, build
from gateway.config.declared import Declared
from gateway.config.loader import parse_channel_file
from gateway.config.references import FileReferences
from gateway.handlers.context import Gateway

START = datetime(2026, 11, 21, 3, 56, 0, 381782, tzinfo=UTC)
FIRST_ID = 1_795_233_321_154_754_275


class Clock:
    """A clock that only moves when told to."""

    def __init__(self) -> None:
        self.time = START

    def __call__(self) -> datetime:
        return self.time

    def advance(self, **span: float) -> None:
        self.time += timedelta(**span)


class Client:
    """A client of one gateway in process."""

    def __init__(self, client: TestClient[Any, Any], parts: Parts) -> None:
        self.http = client
        self.parts = parts
        self.gateway: Gateway = parts.gateway
        self.stopped: list[bool] = []

    async def get(self, path: str, **options: Any) -> Any:
        """The JSON of a successful GET below the API's base."""
        answer = await self.http.get("/api/v1" + path, **options)
        assert answer.status == 200, await answer.text()
        return await answer.json()

    async def send(self, path: str, value: Any) -> Any:
        """Send and answer the accepted structs."""
        answer = await self.http.post("/api/v1/send/" + path, json=value)
        assert answer.status == 200, await answer.text()
        return await answer.json()

    async def rejected(self, method: str, path: str, status: int, **options: Any) -> Any:
        """The ``detail`` of an answer other than success."""
        answer = await self.http.request(method, "/api/v1" + path, allow_redirects=False, **options)
        assert answer.status == status, (answer.status, await answer.text())
        assert answer.content_type == "application/json"
        return (await answer.json())["detail"]

    async def stream(self, query: str = "") -> Any:
        """An open WebSocket."""
        return await self.http.ws_connect("/api/v1/stream" + query, autoping=True)


async def until(condition: Callable[[], bool]) -> None:
    """Let the gateway go on until something is so."""
    async with asyncio.timeout(20):
        for _ in iter(condition, True):
            await asyncio.sleep(0)


Serve = Callable[..., Awaitable[Client]]


def declare(text: str, folder: Path | None = None, **environment: str) -> Declared:
    """Read a channel file."""
    return parse_channel_file(text, "channels.yml", environment, FileReferences(folder or Path.cwd()))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def serve(aiohttp_client: Any, clock: Clock) -> Serve:
    async def start(text: str, **options: Any) -> Client:
        stopped: list[bool] = []
        folder = options.get("folder")
        options = {"now": clock, "epoch_ns": FIRST_ID, "shut_down": lambda: stopped.append(True)} | options
        parts = build(declare(text, folder), **options)
        client = Client(await aiohttp_client(parts.app), parts)
        client.stopped = stopped
        return client

    return start
