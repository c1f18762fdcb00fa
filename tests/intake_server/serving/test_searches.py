"""``POST /v1/source`` with ``action: search`` (protocol §3.5)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from intake_server.auth.plugins import Grant, KeyAuth
from tests.intake_server.conftest import Serve

SELF = """
name: root
metadata: {test: true}
sources:
  use_example1: {driver: csv, description: example1 source plugin}
  nested: {driver: yaml_file_cat, description: around again, args: {path: '{{ CATALOG_DIR }}/catalog.yml'}}
  entry1: {driver: csv, description: entry1 full}
  entry1_part: {driver: csv, description: entry1 part, metadata: {Colour: Blue}}
"""


async def test_results_are_in_walk_order_with_dotted_names(serve: Serve):
    server = await serve(SELF)
    source_id = await server.search("entry1")
    assert await server.names(source_id=source_id) == ["nested.entry1", "nested.entry1_part", "entry1", "entry1_part"]


async def test_metadata_of_results_say_what_was_searched(serve: Serve):
    server = await serve(SELF)
    info = await server.info(source_id=await server.search("entry1"))
    assert info["metadata"] == {"test": True, "search": {"text": "entry1", "upstream": "root"}}
    assert info["length"] == 4


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["BLUE"], ["nested.entry1_part", "entry1_part"]),
        (["blue", 1], ["entry1_part"]),
        (["again"], ["nested.nested", "nested"]),
        (["plugin again", 1], ["use_example1", "nested"]),
        ([""], []),
        (["  "], []),
        (["nothing like it"], []),
        (["é日本"], []),
    ],
)
async def test_what_matches(serve: Serve, arguments: list[Any], found: list[str]):
    server = await serve(SELF)
    answer = await server.post({"action": "search", "query": [arguments, {}], "source_id": None})
    source_id = answer.value["source_id"]
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,128}", source_id)
    assert [
        name for name in await server.names(source_id=source_id) if "use" not in name or "plugin" in arguments[0]
    ] == found


async def test_depth_bounds_the_walk_through_a_catalog_that_contains_itself(serve: Serve):
    server = await serve(SELF)
    answer = await server.post({"action": "search", "query": [["entry1_part"], {"depth": 1000}]})
    names = await server.names(source_id=answer.value["source_id"])
    assert max(name.count("nested") for name in names) == 7


async def test_searches_chain(serve: Serve):
    server = await serve(SELF)
    first = await server.search("entry1")
    second = await server.search("part", source_id=first)
    assert await server.names(source_id=second) == ["nested.entry1_part", "entry1_part"]


async def test_results_can_be_described_and_opened_by_their_dotted_names(serve: Serve, folder: Path):
    (folder / "x.csv").write_text("x\n1\n")
    server = await serve(
        """
        sources:
          nested: {driver: yaml_file_cat, args: {path: '{{ CATALOG_DIR }}/catalog.yml'}}
          entry1: {driver: csv, args: {urlpath: '{{ CATALOG_DIR }}/x.csv'}}
        """
    )
    source_id = await server.search("entry1")
    described = (await server.get("/v1/source?name=nested.entry1", source_id=source_id)).value["source"]
    assert described["name"] == "nested.entry1"
    assert (await server.opened("nested.entry1", source_id=source_id))["dtype"] == {"x": "int64"}


async def test_a_nested_catalog_that_fails_to_load_is_passed_over(serve: Serve):
    server = await serve(SELF + "  broken: {driver: yaml_file_cat, args: {path: nowhere.yml}}")
    assert "broken" in await server.names(source_id=await server.search("broken"))


async def test_results_show_only_what_the_caller_may_see(serve: Serve):
    server = await serve(SELF, plugin=KeyAuth([Grant("anonymous", None, allow=("entry1", "nested.entry1_part"))]))
    assert await server.names(source_id=await server.search("entry1")) == ["nested.entry1_part", "entry1"]


async def test_arguments_that_are_not_shown_are_not_searched_either(serve: Serve):
    server = await serve("sources: {e: {driver: csv, args: {urlpath: 's3://key:hunter2@bucket'}}}")
    assert await server.names(source_id=await server.search("hunter2")) == []


async def test_results_follow_the_catalog(serve: Serve, folder: Path):
    server = await serve("sources: {one: {driver: csv}}", ttl_s=0, catalog_wait_s=10)
    source_id = await server.search("csv")
    (folder / "catalog.yml").write_text("sources: {one: {driver: csv}, two: {driver: csv}}")
    assert await server.names(source_id=source_id) == ["one", "two"]


@pytest.mark.parametrize(
    "query",
    [
        None, "text", [], [["a"]], [["a"], {}, 1], [{"text": "a"}, {}], [[], {}], [[7], {}], [["a", "b"], {}],
        [["a", 1, 2], {}], [["a"], {"depth": True}], [["a"], {"text": "b"}], [["a"], {"__class__": 1}],
        [["a" * 2000], {}],
    ],
)  # fmt: skip
async def test_queries_that_are_none_are_bad_requests(serve: Serve, query: Any):
    assert (await (await serve(SELF)).post({"action": "search", "query": query})).status == 400


async def test_a_search_in_an_unknown_catalog_is_gone(serve: Serve):
    message = {"action": "search", "query": [["a"], {}]}
    assert (await (await serve(SELF)).post(message, source_id="x" * 32)).status == 410
