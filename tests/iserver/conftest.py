"""A whole iserver in process, with the running example, a clock in the test's hand and ids that can be foretold."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from iserver.app import make_http
from iserver.components import Components, open_components
from iserver.etl.writer import Warehouse
from iserver.settings import ServerSettings
from tests.fast_path_server import FastPathTestServer
from tests.iserver.cutting_proxy import CuttingProxy
from tests.redis_server import RedisServer

EXAMPLE = Path(str(resources.files("iserver.example")))
START_MS = 1_700_000_000_000


class Clock:
    """The time, as the test says."""

    def __init__(self) -> None:
        self.now_ms = START_MS

    def __call__(self) -> int:
        return self.now_ms

    def advance(self, *, minutes: float = 0, seconds: float = 0, ms: int = 0) -> None:
        self.now_ms += round(minutes * 60_000 + seconds * 1000) + ms


class Ids:
    """Ids in the order in which they are needed: those that the test asks for, then NAME-1, NAME-2, …"""

    def __init__(self, name: str = "id") -> None:
        self._asked: list[str] = []
        self._others: Iterator[str] = (f"{name}-{number}" for number in itertools.count(1))

    def next_are(self, *ids: str) -> None:
        self._asked += ids

    def __call__(self) -> str:
        return self._asked.pop(0) if self._asked else next(self._others)


class Iserver:
    """An iserver and a client for it; paths are relative to its prefix."""

    def __init__(
        self, components: Components, client: TestClient[Any, Any], clock: Clock, ids: Ids, prefix: str
    ) -> None:
        self.components = components
        self.client = client
        self.clock = clock
        self.ids = ids
        self.prefix = f"/{prefix}" if prefix else ""

    @property
    def engine(self) -> Any:
        return self.components.engine

    async def post(self, path: str, body: Any, **options: Any) -> ClientResponse:
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        return await self.client.post(f"{self.prefix}/{path}", data=data, **options)

    async def get(self, path: str, **options: Any) -> ClientResponse:
        return await self.client.get(f"{self.prefix}/{path}", **options)

    async def features(
        self, requests: Any, *, impression: str | None = "imp-1", args: dict[str, Any] | None = None, **more: Any
    ) -> Any:
        """The answer to a features request of dev-1, in the form of `requests`."""
        form = "requests" if isinstance(requests, dict) else "reqs"
        body = {"args": args or {"deviceId": "dev-1"}, "impressionId": impression, form: requests, **more}
        answer = await self.post("features", body)
        assert answer.status == 200, await answer.text()
        return orjson.loads(await answer.read())

    async def signal(self, **body: Any) -> int:
        """The status of a signal of dev-1."""
        return (await self.post("signal", {"id": {"deviceId": "dev-1"}, **body})).status

    def finished(self) -> list[Any]:
        """The sessions that wait for the warehouse."""
        import sqlite3

        from iserver.sessions.finished import sessions_in

        if self.components.shared is not None:
            from redis import Redis

            sessions = self.components.shared.sessions
            with Redis(port=sessions.client.redis.get_connection_kwargs()["port"]) as redis:
                queue: Any = redis.lrange(f"{sessions.prefix}finished", 0, -1)
            return [session for data in queue for session in sessions_in(data)]
        with sqlite3.connect(self.components.store.path) as connection:
            rows = connection.execute("SELECT data FROM finished ORDER BY row")
            return [session for (data,) in rows for session in sessions_in(data)]


OpenIserver = Callable[..., Awaitable[Iserver]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ids() -> Ids:
    return Ids()


@asynccontextmanager
async def running(
    settings: ServerSettings, clock: Clock, ids: Ids, *, fast_path: bool = True
) -> AsyncIterator[Iserver]:
    """An iserver for as long as the context lasts, with its fast path or without; it ends by draining."""
    components = await open_components(settings, clock_ms=clock, new_id=ids, open_warehouse=Warehouse.open)
    http = make_http(components, settings)
    server = FastPathTestServer(http.app, http.fast_path) if fast_path else TestServer(http.app)
    async with TestClient(server) as client:
        yield Iserver(components, client, clock, ids, settings.prefix)


@pytest.fixture
async def open_iserver(tmp_path: Path, clock: Clock, ids: Ids) -> AsyncIterator[OpenIserver]:
    """Starts iservers with other settings than the usual ones; all end with the test."""
    async with AsyncExitStack() as stack:

        async def start(**changes: Any) -> Iserver:
            settings = ServerSettings(data_dir=tmp_path / "data", config_file=EXAMPLE / "shop.json", enable_cmd=True)
            return await stack.enter_async_context(running(replace(settings, **changes), clock, ids))

        yield start


@pytest.fixture
async def iserver(open_iserver: OpenIserver) -> Iserver:
    """The running example, as the protocol page configures it (§9.3)."""
    return await open_iserver()


@pytest.fixture
def shop() -> dict[str, Any]:
    """The configuration document of the running example, to be changed at will."""
    document: dict[str, Any] = orjson.loads((EXAMPLE / "shop.json").read_bytes())
    return document


# --- several servers with the same sessions -------------------------------------------------------


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that keeps what it acknowledges."""
    with RedisServer(tmp_path, durable=True) as server:
        yield server


@pytest.fixture
async def proxy(redis: RedisServer) -> AsyncIterator[CuttingProxy]:
    """A way to Redis that can lose answers. Name it before `join`, so that it is there until the servers are gone."""
    proxy = CuttingProxy(redis.port)
    await proxy.start()
    yield proxy
    await proxy.stop()


@pytest.fixture
async def join(tmp_path: Path, clock: Clock, redis: RedisServer) -> AsyncIterator[OpenIserver]:
    """Starts servers that share their sessions and the warehouse."""
    async with AsyncExitStack() as stack:

        async def start(name: str, **changes: Any) -> Iserver:
            settings = ServerSettings(
                data_dir=tmp_path / name,
                config_file=EXAMPLE / "shop.json",
                enable_cmd=True,
                warehouse=str(tmp_path / "warehouse"),
                sessions=redis.url,
            )
            return await stack.enter_async_context(running(replace(settings, **changes), clock, Ids(name)))

        yield start
