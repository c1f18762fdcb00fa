"""Whatever was accepted, of any field kind, reads the same after a restart and on every gateway of a bus."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.app import build
from gateway.cluster.redis_bus import BusOptions, RedisBus
from gateway.cluster.replication import SnapshotLoader, pack, take_snapshot, unpack
from gateway.handlers.context import Gateway
from gateway.schema.invalid import InvalidInput
from shared.tasks import Supervisor
from tests.gateway.conftest import declare
from tests.gateway.joined import NOON, everything, feed_of, gateway_of
from tests.redis_server import RedisServer

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
INTEGERS = st.integers(-(2**70), 2**70) | st.integers(-3, 3)
FLOATS = st.floats() | st.integers(-3, 3)
TEXTS = st.text(max_size=4) | st.sampled_from(["NULL", "null", '"', "\x00", "5", "2024-01-01", "true"])
OFFSETS = st.sampled_from(["", "Z", "+14:00", "-05:00", "+00:30"])
MOMENTS = st.builds(lambda moment, offset: moment.isoformat() + offset, st.datetimes(), OFFSETS)
TIMES = st.builds(lambda moment, offset: moment.isoformat() + offset, st.times(), OFFSETS)
SPANS = st.floats(-8e13, 8e13) | st.sampled_from(["PT1S", "P3DT0.000001S", 0.1, 86399.999999])
KINDS: dict[str, tuple[str, st.SearchStrategy[Any]]] = {
    "int_": ("int", INTEGERS),
    "float_": ("float", FLOATS),
    "str_": ("str", TEXTS | INTEGERS),
    "bool_": ("bool", st.booleans() | st.sampled_from(["yes", 0])),
    "datetime_": ("datetime", MOMENTS | st.integers(0, 2**33)),
    "date_": ("date", st.dates().map(str)),
    "time_": ("time", TIMES),
    "timedelta_": ("timedelta", SPANS),
    "bytes_": ("bytes", TEXTS),
    "any_": ("any", JSON),
    "object_": ("object", st.dictionaries(st.text(max_size=3), JSON, max_size=3)),
    "number": ("Number", st.sampled_from(["ONE", 1, "HALF", 0.5, "YES", True])),
    "side": ("Side", st.sampled_from(["BUY", 1, "SELL", 2])),
    "list_": ("list[str | int]", st.lists(TEXTS | INTEGERS, max_size=3)),
    "set_": ("set[any]", st.lists(JSON, max_size=3)),
    "dict_": ("dict[str, float]", st.dictionaries(TEXTS, FLOATS, max_size=3)),
    "vector": ("float[]", st.lists(FLOATS, max_size=3)),
    "matrix": ("int[][]", st.lists(st.lists(INTEGERS, max_size=2), max_size=2)),
    "inner": ("Inner", st.fixed_dictionaries({}, optional={"a": INTEGERS | st.none(), "m": MOMENTS})),
    "inners": ("list[Inner]", st.lists(st.fixed_dictionaries({}, optional={"a": INTEGERS}), max_size=2)),
    "text_or_number": ("int | str", TEXTS | INTEGERS),
    "number_or_text": ("str | float | bool", TEXTS | FLOATS | st.booleans()),
    "moment_or_text": ("datetime | str", MOMENTS | TEXTS),
    "span_or_number": ("timedelta | float", SPANS | FLOATS),
    "maybe": ("date | time | int", st.dates().map(str) | TIMES | INTEGERS),
    "nullable": ("int?", INTEGERS | st.none()),
    "id": ("", TEXTS | INTEGERS | st.none()),
    "timestamp": ("", MOMENTS | st.none()),
}
NAMES = list(KINDS)
FIELDS = "".join(f'      {name}: "{kind}"\n' for name, (kind, _) in KINDS.items() if kind)
STATES = ", ".join(f"{{keyby: [{name}], alias: by_{name}}}" for name in NAMES)
FILE = f"""
enums:
  Number: {{members: {{ONE: 1, HALF: 0.5, "YES": true}}}}
  Side: {{members: {{BUY: 1, SELL: 2}}, wire: name}}
structs:
  Inner: {{fields: {{a: int, m: datetime}}}}
  Row:
    fields:
{FIELDS}
channels:
  rows: {{type: Row, send: true, state: [{STATES}]}}
  pairs: {{type: Row, send: true, state: [{{keyby: [any_, inner.a], alias: by_pair}}, {{keyby: [inner.m, str_]}}]}}
  few: {{type: Row, send: true, state: {{keyby: [text_or_number], max_keys: 2, alias: fewest}}}}
  lists: {{type: Row, list: true, send: true, state: {{keyby: [moment_or_text], alias: of_lists}}}}
