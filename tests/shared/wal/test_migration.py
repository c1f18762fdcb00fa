"""A log that an earlier release has written is taken over: nothing is lost, whatever interrupts that.

`first_format_logs.zip` was written by an earlier release, in three runs: the first was closed, the second killed,
the third closed in one of the two logs and killed in the other.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.errors import StartupError
from shared.wal.log import CommitLog
from shared.wal.segments import MAGIC
from tests.shared.wal.test_log import SMALL, append, replayed, running
from tests.shared.wal.test_recovery import PAYLOADS, change, found_with_loss, place_of

LOGS = Path(__file__).parent / "first_format_logs.zip"


@pytest.fixture(params=["closed", "killed"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A log of three runs, which were closed, killed, and either."""
    with zipfile.ZipFile(LOGS) as archive:
        archive.extractall(tmp_path)
    return tmp_path / str(request.param)


def formats(folder: Path) -> list[bytes]:
    return [file.read_bytes()[:8] for file in sorted(folder.glob("*.log"))]


async def test_everything_is_there_and_the_log_goes_on(folder: Path):
    async with running(folder) as log:
        assert await append(log, b"later") == 6
    assert set(formats(folder)) == {MAGIC}
    assert await replayed(folder) == [*PAYLOADS, b"later"]


async def test_segments_are_released_as_ever(folder: Path):
    async with running(folder) as log:
        await append(log, b"later")
        log.release(5)
        await log.released()
    assert await replayed(folder) == [*PAYLOADS[-10:], b"later"]


@pytest.mark.parametrize("count", range(6))
async def test_what_was_interrupted_goes_on_at_the_next_start(
    folder: Path, count: int, monkeypatch: pytest.MonkeyPatch
):
    replace, done = Path.replace, 0

    def stopped(self: Path, target: Path) -> Path:
        nonlocal done
        if done > count:
            raise OSError(28, "No space left on device")
        done += 1
        return replace(self, target)

    with monkeypatch.context() as interrupted:
        interrupted.setattr(Path, "replace", stopped)
        if count < 5:
            with pytest.raises(StartupError, match=r"cannot open the log .*: No space left on device"):
                await replayed(folder)
    assert await replayed(folder) == PAYLOADS
    assert set(formats(folder)) == {MAGIC}


async def test_a_segment_that_was_about_to_be_begun_is_no_loss(folder: Path):
    (folder / "00000006.log").write_bytes(bytes(SMALL))
    async with running(folder) as log:
        assert await append(log, b"later") == 7
    assert await replayed(folder) == [*PAYLOADS, b"later"]


async def test_a_log_that_was_killed_at_its_first_segment_is_taken_over(tmp_path: Path):
    (tmp_path / "00000001.log").write_bytes(bytes(SMALL))
    assert await replayed(tmp_path) == []


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda folder: (folder / "00000003.log").unlink(), "00000003.log is missing"),
        (lambda folder: change(folder / "00000003.log", 10), "00000003.log is missing or has a damaged header"),
        (lambda folder: change(folder / "00000003.log", 40), "00000003.log is damaged behind byte"),
    ],
    ids=["missing", "damaged header", "damaged block"],
)
async def test_what_is_lost_in_the_middle_of_a_run_stops_the_start_and_changes_nothing(
    folder: Path, damage: Callable[[Path], None], told: str
):
    damage(folder)
    before = formats(folder)
    with pytest.raises(StartupError, match=f"{told}.*give --accept-loss to go on without them"):
        await replayed(folder)
    assert formats(folder) == before
    assert not (folder / "manifest").exists()
    assert (await found_with_loss(folder)).count(None) == 1


async def test_what_is_behind_a_loss_is_found_when_the_loss_is_accepted(folder: Path):
    change(folder / "00000002.log", place_of(PAYLOADS[13], folder / "00000002.log"))
    assert await found_with_loss(folder) == [*PAYLOADS[:13], None, *PAYLOADS[28:]]


async def test_a_log_of_today_that_has_lost_its_manifest_is_no_log_of_an_earlier_release(folder: Path):
    assert await replayed(folder) == PAYLOADS
    (folder / "manifest").unlink()
    with pytest.raises(StartupError, match="manifest is missing"):
        CommitLog.open(folder)
