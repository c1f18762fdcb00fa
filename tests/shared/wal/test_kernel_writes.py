"""The kernel writes to a file and tells the loop when it is on the disk, or says that it cannot."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.wal.kernel_writes import KernelWrites
from shared.wal.whole_blocks import ALIGNMENT, Blocks, BlockStage

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has it")


@pytest.fixture
def kernel() -> Iterator[KernelWrites]:
    kernel = KernelWrites.open()
    assert kernel is not None, "this system has no io_submit"
    yield kernel
    kernel.close()


async def written(kernel: KernelWrites, descriptor: int, blocks: Blocks) -> None:
    told: asyncio.Future[OSError | None] = asyncio.get_running_loop().create_future()
    kernel.start(asyncio.get_running_loop(), told.set_result)
    kernel.write(descriptor, blocks)
    error = await told
    if error is not None:
        raise error


async def test_one_write_after_the_other_is_told(kernel: KernelWrites, tmp_path: Path):
    stage, text = BlockStage(ALIGNMENT), b""
    descriptor = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT | os.O_DIRECT)
    try:
        for number in range(100):
            line = b"line %d\n" % number * number
            await written(kernel, descriptor, stage.stage(line, len(text)))
            text += line
            assert (tmp_path / "file").read_bytes().rstrip(b"\0") == text
    finally:
        os.close(descriptor)


async def test_what_cannot_be_written_is_an_error(kernel: KernelWrites):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        with pytest.raises(OSError):
            await written(kernel, writing, BlockStage(1).stage(b"x", 0))
    finally:
        os.close(writing)


async def test_a_descriptor_that_is_closed_is_an_error(kernel: KernelWrites):
    with pytest.raises(OSError, match="Bad file descriptor"):
        await written(kernel, 10_000, BlockStage(1).stage(b"x", 0))
