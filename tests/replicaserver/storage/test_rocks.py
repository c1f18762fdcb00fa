"""The rows of a replica in RocksDB (protocol §10.8, §13.5)."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from replicaserver.storage.engine import StoreError, StoreSettings
from replicaserver.storage.rocks import Durable, RocksStore
from replicaserver.table.compaction import DEEPEST, Order
from shared.pegasus.files.bulk_load import LoadInfo, LoadWriter
from shared.pegasus.wire.errors import RocksdbError
from shared.pegasus.wire.keys import encode_value
from tests.descriptors import no_descriptors


def fill(store: RocksStore, *keys: bytes) -> None:
    store.write({key: b"value of " + key for key in keys}, {})


def test_rows_are_read_in_the_order_of_their_keys(store: RocksStore):
    fill(store, b"b", b"d", b"a", b"c")
    assert [key for key, _ in store.scan(b"", b"")] == [b"a", b"b", b"c", b"d"]
    assert [key for key, _ in store.scan(b"b", b"d")] == [b"b", b"c"]
    assert [key for key, _ in store.scan(b"b", b"d", reverse=True)] == [b"c", b"b"]
    assert [key for key, _ in store.scan(b"b", b"", reverse=True)] == [b"d", b"c", b"b"]
    assert store.read(b"b", 2) == [(b"b", b"value of b"), (b"c", b"value of c")]
    assert list(store.scan(b"x", b"")) == []


def test_a_range_ends_where_it_should_when_nobody_else_holds_its_end(store: RocksStore):
    fill(store, *(b"a%02d" % number for number in range(50)), b"c")
    for _ in range(200):
        assert sum(1 for _ in store.scan(*(bytes([byte]) for byte in (97, 98)))) == 50
        assert sum(1 for _ in store.scan(b"a10", bytes([97]) + b"20", reverse=True)) == 10


def test_many_rows_are_read_at_once(store: RocksStore):
    fill(store, b"a", b"c")
    assert store.get_many([b"c", b"b", b"a"]) == [b"value of c", None, b"value of a"]
    assert store.get(b"b") is None


def test_a_store_that_could_open_no_file_is_opened_again_with_what_it_had(store: RocksStore):
    fill(store, b"a", b"b")
    store.flush()
    store.apply({b"a": None, b"b": b"other", b"c": b"new"}, {"decree": 7})
    with no_descriptors(), pytest.raises(StoreError, match="Too many open files"):
        store.flush()
    with pytest.raises(StoreError, match="Too many open files"):  # RocksDB has given up
        store.apply({b"d": b"refused"}, {})
    store.note_unwritten()
    store.reopen()
    assert list(store.scan(b"", b"")) == [(b"b", b"other"), (b"c", b"new")]
    assert store.durable().decree == 7
    store.persist(3)
    assert store.durable().logged == 3


def test_a_store_that_cannot_be_opened_again_is_tried_again(store: RocksStore):
    store.apply({b"a": b"v"}, {})
    with no_descriptors(), pytest.raises(StoreError, match="Too many open files"):
        store.flush()
    store.note_unwritten()
    with no_descriptors(), pytest.raises(StoreError, match="Too many open files"):
        store.reopen()
    with pytest.raises(StoreError):
        store.get(b"a")
    store.note_unwritten()
    store.reopen()
    assert store.get(b"a") == b"v"


def test_a_store_that_could_not_write_is_closed_all_the_same(tmp_path: Path, store_settings: StoreSettings):
    store = RocksStore(tmp_path / "rdb", store_settings)
    store.apply({b"a": b"v"}, {})
    with no_descriptors():
        with pytest.raises(StoreError, match="Too many open files"):
            store.flush()
        with capture_logs() as logged:
            store.close()
    assert "Too many open files" in logged[0]["reason"]
    RocksStore(tmp_path / "rdb", store_settings).close()


def test_a_store_that_could_not_be_opened_again_is_closed_all_the_same(tmp_path: Path, store_settings: StoreSettings):
    store = RocksStore(tmp_path / "rdb", store_settings)
    store.note_unwritten()
    with no_descriptors(), pytest.raises(StoreError, match="Too many open files"):
        store.reopen()
    store.close()
    store.close()
    RocksStore(tmp_path / "rdb", store_settings).close()


def test_a_damaged_file_is_an_error_and_not_the_end_of_the_rows(tmp_path: Path, store_settings: StoreSettings):
    first = RocksStore(tmp_path / "rdb", store_settings)
    keys = [b"%04d" % number for number in range(4000)]
    fill(first, *keys)
    first.flush()
    first.close()
    damage(tmp_path / "rdb")
    store = RocksStore(tmp_path / "rdb", store_settings)
    unread = []
    for key in keys:
        try:
            store.get(key)
        except StoreError as error:
            assert error.code == RocksdbError.CORRUPTION
            unread.append(key)
    assert unread
    first_unread, last_unread = unread[0], unread[-1]
    for failing in (
        lambda: store.get_many(keys),
        lambda: list(store.scan(b"", b"")),
        lambda: list(store.scan(first_unread, b"")),
        lambda: list(store.scan(b"0", b"9", reverse=True)),
        lambda: list(store.scan(b"", last_unread, reverse=True)),
        lambda: store.read(b"", 4000),
    ):
        with pytest.raises(StoreError, match="Corruption"):
            failing()
    assert [key for key, _ in store.scan(b"0000", b"0003")] == keys[:3]
    assert [key for key, _ in store.scan(b"3997", b"4000", reverse=True)] == keys[:-4:-1]
    store.close()


def damage(folder: Path) -> None:
    """Write nonsense into the middle of a store's largest file."""
    largest = max(folder.glob("*.sst"), key=lambda file: file.stat().st_size)
    with largest.open("r+b") as file:
        file.seek(largest.stat().st_size // 2)
        file.write(b"nonsense" * 16)


def test_rows_are_put_and_removed_together(store: RocksStore):
    fill(store, b"a")
    store.write({b"a": None, b"b": b"2"}, {"decree": 7})
    assert (store.get(b"a"), store.get(b"b"), store.durable().decree) == (None, b"2", 7)


def test_a_new_store_has_data_version_1(store: RocksStore):
    assert store.durable() == Durable(data_version=1, ballot=0, decree=0, compacted_s=0)


def test_what_was_written_is_there_after_it_is_opened_again(tmp_path: Path, store_settings: StoreSettings):
    first = RocksStore(tmp_path / "rdb", store_settings)
    fill(first, b"a")
    first.write({}, {"decree": 3, "ballot": 2})
    first.close()
    again = RocksStore(tmp_path / "rdb", store_settings)
    assert again.get(b"a") == b"value of a"
    assert again.durable() == Durable(1, 2, 3, 0)
    again.close()


def test_a_store_is_open_once(store: RocksStore, store_settings: StoreSettings):
    with pytest.raises(StoreError, match="lock"):
        RocksStore(store.path, store_settings)


def test_a_damaged_store_does_not_open(tmp_path: Path, store_settings: StoreSettings):
    RocksStore(tmp_path / "rdb", store_settings).close()
    (tmp_path / "rdb" / "CURRENT").write_text("MANIFEST-999999\n")
    with pytest.raises(StoreError):
        RocksStore(tmp_path / "rdb", store_settings)


def test_a_closed_store_refuses(tmp_path: Path, store_settings: StoreSettings):
    store = RocksStore(tmp_path / "rdb", store_settings)
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.write({b"a": b""}, {})
    with pytest.raises(StoreError, match="closed"):
        store.read(b"", 1)


@pytest.mark.parametrize("order", [Order(DEEPEST, False), Order(DEEPEST, True), Order(2, True), Order(6, False)])
def test_compacting_keeps_the_rows(store: RocksStore, order: Order):
    for number in range(3):
        fill(store, b"%d" % number, b"same")
        store.flush()
    store.compact(order)
    assert [key for key, _ in store.scan(b"", b"")] == [b"0", b"1", b"2", b"same"]
    assert store.files() >= 1


def test_what_lies_on_disk_is_measured(store: RocksStore):
    fill(store, b"a", b"b")
    store.flush()
    assert (store.files(), store.measure("estimate-num-keys")) == (1, 2)
    assert store.measure("total-sst-files-size") > 0
    assert store.measure("no-such-property") == 0


def test_options_change_while_the_store_is_open(store: RocksStore):
    store.set_options({"write_buffer_size": "16777216", "disable_auto_compactions": "true"})
    with pytest.raises(StoreError):
        store.set_options({"no_such_option": "1"})


def test_a_checkpoint_is_a_copy_as_of_now(tmp_path: Path, store: RocksStore, store_settings: StoreSettings):
    fill(store, b"a")
    store.checkpoint(tmp_path / "copy")
    fill(store, b"b")
    copy = RocksStore(tmp_path / "copy", store_settings)
    assert [key for key, _ in copy.scan(b"", b"")] == [b"a"]
    copy.close()
    with pytest.raises(StoreError):
        store.checkpoint(tmp_path / "no" / "such" / "folder")


def test_rows_and_notes_go_into_files_together(tmp_path: Path, store: RocksStore, store_settings: StoreSettings):
    """A flush that RocksDB begins by itself leaves files that have both as of one moment."""
    for number in range(40):
        store.apply({b"a": b"%d" % number, b"%d" % number: bytes(100_000)}, {"decree": number})
    shutil.copytree(tmp_path / "rdb", tmp_path / "copy", ignore=shutil.ignore_patterns("LOCK"))
    copy = RocksStore(tmp_path / "copy", store_settings)
    assert int(copy.get(b"a") or 0) == copy.durable().decree > 0
    copy.close()


def test_other_threads_run_while_a_checkpoint_is_made(
    tmp_path: Path, store: RocksStore, monkeypatch: pytest.MonkeyPatch
):
    """What is in memory is flushed before: the binding's own checkpoint would flush it and hold up all threads."""
    fill(store, b"a")
    seen = []
    flush = store.flush
    monkeypatch.setattr(store, "flush", lambda: (flush(), seen.append(store.measure("num-entries-active-mem-table"))))
    store.checkpoint(tmp_path / "copy")
    assert seen == [0]


def test_files_with_rows_are_added(tmp_path: Path, store: RocksStore):
    fill(store, b"\0\1hb")
    writer = LoadWriter(tmp_path / "load", LoadInfo(2, "temp", 1))
    writer.add([(b"h", b"b", b"from a file", 0), (b"h", b"a", b"from a file", 0)])
    writer.finish()
    store.ingest([tmp_path / "load" / "0" / "0.sst"])
    assert [key for key, _ in store.scan(b"", b"")] == [b"\0\1ha", b"\0\1hb"]
    assert store.get(b"\0\1hb") == encode_value(1, b"from a file")
    assert (tmp_path / "load" / "0" / "0.sst").exists()


def test_rows_that_are_there_win_over_files_that_are_added_behind(tmp_path: Path, store_settings: StoreSettings):
    writer = LoadWriter(tmp_path / "load", LoadInfo(2, "temp", 1))
    writer.add([(b"h", b"a", b"from a file", 0), (b"h", b"b", b"from a file", 0)])
    writer.finish()
    store = RocksStore(tmp_path / "rdb", replace(store_settings, allow_ingest_behind=True))
    fill(store, b"\0\1hb")
    store.flush()
    store.compact(Order(DEEPEST, True))
    store.ingest([tmp_path / "load" / "0" / "0.sst"], behind=True)
    assert dict(store.scan(b"", b"")) == {
        b"\0\1ha": encode_value(1, b"from a file"),
        b"\0\1hb": b"value of \0\1hb",
    }
    store.close()


def test_a_damaged_file_adds_nothing(tmp_path: Path, store: RocksStore):
    (tmp_path / "0.sst").write_bytes(b"garbage" * 100)
    with pytest.raises(StoreError, match="magic number"):
        store.ingest([tmp_path / "0.sst"])
    assert list(store.scan(b"", b"")) == []


def test_reading_ends_when_enough_bytes_are_read(store: RocksStore):
    fill(store, b"a", b"b", b"c")
    assert [key for key, _ in store.read(b"", 10, 15)] == [b"a", b"b"]  # a row has 11 bytes
