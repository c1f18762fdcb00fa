"""Where replicas lie on disk (protocol §13.5)."""

from __future__ import annotations

from pathlib import Path

import pytest

from replicaserver.storage import folders
from replicaserver.storage.folders import DataFolder, FolderError
from shared.pegasus.wire.structures.base import Gpid
from shared.pegasus.wire.structures.layer2 import AppInfo


@pytest.fixture
def disk(tmp_path: Path) -> DataFolder:
    return DataFolder("d", tmp_path)


def test_a_description_is_read_back_as_it_was_written(tmp_path: Path):
    app = AppInfo(1, "pegasus", "täble", 7, 4, {"default_ttl": "5"}, True, 3, 0, 1700000000, 0, False, -1, None, True)
    folders.save_description(tmp_path, app)
    folders.save_description(tmp_path, app)
    assert folders.load_description(tmp_path) == app
    assert [path.name for path in tmp_path.iterdir()] == [".app-info"]


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"{}", b'{"app_id":"7"}'])
def test_a_damaged_description_is_named(tmp_path: Path, content: bytes | None):
    if content is not None:
        (tmp_path / ".app-info").write_bytes(content)
    with pytest.raises(FolderError, match=r"\.app-info"):
        folders.load_description(tmp_path)


def test_replicas_are_found_by_their_names(disk: DataFolder):
    for name in ("2.0.pegasus", "2.10.pegasus", "2.x.pegasus", "2.0.pegasus.17.gar", "3.1.pegasus.18.err", "other"):
        (disk.path / name).mkdir()
    (disk.path / "4.0.pegasus").write_text("a file")
    assert set(disk.replicas()) == {Gpid(2, 0), Gpid(2, 10)}
    assert list(disk.orphaned("gar").values()) == [17]
    assert list(disk.orphaned("err").values()) == [18]


def test_a_replica_can_be_set_aside_twice_in_a_second(disk: DataFolder):
    for _ in range(2):
        (disk.path / "2.0.pegasus").mkdir()
        folders.set_aside(disk.path / "2.0.pegasus", "gar", 100)
    assert sorted(disk.orphaned("gar").values()) == [100, 101]


def test_data_folders_have_tags(tmp_path: Path):
    assert folders.parse_data_folders("", tmp_path) == [DataFolder("data1", tmp_path)]
    assert folders.parse_data_folders("a:/x, b:/y/z", tmp_path) == [
        DataFolder("a", Path("/x/reps")),
        DataFolder("b", Path("/y/z/reps")),
    ]
    for text, message in (("/x", "not of the form"), ("a:", "not of the form"), ("a:/x,a:/y", "stands twice")):
        with pytest.raises(ValueError, match=message):
            folders.parse_data_folders(text, tmp_path)


def test_a_folder_is_held_by_one_process(tmp_path: Path):
    with folders.take_hold(tmp_path), pytest.raises(FolderError, match="in use by another"):
        folders.take_hold(tmp_path)
    folders.take_hold(tmp_path).close()


def test_a_disk_is_measured(disk: DataFolder):
    total, free = disk.measure()
    assert 0 <= free <= total
