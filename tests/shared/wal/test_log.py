"""What a commit log has acknowledged is there afterwards, in order; what failed is said to have failed."""

from __future__ import annotations

import asyncio
import errno
import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from shared.errors import StartupError
from shared.wal.files import SegmentFiles
from shared.wal.log import CommitLog
from tests.crashes import copy_as_it_is

SMALL = 4096


LINUX_ALONE = ("RWF_DSYNC", "RWF_SYNC")


@pytest.fixture(params=["linux", "elsewhere"], autouse=True)
def syncing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs with what Linux has, and without what it alone has."""
    if request.param == "elsewhere":
        for name in LINUX_ALONE:
            monkeypatch.delattr(os, name, raising=False)


@asynccontextmanager
async def running(folder: Path, segment_bytes: int = SMALL) -> AsyncIterator[CommitLog]:
    log = CommitLog.open(folder, segment_bytes=segment_bytes)
    list(log.replay())
    log.start()
    yield log
    await log.close()


async def append(log: CommitLog, payload: bytes) -> int:
    stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def done(error: OSError | None) -> None:
        if error is None:
            stored.set_result(None)
        else:
            stored.set_exception(error)

    segment = log.append(payload, done)
    await stored
    return segment


async def replayed(folder: Path, segment_bytes: int = SMALL) -> list[bytes]:
    """What another process would find after a crash: the folder is read without being closed first."""
    log = CommitLog.open(folder, segment_bytes=segment_bytes)
    try:
        return [payload for _, payload in log.replay()]
    finally:
        await log.close()


async def test_what_was_acknowledged_is_replayed_in_order(tmp_path: Path):
    payloads = [random.Random(n).randbytes(n * 7 % 400) for n in range(200)]
    async with running(tmp_path / "log") as log:
        for payload in payloads:
            await append(log, payload)
        assert await replayed(copy_as_it_is(tmp_path / "log", tmp_path / "crashed")) == payloads
    assert await replayed(tmp_path / "log") == payloads


async def test_a_log_goes_on_where_an_earlier_run_ended(tmp_path: Path):
    for payload in (b"first", b"second", b"third"):
        async with running(tmp_path / "log") as log:
            await append(log, payload)
    assert await replayed(tmp_path / "log") == [b"first", b"second", b"third"]


async def test_all_who_come_in_one_turn_of_the_loop_share_a_sync(tmp_path: Path):
    async with running(tmp_path / "log", 1 << 20) as log:
        await asyncio.gather(*(append(log, b"%d" % n) for n in range(500)))
        assert log.syncs == 1
    assert await replayed(tmp_path / "log", 1 << 20) == [b"%d" % n for n in range(500)]


async def test_many_callers_that_come_back_soon_share_every_sync(tmp_path: Path):
    async def client(log: CommitLog, turns: int) -> None:
        for number in range(50):
            await append(log, b"%d" % number)
            for _ in range(turns):
                await asyncio.sleep(0)

    async with running(tmp_path / "log", 1 << 20) as log:
        await asyncio.gather(*(client(log, number % 2) for number in range(8)))
        assert log.syncs < 60


async def test_a_callback_is_called_once_when_the_disk_is_free(tmp_path: Path):
    events: list[str] = []

    def saying(event: str) -> Callable[[OSError | None], None]:
        return lambda _error: events.append(event)

    async with running(tmp_path / "log", 1 << 20) as log:

        def callback() -> None:
            events.append("called")
            log.append(b"second", saying("second"))

        log.append(b"first", saying("first"))
        await asyncio.sleep(0)  # it is on its way to the disk
        log.before_sync(callback)
        await log.drained()
        log.before_sync(lambda: events.append("called, and had nothing"))
        await log.drained()
        assert events == ["first", "called", "second", "called, and had nothing"]
        assert log.syncs == 2
    assert await replayed(tmp_path / "log", 1 << 20) == [b"first", b"second"]


async def test_a_callback_that_fails_harms_nobody_else(tmp_path: Path):
    failures: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: failures.append(str(context["exception"])))

    def fail() -> None:
        raise RuntimeError("a bug")

    async with running(tmp_path / "log", 1 << 20) as log:
        stored = [asyncio.get_running_loop().create_future() for _ in range(2)]
        log.before_sync(lambda: log.append(b"before", stored[0].set_result))
        log.before_sync(fail)
        log.before_sync(lambda: log.append(b"after", stored[1].set_result))
        assert await asyncio.gather(*stored) == [None, None]
    assert failures == ["a bug"]
    assert await replayed(tmp_path / "log", 1 << 20) == [b"before", b"after"]


@pytest.mark.parametrize("fails", [False, True])
async def test_one_who_fails_when_told_harms_nobody_else(tmp_path: Path, fails: bool, monkeypatch: pytest.MonkeyPatch):
    told: list[str] = []

    def bug(_error: OSError | None) -> None:
        raise RuntimeError("a bug")

    async with running(tmp_path / "log") as log:
        await append(log, b"alone")
        with monkeypatch.context() as broken, capture_logs() as logged:
            if fails:
                broken.setattr(SegmentFiles, "write", full)
            log.append(b"first", lambda _error: told.append("first"))
            log.append(b"second", bug)
            log.append(b"third", lambda _error: told.append("third"))
            await log.drained()
        assert told == ["first", "third"]
        assert [str(line["exc_info"]) for line in logged if "exc_info" in line] == ["a bug"]
        await append(log, b"later")


def full(*_arguments: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_callers_are_told_in_the_order_in_which_they_came(tmp_path: Path):
    told: list[int] = []

    def telling(number: int) -> Callable[[OSError | None], None]:
        return lambda error: told.append(number)

    async with running(tmp_path / "log") as log:
        for number in range(1000):
            log.append(b"x" * 30, telling(number))
            if number % 37 == 0:
                await asyncio.sleep(0)
        await log.drained()
        assert told == list(range(1000))


async def test_a_payload_lies_in_the_segment_that_append_has_named(tmp_path: Path):
    async with running(tmp_path / "log") as log:
        named = [(await append(log, b"%d" % n * 100), b"%d" % n * 100) for n in range(200)]
    again = CommitLog.open(tmp_path / "log", segment_bytes=SMALL)
    assert list(again.replay()) == named
    assert named[-1][0] > named[0][0]
    await again.close()


async def test_released_segments_are_gone_and_their_files_are_used_again(tmp_path: Path):
    folder = tmp_path / "log"
    async with running(folder) as log:
        for round_ in range(50):
            segment = 0
            for n in range(20):
                segment = await append(log, b"%d %d " % (round_, n) + b"x" * 200)
            log.release(segment)
        assert log.oldest == segment == log.segment
        assert log.size_bytes == SMALL
        last = copy_as_it_is(folder, tmp_path / "crashed")
    assert (await replayed(last))[-1].startswith(b"49 19 ")
    assert {payload[:2] for payload in await replayed(folder)} <= {b"48", b"49"}
    assert sum(file.stat().st_size for file in folder.iterdir() if file.name != "manifest") <= 4 * SMALL


async def test_a_segment_that_is_still_written_to_is_not_released(tmp_path: Path):
    async with running(tmp_path / "log") as log:
        first = await append(log, b"first")
        waiting = [asyncio.ensure_future(append(log, b"x" * 2000)) for _ in range(5)]
        await asyncio.sleep(0)
        assert log.segment > first
        log.release(log.segment)  # nobody needs what is there, but its end is not written yet
        assert log.oldest == first
        await asyncio.gather(*waiting)
        log.release(log.segment)
        assert log.oldest == log.segment


async def test_a_payload_larger_than_a_segment_has_one_of_its_own(tmp_path: Path):
    payloads = [b"small", b"x" * (3 * SMALL), b"after"]
    async with running(tmp_path / "log") as log:
        segments = [await append(log, payload) for payload in payloads]
        assert segments == sorted(set(segments))
    assert await replayed(tmp_path / "log") == payloads


async def test_one_process_at_a_time_has_a_log(tmp_path: Path):
    async with running(tmp_path / "log"):
        with pytest.raises(StartupError, match="in use by another process"):
            CommitLog.open(tmp_path / "log")


async def test_a_folder_that_cannot_be_made_is_a_startup_error(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match=r"cannot open the log .*: Not a directory"):
        CommitLog.open(tmp_path / "file" / "log")


async def test_a_write_that_fails_is_told_to_all_who_wait_and_later_ones_succeed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with running(tmp_path / "log") as log:
        await append(log, b"before")

        def failing(*arguments: object) -> int:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(os, "pwritev", failing)
            results = await asyncio.gather(*(append(log, b"lost %d" % n) for n in range(3)), return_exceptions=True)
        assert [type(result) for result in results] == [OSError] * 3
        await append(log, b"after")
    assert await replayed(tmp_path / "log") == [b"before", b"after"]


async def test_an_unforeseen_error_is_told_to_who_waits_and_later_writes_succeed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with running(tmp_path / "log") as log:
        with monkeypatch.context() as patched:

            def fail(*_: object) -> None:
                raise AttributeError("unforeseen")

            patched.setattr(SegmentFiles, "begin", fail)
            with pytest.raises(OSError, match="AttributeError: unforeseen"):
                await append(log, b"failed")
        await append(log, b"after")
    assert await replayed(tmp_path / "log") == [b"after"]


async def test_a_file_that_could_not_be_made_ahead_is_made_when_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    prepare, times = SegmentFiles.make_next, 0

    def full_once(files: SegmentFiles) -> None:
        nonlocal times
        times += 1
        if times == 2:  # the file after the first one, long before it is needed
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        prepare(files)

    monkeypatch.setattr(SegmentFiles, "make_next", full_once)
    async with running(tmp_path) as log:
        for _ in range(5):
            await append(log, bytes(SMALL // 2))
        assert log.segment > 2


async def test_a_system_that_cannot_write_and_sync_at_once_does_it_in_two_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write = os.pwritev

    def unsupported(descriptor: int, parts: list[bytes], offset: int, flags: int) -> int:
        if flags:
            raise OSError(95, "Operation not supported")
        return write(descriptor, parts, offset)

    monkeypatch.setattr(os, "pwritev", unsupported)
    async with running(tmp_path / "log") as log:
        await append(log, b"one")
    assert await replayed(tmp_path / "log") == [b"one"]


async def test_large_and_small_payloads_share_a_segment(tmp_path: Path):
    payloads = [random.Random(size).randbytes(size) for size in (10, 3_000_000, 1, 200_000, 4095, 4096, 1 << 20, 7)]
    async with running(tmp_path / "log", 16 << 20) as log:
        for payload in payloads:
            await append(log, payload)
    assert await replayed(tmp_path / "log", 16 << 20) == payloads
