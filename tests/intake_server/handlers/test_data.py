"""``GET /data/<entry>``: the same data in every format, in parts, and again only when they have changed."""

from __future__ import annotations

import gzip
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from intake_server.auth.plugins import Grant, KeyAuth, SecretAuth

CATALOG = """
metadata: {version: 1}
sources:
  frame:
    driver: parquet
    args: {urlpath: "{{ CATALOG_DIR }}/frame.parquet"}
  folder:
    driver: parquet
    args: {urlpath: "{{ CATALOG_DIR }}/parts"}
  table:
    driver: csv
    args: {urlpath: "{{ CATALOG_DIR }}/part_{{ part }}.csv"}
    parameters:
      part: {description: which, type: str, default: "1", allowed: ["1", "2"]}
  v1.frame:
    driver: parquet
    args: {urlpath: "{{ CATALOG_DIR }}/frame.parquet"}
  array:
    driver: numpy
    args: {path: "{{ CATALOG_DIR }}/array.npy", chunks: 7}
  text:
    driver: textfiles
    args: {urlpath: "{{ CATALOG_DIR }}/*.txt"}
  document:
    driver: json
    args: {urlpath: "{{ CATALOG_DIR }}/document.json"}
  own:
    driver: csv
    direct_access: force
    args: {urlpath: "{{ CATALOG_DIR }}/part_1.csv"}
  broken:
    driver: csv
    args: {urlpath: "{{ CATALOG_DIR }}/nothing.csv"}
  other: {driver: alias, args: {target: frame}}
  sub: {driver: yaml_file_cat, args: {path: "{{ CATALOG_DIR }}/sub.yml"}}
"""
SUB = """
sources:
  a/b c.é:
    driver: parquet
    args: {urlpath: "{{ CATALOG_DIR }}/frame.parquet"}
"""


def frame(rows: int = 1000) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "n": range(rows),
            "half": [n / 2 if n % 10 else None for n in range(rows)],
            "name": [f"name, {n % 7}" for n in range(rows)],
            "at": pd.date_range("2024-01-01", periods=rows, freq="min", tz="UTC"),
        }
    )


@pytest.fixture
def data(folder: Path) -> Path:
    pq.write_table(pa.Table.from_pandas(frame()), folder / "frame.parquet", row_group_size=100)
    (folder / "parts").mkdir()
    for part in range(2):
        piece = pa.Table.from_pandas(frame().iloc[part * 500 : part * 500 + 500], preserve_index=False)
        pq.write_table(piece, folder / "parts" / f"{part}.parquet")
    for part in (1, 2):
        (folder / f"part_{part}.csv").write_text(f"x,y\n{part},2\n3,4\n")
    np.save(folder / "array.npy", np.arange(20 * 6, dtype="<f4").reshape(20, 6))
    (folder / "one.txt").write_text("alpha\nbeta\n")
    (folder / "two.txt").write_text("gamma\n")
    (folder / "document.json").write_text('{"a": [1, null, "é"]}')
    (folder / "sub.yml").write_text(SUB)
    return folder


@pytest.fixture
async def served(serve, data):
    return await serve(CATALOG)


async def get(served: Any, path: str, accept: str = "*/*", **headers: str) -> Any:
    return await served.get(path, headers={"Accept": accept, **{k.replace("_", "-"): v for k, v in headers.items()}})


async def body(served: Any, path: str, accept: str = "*/*") -> bytes:
    answer = await get(served, path, accept)
    assert answer.status == 200, answer.body
    return answer.body


def same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, check_index_type=False, check_freq=False)


