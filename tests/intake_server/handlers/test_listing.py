"""``GET /v1/info`` and ``GET /v1/source`` (protocol §3.1, §3.2)."""

from __future__ import annotations

from pathlib import Path

import pytest

from intake_server.auth.plugins import Grant, KeyAuth
from tests.intake_server.conftest import Serve

EXAMPLE = """
metadata: {version: 1, owner: me, when: 2020-01-02 03:04:05}
sources:
  use_example1:
    description: example1 source plugin
    driver: csv
    args: {}
  entry1:
    description: entry1 full
    driver: csv
    metadata: {foo: bar, bar: [1, 2, 3]}
    args: {urlpath: '{{ CATALOG_DIR }}/entry1_*.csv'}
  entry1_part:
    description: entry1 part
    driver: csv
    metadata: {foo: baz, bar: [2, 4, 6]}
    direct_access: allow
    args: {urlpath: '{{ CATALOG_DIR }}/entry1_{{ part }}.csv'}
    parameters:
      part: {description: part of filename, type: str, default: '1', allowed: ['1', '2']}
"""
MANY = "sources:\n" + "".join(f"  e{n}: {{driver: csv, args: {{urlpath: x}}}}\n" for n in range(5))


async def test_the_listing_of_the_protocols_example(serve: Serve):
    server = await serve(EXAMPLE)
    info = await server.info()
    assert list(info) == ["version", "sources", "length", "metadata"]
    assert (info["version"], info["length"]) == ("0.7.0", 3)
    assert info["metadata"] == {
        "version": 1,
        "owner": "me",
        "when": {"__datetime__": True, "as_str": "20200102T03:04:05.000000"},
    }
    assert info["sources"][2] == {
        "name": "entry1_part",
        "container": "dataframe",
        "plugin": ["csv"],
        "driver": ["csv"],
        "description": "entry1 part",
        "direct_access": "allow",
        "user_parameters": [
            {
                "name": "part",
                "description": "part of filename",
                "type": "str",
                "allowed": ["1", "2"],
                "default": "1",
            }
        ],
        "metadata": {"foo": "baz", "bar": [2, 4, 6]},
        "args": {"urlpath": "{{ CATALOG_DIR }}/entry1_{{ part }}.csv"},
    }
    assert list(info["sources"][2]) == [
        "name", "container", "plugin", "driver", "description", "direct_access", "user_parameters", "metadata", "args",
    ]  # fmt: skip


async def test_no_description_has_a_key_that_the_client_passes_itself(serve: Serve):
    server = await serve(EXAMPLE)
    forbidden = {"url", "auth", "http_args", "page_size", "persist_mode", "getenv", "getshell"}
    assert all(not forbidden & source.keys() for source in (await server.info())["sources"])


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["e0", "e1", "e2", "e3", "e4"]),
        ("?page_size=2", ["e0", "e1"]),
        ("?page_size=2&page_offset=4", ["e4"]),
        ("?page_size=2&page_offset=5", []),
        ("?page_size=2&page_offset=999", []),
        ("?page_size=0&page_offset=0", []),
        ("?page_offset=3", ["e0", "e1", "e2", "e3", "e4"]),
    ],
)
async def test_pages(serve: Serve, query: str, names: list[str]):
    info = await (await serve(MANY)).info(query)
    assert [source["name"] for source in info["sources"]] == names
    assert info["length"] == 5


@pytest.mark.parametrize(
    "query", ["page_size=x", "page_size=", "page_size=-1", "page_size=1&page_offset=x", "page_size=1.5"]
)
async def test_a_page_that_is_no_number_is_a_bad_request(serve: Serve, query: str):
    assert (await (await serve(MANY)).get(f"/v1/info?{query}")).status == 400


@pytest.mark.parametrize("path", ["/v1/info", "/v1/source?name=x"])
async def test_an_unknown_source_id_is_gone(serve: Serve, path: str):
    answer = await (await serve(MANY)).get(path, source_id="nobody-ever-got-this")
    assert (answer.status, answer.reason) == (410, "unknown or expired source-id")


async def test_the_listing_of_something_that_is_no_catalog_is_a_bad_request(serve: Serve, folder: Path):
    (folder / "entry1_1.csv").write_text("x\n1\n")
    server = await serve(EXAMPLE)
    source_id = (await server.opened("entry1"))["source_id"]
    assert (await server.get("/v1/info", source_id=source_id)).status == 400


async def test_listings_carry_an_entity_tag_and_are_not_sent_twice(serve: Serve):
    server = await serve(MANY)
    first = await server.get("/v1/info")
    again = await server.get("/v1/info", headers={"If-None-Match": first.headers["ETag"]})
    other = await server.get("/v1/info", headers={"If-None-Match": '"another"'})
    assert (again.status, again.body, other.status) == (304, b"", 200)


async def test_pages_count_only_what_the_caller_may_see(serve: Serve):
    keys = KeyAuth([Grant("anonymous", None, allow=("e1", "e3", "e4"))])
    server = await serve(MANY, plugin=keys)
    assert (await server.info("?page_size=2"))["length"] == 3
    assert await server.names("?page_size=2") == ["e1", "e3"]
    assert await server.names("?page_size=2&page_offset=2") == ["e4"]


