"""Catalog files: one, several, folders, globs and URLs, read and read again (protocol §5, §9.1)."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import fsspec
import pytest

from intake_server.serving.files import CatalogLocation, UnreadableCatalog, load
from shared.errors import StartupError
from tests.intake_server.conftest import Serve, Served

ONE = "sources: {one: {driver: csv}}"
TWO = "sources: {two: {driver: csv}}"


async def eventually(server: Served, names: list[str]) -> None:
    """Ask until the listing is as expected."""
    async with asyncio.timeout(20):
        while await server.names() != names:  # noqa: ASYNC110 - the listing is asked for, nothing tells when it changes
            await asyncio.sleep(0.01)


def touch(path: Path, text: str) -> None:
    """Write a file so that nobody can take it for the old one."""
    path.write_text(text)
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 1_000_000))


async def test_several_files_are_one_name_space(serve: Serve, folder: Path):
    (folder / "a.yml").write_text(ONE)
    (folder / "b.yaml").write_text(TWO)
    server = await serve(paths=(folder / "b.yaml", folder / "a.yml"))
    assert await server.names() == ["two", "one"]


async def test_several_files_can_be_a_nested_catalog_each(serve: Serve, folder: Path):
    (folder / "a.yml").write_text(ONE)
    (folder / "b.x.yaml").write_text(TWO)
    server = await serve(paths=(folder,), flatten=False)
    info = await server.info()
    assert [(source["name"], source["container"]) for source in info["sources"]] == [
        ("a", "catalog"),
        ("b.x", "catalog"),
    ]
    opened = await server.opened("a")
    assert await server.names(source_id=opened["source_id"]) == ["one"]
    assert (await server.get("/v1/source?name=b.x.two")).value["source"]["name"] == "b.x.two"


@pytest.mark.parametrize("pattern", ["", "/*", "/*.yml", "/?.yml"])
async def test_folders_and_globs_pass_over_what_is_no_catalog(serve: Serve, folder: Path, pattern: str):
    inner = folder / "cats"
    (inner / "sub.yml").mkdir(parents=True)
    (inner / "a.yml").write_text(ONE)
    (inner / "notes.txt").write_text("not a catalog")
    assert await (await serve(paths=(f"{inner}{pattern}",))).names() == ["one"]


async def test_a_folder_that_is_not_there_is_an_empty_catalog_and_may_appear(serve: Serve, folder: Path):
    server = await serve(paths=(folder / "later",), ttl_s=0)
    assert await server.names() == []
    (folder / "later").mkdir()
    (folder / "later" / "a.yml").write_text(ONE)
    await eventually(server, ["one"])
    (folder / "later" / "a.yml").unlink()
    (folder / "later").rmdir()
    await eventually(server, [])


async def test_a_name_used_twice_ends_the_start(serve: Serve, folder: Path):
    (folder / "a.yml").write_text(ONE)
    (folder / "b.yml").write_text(ONE)
    with pytest.raises(StartupError, match=r"b\.yml: the entry 'one' is already in .*a\.yml"):
        await serve(paths=(folder,))


async def test_a_single_file_that_is_not_there_ends_the_start(serve: Serve, folder: Path):
    with pytest.raises(StartupError, match=r"none\.yml: no such file"):
        await serve(paths=(folder / "none.yml",))


async def test_a_broken_file_does_not_hide_the_others(serve: Serve, folder: Path):
    (folder / "a.yml").write_text(ONE)
    (folder / "b.yml").write_text("sources: [")
    server = await serve(paths=(folder,))
    assert await server.names() == ["one"]
    assert any("b.yml: line 2: did not find" in problem for problem in server.server.loader.problems())


async def test_a_changed_file_is_noticed_without_waiting_for_the_clock(serve: Serve, folder: Path):
    server = await serve(ONE, ttl_s=3600)
    assert await server.names() == ["one"]
    touch(folder / "catalog.yml", TWO)
    await eventually(server, ["two"])


async def test_without_watching_the_clock_notices_it(serve: Serve, folder: Path):
    server = await serve(ONE, ttl_s=0.05, watch=False)
    touch(folder / "catalog.yml", TWO)
    await eventually(server, ["two"])


async def test_a_file_that_breaks_leaves_its_last_good_version(serve: Serve, folder: Path):
    server = await serve(ONE, ttl_s=0)
    touch(folder / "catalog.yml", "sources: {one: {driver: 7}}")
    await server.server.loader.root.refresh()
    assert await server.names() == ["one"]
    assert list(server.server.loader.problems())
    touch(folder / "catalog.yml", TWO)
    await eventually(server, ["two"])
    assert not list(server.server.loader.problems())


async def test_an_open_source_outlives_a_change_of_its_entry_and_a_new_open_sees_the_change(serve: Serve, folder: Path):
    (folder / "a.txt").write_text("a")
    (folder / "b.txt").write_text("b")
    text = "sources: {{t: {{driver: textfiles, args: {{urlpath: '{{{{ CATALOG_DIR }}}}/{}.txt'}}}}}}"
    server = await serve(text.format("a"), ttl_s=0, catalog_wait_s=10)
    before = (await server.opened("t"))["source_id"]
    touch(folder / "catalog.yml", text.format("b"))
    after = (await server.opened("t"))["source_id"]
    server.server.sources.close()
    assert b"a" in (await server.read(before, 0)).value["data"]
    assert b"b" in (await server.read(after, 0)).value["data"]


async def test_parameters_of_a_catalog_are_inherited_by_nested_ones_with_the_values_given(serve: Serve, folder: Path):
    (folder / "a_x.txt").write_text("x")
    (folder / "inner.yml").write_text(
        "sources: {t: {driver: textfiles, args: {urlpath: '{{ CATALOG_DIR }}/a_{{ which }}.txt'}}}"
    )
    server = await serve(
        """
        metadata: {parameters: {which: {description: which, type: str, default: nothing}}}
        sources: {sub: {driver: yaml_file_cat, args: {path: '{{ CATALOG_DIR }}/inner.yml'}}}
        """
    )
    opened = await server.opened("sub", {"which": "x"})
    (inner,) = (await server.info(source_id=opened["source_id"]))["sources"]
    assert inner["user_parameters"][0]["default"] == "x"
    assert (await server.open("t", source_id=opened["source_id"])).status == 200
    assert (await server.open("sub.t")).status == 400


async def test_catalogs_behind_urls_are_read_and_their_folder_is_a_url(serve: Serve):
    files = fsspec.filesystem("memory")
    files.pipe("/cats/a.yml", b"sources: {t: {driver: textfiles, args: {urlpath: '{{ CATALOG_DIR }}/x.txt'}}}")
    files.pipe("/cats/x.txt", b"hello")
    try:
        single = await serve(paths=("memory://cats/a.yml",))
        assert b"hello" in await single.data("t")
        assert (await single.opened("t"))["metadata"]["catalog_dir"] == "memory://cats"
        folder = await serve(paths=("memory://cats/*",))
        assert await folder.names() == ["t"]
        files.pipe("/cats/x.txt", b"changed!")
        assert b"hello" in await folder.data("t") or b"changed!" in await folder.data("t")
    finally:
        files.rm("/cats", recursive=True)


def test_only_changed_files_are_parsed_again(folder: Path):
    (folder / "a.yml").write_text(ONE)
    (folder / "b.yml").write_text(TWO)
    place = CatalogLocation.of([str(folder)])
    first = load(place)
    assert load(place, first) is first
    touch(folder / "b.yml", "sources: {three: {driver: csv}}")
    second = load(place, first)
    assert second.files[0] is first.files[0]
    assert list(second.catalog.entries) == ["one", "three"]


def test_a_file_that_is_not_text_is_unreadable(folder: Path):
    (folder / "a.yml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UnreadableCatalog, match=r"a\.yml"):
        load(CatalogLocation.of([str(folder / "a.yml")]))


async def test_a_look_at_a_catalog_that_hangs_holds_up_nobody(serve: Serve, folder: Path):
    (folder / "text.txt").write_text("x")
    text = "sources: {one: {driver: textfiles, args: {urlpath: '{{ CATALOG_DIR }}/text.txt'}}}"
    server = await serve(text, ttl_s=0, catalog_wait_s=0.01, open_timeout_s=0.2, watch=False)
    catalog = folder / "catalog.yml"
    catalog.unlink()
    os.mkfifo(catalog)  # whoever opens it for reading waits for a writer
    async with asyncio.timeout(20):
        while not any("did not end within" in problem for problem in server.server.loader.problems()):
            assert await server.names() == ["one"]
            assert await server.data("one") == b"\x91\xa1x"
    catalog_again = folder / "again.yml"
    catalog_again.write_text(TWO)
    catalog_again.rename(catalog)
    await eventually(server, ["two"])


async def test_what_the_operator_says_of_commands_is_true_in_nested_catalogs_too(serve: Serve, folder: Path):
    (folder / "public.txt").write_text("x")
    (folder / "inner.yml").write_text(
        """
