"""Exports on disk: bounded, without a name, and readable by whoever still sends one."""

from __future__ import annotations

from pathlib import Path

import pytest

from intake_server.sources.export_files import ExportFile, ExportFiles, FullError


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def files(clock: Clock) -> ExportFiles:
    return ExportFiles(1000, idle_s=60, clock=clock)


def made(files: ExportFiles, key: str, size: int) -> ExportFile:
    export = files.make(lambda sink: sink.write(key.encode() * size))
    files.cache.put(key, export, export.size)
    return export


def test_an_export_is_read_in_parts(files):
    export = files.make(lambda sink: [sink.write(b"hello "), sink.write(memoryview(b"world"))])
    assert export.size == 11
    assert (export.read(0, 5), export.read(6, 100), export.read(50, 5)) == (b"hello", b"world", b"")


def test_the_longest_unused_make_room_and_stay_readable_for_those_who_send_them(files):
    first = made(files, "a", 400)
    made(files, "b", 400)
    assert files.cache.get("a") is first
    made(files, "c", 400)
    assert files.cache.get("b") is None
    assert files.cache.get("a") is first
    made(files, "d", 1000)
    assert (len(files.cache), files.cache.size) == (1, 1000)
    assert first.read(0, 3) == b"aaa"


def test_idle_exports_go(files, clock):
    made(files, "a", 10)
    clock.now = 50
    made(files, "b", 10)
    clock.now = 100
    files.cache.sweep()
    assert (files.cache.get("a"), files.cache.size) == (None, 10)
    files.cache.clear()
    assert (len(files.cache), files.cache.size) == (0, 0)


def test_what_is_too_large_is_given_up_while_it_is_written(files):
    written = []

    def endless(sink):
        while True:
            written.append(sink.write(b"x" * 300))

    with pytest.raises(FullError):
        files.make(endless)
    assert sum(written) <= 1000


def test_no_file_is_seen_in_any_folder(files, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    made(files, "a", 500)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_exists_is_read_as_it_was_when_it_was_opened(tmp_path: Path):
    path = tmp_path / "data"
    path.write_bytes(b"old data")
    export = ExportFile.of(str(path))
    (tmp_path / "new").write_bytes(b"new data, longer")
    (tmp_path / "new").replace(path)
    assert (export.size, export.read(0, 100)) == (8, b"old data")
    with pytest.raises(OSError, match="No such file"):
        ExportFile.of(str(tmp_path / "nothing"))