async def test_an_entry_whose_driver_is_missing_is_listed_without_container(serve: Serve):
    server = await serve("sources: {odd: {driver: nosuch}, fine: {driver: [nosuch, csv]}}")
    odd, fine = (await server.info())["sources"]
    assert (odd["container"], odd["plugin"]) == (None, [])
    assert (fine["container"], fine["plugin"]) == ("dataframe", ["csv"])


async def test_a_map_of_drivers_is_listed_as_a_map_of_classes(serve: Serve):
    server = await serve("sources: {e: {driver: {first: {class: csv, args: {urlpath: x}}, second: parquet}}}")
    (entry,) = (await server.info())["sources"]
    assert entry["plugin"] == {
        "first": "intake.source.csv.CSVSource",
        "second": "intake_parquet.source.ParquetSource",
    }


async def test_an_alias_has_the_container_of_its_target(serve: Serve):
    server = await serve(
        "sources: {a: {driver: alias, args: {target: b}}, b: {driver: alias, args: {target: c}}, c: {driver: csv}}"
    )
    assert [source["container"] for source in (await server.info())["sources"]] == ["dataframe"] * 3


async def test_metadata_of_every_kind_that_yaml_knows_is_listed(serve: Serve):
    server = await serve(
        "sources: {e: {driver: csv, metadata: {day: 2020-01-02, 7: seven, tags: !!set {b, a}, big: 99999999999999999999"
        "}}}"
    )
    (entry,) = (await server.info())["sources"]
    assert entry["metadata"] == {"day": "2020-01-02", "7": "seven", "tags": ["a", "b"], "big": "99999999999999999999"}


async def test_parameters_of_the_catalog_come_first_and_the_entrys_own_override_them(serve: Serve):
    server = await serve(
        """
        metadata:
          parameters:
            bucket: {description: shared, type: str, default: test}
            n: {description: catalog's, type: int}
        sources:
          e:
            driver: csv
            parameters:
              n: {description: own, type: int, min: 1, max: 9}
              later: {description: later, type: mlist}
        """
    )
    (entry,) = (await server.info())["sources"]
    assert entry["user_parameters"] == [
        {"name": "bucket", "description": "shared", "type": "str", "default": "test"},
        {"name": "n", "description": "own", "type": "int", "min": 1, "max": 9, "default": 0},
        {"name": "later", "description": "later", "type": "mlist", "default": None},
    ]


async def test_arguments_of_entries_that_clients_may_not_open_are_not_shown(serve: Serve):
    text = """
    sources:
      hidden: {driver: csv, args: {urlpath: 's3://key:word@bucket/x'}}
      open:
        driver: csv
        direct_access: allow
        args: {urlpath: 'sql://me:hunter2@host/x', storage_options: {secret: hunter2, anon: false}}
    """
    hidden, shown = (await (await serve(text)).info())["sources"]
    assert hidden["args"] == {}
    assert "hunter2" not in str(shown)
    assert shown["args"]["storage_options"]["anon"] is False
    hidden, _ = (await (await serve(text, show_args=True)).info())["sources"]
    assert "bucket/x" in hidden["args"]["urlpath"]


async def test_one_entry_is_described_by_name(serve: Serve):
    server = await serve(EXAMPLE)
    described = (await server.get("/v1/source?name=entry1")).value
    assert described == {"source": (await server.info())["sources"][1]}


async def test_the_last_of_repeated_names_is_described(serve: Serve):
    answer = await (await serve(MANY)).get("/v1/source?name=e0&name=e3")
    assert answer.value["source"]["name"] == "e3"


@pytest.mark.parametrize(
    ("query", "status"), [("?name=nope", 404), ("?name=", 404), ("", 400), ("?name=%E6%97%A5", 404)]
)
async def test_entries_that_are_not_there(serve: Serve, query: str, status: int):
    answer = await (await serve(MANY)).get(f"/v1/source{query}")
    assert answer.status == status
    if status == 404:
        assert answer.reason == "No such entry"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("HEAD", "/v1/info", 405),
        ("OPTIONS", "/v1/info", 405),
        ("PUT", "/v1/source", 405),
        ("POST", "/v1/info", 405),
        ("GET", "/", 404),
        ("GET", "/v1", 404),
        ("GET", "/v1/info/", 404),
    ],
)
async def test_other_methods_and_paths(serve: Serve, method: str, path: str, status: int):
    server = await serve(MANY)
    async with server.client.request(method, path, allow_redirects=False) as answer:
        assert answer.status == status


async def test_a_prefix_is_part_of_every_path(serve: Serve):
    server = await serve(MANY, prefix="data")
    assert (await server.get("/data/v1/info")).status == 200
    assert (await server.get("/v1/info")).status == 404


async def test_a_client_that_asks_for_json_gets_errors_as_json(serve: Serve):
    answer = await (await serve(MANY)).get("/v1/source?name=nope", headers={"Accept": "application/json"})
    assert answer.body == b'{"error":{"code":"not_found","reason":"No such entry"}}'


async def test_health_readiness_and_metrics_are_beside_the_protocol(serve: Serve):
    server = await serve(MANY)
    await server.info()
    assert (await server.get("/healthz")).status == 200
    assert (await server.get("/readyz")).status == 200
    assert (
        b'intake_server_request_seconds_count{route="/v1/info",status="200"} 1.0' in (await server.get("/metrics")).body
    )
