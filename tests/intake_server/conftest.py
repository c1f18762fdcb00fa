"""A whole catalog server in process, asked as the intake client asks."""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgpack
import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from intake_server.app import CatalogServer, make_app
from intake_server.auth.plugins import BaseAuth, Plugin
from intake_server.serialization.control import pack
from intake_server.settings import Settings

PLUGINS = ["csv", "numpy", "textfiles", "json", "parquet"]


class Answer:
    """One answer, decoded."""

    def __init__(self, response: ClientResponse, body: bytes) -> None:
        self.status = response.status
        self.reason = response.reason or ""
        self.headers = response.headers
        self.body = body

    @property
    def value(self) -> Any:
        assert self.status == 200, (self.status, self.reason)
        return msgpack.unpackb(self.body, raw=False, strict_map_key=False)


class Served:
    """A running server and its client."""

    def __init__(self, client: TestClient[Any, Any], server: CatalogServer) -> None:
        self.client = client
        self.server = server

    async def get(self, path: str, *, source_id: str | None = None, headers: Mapping[str, str] | None = None) -> Answer:
        sent = {**(headers or {}), **({"source-id": source_id} if source_id else {})}
        async with self.client.get(path, headers=sent) as response:
            return Answer(response, await response.read())

    async def post(
        self, message: Any, *, source_id: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        body = message if isinstance(message, bytes) else pack(message)
        sent = {**(headers or {}), **({"source-id": source_id} if source_id else {})}
        async with self.client.post("/v1/source", data=body, headers=sent) as response:
            return Answer(response, await response.read())

    async def info(self, query: str = "", **more: Any) -> Any:
        return (await self.get("/v1/info" + query, **more)).value

    async def names(self, query: str = "", **more: Any) -> list[str]:
        return [source["name"] for source in (await self.info(query, **more))["sources"]]

    async def open(self, name: Any, parameters: Any = None, **more: Any) -> Answer:
        return await self.post({"action": "open", "name": name, "parameters": parameters or {}}, **more)

    async def opened(self, name: Any, parameters: Any = None, **more: Any) -> Any:
        return (await self.open(name, parameters, **more)).value

    async def read(self, source_id: str, partition: Any = None, **more: Any) -> Answer:
        message = {"action": "read", "source_id": source_id, "accepted_formats": ["msgpack"], **more}
        return await self.post(message if partition is None else {**message, "partition": partition})

    async def data(self, name: Any, partition: Any = 0, parameters: Any = None) -> bytes:
        """The encoded data of one partition of an entry."""
        source_id = (await self.opened(name, parameters))["source_id"]
        return (await self.read(source_id, partition)).value["data"]

    async def search(self, text: str, *more: Any, **extra: Any) -> str:
        return (await self.post({"action": "search", "query": [[text, *more], {}]}, **extra)).value["source_id"]


async def until(condition: Callable[[], bool]) -> None:
    """Let other tasks run until something is true."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the condition is looked at, nothing tells when it changes
            await asyncio.sleep(0)


Serve = Callable[..., Awaitable[Served]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for catalogs and data."""
    return tmp_path


@pytest.fixture
def serve(aiohttp_client: Any, folder: Path) -> Serve:
    """Starts a server: give it the text of a catalog, or the paths of catalogs, and settings."""

    async def start(
        text: str | None = None,
        *,
        paths: tuple[Path | str, ...] = (),
        plugin: Plugin | None = None,
        prefix: str = "",
        **settings: Any,
    ) -> Served:
        if text is not None:
            (folder / "catalog.yml").write_text(textwrap.dedent(text), encoding="utf-8")
            paths = (folder / "catalog.yml",)
        chosen = Settings(catalogs=tuple(map(str, paths)), **settings)
        server = CatalogServer(chosen, plugin or BaseAuth(), key=b"k" * 32)
        client = await aiohttp_client(TestServer(make_app(server, prefix)))
        return Served(client, server)

    return start