sources:
  t:
    driver: textfiles
    parameters: {name: {description: which, type: str, default: 'shell(echo public)'}}
    args: {urlpath: '{{ CATALOG_DIR }}/{{ name }}.txt'}
"""
    )
    outer = "sources: {sub: {driver: yaml_file_cat, args: {path: '{{ CATALOG_DIR }}/inner.yml'}}}"
    for getshell, status in ((False, 400), (True, 200)):
        server = await serve(outer, getshell=getshell)
        nested = (await server.opened("sub"))["source_id"]
        assert (await server.open("t", source_id=nested)).status == status
        assert (await server.open("sub.t")).status == status


async def test_a_nested_catalog_cannot_give_itself_the_right_to_commands(serve: Serve, folder: Path):
    marker = folder / "ran"
    (folder / "inner.yml").write_text(
        f"sources: {{t: {{driver: textfiles, args: {{urlpath: '{{{{ shell(\"touch {marker}\") }}}}'}}}}}}"
    )
    server = await serve(
        """
        sources:
          sub: {driver: yaml_file_cat, args: {path: '{{ CATALOG_DIR }}/inner.yml', getshell: true}}
        """
    )
    await server.open("sub")
    assert (await server.open("sub.t")).status in (400, 404)
    assert not marker.exists()
