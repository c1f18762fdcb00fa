"""``POST /v1/source`` with ``action: open`` (protocol §3.3)."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from intake_server.serialization.control import pack
from tests.intake_server.conftest import PLUGINS, Serve

POLICIES = """
sources:
  forbid: {driver: csv, direct_access: forbid, args: {urlpath: '{{ CATALOG_DIR }}/a.csv'}}
  allow: {driver: csv, direct_access: allow, args: {urlpath: '{{ CATALOG_DIR }}/a.csv'}}
  force: {driver: csv, direct_access: force, args: {urlpath: '{{ CATALOG_DIR }}/a.csv'}}
"""
PARAMETERS = """
sources:
  e:
    driver: csv
    args: {urlpath: '{{ CATALOG_DIR }}/data_{{ n }}{{ s }}.csv'}
    parameters:
      n: {description: number, type: int, default: 1, min: 1, max: 3}
      s: {description: suffix, type: str, allowed: ['', x]}
"""


@pytest.fixture(autouse=True)
def data(folder: Path) -> None:
    (folder / "a.csv").write_text("x\n1\n")
    (folder / "data_1.csv").write_text("one\n1\n")
    (folder / "data_2.csv").write_text("two\n2\n")


@pytest.mark.parametrize(
    ("name", "has_driver", "outcome"),
    [
        ("forbid", True, "remote"),
        ("forbid", False, "remote"),
        ("allow", True, "direct"),
        ("allow", False, "remote"),
        ("force", True, "direct"),
        ("force", False, "refused"),
    ],
)
async def test_the_decision_table(serve: Serve, name: str, has_driver: bool, outcome: str):
    server = await serve(POLICIES)
    message: dict[str, Any] = {
        "action": "open",
        "name": name,
        "available_plugins": PLUGINS if has_driver else ["numpy"],
    }
    answer = await server.post(message)
    if outcome == "refused":
        assert answer.status == 400
        assert answer.reason == 'client must have plugin "[\'csv\']" to access source "force"'
    else:
        assert ("plugin" in answer.value, "source_id" in answer.value) == (outcome == "direct", outcome == "remote")


async def test_a_direct_answer_is_the_description_with_rendered_arguments(serve: Serve, folder: Path):
    server = await serve(POLICIES)
    answer = await server.post({"action": "open", "name": "allow", "available_plugins": PLUGINS})
    assert answer.value == {
        "name": "allow",
        "container": "dataframe",
        "plugin": ["csv"],
        "driver": ["csv"],
        "description": "",
        "direct_access": "allow",
        "user_parameters": [],
        "metadata": {},
        "args": {"metadata": {"catalog_dir": f"{folder}/"}, "urlpath": f"{folder}/a.csv"},
    }


async def test_direct_answers_are_remembered_up_to_a_number_of_bytes(serve: Serve):
    server = await serve(f"""
        metadata: {{about: {"x" * 60_000}}}
        sources:
          e:
            driver: csv
            direct_access: force
            metadata: {{about: {"y" * 60_000}}}
            parameters: {{p: {{description: any, type: str, default: x}}}}
            args: {{urlpath: 'a{{{{ p }}}}.csv'}}
    """)
    message = {"action": "open", "name": "e", "available_plugins": PLUGINS}
    assert len((await server.post(message)).body) > 120_000
    gc.collect()
    tracemalloc.start()
    try:
        for n in range(200):
            assert (await server.post({**message, "parameters": {"p": f"{n}"}})).status == 200
        gc.collect()
        made = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/msgpack/*")])
        assert sum(trace.size for trace in made.statistics("filename")) < 2**24 + 2**20  # of 24 MB
    finally:
        tracemalloc.stop()


async def test_the_matched_driver_comes_first(serve: Serve):
    server = await serve("sources: {e: {driver: [parquet, csv], direct_access: allow, args: {urlpath: x}}}")
    answer = await server.post({"action": "open", "name": "e", "available_plugins": ["csv"]})
    assert answer.value["plugin"] == ["csv", "parquet"]


async def test_a_remote_answer_has_every_key_the_client_needs(serve: Serve, folder: Path):
    opened = await (await serve(POLICIES)).opened("forbid")
    source_id = opened.pop("source_id")
    assert opened == {
        "dtype": {"x": "int64"},
        "shape": [None, 1],
        "npartitions": 1,
        "extra_metadata": {},
        "container": "dataframe",
        "metadata": {"catalog_dir": f"{folder}/"},
    }
    assert len(source_id) == 32
    assert source_id.isascii()


async def test_a_catalog_answer_has_three_keys(serve: Serve, folder: Path):
    (folder / "inner.yml").write_text(
        "metadata: {m: 2}\nsources: {x: {driver: csv, args: {urlpath: '{{ CATALOG_DIR }}/a.csv'}}}"
    )
    server = await serve(
        "sources: {sub: {driver: yaml_file_cat, metadata: {m: 1}, args: {path: '{{ CATALOG_DIR }}/inner.yml'}}}"
    )
    opened = await server.opened("sub")
    assert opened == {
        "container": "catalog",
        "source_id": opened["source_id"],
        "metadata": {"m": 1, "catalog_dir": f"{folder}/"},
    }
    inner = await server.info(source_id=opened["source_id"])
    assert ([source["name"] for source in inner["sources"]], inner["metadata"]["m"]) == (["x"], 2)
    assert (await server.opened("x", source_id=opened["source_id"]))["dtype"] == {"x": "int64"}


@pytest.mark.parametrize("name", ["sub.x", ["sub", "x"], ["sub.x"]])
async def test_names_reach_into_nested_catalogs(serve: Serve, folder: Path, name: Any):
    (folder / "inner.yml").write_text("sources: {x: {driver: csv, args: {urlpath: '{{ CATALOG_DIR }}/a.csv'}}}")
    server = await serve("sources: {sub: {driver: yaml_file_cat, args: {path: '{{ CATALOG_DIR }}/inner.yml'}}}")
    assert (await server.opened(name))["dtype"] == {"x": "int64"}


async def test_a_name_with_dots_of_its_own_is_found_before_a_path(serve: Serve, folder: Path):
    (folder / "inner.yml").write_text("sources: {x: {driver: csv, args: {urlpath: '{{ CATALOG_DIR }}/data_1.csv'}}}")
    server = await serve(
        """
        sources:
          sub: {driver: yaml_file_cat, args: {path: '{{ CATALOG_DIR }}/inner.yml'}}
          sub.x: {driver: csv, args: {urlpath: '{{ CATALOG_DIR }}/a.csv'}}
        """
    )
    assert (await server.opened("sub.x"))["dtype"] == {"x": "int64"}


async def test_a_catalog_that_contains_itself_is_entered_as_often_as_asked_and_no_oftener(serve: Serve):
    server = await serve(
        """
        sources:
          again: {driver: yaml_file_cat, args: {path: '{{ CATALOG_DIR }}/catalog.yml'}}
          x: {driver: csv, args: {urlpath: '{{ CATALOG_DIR }}/a.csv'}}
        """
    )
    assert (await server.opened("again.again.x"))["dtype"] == {"x": "int64"}
    assert (await server.open("again." * 50 + "x")).status == 404


async def test_an_alias_opens_as_its_target(serve: Serve):
    server = await serve(POLICIES + "  other: {driver: alias, args: {target: forbid}}")
    opened = await server.opened("other")
    assert opened["dtype"] == {"x": "int64"}
    assert (await server.read(opened["source_id"], 0)).status == 200


@pytest.mark.parametrize("target", ["nowhere", "round"])
async def test_an_alias_that_leads_nowhere_is_refused(serve: Serve, target: str):
    server = await serve(f"sources: {{round: {{driver: alias, args: {{target: {target}}}}}}}")
    assert (await server.open("round")).status == 400


async def test_an_unknown_name_is_not_found(serve: Serve):
    answer = await (await serve(POLICIES)).open("nope")
    assert (answer.status, answer.reason) == (404, "Catalog has no entry 'nope'")


@pytest.mark.parametrize(
    ("parameters", "column"), [({}, "one"), ({"n": 1}, "one"), ({"n": 2}, "two"), ({"n": "2", "s": ""}, "two")]
)
async def test_parameters_choose_the_data(serve: Serve, parameters: dict[str, Any], column: str):
    assert list((await (await serve(PARAMETERS)).opened("e", parameters))["dtype"]) == [column]


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"n": 4}, "more than 3"),
        ({"n": 0}, "less than 1"),
        ({"n": "many"}, "expected int"),
        ({"n": [1]}, "expected int"),
        ({"s": "y"}, "not one of the allowed"),
        ({"urlpath": "/etc/hostname"}, "unknown parameter 'urlpath'"),
        ({"plugin": "textfiles"}, "unknown parameter 'plugin'"),
    ],
)
async def test_parameters_that_do_not_fit_are_bad_requests(serve: Serve, parameters: dict[str, Any], says: str):
    answer = await (await serve(PARAMETERS)).open("e", parameters)
    assert answer.status == 400
    assert says in answer.reason


async def test_an_unknown_parent_is_gone(serve: Serve):
    assert (await (await serve(POLICIES)).open("forbid", source_id="x" * 32)).status == 410


async def test_null_parameters_and_plugins_mean_none(serve: Serve):
    server = await serve(POLICIES)
    message = {"action": "open", "name": "forbid", "parameters": None, "available_plugins": None}
    assert (await server.post(message)).status == 200


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x93",
        b"\xc1",
        pack({"action": "open", "name": "forbid"}) + b"\x00",
        pack([1, 2]),
        pack("open"),
        pack({"name": "forbid"}),
        pack({"action": "open"}),
        pack({"action": "open", "name": 7}),
        pack({"action": "open", "name": []}),
        pack({"action": "open", "name": "forbid", "parameters": [1]}),
        pack({"action": "open", "name": "forbid", "available_plugins": "csv"}),
        pack({"action": 7}),
        b"\x81\xa6action\xa4\xff\xff\xff\xff",
        b"\x81\x01\x01",
        b"\x81\xa6action\xd6\xff\x00\x00\x00\x00",
        b"\x81\xa6action\xc7\x04\x05abcd",
        b"\x81\xa6action" + b"\x91" * 200 + b"\xc0",
        b"\x81\xa6action" + b"\x91" * 100_000 + b"\xc0",
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xffx",
    ],
)
async def test_malformed_messages_are_bad_requests(serve: Serve, message: bytes):
    assert (await (await serve(POLICIES)).post(message)).status == 400


async def test_an_unknown_action_is_named(serve: Serve):
    answer = await (await serve(POLICIES)).post({"action": "bad"})
    assert (answer.status, answer.reason) == (400, '"bad" not a valid source action')


async def test_line_ends_in_a_message_do_not_reach_the_reason(serve: Serve):
    answer = await (await serve(POLICIES)).post({"action": "a\r\nSet-Cookie: x=1"})
    assert (answer.status, "Set-Cookie" in answer.headers) == (400, False)
    assert answer.reason == '"a Set-Cookie: x=1" not a valid source action'


async def test_a_body_over_the_limit_is_refused(serve: Serve):
    server = await serve(POLICIES, max_body=1000)
    assert (await server.post({"action": "open", "name": "x" * 2000})).status == 413


async def test_a_driver_is_chosen_by_its_alias(serve: Serve, folder: Path):
    server = await serve(
        """
        sources:
          e:
            driver:
              first: {class: csv, args: {urlpath: '{{ CATALOG_DIR }}/data_1.csv'}}
              second: {class: csv, args: {urlpath: '{{ CATALOG_DIR }}/data_2.csv'}}
        """
    )
    assert list((await server.opened("e"))["dtype"]) == ["one"]
    assert list((await server.opened("e", {"plugin": "second"}))["dtype"]) == ["two"]
    assert (await server.open("e", {"plugin": "third"})).status == 400


async def test_a_parameter_with_the_name_of_an_argument_sets_it(serve: Serve, folder: Path):
    server = await serve(
        """
        sources:
          e:
            driver: csv
            args: {urlpath: '{{ CATALOG_DIR }}/data_1.csv', path_as_pattern: 'true'}
            parameters:
              path_as_pattern: {description: whether, type: bool, default: true}
        """
    )
    assert (await server.open("e", {"path_as_pattern": False})).status == 200


async def test_an_unknown_argument_of_a_driver_is_a_bad_request(serve: Serve):
    answer = await (await serve("sources: {e: {driver: csv, args: {urlpat: x}}}")).open("e")
    assert (answer.status, "unknown argument 'urlpat'" in answer.reason) == (400, True)


async def test_a_source_that_could_not_be_opened_can_be_once_its_file_is_there(serve: Serve, folder: Path):
    server = await serve("sources: {e: {driver: csv, args: {urlpath: '{{ CATALOG_DIR }}/late.csv'}}}")
    assert (await server.open("e")).status == 400
    (folder / "late.csv").write_text("x\n1\n")
    assert (await server.opened("e"))["dtype"] == {"x": "int64"}


@pytest.mark.parametrize("name", ["a." * 100_000, ["a"] * 50_000, ["a." * 20_000] * 20])
async def test_a_name_of_many_parts_costs_no_more_than_its_own_size(serve: Serve, name: Any):
    server = await serve(POLICIES + "  a: {driver: yaml_file_cat, args: {path: '{{ CATALOG_DIR }}/catalog.yml'}}")
    await server.open("a")
    gc.collect()
    tracemalloc.start()
    try:
        answer = await server.open(name)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (answer.status, len(answer.reason) <= 300) == (404, True)
    assert peak < 64 * len(pack(name)) + 2**20


@pytest.mark.parametrize("body", [b"garbage" * 10, b"garbage" * 50_000])
async def test_a_body_that_is_not_compressed_as_it_says_is_400(serve: Serve, body: bytes):
    server = await serve("sources: {}")
    answer = await server.post(body, headers={"Content-Encoding": "gzip"})
    assert (answer.status, answer.reason) == (400, "the request body cannot be decoded as 'gzip'")


@pytest.mark.parametrize("path", ["/nothing", "/data", "/v1", "/metrics/x"])
async def test_paths_outside_of_the_protocol_are_refused_as_json(serve: Serve, path: str):
    server = await serve("sources: {}", prefix="under")
    answer = await server.get("/under" + path, headers={"Accept": "text/html"})
    assert (answer.status, answer.headers["Content-Type"]) == (404, "application/json")
    assert (await server.get("/under/v1/nothing")).headers["Content-Type"] == "application/msgpack"
    async with server.client.post("/under/browse/") as refused:
        assert (refused.status, refused.headers["Content-Type"]) == (405, "application/json")