class TestFormats:
    async def test_a_frame_is_the_same_in_every_format(self, served):
        same(pd.read_parquet(io.BytesIO(await body(served, "/data/frame.parquet"))), frame())
        same(pa.ipc.open_stream(await body(served, "/data/frame.arrow")).read_pandas(), frame())
        same(pd.read_csv(io.BytesIO(await body(served, "/data/frame.csv")), parse_dates=["at"]), frame())
        lines = (await body(served, "/data/frame.jsonl")).splitlines()
        assert json.loads(lines[0]) == {"n": 0, "half": None, "name": "name, 0", "at": "2024-01-01T00:00:00+00:00"}
        assert [json.loads(line) for line in lines] == json.loads(await body(served, "/data/frame.json"))

    @pytest.mark.parametrize(
        ("accept", "media_type"),
        [
            ("application/vnd.apache.parquet", "application/vnd.apache.parquet"),
            ("application/vnd.apache.arrow.stream;q=0.9, text/csv;q=0.1", "application/vnd.apache.arrow.stream"),
            ("*/*", "text/csv; charset=utf-8"),
            ("image/png", "image/png"),
        ],
    )
    async def test_accept_chooses_the_format(self, served, accept, media_type):
        assert (await get(served, "/data/frame", accept)).headers["Content-Type"] == media_type

    async def test_the_suffix_goes_before_accept_and_the_query_before_the_suffix(self, served):
        assert (await get(served, "/data/frame.csv", "image/png")).headers["Content-Type"].startswith("text/csv")
        named = await get(served, "/data/frame.csv?format=arrow", "image/png")
        assert named.headers["Content-Type"] == "application/vnd.apache.arrow.stream"

    async def test_an_array_is_the_same_in_every_format(self, served, data):
        array = np.load(data / "array.npy")
        np.testing.assert_array_equal(np.load(io.BytesIO(await body(served, "/data/array"))), array)
        np.testing.assert_array_equal(json.loads(await body(served, "/data/array.json")), array)
        np.testing.assert_array_equal(
            np.loadtxt(io.BytesIO(await body(served, "/data/array.csv")), delimiter=","), array
        )

    async def test_lists_are_lines_of_json_or_text(self, served):
        assert await body(served, "/data/text") == b'"alpha\\n"\n"beta\\n"\n"gamma\\n"\n'
        assert await body(served, "/data/text.txt") == b"alpha\nbeta\ngamma\n"
        assert json.loads(await body(served, "/data/text.json?rows=1:2")) == ["beta\n"]

    async def test_a_json_document_is_itself(self, served):
        assert json.loads(await body(served, "/data/document.json")) == {"a": [1, None, "é"]}

    @pytest.mark.parametrize(
        ("path", "accept"), [("/data/frame.npy", ""), ("/data/array.parquet", ""), ("/data/frame", "video/mp4")]
    )
    async def test_what_cannot_be_had_is_406_with_what_can(self, served, path, accept):
        answer = await get(served, path, accept)
        assert answer.status == 406
        assert "can be had as" in json.loads(answer.body)["error"]["reason"]

    async def test_text_is_compressed_for_those_who_accept_it_and_has_its_own_tag(self, served):
        plain = await get(served, "/data/frame.csv", Accept_Encoding="identity")
        async with served.client.session.get(
            served.client.make_url("/data/frame.csv"), headers={"Accept-Encoding": "gzip"}, auto_decompress=False
        ) as answer:
            squeezed = await answer.read()
        assert answer.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(squeezed) == plain.body
        assert len(squeezed) < len(plain.body) / 2
        assert answer.headers["ETag"] != plain.headers["ETag"]
        assert "Content-Encoding" not in plain.headers

    async def test_an_empty_selection_still_has_its_columns(self, served):
        assert await body(served, "/data/frame.csv?where=n<0&columns=name,n") == b'"name","n"\n'
        assert pd.read_parquet(io.BytesIO(await body(served, "/data/frame.parquet?where=n<0"))).columns.tolist() == [
            *("n", "half", "name", "at")
        ]
        assert pa.ipc.open_stream(await body(served, "/data/frame.arrow?rows=0:0")).read_all().num_rows == 0
        assert json.loads(await body(served, "/data/frame.json?rows=5000:")) == []


