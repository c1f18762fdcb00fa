"""The kernel syncs a file and tells the loop, or says that it cannot."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.kernel_sync import KernelSync

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has it")


@pytest.fixture
def kernel() -> Iterator[KernelSync]:
    kernel = KernelSync.open()
    assert kernel is not None, "this system has no io_submit"
    yield kernel
    kernel.close()


async def synced(kernel: KernelSync, descriptor: int) -> None:
    told: asyncio.Future[OSError | None] = asyncio.get_running_loop().create_future()
    kernel.start(asyncio.get_running_loop(), told.set_result)
    kernel.sync(descriptor)
    error = await told
    if error is not None:
        raise error


async def test_one_sync_after_the_other_is_told(kernel: KernelSync, tmp_path: Path):
    with (tmp_path / "file").open("wb", buffering=0) as file:
        for _ in range(100):
            file.write(b"x")
            await synced(kernel, file.fileno())


async def test_what_cannot_be_synced_is_an_error(kernel: KernelSync):
    reading, writing = os.pipe()
    try:
        with pytest.raises(OSError, match="Invalid argument"):
            await synced(kernel, writing)
    finally:
        os.close(reading)
        os.close(writing)


async def test_a_descriptor_that_is_closed_is_an_error(kernel: KernelSync):
    with pytest.raises(OSError, match="Bad file descriptor"):
        await synced(kernel, 10_000)