"""
DECLARED = declare(FILE)
CHANNELS = ["rows", "pairs", "few", "lists"]
VALUES = st.sampled_from(NAMES).flatmap(lambda name: st.tuples(st.just(name), KINDS[name][1] | st.none()))
ROWS = st.lists(st.lists(VALUES, max_size=4).map(dict), min_size=1, max_size=5)
BOUNDED = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


async def seen(client: TestClient[Any, Any]) -> dict[str, bytes]:
    """What readers see, to the byte."""
    paths = [f"last/{name}" for name in CHANNELS]
    paths += [f"state/{alias}" for alias in ("by_pair", "pairs", "fewest", "of_lists", *(f"by_{n}" for n in NAMES))]
    found = {}
    for path in paths:
        answer = await client.get(f"/api/v1/{path}")
        found[path] = await answer.read()
        assert answer.status == 200, (path, found[path])
        json.loads(found[path])
    return found


async def send(client: TestClient[Any, Any], rows: list[dict[str, Any]]) -> None:
    for channel in CHANNELS:
        for body in [*rows, rows]:
            answer = await client.post(f"/api/v1/send/{channel}", json=body)
            assert answer.status in (200, 422), (channel, body, await answer.text())


@BOUNDED
@given(rows=ROWS, more=ROWS)
def test_a_restart_with_a_journal_changes_nothing_that_can_be_read(rows: list[Any], more: list[Any]):
    async def run(path: Path) -> None:
        before: dict[str, bytes] | None = None
        for sent in (rows, rows, more, []):  # the second time they are updates
            parts = build(DECLARED, journal=path)
            async with TestClient(TestServer(parts.app)) as client:
                if before is not None:
                    assert await seen(client) == before
                await send(client, sent) if sent else None
                before = await seen(client)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder) / "gateway.db"))


def accepted(gateway: Gateway, rows: list[dict[str, Any]]) -> list[list[Any]]:
    """The groups of ticks that clients can make of rows, on every channel."""
    struct = gateway.engine.types["Row"]
    groups = []
    for row in rows:
        try:
            records = struct.read(json.dumps(row).encode())
        except InvalidInput:
            continue
        groups += [[(feed_of(gateway, channel), records)] for channel in CHANNELS]
    return groups


@settings(BOUNDED, max_examples=60)
@given(rows=ROWS)
def test_entries_and_snapshots_of_a_bus_change_nothing_that_can_be_read(rows: list[Any]):
    here, there, later = gateway_of(FILE), gateway_of(FILE), gateway_of(FILE)
    groups = accepted(here, [*rows, *rows])
    restoring = SnapshotLoader(later.engine, NOON)
    for at, group in enumerate(groups):
        here.engine.apply(group)
        there.engine.apply(unpack(pack(group), there.engine.channels, there.engine.types))
        if at == len(groups) // 2:
            for chunk in take_snapshot(here.engine, at).chunks():
                restoring.add(chunk)
            restoring.finish()
        elif at > len(groups) // 2:
            later.engine.apply(unpack(pack(group), later.engine.channels, later.engine.types))
    assert everything(there) == everything(here)
    assert not groups or everything(later) == everything(here)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


BUSES = count()


@settings(BOUNDED, max_examples=10)
@given(rows=ROWS, more=ROWS)
def test_gateways_that_come_and_go_on_a_bus_read_the_same(redis: RedisServer, rows: list[Any], more: list[Any]):
    name = f"fuzz-{next(BUSES)}"

    async def join() -> tuple[Gateway, RedisBus]:
        gateway = gateway_of(FILE)
        options = BusOptions(redis.url, name, snapshot_every=7)
        bus = RedisBus(options, gateway.engine, gateway.ids, now=lambda: NOON, lost=lambda: None, tasks=Supervisor())
        await bus.open()
        gateway.engine.bus = bus
        return gateway, bus

    async def run() -> None:
        (here, first), (there, second) = await join(), await join()
        for gateway, sent in ((here, rows), (there, more), (here, more)):
            for group in accepted(gateway, sent):
                await (gateway.engine.submit_together(group) or asyncio.sleep(0))
        await first.close()
        again, third = await join()
        for gateway in (again, there):
            assert gateway.engine.counters.entries_skipped == 0
        async with asyncio.timeout(60):
            while everything(there) != everything(again):  # noqa: ASYNC110 - ticks of others come when they come
                await asyncio.sleep(0.002)
        await second.close()
        await third.close()

    asyncio.run(run())