class TestSelections:
    async def test_columns_rows_and_conditions_of_a_frame(self, served):
        path = "/data/frame.arrow?columns=name,n&where=n>=100&where=half is null&rows=1:3"
        found = pa.ipc.open_stream(await body(served, path)).read_all()
        assert found.to_pylist() == [{"name": "name, 5", "n": 110}, {"name": "name, 1", "n": 120}]

    async def test_a_range_of_rows_goes_across_files(self, served):
        found = pd.read_parquet(io.BytesIO(await body(served, "/data/folder.parquet?rows=495:505&columns=n")))
        assert found["n"].tolist() == list(range(495, 505))

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("2:4,1", np.s_[2:4, 1]),
            ("::5,::2", np.s_[::5, ::2]),
            ("-1", np.s_[-1]),
            ("5:16:3,-3:-1", np.s_[5:16:3, -3:-1]),
            ("3,4", np.s_[3, 4]),
            ("9:2", np.s_[9:2]),
        ],
    )
    async def test_slices_of_an_array_are_numpys(self, served, data, text, expected):
        array = np.load(data / "array.npy")[expected]
        found = np.load(io.BytesIO(await body(served, f"/data/array.npy?slice={text}")))
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype
        assert json.loads(await body(served, f"/data/array.json?slice={text}")) == array.tolist()

    @pytest.mark.parametrize(
        ("path", "reason"),
        [
            ("/data/frame?columns=colour", "there is no column 'colour'"),
            ("/data/frame?where=n>many", "holds int64, which 'many' is not"),
            ("/data/frame?where=n", "where: expected something like"),
            ("/data/frame?rows=7", "rows: expected START:STOP"),
            ("/data/frame?slice=1", "slice: this entry is of the kind 'dataframe'"),
            ("/data/frame.parquet?columns=colour", "there is no column 'colour'"),
            ("/data/array?rows=1:2", "rows: this entry is of the kind 'ndarray'"),
            ("/data/array?slice=20", "slice: 20 is outside of axis 0, which has 20"),
            ("/data/array?slice=0,0,0", "slice: the array has 2 axes, 3 are sliced"),
            ("/data/frame?part=1", "unknown parameter 'part'"),
            ("/data/table?part=3", "part"),
            ("/data/table?urlpath=/etc/passwd", "unknown parameter 'urlpath'"),
            ("/data/sub", "this is a catalog"),
            ("/data/broken", "{CATALOG_DIR}/nothing.csv"),
        ],
    )
    async def test_what_does_not_fit_is_400_with_the_reason(self, served, path, reason):
        answer = await get(served, path)
        assert answer.status == 400
        assert reason in json.loads(answer.body)["error"]["reason"]

    async def test_an_unknown_format_is_406(self, served):
        assert (await get(served, "/data/frame?format=xlsx")).status == 406


class TestAddresses:
    async def test_parameters_of_the_entry_are_given_in_the_query(self, served):
        assert await body(served, "/data/table.csv") == b'"x","y"\n1,2\n3,4\n'
        assert await body(served, "/data/table.csv?part=2") == b'"x","y"\n2,2\n3,4\n'
        assert await body(served, "/data/table.csv?p.part=2") == b'"x","y"\n2,2\n3,4\n'

    @pytest.mark.parametrize(
        "path", ["/data/sub/a%2Fb%20c.%C3%A9", "/data/sub/a%2Fb%20c.%C3%A9.csv", "/data/other.csv"]
    )
    async def test_nested_names_any_characters_and_aliases_are_found(self, served, path):
        assert (await body(served, path)).startswith(b'"n","half","name","at"\n0,,')

    async def test_a_dotted_name_is_a_path_or_a_name_with_a_dot(self, served):
        assert (await body(served, "/data/v1.frame.csv?rows=0:0")) == b'"n","half","name","at"\n'

    @pytest.mark.parametrize("path", ["/data/nothing", "/data/nothing.csv", "/data/sub/nothing", "/data/frame.xlsx"])
    async def test_an_unknown_entry_is_404(self, served, path):
        answer = await get(served, path)
        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (404, "not_found")

    async def test_data_that_clients_must_read_themselves_are_not_sent(self, served):
        assert (await get(served, "/data/own")).status == 403

    async def test_everything_works_under_a_prefix(self, serve, data):
        served = await serve(CATALOG, prefix="data/cat")
        assert (await body(served, "/data/cat/data/sub/a%2Fb%20c.%C3%A9.csv?rows=0:1")).count(b"\n") == 2


