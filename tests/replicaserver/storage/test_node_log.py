"""The node's log and the stores of its replicas: what was answered is there after any end (protocol §13.5).

A crash is a copy of the folders as they are while everything is open.
"""

from __future__ import annotations

import asyncio
import shutil
import zipfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from replicaserver.storage.engine import StoreError, StoreSettings
from replicaserver.storage.log_records import Origin, encode_record
from replicaserver.storage.node_log import KEPT_SEGMENTS
from replicaserver.storage.recovery import OrphanedRecords
from replicaserver.storage.rocks import RocksStore
from shared.errors import StartupError
from shared.pegasus.wire.structures.base import Gpid
from shared.wal.files import SegmentFiles
from shared.wal.log import CommitLog
from tests.replicaserver.storage.logs import ONE, TWO, Opened, written


@pytest.fixture
async def opened(tmp_path: Path, store_settings: StoreSettings) -> AsyncIterator[Opened]:
    it = Opened(tmp_path / "node", store_settings)
    yield it
    await it.close()


async def test_what_was_written_is_there_after_a_crash(opened: Opened, tmp_path: Path, store_settings: StoreSettings):
    await opened.write({b"a": b"1", b"b": b"2"}, decree=1)
    await opened.write({b"a": None}, decree=2)
    await opened.write({b"c": b"3"}, TWO, ballot=7)
    opened.crash(tmp_path / "copy")
    for _ in range(2):  # a second start finds nothing to do, and changes nothing
        again = Opened(tmp_path / "copy", store_settings)
        assert (again.rows(), again.rows(TWO)) == ({b"b": b"2"}, {b"c": b"3"})
        assert (again.stores[ONE].durable().decree, again.stores[TWO].durable().ballot) == (2, 7)
        await again.close()


async def test_nothing_is_seen_before_it_is_synced(opened: Opened):
    future = written(opened.logs[ONE], {b"a": b"1"}, {})
    assert opened.rows() == {}
    await future
    assert opened.rows() == {b"a": b"1"}


async def test_replicas_that_write_together_share_a_sync(opened: Opened):
    await opened.write({b"a": b"0"})
    syncs = opened.commit_log.syncs
    await asyncio.gather(*(written(log, {b"a": b"1"}, {}) for log in opened.logs.values()))
    assert opened.commit_log.syncs == syncs + 1


async def test_a_store_whose_files_are_ahead_of_what_it_notes_ends_in_the_same_rows(
    opened: Opened, tmp_path: Path, store_settings: StoreSettings
):
    await opened.write({b"a": b"1"})
    await opened.write({b"a": b"2", b"b": b"2"})
    await opened.write({b"b": None})
    opened.stores[ONE].flush()
    assert opened.stores[ONE].durable().logged == 0
    opened.crash(tmp_path / "copy")
    again = Opened(tmp_path / "copy", store_settings)
    assert again.rows() == {b"a": b"2"}
    await again.close()


async def test_rows_that_come_while_files_catch_up_are_not_lost(
    opened: Opened, tmp_path: Path, store_settings: StoreSettings
):
    for round_ in range(5):
        persisting = asyncio.create_task(opened.logs[ONE].persist())
        for number in range(20):
            await opened.write({b"%d.%d" % (round_, number): b""}, decree=round_ * 20 + number)
        await persisting
        opened.crash(tmp_path / str(round_))
        again = Opened(tmp_path / str(round_), store_settings)
        assert len(again.rows()) == 20 * (round_ + 1)
        assert again.stores[ONE].durable().decree == round_ * 20 + 19
        await again.close()


async def test_a_log_stays_bounded_and_loses_nothing(opened: Opened, tmp_path: Path, store_settings: StoreSettings):
    await opened.write({b"rarely written": b"1"}, TWO)
    await opened.fill(3 * KEPT_SEGMENTS)
    await opened.logs[ONE].persist()
    await opened.fill(1)
    assert len(list((tmp_path / "node" / "slog").glob("*.log"))) <= KEPT_SEGMENTS + 2
    assert opened.stores[TWO].durable().logged == 1
    opened.crash(tmp_path / "copy")
    again = Opened(tmp_path / "copy", store_settings)
    assert again.rows() == opened.rows()
    assert again.rows(TWO) == {b"rarely written": b"1"}
    await again.close()


