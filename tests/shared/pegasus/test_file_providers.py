"""Files of bulk loads and backups under the names that tools use (specification §1)."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from shared.pegasus.file_providers import FileProvider, FileProviders, ProviderError, md5_of


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