class TestVersions:
    @pytest.mark.parametrize("path", ["/data/frame.parquet", "/data/frame.csv", "/data/array", "/data/folder.parquet"])
    async def test_a_copy_is_good_until_the_data_change(self, served, data, path):
        first = await get(served, path)
        again = await get(served, path, If_None_Match=first.headers["ETag"])
        assert (again.status, again.body) == (304, b"")
        array = data / "array.npy"
        np.save(array, np.load(array)[:7])
        for name in ("frame.parquet", "parts/0.parquet"):
            pq.write_table(pa.Table.from_pandas(frame(5)), data / name)
        changed = await get(served, path, If_None_Match=first.headers["ETag"])
        assert changed.status == 200
        assert changed.headers["ETag"] != first.headers["ETag"]

    async def test_different_parts_and_formats_have_different_tags(self, served):
        paths = (
            "frame.csv",
            "frame.arrow",
            "frame.csv?rows=0:5",
            "frame.csv?columns=n",
            "frame.csv?where=n>5",
            "folder",
        )
        tags = {(await get(served, f"/data/{path}")).headers["ETag"] for path in paths}
        assert len(tags) == len(paths)

    async def test_a_parquet_file_that_is_all_of_the_data_is_sent_as_it_is(self, served, data):
        assert await body(served, "/data/frame.parquet") == (data / "frame.parquet").read_bytes()
        assert len(served.server.exports.files.cache) == 0

    @pytest.mark.parametrize(
        "path", ["/data/frame.parquet", "/data/folder.parquet", "/data/array.npy", "/data/array.png"]
    )
    async def test_stable_formats_are_sent_in_parts(self, served, path):
        whole = await get(served, path)
        size = len(whole.body)
        part = await get(served, path, Range="bytes=10-19")
        assert (part.status, part.body) == (206, whole.body[10:20])
        assert part.headers["Content-Range"] == f"bytes 10-19/{size}"
        assert part.headers["ETag"] == whole.headers["ETag"]
        assert (await get(served, path, Range="bytes=-8")).body == whole.body[-8:]
        assert (await get(served, path, Range="bytes=0-3", If_Range=whole.headers["ETag"])).status == 206
        assert (await get(served, path, Range="bytes=0-3", If_Range='"old"')).body == whole.body
        behind = await get(served, path, Range=f"bytes={size}-")
        assert (behind.status, behind.headers["Content-Range"]) == (416, f"bytes */{size}")

    async def test_an_export_is_made_once_for_all_its_parts(self, served):
        for start in range(0, 50, 10):
            await get(served, "/data/folder.parquet", Range=f"bytes={start}-{start + 9}")
        assert len(served.server.exports.files.cache) == 1

    @pytest.mark.parametrize("path", ["/data/frame.csv", "/data/folder.jsonl", "/data/frame.arrow", "/data/text.txt"])
    async def test_head_tells_the_size_of_streamed_formats_and_ranges_of_them_can_be_had(self, served, path):
        whole = await get(served, path, Accept_Encoding="identity")
        async with served.client.head(path, headers={"Accept-Encoding": "identity"}) as answer:
            assert answer.headers["Content-Length"] == str(len(whole.body))
            assert (answer.headers["Accept-Ranges"], answer.headers["ETag"]) == ("bytes", whole.headers["ETag"])
        for coding in ("identity", "gzip"):
            part = await get(served, path, Range="bytes=5-14", Accept_Encoding=coding)
            assert (part.status, part.body) == (206, whole.body[5:15])
            assert "Content-Encoding" not in part.headers

    async def test_head_of_what_is_too_large_to_be_made_as_a_whole_has_no_size(self, serve, data):
        served = await serve(CATALOG, export_bytes=1000)
        async with served.client.head("/data/folder.csv") as answer:
            assert (answer.status, answer.headers["Accept-Ranges"]) == (200, "none")
            assert "Content-Length" not in answer.headers

    async def test_head_tells_the_size_of_stable_formats_and_sends_nothing(self, served, data):
        async with served.client.head("/data/frame.parquet") as answer:
            assert answer.headers["Content-Length"] == str((data / "frame.parquet").stat().st_size)
            assert answer.headers["Accept-Ranges"] == "bytes"
        async with served.client.head("/data/frame.csv?columns=colour") as answer:
            assert answer.status == 400

    async def test_an_export_over_the_limit_is_413_and_leaves_nothing(self, serve, data):
        served = await serve(CATALOG, export_bytes=1000)
        answer = await get(served, "/data/folder.parquet")
        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (413, "too_large")
        assert served.server.exports.files.cache.size == 0
        assert (await get(served, "/data/folder.csv")).status == 200

    async def test_old_exports_make_room_for_new_ones(self, serve, data):
        served = await serve(CATALOG, export_bytes=20_000)
        for start in range(0, 500, 100):
            await body(served, f"/data/folder.parquet?rows={start}:{start + 100}")
        files = served.server.exports.files.cache
        assert 0 < len(files) < 5
        assert files.size <= 20_000


