"""A log that has lost what it acknowledged does not start, and says which file it was; a torn end is no loss."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from shared.errors import StartupError
from shared.wal.files import SegmentFiles
from shared.wal.log import CommitLog
from shared.wal.segments import Piece
from tests.crashes import copy_as_it_is
from tests.shared.wal.test_log import SMALL, append, replayed, running

PAYLOADS = [b"payload %03d " % number + b"x" * 200 for number in range(60)]

Damage = Callable[[Path], None]


async def a_log(folder: Path, *, killed: bool = False) -> list[Path]:
    """A log of several segments, all of them needed, which was closed or killed; its files, oldest first."""
    async with running(folder.with_name("original")) as log:
        for payload in PAYLOADS:
            await append(log, payload)
        if killed:
            copy_as_it_is(folder.with_name("original"), folder)
    if not killed:
        copy_as_it_is(folder.with_name("original"), folder)
    return sorted(folder.glob("*.log"))


def change(file: Path, place: int) -> None:
    data = bytearray(file.read_bytes())
    data[place] ^= 0xFF
    file.write_bytes(data)


def place_of(payload: bytes, file: Path) -> int:
    return file.read_bytes().index(payload)


async def found_with_loss(folder: Path) -> list[bytes | None]:
    """What is replayed when losses are accepted; `None` where something is missing."""
    found: list[bytes | None] = []
    log = CommitLog.open(folder, segment_bytes=SMALL, accepts_loss=True)
    try:
        for _, payload in log.replay(lambda: found.append(None)):
            found.append(payload)
    finally:
        await log.close()
    return found


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("which", [0, 1, -2, -1])
async def test_a_segment_that_is_missing_stops_the_start(tmp_path: Path, which: int, killed: bool):
    files = await a_log(tmp_path / "log", killed=killed)
    files[which].unlink()
    with pytest.raises(StartupError, match=rf"{files[which].name} is missing, and acknowledged writes in it are lost"):
        await replayed(tmp_path / "log")


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("which", [0, 1, -2, -1])
async def test_a_segment_with_a_damaged_header_stops_the_start(tmp_path: Path, which: int, killed: bool):
    files = await a_log(tmp_path / "log", killed=killed)
    change(files[which], 20)
    with pytest.raises(StartupError, match=f"{files[which].name} has a damaged header"):
        await replayed(tmp_path / "log")


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("which", [0, 1, -2, -1])
async def test_a_damaged_block_before_others_stops_the_start(tmp_path: Path, which: int, killed: bool):
    files = await a_log(tmp_path / "log", killed=killed)
    change(files[which], 100)
    with pytest.raises(StartupError, match=rf"{files[which].name} is damaged between bytes \d+ and \d+"):
        await replayed(tmp_path / "log")


@pytest.mark.parametrize("which", [0, 1, -2])
async def test_damage_at_the_end_of_an_older_segment_stops_the_start(tmp_path: Path, which: int):
    files = await a_log(tmp_path / "log", killed=True)
    last = [payload for payload in PAYLOADS if payload in files[which].read_bytes()][-1]
    change(files[which], place_of(last, files[which]))
    with pytest.raises(StartupError, match=f"{files[which].name} is damaged"):
        await replayed(tmp_path / "log")


@pytest.mark.parametrize("which", [0, -1])
async def test_a_segment_that_was_cut_off_stops_the_start(tmp_path: Path, which: int):
    files = await a_log(tmp_path / "log", killed=True)
    with files[which].open("r+b") as file:
        file.truncate(place_of(PAYLOADS[-1] if which == -1 else PAYLOADS[3], files[which]))
    with pytest.raises(StartupError, match=f"{files[which].name} is (cut off|damaged)"):
        await replayed(tmp_path / "log")


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_bytes(bytes(8192))], ids=["missing", "zeros"])
async def test_a_log_without_its_manifest_does_not_start(tmp_path: Path, damage: Damage):
    await a_log(tmp_path / "log")
    damage(tmp_path / "log" / "manifest")
    with pytest.raises(StartupError, match=r"manifest is (missing|damaged), so that nobody can tell"):
        await replayed(tmp_path / "log")
    assert await found_with_loss(tmp_path / "log") == PAYLOADS


async def test_a_manifest_whose_last_change_was_torn_loses_nothing(tmp_path: Path):
    await a_log(tmp_path / "log", killed=True)
    for slot in (0, 4096):
        folder = copy_as_it_is(tmp_path / "log", tmp_path / str(slot))
        change(folder / "manifest", slot + 30)
        assert await replayed(folder) == PAYLOADS


async def test_what_is_behind_a_loss_is_found_when_the_loss_is_accepted(tmp_path: Path):
    files = await a_log(tmp_path / "log", killed=True)
    files[1].unlink()
    change(files[2], place_of(b"payload", files[2]))
    with capture_logs() as logged:
        found = await found_with_loss(tmp_path / "log")
    second = found.index(None) + 1
    assert found.count(None) == 2
    assert found[:second] + found[-5:] == [*PAYLOADS[: second - 1], None, *PAYLOADS[-5:]]
    told = [line["reason"] for line in logged if line["event"] == "acknowledged writes are lost, and that was accepted"]
    assert told[0] == "is missing"
    assert told[1].startswith("is damaged between bytes")


async def test_a_log_that_went_on_without_what_is_lost_starts_again(tmp_path: Path):
    files = await a_log(tmp_path / "log")
    files[0].unlink()
    log = CommitLog.open(tmp_path / "log", segment_bytes=SMALL, accepts_loss=True)
    kept = [payload for _, payload in log.replay()]
    log.start()
    await append(log, kept[-1])
    log.release(log.segment)
    await log.close()
    assert await replayed(tmp_path / "log") == [kept[-1]]


async def test_a_torn_end_is_dropped_and_logged_and_what_comes_later_is_there(tmp_path: Path):
    files = await a_log(tmp_path / "log", killed=True)
    last = place_of(PAYLOADS[-1], files[-1])
    data = files[-1].read_bytes()
    files[-1].write_bytes(data[: last + 50] + random.Random(1).randbytes(len(data) - last - 50))
    with capture_logs() as logged:
        async with running(tmp_path / "log") as log:
            await append(log, b"later")
    assert [line["file"] for line in logged if line["event"] == "unacknowledged end of the log dropped"] == [
        str(files[-1])
    ]
    assert await replayed(tmp_path / "log") == [*PAYLOADS[:-1], b"later"]


async def test_a_crash_before_the_first_write_of_a_segment_loses_nothing(tmp_path: Path):
    files = await a_log(tmp_path / "log", killed=True)
    begun = files[-1].with_name(f"{int(files[-1].stem) + 1:08d}.log")
    begun.write_bytes(bytes(SMALL))
    assert await replayed(tmp_path / "log") == PAYLOADS
    begun.write_bytes(files[0].read_bytes())  # a file that is used again
    assert await replayed(tmp_path / "log") == PAYLOADS


async def test_what_failed_is_not_found_although_it_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The write was whole and its sync failed: whoever waited was told that it failed."""
    async with running(tmp_path / "log") as log:
        await append(log, b"before")
        write = SegmentFiles.write

        def failing(files: SegmentFiles, pieces: Sequence[Piece]) -> None:
            write(files, pieces)
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as broken:
            broken.setattr(SegmentFiles, "write", failing)
            results = await asyncio.gather(append(log, b"failed"), append(log, b"x" * SMALL), return_exceptions=True)
        assert [type(result) for result in results] == [OSError] * 2
        await append(log, b"after")
        assert await replayed(copy_as_it_is(tmp_path / "log", tmp_path / "crashed")) == [b"before", b"after"]


async def test_random_damage_is_never_passed_over(tmp_path: Path):
    """Whatever byte of the log's files is changed, everything is there, or the start says what is not."""
    chance = random.Random(5)
    await a_log(tmp_path / "log", killed=True)
    whole = await replayed(tmp_path / "log")
    refused = 0
    for number in range(150):
        folder = copy_as_it_is(tmp_path / "original", tmp_path / "damaged")
        file = chance.choice([*folder.glob("*.log")])
        change(file, chance.randrange(SMALL))
        try:
            found = await replayed(folder)
        except StartupError as error:
            assert file.name in str(error), number
            refused += 1
        else:
            assert found == whole, number
    assert refused > 50
