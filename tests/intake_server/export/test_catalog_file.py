"""``GET /catalog.yml``: the catalog as a file that every release of intake reads (protocol §13)."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import yaml

from intake_server.auth.plugins import Grant, KeyAuth
from intake_server.catalog import parser
from intake_server.catalog.model import Scope
from tests.intake_server.conftest import Serve, Served

CATALOG = """
metadata: {version: 1, owner: me, when: 2020-01-02 03:04:05}
sources:
  a b:
    driver: csv
    description: it's
    args: {urlpath: '{{ CATALOG_DIR }}/e_{{ part }}.csv'}
    parameters:
      part: {description: which, type: str, default: "1", allowed: ["1", "2"]}
      rows: {description: has a meaning of its own, type: int, default: 3}
      home: {description: of the server, type: str, default: env(HOME)}
  array: {driver: numpy, args: {path: '{{ CATALOG_DIR }}/x.npy'}}
  document: {driver: json, args: {urlpath: '{{ CATALOG_DIR }}/x.json'}}
  own: {driver: csv, direct_access: force, args: {urlpath: '{{ CATALOG_DIR }}/e_1.csv'}}
  cube: {driver: netcdf, args: {urlpath: '{{ CATALOG_DIR }}/x.nc'}}
  lost: {driver: nosuch}
  s/b: {driver: yaml_file_cat, args: {path: '{{ CATALOG_DIR }}/catalog.yml'}}
"""


async def file(server: Served, query: str = "", **more: Any) -> Any:
    answer = await server.get("/catalog.yml" + query, **more)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/yaml")
    return yaml.safe_load(answer.body)


async def test_entries_lead_to_their_data_relative_to_the_file(serve: Serve):
    sources = (await file(await serve(CATALOG)))["sources"]
    assert sources["a b"] == {
        "description": "it's",
        "metadata": {},
        "driver": "csv",
        "args": {
            "urlpath": "{{ CATALOG_DIR }}/data/a%20b.csv?part={{ part | string | urlencode }}"
            "&p.rows={{ rows | string | urlencode }}"
        },
        "parameters": {
            "part": {"description": "which", "type": "str", "allowed": ["1", "2"], "default": "1"},
            "rows": {"description": "has a meaning of its own", "type": "int", "default": 3},
        },
    }
    assert sources["array"]["args"] == {"path": "{{ CATALOG_DIR }}/data/array.npy"}
    assert (sources["document"]["driver"], sources["document"]["args"]) == (
        ["json", "jsonfiles"],
        {"urlpath": "{{ CATALOG_DIR }}/data/document.json"},
    )


async def test_nested_catalogs_are_files_of_their_own(serve: Serve):
    server = await serve(CATALOG)
    nested = (await file(server))["sources"]["s/b"]
    assert nested["args"] == {"path": "{{ CATALOG_DIR }}/catalog.yml?catalog=s%252Fb"}
    inner = (await file(server, "?catalog=s%252Fb"))["sources"]
    assert inner["array"]["args"] == {"path": "{{ CATALOG_DIR }}/data/s%2Fb/array.npy"}
    assert (await server.get("/catalog.yml?catalog=nothing")).status == 404
    assert (await server.get("/catalog.yml?catalog=array")).status == 400


async def test_entries_that_clients_must_read_themselves_name_their_files(serve: Serve, folder: Path):
    own = (await file(await serve(CATALOG)))["sources"]["own"]
    assert (own["driver"], own["args"]) == (["csv"], {"urlpath": f"{folder}/e_1.csv"})


async def test_what_no_release_reads_over_http_is_left_out(serve: Serve):
    content = await file(await serve(CATALOG))
    assert list(content["sources"]) == ["a b", "array", "document", "own", "s/b"]
    assert content["metadata"] == {"version": 1, "owner": "me", "when": "2020-01-02T03:04:05"}


async def test_the_file_obeys_the_grammar_of_catalogs(serve: Serve):
    answer = await (await serve(CATALOG)).get("/catalog.yml")
    assert len(parser.parse(answer.body.decode(), Scope("http://host")).catalog) == 5


async def test_the_file_shows_what_its_reader_may_see_and_is_not_sent_twice(serve: Serve):
    keys = KeyAuth([Grant("reader", hashlib.sha256(b"k3y").hexdigest(), allow=("array",))])
    server = await serve(CATALOG, plugin=keys)
    headers = {"Authorization": "Bearer k3y"}
    assert list((await file(server, headers=headers))["sources"]) == ["array"]
    assert (await server.get("/catalog.yml")).status == 403
    tag = (await server.get("/catalog.yml", headers=headers)).headers["ETag"]
    assert (await server.get("/catalog.yml", headers={**headers, "If-None-Match": tag})).status == 304