async def test_a_store_that_cannot_catch_up_keeps_its_part_of_the_log(
    opened: Opened, tmp_path: Path, store_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
):
    await opened.write({b"a": b"1"}, TWO)

    def full(_logged: int) -> None:
        raise StoreError("IO error: No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(opened.stores[TWO], "persist", full)
        await opened.fill(2 * KEPT_SEGMENTS)
        with pytest.raises(StoreError, match="No space"):
            await opened.logs[TWO].persist()
    opened.crash(tmp_path / "copy")
    again = Opened(tmp_path / "copy", store_settings)
    assert again.rows(TWO) == {b"a": b"1"}
    await again.close()


def refuse(*_arguments: object, **_how: object) -> None:
    raise StoreError("IO error: No space left on device")


def segments(opened: Opened) -> int:
    return len(list((opened.folder / "slog").glob("*.log")))


async def test_a_store_that_cannot_catch_up_does_not_keep_the_log_from_being_trimmed(
    opened: Opened, tmp_path: Path, store_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
):
    await opened.write({b"a": b"1"}, TWO, decree=1)
    with monkeypatch.context() as broken:
        broken.setattr(opened.stores[TWO], "persist", refuse)
        await opened.fill(2 * KEPT_SEGMENTS)
        await opened.write({b"a": b"2"}, TWO, decree=2)
        await opened.fill(3 * KEPT_SEGMENTS)
        await eventually_fewer(opened, KEPT_SEGMENTS + 3)
        opened.crash(tmp_path / "copy")
        assert opened.logs[TWO].durable_decree == 0
    again = Opened(tmp_path / "copy", store_settings)
    assert (again.rows(TWO), again.stores[TWO].durable().decree) == ({b"a": b"2"}, 2)
    await again.close()
    await opened.logs[TWO].persist()
    assert (opened.stores[TWO].durable().logged, opened.logs[TWO].durable_decree) == (2, 2)
    assert list((tmp_path / "node" / "slog" / "left").iterdir()) == []


async def eventually_fewer(opened: Opened, most: int) -> None:
    """Trimming goes on beside the writes."""
    async with asyncio.timeout(30):
        while segments(opened) > most:
            await opened.fill(1)


async def test_a_store_whose_files_do_not_catch_up_when_it_is_closed_does_not_keep_the_log_either(
    opened: Opened, tmp_path: Path, store_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
):
    await opened.write({b"a": b"1"}, TWO)
    monkeypatch.setattr(opened.stores[TWO], "persist", refuse)
    with pytest.raises(StoreError, match="No space"):
        await opened.logs.pop(TWO).close()
    await opened.fill(2 * KEPT_SEGMENTS)
    await eventually_fewer(opened, KEPT_SEGMENTS + 3)
    opened.crash(tmp_path / "copy")
    again = Opened(tmp_path / "copy", store_settings)
    assert again.rows(TWO) == {b"a": b"1"}
    await again.close()


async def test_records_that_cannot_be_kept_apart_stay_in_the_log(
    opened: Opened, tmp_path: Path, store_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
):
    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    await opened.write({b"a": b"1"}, TWO)
    with monkeypatch.context() as broken:
        broken.setattr(opened.stores[TWO], "persist", refuse)
        broken.setattr(opened.node_log.orphans, "add", full)
        await opened.fill(2 * KEPT_SEGMENTS)
        assert segments(opened) > KEPT_SEGMENTS + 3
        opened.crash(tmp_path / "copy")
    again = Opened(tmp_path / "copy", store_settings)
    assert again.rows(TWO) == {b"a": b"1"}
    await again.close()


async def test_a_store_that_cannot_take_its_records_does_not_stop_the_others(
    opened: Opened, tmp_path: Path, store_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
):
    await opened.write({b"a": b"1"}, ONE)
    await opened.write({b"a": b"2"}, TWO)
    await opened.write({b"b": b"2"}, TWO)
    opened.crash(tmp_path / "copy")
    with monkeypatch.context() as broken:
        broken.setattr(RocksStore, "persist", failing_for(str(TWO), RocksStore.persist))
        again = Opened(tmp_path / "copy", store_settings)
        assert again.behind == {TWO: "IO error: No space left on device"}
        assert again.rows() == {b"a": b"1"}
        del again.logs[TWO]
        await again.fill(2 * KEPT_SEGMENTS)
        await again.close()
    later = Opened(tmp_path / "copy", store_settings)
    assert (later.behind, later.rows(TWO)) == ({}, {b"a": b"2", b"b": b"2"})
    await later.close()


def failing_for(name: str, persist: Callable[[RocksStore, int], None]) -> Callable[[RocksStore, int], None]:
    def fail_for_one(store: RocksStore, logged: int) -> None:
        if store.path.name == name:
            refuse()
        persist(store, logged)

    return fail_for_one


async def test_a_store_that_was_closed_in_good_order_can_be_taken_elsewhere(
    opened: Opened, store_settings: StoreSettings
):
    await opened.write({b"a": b"1"}, decree=5)
    await opened.close()
    store = RocksStore(opened.folder / str(ONE), store_settings)
    assert (store.get(b"a"), store.durable().decree) == (b"1", 5)
    store.close()


async def test_a_new_store_of_the_same_partition_does_not_get_the_old_ones_rows(
    opened: Opened, tmp_path: Path, store_settings: StoreSettings
):
    await opened.write({b"a": b"1"})
    opened.crash(tmp_path / "copy")
    (tmp_path / "copy" / str(ONE)).rename(tmp_path / "away")
    again = Opened(tmp_path / "copy", store_settings)
    assert again.rows() == {}
    await again.close()


async def test_a_store_that_comes_back_gets_what_the_log_had_of_it(
    opened: Opened, tmp_path: Path, store_settings: StoreSettings
):
    await opened.write({b"a": b"1"})
    await opened.write({b"b": b"2"})
    opened.crash(tmp_path / "copy")
    (tmp_path / "copy" / str(ONE)).rename(tmp_path / "away")
    for _ in range(3):
        without = Opened(tmp_path / "copy", store_settings, (TWO,))
        await without.fill(KEPT_SEGMENTS, TWO)
        await without.close()
    (tmp_path / "away").rename(tmp_path / "copy" / str(ONE))
    again = Opened(tmp_path / "copy", store_settings)
    assert again.rows() == {b"a": b"1", b"b": b"2"}
    assert list((tmp_path / "copy" / "slog" / "left").iterdir()) == []
    await again.close()


async def test_a_store_that_was_closed_in_good_order_leaves_nothing(
    opened: Opened, tmp_path: Path, store_settings: StoreSettings
):
    await opened.write({b"a": b"1"})
    await opened.logs[ONE].close()
    await opened.write({b"b": b"1"}, TWO)
    opened.crash(tmp_path / "copy")
    without = Opened(tmp_path / "copy", store_settings, (TWO,))
    assert not (tmp_path / "copy" / "slog" / "left").exists()
    await without.close()
    del opened.logs[ONE]


async def test_a_round_that_cannot_be_stored_at_once_is_stored_all_the_same(
    opened: Opened, store_settings: StoreSettings
):
    for number in range(60):  # more than the memtables take while files are being written
        await opened.write({b"%d" % number: bytes(200_000)})
    assert len(opened.rows()) == 60
    await opened.write({b"large": bytes(1_000_000)})
    assert opened.stores[ONE].get(b"large") == bytes(1_000_000)


async def test_a_log_that_cannot_be_written_fails_the_round(opened: Opened, monkeypatch: pytest.MonkeyPatch):
    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(SegmentFiles, "write", full)
        with pytest.raises(StoreError, match="No space left"):
            await opened.write({b"a": b"1"})
    assert opened.rows() == {}


async def test_what_failed_is_not_taken_back_once_it_was_passed_over(
    opened: Opened, tmp_path: Path, store_settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
):
    """The record is in the log, because it is the store that failed: a start would apply it."""

    def full(*_arguments: object, **_how: object) -> None:
        raise StoreError("IO error: No space left on device")

    await opened.write({b"a": b"1", b"b": b"1"})
    with monkeypatch.context() as broken:
        broken.setattr(opened.stores[ONE], "apply", full)
        with pytest.raises(StoreError, match="No space left"):
            await opened.write({b"a": b"2", b"b": b"2"})
    opened.crash(tmp_path / "before")
    await opened.logs[ONE].skip_failed()
    await opened.write({b"a": b"3"})
    opened.crash(tmp_path / "after")
    for name, rows in (("before", {b"a": b"2", b"b": b"2"}), ("after", {b"a": b"3", b"b": b"1"})):
        again = Opened(tmp_path / name, store_settings)
        assert again.rows() == rows, name
        await again.close()


async def test_a_log_that_has_lost_writes_ends_the_start_and_goes_on_when_that_is_accepted(
    opened: Opened, tmp_path: Path, store_settings: StoreSettings
):
    await opened.write({b"a": b"1"})
    await opened.fill(2)
    await opened.write({b"b": b"1"})
    opened.crash(tmp_path / "copy")
    first = min((tmp_path / "copy" / "slog").glob("*.log"))
    first.unlink()
    with pytest.raises(StartupError, match=f"{first.name} is missing, and acknowledged writes in it are lost"):
        Opened(tmp_path / "copy", store_settings)
    shutil.copytree(tmp_path / "copy", tmp_path / "another", ignore=shutil.ignore_patterns("LOCK"))
    for _ in range(2):
        again = Opened(tmp_path / "another", store_settings, accepts_loss=True)
        assert again.stores[ONE].get(b"a") is None
        assert again.stores[ONE].get(b"b") == b"1"
        await again.close()
    await Opened(tmp_path / "another", store_settings).close()


async def test_records_of_an_absent_store_that_were_damaged_are_not_passed_over(tmp_path: Path, opened: Opened):
    left, origin = OrphanedRecords(tmp_path / "left"), opened.logs[ONE].origin
    payloads = [encode_record(origin, number, {}, {b"key": b"value %d" % number}) for number in (1, 2)]
    left.add(origin, payloads)
    (file,) = (tmp_path / "left").iterdir()
    data = file.read_bytes()
    for damaged in (data[:-1], data[:40] + b"x" + data[41:], data + b"x"):
        file.write_bytes(damaged)
        with pytest.raises(StartupError, match=rf"{file.name} is damaged at byte \d+"):
            list(left.of(origin))
        assert len(list(OrphanedRecords(tmp_path / "left", accepts_loss=True).of(origin))) < 3


async def test_a_record_of_somebody_else_ends_the_start(tmp_path: Path, store_settings: StoreSettings):
    foreign = CommitLog.open(tmp_path / "slog")
    foreign.start()
    foreign.append(b"not a record", lambda _error: None)
    await foreign.close()
    with pytest.raises(StartupError, match="the log of writes, segment 1: a record"):
        Opened(tmp_path, store_settings)


async def test_records_that_nobody_comes_for_are_forgotten(tmp_path: Path, opened: Opened):
    await opened.write({b"a": b"1"})
    left = OrphanedRecords(tmp_path / "left")
    left.delete_older(0)
    origin = opened.logs[ONE].origin
    left.add(origin, [])
    left.delete_older(0)
    assert len(list((tmp_path / "left").iterdir())) == 1
    left.delete_older(2**40, {origin.gpid})
    assert len(list((tmp_path / "left").iterdir())) == 1
    left.delete_older(2**40)
    assert list((tmp_path / "left").iterdir()) == []


async def test_a_node_of_an_earlier_release_loses_nothing(tmp_path: Path, store_settings: StoreSettings):
    with zipfile.ZipFile(Path(__file__).parent / "first_format_node.zip") as archive:
        archive.extractall(tmp_path)
    for _ in range(2):
        again = Opened(tmp_path / "node", store_settings)
        assert again.rows() == {b"key %02d" % number: b"v" * 200 for number in range(1, 30)}
        assert (again.rows(TWO), again.stores[TWO].durable().ballot) == ({b"two": b"2"}, 7)
        absent = Origin(Gpid(9, 1), 5)
        assert [record.number for record in again.node_log.orphans.of(absent)][:2] == [1, 2]
        again.node_log.orphans.add(absent, [encode_record(absent, 3, {}, {b"k": b"v"})])
        assert [record.number for record in again.node_log.orphans.of(absent)] == [1, 2, 3]
        await again.close()
