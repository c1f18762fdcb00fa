"""Listings, redirects, errors, CORS and the index (§0, §2.1, §2.7, §2.9)."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from gateway.handlers import outputs
from gateway.modules.builtin.demo import demo_file
from tests.gateway.conftest import Serve
from tests.gateway.examples import DEMO_TYPES


@pytest.fixture
def demo() -> str:
    return demo_file()


@pytest.mark.parametrize(
    ("path", "names"),
    [
        (
            "/last/",
            "basket controls example example_list example_with_stage example_with_state example_with_state_multiple"
            " never_ticks str_basket",
        ),
        (
            "/state/",
            "example example_with_state example_with_state_alternative example_with_state_multiple",
        ),
        ("/send/", "basket basket/A basket/B basket/C controls example"),
        ("/controls/", "heartbeat shutdown stats"),
        ("/stage/", "example example_with_stage"),
        (
            "/stream",
            "example example_list never_ticks example_with_state example_with_state_multiple basket/A basket/B"
            " basket/C str_basket/a str_basket/b str_basket/c example_with_stage controls heartbeat",
        ),
    ],
)
async def test_the_listings_of_the_demo(serve: Serve, demo: str, path: str, names: str):
    gateway = await serve(demo)
    assert await gateway.get(path) == names.split()
    if path == "/last/":
        assert await gateway.get("/next/") == await gateway.get("/lookup/") == names.split()


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/last", "/last/"),
        ("/state?query=%7B%7D", "/state/?query=%7B%7D"),
        ("/last/example/", "/last/example"),
        ("/lookup/example", "/lookup/example/"),
    ],
)
async def test_a_slash_too_many_or_too_few_is_redirected_with_its_query(serve: Serve, path: str, location: str):
    gateway = await serve(DEMO_TYPES)
    answer = await gateway.http.get("/api/v1" + path, allow_redirects=False)
    assert answer.status == 307
    assert await answer.read() == b""
    assert answer.headers["location"] == f"http://{gateway.http.host}:{gateway.http.port}/api/v1{location}"


async def test_a_root_path_leads_redirects_index_and_documents(serve: Serve):
    gateway = await serve("server: {root_path: watch/tower/}\n" + DEMO_TYPES)
    answer = await gateway.http.get("/api/v1/last", allow_redirects=False)
    assert answer.headers["location"].endswith("/watch/tower/api/v1/last/")
    index = await (await gateway.http.get("/api")).json()
    assert index == {"default": "v1", "versions": [{"version": "v1", "path": "/watch/tower/api/v1"}]}
    document = await (await gateway.http.get("/openapi.json")).json()
    assert document["servers"] == [{"url": "/watch/tower"}]
    assert "/watch/tower/openapi.json" in await (await gateway.http.get("/docs")).text()


async def test_prefix_and_version_can_be_chosen(serve: Serve):
    gateway = await serve("server: {api_prefix: /rest/, api_version: v7}\n" + DEMO_TYPES)
    assert (await gateway.http.get("/rest/v7/last/example")).status == 200
    assert await (await gateway.http.get("/rest")).json() == {
        "default": "v7",
        "versions": [{"version": "v7", "path": "/rest/v7"}],
    }


@pytest.mark.parametrize(
    ("method", "path", "status", "detail"),
    [
        ("GET", "/nowhere", 404, "Not Found"),
        ("GET", "", 404, "Not Found"),
        ("POST", "/last/example", 405, "Method Not Allowed"),
        ("OPTIONS", "/last/example", 405, "Method Not Allowed"),
        ("GET", "/controls/shutdown", 405, "Method Not Allowed"),
        ("GET", "/state/nope", 404, "Not Found"),
        ("GET", "/stage/basket", 404, "Not Found"),
        ("GET", "/field/nope", 404, "Not Found"),
        ("GET", "/sse?channel=nope", 404, "Channel not found: nope"),
    ],
)
async def test_every_error_is_an_object_with_a_detail(serve: Serve, method: str, path: str, status: int, detail: str):
    gateway = await serve(DEMO_TYPES)
    assert await gateway.rejected(method, path, status) == detail


async def test_a_get_route_allows_get_alone(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    assert (await gateway.http.post("/api/v1/last/example")).headers["allow"] == "GET"
    assert (await gateway.http.head("/api/v1/last/example")).status == 405


async def test_a_bug_is_a_500_that_is_json(serve: Serve, tmp_path: Path):
    (tmp_path / "broken.py").write_text(
        "class Broken:\n"
        "    def connect(self, gw): gw.add_validator('Example', lambda record: 1 / 0)\n"
        "    async def start(self, gw): pass\n"
        "    async def stop(self, gw): pass\n"
    )
    gateway = await serve(DEMO_TYPES + "modules: [{use: 'broken.py:Broken'}]\n", folder=tmp_path)
    detail = await gateway.rejected("POST", "/send/example", 500, json={"x": 1})
    assert "request id" in detail
    assert "division" not in detail


async def test_cors_names_the_origin_as_browsers_send_it(serve: Serve):
    gateway = await serve("server: {cors_origins: ['http://a.example']}\n" + DEMO_TYPES)
    answer = await gateway.http.get("/api/v1/last/example", headers={"origin": "http://a.example"})
    assert answer.headers["access-control-allow-origin"] == "http://a.example"
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert answer.headers["vary"] == "Origin"
    answer = await gateway.http.get("/api/v1/last/example", headers={"origin": "http://b.example"})
    assert "access-control-allow-origin" not in answer.headers


async def test_without_configured_origins_there_are_no_cors_headers(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    answer = await gateway.http.get("/api/v1/last/example", headers={"origin": "http://a.example"})
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


async def test_the_heartbeat_goes_through_the_engine(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    (beat,) = await gateway.get("/controls/heartbeat")
    assert (beat["name"], beat["status"], beat["data"], beat["data_str"]) == ("heartbeat", "ok", {}, "")
    assert await gateway.get("/last/controls") == [beat]


async def test_a_heartbeat_that_is_sent_is_marked_by_the_engine(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    (sent,) = await gateway.send("controls", {"name": "heartbeat"})
    (stored,) = await gateway.get("/last/controls")
    assert (sent["status"], stored["status"]) == ("none", "ok")
    await gateway.send("controls", {"name": "shutdown"})
    assert gateway.stopped == []


async def test_the_statistics_have_the_systems_numbers_and_the_gateways(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    await gateway.send("example", {"x": 1})
    (stats,) = await gateway.get("/controls/stats")
    data = stats["data"]
    assert {"cpu", "memory", "memory-total", "pid", "active_threads", "max_threads", "host", "user"} <= set(data)
    assert data["now"].endswith("Z")
    assert data["csp-now"] == "2026-11-21T03:56:00.381782"
    assert data["gateway"]["channels"]["example"]["ticks"] == 1
    text = json.loads(stats["data_str"])
    assert text.pop("now").endswith("+00:00")
    assert text == {name: value for name, value in data.items() if name != "now"}


async def test_shutdown_answers_and_then_ends_the_process(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    answer = await gateway.http.post("/api/v1/controls/shutdown")
    assert answer.status == 200
    assert [(each["name"], each["status"]) for each in await answer.json()] == [("shutdown", "ok")]
    assert gateway.stopped == [True]


async def test_controls_can_be_switched_off_one_by_one_or_all(serve: Serve):
    gateway = await serve("controls: {shutdown: false}\n" + DEMO_TYPES)
    assert await gateway.get("/controls/") == ["heartbeat", "stats"]
    assert await gateway.rejected("POST", "/controls/shutdown", 404) == "Not Found"
    without = await serve("controls: false\n" + DEMO_TYPES)
    assert await without.rejected("GET", "/controls/", 404) == "Not Found"
    assert "controls" not in await without.get("/last/")


async def test_groups_can_be_limited_and_switched_off(serve: Serve):
    gateway = await serve("rest: {last: {include: [example]}, next: false, send: {exclude: [example]}}\n" + DEMO_TYPES)
    assert await gateway.get("/last/") == ["example"]
    assert await gateway.rejected("GET", "/last/by_x", 404) == "Not Found"
    assert await gateway.rejected("GET", "/next/example", 404) == "Not Found"
    assert await gateway.rejected("POST", "/send/example", 404, json={}) == "Channel not found: example"


async def test_a_read_only_gateway_has_no_send_routes(serve: Serve):
    gateway = await serve("server: {send_readonly: true}\n" + DEMO_TYPES)
    assert await gateway.rejected("POST", "/send/example", 404, json={}) == "Not Found"


async def test_static_fields_and_the_graph(serve: Serve, demo: str):
    gateway = await serve(demo)
    assert await gateway.get("/field") == ["metadata"]
    assert await gateway.get("/field/metadata") == {"name": "Demo"}
    graph = await gateway.get("/channels_graph")
    assert graph["example"]["setters"] == ["Send[example]", "Stage[example]", "Demo"]
    assert "Demo<a>" in graph["str_basket"]["setters"]
    assert graph["never_ticks"]["setters"] == []
    page = await (await gateway.http.get("/channels_graph")).text()
    assert "<code>str_basket</code>" in page


async def test_the_log_browser_shows_one_folder_and_nothing_outside_it(serve: Serve, tmp_path: Path):
    root = tmp_path / "outputs"
    (root / "a").mkdir(parents=True)
    (root / "a" / "log.txt").write_text("one\ntwo\n")
    (tmp_path / "secret").write_text("s")
    (root / "link").symlink_to(tmp_path / "secret")
    gateway = await serve(f"outputs: {root}\n" + DEMO_TYPES)
    assert '"/outputs/a/log.txt?token=test"' in await (await gateway.http.get("/outputs/a?token=test")).text()
    answer = await gateway.http.get("/outputs/a/log.txt")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    for path in ("link", "missing", "%2e%2e/secret", "..%2fsecret"):
        assert (await gateway.http.get(f"/outputs/{path}")).status == 404
    tree = await (await gateway.http.get("/outputs/_tree")).json()
    assert tree == {"paths": ["a/log.txt"], "truncated": False}
    chunk = await (await gateway.http.get("/outputs/_chunk?path=a/log.txt&start=4")).json()
    assert chunk == {"path": "a/log.txt", "size": 8, "start": 4, "end": 8, "text": "two\n"}
    assert "link" not in await (await gateway.http.get("/outputs")).text()


async def test_the_log_browser_links_to_files_of_any_name(serve: Serve, tmp_path: Path):
    (tmp_path / "50% of #1 & <2>?.log").write_text("found")
    gateway = await serve(f"outputs: {tmp_path}\n" + DEMO_TYPES)
    page = await (await gateway.http.get("/outputs?token=test")).text()
    (link,) = re.findall(r'href="([^"]*)"', page)
    assert link.endswith(".log?token=test")
    assert await (await gateway.http.get(URL(link, encoded=True))).text() == "found"


async def test_a_part_of_a_large_file_is_no_larger_than_a_mebibyte(serve: Serve, tmp_path: Path):
    (tmp_path / "large.log").write_text("x" * 3_000_000)
    gateway = await serve(f"outputs: {tmp_path}\n" + DEMO_TYPES)
    chunk = await (await gateway.http.get("/outputs/_chunk?path=large.log&start=1")).json()
    assert (chunk["size"], chunk["start"], chunk["end"], len(chunk["text"])) == (3_000_000, 1, 2**20 + 1, 2**20)


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("", "path: missing, expected that of a file in outputs"),
        ("path=a.log&start=x", "start: found 'x', expected a number of bytes"),
        ("path=a.log&end=1.5", "end: found '1.5', expected a number of bytes"),
    ],
)
async def test_a_part_that_is_not_one_is_told(serve: Serve, tmp_path: Path, query: str, detail: str):
    (tmp_path / "a.log").write_text("x")
    gateway = await serve(f"outputs: {tmp_path}\n" + DEMO_TYPES)
    answer = await gateway.http.get(f"/outputs/_chunk?{query}")
    assert (answer.status, (await answer.json())["detail"]) == (422, detail)


async def test_health_and_metrics(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    await gateway.send("example", {"x": 1})
    assert (await gateway.http.get("/healthz")).status == 200
    assert (await gateway.http.get("/readyz")).status == 200
    text = await (await gateway.http.get("/metrics")).text()
    assert 'gateway_ticks_total{channel="example"} 1.0' in text
    assert "gateway_connections 0.0" in text


async def test_the_tree_of_outputs_looks_at_a_bounded_number_of_entries_in_order(serve: Serve, tmp_path: Path):
    for name in ("b/two.txt", "b/one.txt", "b.txt", "a/deep/er/file", "c/last"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "a" / "back").symlink_to(tmp_path)
    (tmp_path / "a" / "outside").symlink_to("/etc/hostname")
    gateway = await serve(f"outputs: {tmp_path}\n{DEMO_TYPES}")

    async def tree() -> Any:
        return await (await gateway.http.get("/outputs/_tree")).json()

    everything = ["a/deep/er/file", "b/one.txt", "b/two.txt", "b.txt", "c/last"]
    assert await tree() == {"paths": everything, "truncated": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outputs, "TREE_LIMIT", 3)
        assert await tree() == {"paths": everything[:3], "truncated": True}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outputs, "TREE_ENTRIES", 7)
        answer = await tree()
        assert answer["truncated"]
        assert len(answer["paths"]) < 5


async def test_files_whose_names_are_no_text_are_listed_beside_the_others(serve: Serve, tmp_path: Path):
    (tmp_path / "a.log").write_text("x")
    (tmp_path / os.fsdecode(b"\xff.log")).write_text("x")
    gateway = await serve(f"outputs: {tmp_path}\n{DEMO_TYPES}")
    answer = await gateway.http.get("/outputs")
    assert answer.status == 200
    assert 'href="/outputs/%FF.log"' in await answer.text()
    assert (await (await gateway.http.get("/outputs/_tree")).json())["paths"] == ["a.log", "?.log"]
