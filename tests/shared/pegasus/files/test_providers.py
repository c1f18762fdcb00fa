"""Files of bulk loads and backups under the names that tools use (protocol §1)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.pegasus.files.providers import FileProvider, FileProviders, ProviderError, md5_of


@pytest.fixture
def provider(tmp_path: Path) -> FileProvider:
    return FileProvider(str(tmp_path / "remote"))


def test_providers_have_names(tmp_path: Path):
    providers = FileProviders.parse([f"local_service={tmp_path}", "memory=memory://files"])
    assert providers.get("local_service") is providers.get("local_service")
    assert providers.get("nobody") is None
    memory = providers.get("memory")
    assert memory is not None
    memory.write("a/b", b"1")
    assert memory.read("a/b") == b"1"


@pytest.mark.parametrize("item", ["", "name", "=url", "name="])
def test_a_provider_needs_a_name_and_a_url(item: str):
    with pytest.raises(ValueError, match="NAME=URL"):
        FileProviders.parse([item])


def test_a_url_that_cannot_be_used_is_refused_at_once():
    with pytest.raises(ValueError, match=r"'x=zzz://foo': files at zzz:// cannot be used: .*zzz"):
        FileProviders.parse(["x=zzz://foo"])


def test_a_url_that_nobody_knows_is_an_error():
    with pytest.raises(ProviderError, match="nonsense"):
        FileProviders({"x": "nonsense://a"}).get("x")


def test_files_go_there_and_come_back(provider: FileProvider, tmp_path: Path):
    content = bytes(range(256)) * 10_000
    original, copy = tmp_path / "original", tmp_path / "copy"
    original.write_bytes(content)
    sent: list[int] = []
    md5 = provider.upload(original, "/deep/folder/file", sent.append)
    assert md5 == hashlib.md5(content).hexdigest() == md5_of(original)
    received: list[int] = []
    assert provider.download("deep/folder/file", copy, received.append) == md5
    assert copy.read_bytes() == content
    assert sum(sent) == sum(received) == len(content)
    assert provider.exists("deep/folder")
    assert provider.names("deep/folder") == ["file"]
    provider.delete("deep")
    provider.delete("deep")
    assert not provider.exists("deep")
    assert provider.names("deep") == []


@pytest.mark.parametrize("name", ["../secret", "a/../../secret", "/..", "%2e%2e/secret", "a/*"])
def test_nothing_outside_is_touched(provider: FileProvider, tmp_path: Path, name: str):
    secret = tmp_path / "secret"
    secret.write_bytes(b"old")
    provider.write("a/file", b"inside")
    for touch in each_way(provider, name, tmp_path):
        with pytest.raises(ProviderError, match="expected"):
            touch()
    assert secret.read_bytes() == b"old"
    assert provider.read("a/file") == b"inside"


def test_a_symbolic_link_does_not_lead_out(provider: FileProvider, tmp_path: Path):
    provider.write("inside/file", b"inside")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(b"old")
    (tmp_path / "remote" / "out").symlink_to(tmp_path / "outside")
    (tmp_path / "remote" / "file").symlink_to(tmp_path / "outside" / "file")
    (tmp_path / "remote" / "within").symlink_to("inside")
    for name in ("out/file", "out", "file"):
        for touch in each_way(provider, name, tmp_path):
            with pytest.raises(ProviderError, match="symbolic link"):
                touch()
    assert (tmp_path / "outside" / "file").read_bytes() == b"old"
    assert provider.read("within/file") == b"inside"
    elsewhere = tmp_path / "alias"
    elsewhere.symlink_to(tmp_path / "remote")
    assert FileProvider(str(elsewhere)).read("inside/file") == b"inside"


def each_way(provider: FileProvider, name: str, folder: Path) -> list[Callable[[], object]]:
    """Everything that can be done with a path."""
    own = folder / "own"
    own.write_bytes(b"new")
    return [
        lambda: provider.read(name),
        lambda: provider.write(name, b"new"),
        lambda: provider.exists(name),
        lambda: provider.names(name),
        lambda: provider.download(name, folder / "copy", lambda _size: None),
        lambda: provider.upload(own, name, lambda _size: None),
        lambda: provider.delete(name),
    ]


@pytest.mark.parametrize("name", ["", "/", "//"])
def test_a_providers_own_folder_is_not_deleted(provider: FileProvider, name: str):
    provider.write("a", b"1")
    with pytest.raises(ProviderError, match="not deleted"):
        provider.delete(name)
    assert provider.read("a") == b"1"


def test_a_description_of_any_size_is_not_read(provider: FileProvider, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("shared.pegasus.files.providers.DESCRIPTION_BYTES", 10)
    provider.write("a", b"x" * 10)
    assert provider.read("a") == b"x" * 10
    provider.write("a", b"x" * 11)
    with pytest.raises(ProviderError, match="a is larger than 10 bytes"):
        provider.read("a")


def test_a_copy_that_is_stopped_is_not_there(provider: FileProvider, tmp_path: Path):
    provider.write("file", b"x" * (3 << 20))

    def stop(_size: int) -> None:
        raise ProviderError("stopped")

    with pytest.raises(ProviderError, match="stopped"):
        provider.download("file", tmp_path / "copy", stop)
    assert not (tmp_path / "copy").exists()


def test_what_is_not_there_is_named(provider: FileProvider, tmp_path: Path):
    with pytest.raises(ProviderError, match="cannot read nothing"):
        provider.read("nothing")
    with pytest.raises(ProviderError, match="cannot copy nothing"):
        provider.download("nothing", tmp_path / "copy", lambda _size: None)
    with pytest.raises(ProviderError, match="cannot copy"):
        provider.upload(tmp_path / "nothing", "file", lambda _size: None)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ProviderError, match="cannot write a"):
        FileProvider(str(tmp_path / "file")).write("a", b"")
