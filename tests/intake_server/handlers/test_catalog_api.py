"""The JSON API: list, search, describe; and the document and pages that show it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from intake_server.app import make_app
from intake_server.auth.plugins import Grant, KeyAuth, SecretAuth

CATALOG = """
metadata: {version: 1, when: 2020-01-02 03:04:05}
sources:
  table:
    description: Rows of numbers
    driver: csv
    metadata: {tags: [a, b], day: 2024-02-29}
    args: {urlpath: "{{ CATALOG_DIR }}/table_{{ part }}.csv"}
    parameters:
      part: {description: which, type: int, default: 1, min: 1, max: 2}
  lost: {driver: csv, description: numbers nobody has, args: {urlpath: "{{ CATALOG_DIR }}/lost.csv"}}
  foreign: {driver: never_heard_of, args: {password: hunter2}, direct_access: allow}
  sub: {driver: yaml_file_cat, description: more, args: {path: "{{ CATALOG_DIR }}/sub.yml"}}
"""
SUB = """
sources:
  inner: {driver: csv, description: deep numbers, args: {urlpath: "{{ CATALOG_DIR }}/table_1.csv"}}
"""


@pytest.fixture
async def served(serve, folder: Path) -> Any:
    (folder / "table_1.csv").write_text("x,y\n1,a\n2,b\n")
    (folder / "table_2.csv").write_text("x,y\n3,c\n")
    (folder / "sub.yml").write_text(SUB)
    return await serve(CATALOG)


async def ask(served: Any, path: str, status: int = 200, **headers: str) -> Any:
    answer = await served.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    assert answer.status == status, answer.body
    assert answer.headers["Content-Type"].startswith("application/json")
    return json.loads(answer.body)


async def test_a_catalog_is_listed_with_what_its_entries_are(served):
    found = await ask(served, "/api/catalog")
    assert found["length"] == 4
    assert [(e["name"], e["container"], e["is_catalog"]) for e in found["entries"]] == [
        ("table", "dataframe", False),
        ("lost", "dataframe", False),
        ("foreign", None, False),
        ("sub", "catalog", True),
    ]
    assert found["metadata"] == {"version": 1, "when": "2020-01-02T03:04:05"}
    assert found["entries"][0]["description"] == "Rows of numbers"


async def test_pages_of_a_catalog_keep_its_order(served):
    found = await ask(served, "/api/catalog?offset=1&limit=2")
    assert (found["length"], [entry["name"] for entry in found["entries"]]) == (4, ["lost", "foreign"])
    assert (await ask(served, "/api/catalog?limit=0"))["entries"] == []
    assert (await ask(served, "/api/catalog?offset=x", 400))["error"]["reason"].startswith("offset: expected")


async def test_a_nested_catalog_is_listed_by_its_path(served):
    found = await ask(served, "/api/catalog/sub")
    assert [entry["path"] for entry in found["entries"]] == [["sub", "inner"]]
    assert (await ask(served, "/api/catalog/table", 400))["error"]["code"] == "not_a_catalog"
    assert (await ask(served, "/api/catalog/nothing", 404))["error"]["code"] == "not_found"


async def test_a_search_finds_entries_at_every_depth_and_says_where_they_are(served):
    found = await ask(served, "/api/catalog?search=numbers")
    assert [entry["path"] for entry in found["entries"]] == [["table"], ["lost"], ["sub", "inner"]]
    shallow = await ask(served, "/api/catalog?search=numbers&depth=1")
    assert [entry["name"] for entry in shallow["entries"]] == ["table", "lost"]
    assert (await ask(served, "/api/catalog?search=" + "x" * 2000, 400))["error"]["code"] == "bad_query"


async def test_an_entry_is_described_without_being_opened(served):
    found = await ask(served, "/api/entry/lost")
    assert (found["path"], found["driver"], found["is_catalog"]) == (["lost"], ["csv"], False)
    assert "dtype" not in found
    table = await ask(served, "/api/entry/table")
    assert table["metadata"] == {"tags": ["a", "b"], "day": "2024-02-29"}
    assert [parameter["name"] for parameter in table["user_parameters"]] == ["part"]


async def test_an_opened_entry_has_a_schema_and_formats_and_no_server_paths(served, folder):
    found = await ask(served, "/api/entry/table?open=true&part=2")
    assert found["dtype"]["x"] == "int64"
    assert (found["npartitions"], found["shape"]) == (1, [None, 2])
    assert {"name": "parquet", "media_type": "application/vnd.apache.parquet", "url": "data/table.parquet"} in found[
        "formats"
    ]
    assert str(folder) not in json.dumps(found)


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/api/entry/table?open=true&part=7", 400, "part"),
        ("/api/entry/table?open=true&urlpath=/etc/passwd", 400, "unknown parameter 'urlpath'"),
        ("/api/entry/table?open=1&part=1&p.part=2", 400, "given twice"),
        ("/api/entry/lost?open=true", 400, "{CATALOG_DIR}/lost.csv"),
        ("/api/entry/foreign?open=true", 400, "never_heard_of"),
        ("/api/entry/sub?open=true", 400, "this is a catalog"),
        ("/api/entry/nothing", 404, "No such entry"),
    ],
)
async def test_what_cannot_be_described_says_why(served, path, status, reason):
    assert reason in (await ask(served, path, status))["error"]["reason"]


async def test_secrets_in_arguments_are_masked_and_arguments_of_forbidden_entries_are_not_shown(served):
    assert (await ask(served, "/api/entry/foreign"))["args"] == {"password": "********"}
    assert (await ask(served, "/api/entry/table"))["args"] == {}


async def test_a_client_that_has_the_listing_gets_304(served):
    first = await served.get("/api/catalog")
    again = await served.get("/api/catalog", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")


async def test_callers_see_what_they_may_and_no_more(serve, folder, served):
    guarded = await serve(CATALOG, plugin=SecretAuth(secret="s3cret"))
    assert (await ask(guarded, "/api/catalog", 403))["error"]["code"] == "forbidden"
    assert (await ask(guarded, "/api/catalog", intake_secret="s3cret"))["length"] == 4
    listed = await serve(CATALOG, plugin=KeyAuth([Grant("a", None, allow=("table", "sub.inner"))]))
    assert [entry["name"] for entry in (await ask(listed, "/api/catalog"))["entries"]] == ["table", "sub"]
    assert (await ask(listed, "/api/catalog?search=numbers"))["length"] == 2
    await ask(listed, "/api/entry/lost", 403)


class TestPages:
    async def test_the_document_describes_every_route_of_the_api_and_no_other(self, served):
        described = await ask(served, "/api/openapi.json")
        routed = {
            resource.canonical
            for resource in make_app(served.server).router.resources()
            if resource.canonical.startswith(("/api/catalog", "/api/entry", "/data/", "/catalog.yml"))
        }
        assert set(described["paths"]) == routed
        for path, methods in described["paths"].items():
            assert {name for name in ("catalog", "entry") if f"{{{name}}}" in path} == {
                parameter["name"] for parameter in methods["get"]["parameters"] if parameter["in"] == "path"
            }

    @pytest.mark.parametrize(
        ("path", "kind"),
        [
            ("/browse/", "text/html"),
            ("/browse/browse.js", "text/javascript"),
            ("/browse/browse.css", "text/css"),
            ("/browse/icon.svg", "image/svg+xml"),
            ("/api/docs", "text/html"),
            ("/api/docs/docs.js", "text/javascript"),
            ("/api/docs/swagger-ui-bundle.js", "text/javascript"),
            ("/api/docs/swagger-ui.css", "text/css"),
        ],
    )
    async def test_pages_run_nothing_but_their_own_files(self, served, path, kind):
        answer = await served.get(path)
        assert (answer.status, answer.headers["Content-Type"]) == (200, f"{kind}; charset=utf-8")
        assert "default-src 'none'; script-src 'self'; " in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        if kind == "text/html":
            assert b"http:" not in answer.body
            assert b"https:" not in answer.body

    @pytest.mark.parametrize("path", ["/browse/app.py", "/browse/..%2Fapp.py", "/api/docs/x.js", "/browse/docs.html"])
    async def test_no_other_file_is_sent(self, served, path):
        assert (await served.get(path)).status == 404

    async def test_browsers_are_led_to_the_page_and_programs_are_not(self, serve, served):
        under = await serve(CATALOG, prefix="cat/alog")
        for one, at in ((served, "/"), (under, "/cat/alog/")):
            async with one.client.get(at, headers={"Accept": "text/html,*/*;q=0.8"}, allow_redirects=True) as answer:
                assert (answer.status, answer.url.path) == (200, f"{at}browse/")
            assert (await one.get(at)).status == 404
        async with served.client.get("/browse") as answer:
            assert answer.url.path == "/browse/"

    async def test_the_pages_need_no_key(self, serve, served):
        guarded = await serve(CATALOG, plugin=SecretAuth(secret="s3cret"))
        assert (await guarded.get("/browse/")).status == 200
