"""Text and JSON as Python data, over HTTP (protocol §3.4, §4.2, §9.6), and Delta Lake tables."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import deltalake
import msgpack
import pyarrow as pa
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from tests.intake_server.conftest import Serve, Served


def entry(driver: str, path: str, **arguments: Any) -> str:
    given = {"urlpath": "{{ CATALOG_DIR }}/" + path, **arguments}
    return f"sources: {{t: {{driver: {driver}, args: {json.dumps(given)}}}}}"


async def read(server: Served, partition: Any = 0) -> Any:
    return msgpack.unpackb(await server.data("t", partition), raw=False)


async def test_text_files_are_lists_of_lines_with_their_ends(serve: Serve, folder: Path):
    (folder / "b.txt").write_text("three")
    (folder / "a.txt").write_text("one\ntwö\n")
    server = await serve(entry("textfiles", "*.txt"))
    opened = await server.opened("t")
    assert (opened["container"], opened["dtype"], opened["shape"], opened["npartitions"]) == ("python", None, [None], 2)
    assert await read(server, 0) == ["one\n", "twö\n"]
    assert await read(server, 1) == ["three"]


async def test_files_that_are_not_text_are_lines_of_bytes(serve: Serve, folder: Path):
    (folder / "a.bin").write_bytes(b"\xff\n\xfe")
    assert await read(await serve(entry("textfiles", "a.bin", text_mode=False))) == [b"\xff\n", b"\xfe"]


async def test_text_in_another_encoding_and_compressed(serve: Serve, folder: Path):
    (folder / "a.gz").write_bytes(gzip.compress("é\n".encode("latin-1")))
    assert await read(await serve(entry("textfiles", "a.gz", text_encoding="latin-1", compression="gzip"))) == ["é\n"]


async def test_a_decoder_that_the_catalog_names_makes_the_items(serve: Serve, folder: Path):
    (folder / "a.txt").write_text('{"x": 1}')
    assert await read(await serve(entry("textfiles", "a.txt", decoder="json.loads"))) == [{"x": 1}]


async def test_text_that_is_not_in_its_encoding_is_an_error_of_the_read(serve: Serve, folder: Path):
    (folder / "a.txt").write_bytes(b"\xff\xfe\xfd")
    server = await serve(entry("textfiles", "a.txt"))
    source_id = (await server.opened("t"))["source_id"]
    assert (await server.read(source_id, 0)).status == 500


async def test_a_json_map_is_a_list_of_one_as_a_partition_and_itself_as_a_whole(serve: Serve, folder: Path):
    (folder / "a.json").write_text('{"x": [1, 2.5, null, "é"]}')
    server = await serve(entry("json", "a.json"))
    opened = await server.opened("t")
    assert (opened["shape"], opened["npartitions"]) == (None, 1)
    assert await read(server, 0) == [{"x": [1, 2.5, None, "é"]}]
    assert await read(server, None) == {"x": [1, 2.5, None, "é"]}


async def test_a_json_list_is_itself(serve: Serve, folder: Path):
    (folder / "a.json").write_text("[1, 2]")
    assert await read(await serve(entry("json", "a.json"))) == [1, 2]


async def test_json_lines_are_a_list(serve: Serve, folder: Path):
    (folder / "a.jsonl").write_text('{"x": 1}\n\n{"x": 2}\n')
    assert await read(await serve(entry("jsonl", "a.jsonl"))) == [{"x": 1}, {"x": 2}]


async def test_integers_that_messagepack_cannot_hold_are_text(serve: Serve, folder: Path):
    (folder / "a.json").write_text("[99999999999999999999, 1]")
    assert await read(await serve(entry("json", "a.json"))) == ["99999999999999999999", 1]


@pytest.mark.parametrize("text", ["{", "[" * 200_000, ""])
async def test_what_is_not_json_is_an_error_of_the_read(serve: Serve, folder: Path, text: str):
    (folder / "a.json").write_text(text)
    server = await serve(entry("json", "a.json"))
    source_id = (await server.opened("t"))["source_id"]
    assert (await server.read(source_id, 0)).status == 500


async def test_a_delta_table_is_read_in_the_version_that_was_opened(serve: Serve, folder: Path):
    path = str(folder / "table")
    deltalake.write_deltalake(path, pa.table({"n": [1, 2], "day": ["mon", "tue"]}), partition_by=["day"])
    server = await serve(entry("delta", "table"))
    before = await server.opened("t")
    assert (before["shape"], before["npartitions"], before["dtype"]) == ([2, 2], 2, {"n": "int64", "day": "object"})
    deltalake.write_deltalake(path, pa.table({"n": [3], "day": ["wed"]}), mode="append")
    after = await server.opened("t")
    assert (after["npartitions"], after["source_id"] != before["source_id"]) == (3, True)
    rows = []
    for partition in range(2):
        data = (await server.read(before["source_id"], partition)).value["data"]
        rows += pa.ipc.open_stream(data).read_all().to_pylist()
    assert sorted(row["day"] for row in rows) == ["mon", "tue"]


async def test_an_older_version_of_a_delta_table_can_be_asked_for(serve: Serve, folder: Path):
    path = str(folder / "table")
    deltalake.write_deltalake(path, pa.table({"n": [1]}))
    deltalake.write_deltalake(path, pa.table({"n": [2]}), mode="append")
    server = await serve(entry("delta", "table", version=0))
    assert (await server.opened("t"))["shape"] == [1, 1]


async def test_a_delta_table_that_is_not_there_is_refused(serve: Serve):
    assert (await (await serve(entry("delta", "nowhere"))).open("t")).status == 400


async def test_more_than_one_document_is_no_json_file_and_a_document_on_many_lines_no_jsonl(serve: Serve, folder: Path):
    (folder / "lines").write_text('{"x": 1}\n{"x": 2}\n')
    (folder / "whole").write_text('{\n  "x": 1\n}\n')
    server = await serve(
        "sources: {a: {driver: json, args: {urlpath: '{{ CATALOG_DIR }}/lines'}}, "
        "b: {driver: jsonl, args: {urlpath: '{{ CATALOG_DIR }}/whole'}}}"
    )
    lines, whole = await server.open("a"), await server.open("b")
    assert (lines.status, "use 'jsonl'" in lines.reason) == (400, True)
    assert (whole.status, "the first line is no JSON document" in whole.reason) == (400, True)


async def test_what_cannot_be_had_from_a_url_is_said_with_its_cause(serve: Serve, aiohttp_server: Any):
    nothing = await aiohttp_server(web.Application())
    server = await serve(
        f"""
        sources:
          refused: {{driver: textfiles, args: {{urlpath: 'http://127.0.0.1:1/x'}}}}
          missing: {{driver: textfiles, args: {{urlpath: 'http://127.0.0.1:{nothing.port}/x'}}}}
          unknown: {{driver: textfiles, args: {{urlpath: 'http://nowhere.invalid/x'}}}}
        """
    )
    reasons = [(await server.open(name)).reason for name in ("refused", "missing", "unknown")]
    assert "Cannot connect to host 127.0.0.1:1" in reasons[0]
    assert "404" in reasons[1]
    assert "Cannot connect to host nowhere.invalid" in reasons[2]


async def test_a_refused_request_is_logged_with_its_reason(serve: Serve, folder: Path):
    (folder / "a.txt").write_bytes(b"\xff\xfe\xfd")
    server = await serve(entry("textfiles", "a.txt"))
    source_id = (await server.opened("t"))["source_id"]
    with capture_logs() as logged:
        await server.open("nope")
        await server.read(source_id, 7)
        await server.read(source_id, 0)
    told = [(line["log_level"], line["status"]) for line in logged if line["event"].startswith("request ")]
    assert told == [("info", 404), ("info", 400), ("warning", 500)]
    assert any("partition: 7" in line.get("reason", "") for line in logged)
