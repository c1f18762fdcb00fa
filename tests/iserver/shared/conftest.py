"""The tests of a server alone, again with its sessions in Redis: what requests do must be the same."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from iserver.settings import ServerSettings
from tests.iserver.conftest import EXAMPLE, Clock, Ids, Iserver, OpenIserver, running
from tests.redis_server import RedisServer


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for all tests; each has names of its own there."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
async def open_iserver(tmp_path: Path, clock: Clock, ids: Ids, shared_redis: RedisServer) -> AsyncIterator[OpenIserver]:
    """Starts iservers that have their sessions in Redis; all end with the test."""
    async with AsyncExitStack() as stack:

        async def start(**changes: Any) -> Iserver:
            settings = ServerSettings(
                data_dir=tmp_path / "data",
                config_file=EXAMPLE / "shop.json",
                enable_cmd=True,
                warehouse=str(tmp_path / "warehouse"),
                sessions=shared_redis.url,
                sessions_prefix=tmp_path.name,
            )
            return await stack.enter_async_context(running(replace(settings, **changes), clock, ids))

        yield start
