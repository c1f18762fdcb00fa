"""What exports of large arrays hold of memory, however many clients stop reading them."""

from __future__ import annotations

import asyncio
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.intake_server.conftest import Serve, until

CATALOG = """
sources:
  rows: {driver: numpy, args: {path: '{{ CATALOG_DIR }}/rows.npy'}}
  columns: {driver: numpy, args: {path: '{{ CATALOG_DIR }}/columns.npy'}}
  stack: {driver: numpy, args: {path: '{{ CATALOG_DIR }}/rows*.npy'}}
"""
MEMORY = 32 * 2**20
SHAPE = (2_000_000, 4)


@pytest.fixture
def data(folder: Path) -> np.ndarray[Any, Any]:
    array = np.arange(8_000_000.0).reshape(SHAPE)
    np.save(folder / "rows.npy", array)
    np.save(folder / "rows2.npy", array)
    np.save(folder / "columns.npy", np.asfortranarray(array))
    return array


async def stalled(port: int, path: str) -> asyncio.StreamWriter:
    """A client that asks and reads nothing."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    writer.transport.pause_reading()
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return writer


@pytest.mark.parametrize("path", ["rows.npy", "rows.csv", "rows.json", "columns.npy", "columns.csv", "stack.npy"])
async def test_clients_that_stop_reading_hold_no_more_than_the_limit(serve: Serve, data, path: str):
    served = await serve(CATALOG, memory_bytes=MEMORY, cache_bytes=0)
    tracemalloc.start()
    try:
        clients = [await stalled(served.client.port, f"/data/{path}") for _ in range(12)]
        in_flight, exporters = served.server.reads.in_flight, served.server.export_threads
        await until(lambda: in_flight.size > 0)
        for _ in range(50):  # whoever finds room goes on until its client takes no more
            await asyncio.sleep(0)
            await exporters.run(lambda: None, key=object())
        await until(lambda: exporters.running == 0)
        assert in_flight.size <= MEMORY
        assert tracemalloc.get_traced_memory()[1] < 2 * MEMORY  # what libraries and connections need besides
        for client in clients:
            client.transport.abort()
        await until(lambda: in_flight.size == 0)
    finally:
        tracemalloc.stop()


async def test_an_array_is_the_same_in_whatever_blocks_it_is_read(serve: Serve, data, folder: Path):
    served = await serve(CATALOG, memory_bytes=MEMORY)
    for name in ("rows", "columns"):
        found = folder / "found.npy"
        found.write_bytes((await served.get(f"/data/{name}.npy")).body)
        np.testing.assert_array_equal(np.load(found), data)