class TestPreviews:
    @pytest.mark.parametrize("path", ["/data/frame.png", "/data/array.png?slice=:,0", "/data/folder.png?columns=half"])
    async def test_numbers_are_drawn_as_lines(self, served, path):
        picture = Image.open(io.BytesIO(await body(served, path)))
        assert picture.size == (800, 400)
        assert (9, 105, 218) in {colour for _, colour in picture.getcolors(1 << 20)}

    async def test_an_array_is_drawn_from_dark_to_bright(self, served):
        picture = Image.open(io.BytesIO(await body(served, "/data/array.png")))
        assert picture.width / picture.height == 6 / 20
        assert picture.getpixel((0, 0)) == (68, 1, 84)
        assert picture.getpixel((picture.width - 1, picture.height - 1)) == (253, 231, 37)

    async def test_what_has_no_numbers_is_406(self, served):
        answer = await get(served, "/data/frame.png?columns=name")
        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (406, "not_acceptable")


class TestSafety:
    async def test_no_answer_can_be_run_or_kept_by_a_browser(self, served):
        for path in ("/data/frame.csv", "/data/array.png", "/data/text.txt"):
            headers = (await get(served, path)).headers
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
            assert headers["Cache-Control"] == "private, no-cache"

    async def test_whoever_may_not_connect_gets_nothing(self, serve, data):
        served = await serve(CATALOG, plugin=SecretAuth(secret="s3cret"))
        assert (await get(served, "/data/frame.csv")).status == 403
        assert (await get(served, "/data/frame.csv", intake_secret="s3cret")).status == 200

    async def test_access_lists_hold_here_too_and_through_aliases(self, serve, data):
        plugin = KeyAuth([Grant("anybody", None, allow=("table", "other"))])
        served = await serve(CATALOG, plugin=plugin)
        assert (await get(served, "/data/table.csv")).status == 200
        for path in ("/data/frame.csv", "/data/other.csv", "/data/sub/a%2Fb%20c.%C3%A9", "/data/sub.x.csv"):
            assert (await get(served, path)).status in (403, 404), path

    async def test_a_file_that_breaks_in_the_middle_breaks_the_answer_and_nothing_else(self, served, data):
        whole = (data / "parts" / "1.parquet").read_bytes()
        first = await get(served, "/data/folder.csv")
        assert first.status == 200
        status = (data / "parts" / "1.parquet").stat()
        (data / "parts" / "1.parquet").write_bytes(b"\0" * 400 + whole[400:])
        os.utime(data / "parts" / "1.parquet", ns=(status.st_atime_ns, status.st_mtime_ns))
        with pytest.raises(Exception, match=r"payload|disconnected|closed|Connection"):
            await get(served, "/data/folder.csv")
        assert (await get(served, "/data/frame.csv")).status == 200
