"""The real intake client, 0.7.0, with current and with May-2023 libraries, against `intake_server` as a process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zarr

from tests.conformance.environments import client_python, run_client
from tests.processes import DaemonProcess, start_daemon

ENVIRONMENTS = ("current", "may-2023")

CATALOG = """
metadata:
  version: 1
  owner: me
  when: 2020-01-02 03:04:05
  parameters:
    part: {description: which part, type: str, default: '1'}
sources:
  frame:
    description: two parts
    driver: csv
    metadata: {foo: bar}
    args: {urlpath: '{{ CATALOG_DIR }}/entry1_*.csv'}
  part:
    driver: csv
    direct_access: allow
    args: {urlpath: '{{ CATALOG_DIR }}/entry1_{{ part }}.csv'}
    parameters:
      part: {description: part of filename, type: str, default: '1', allowed: ['1', '2']}
  table:
    driver: parquet
    args: {urlpath: '{{ CATALOG_DIR }}/tables/impression/ds=*/hh=*/*.parquet'}
  typed: {driver: parquet, args: {urlpath: '{{ CATALOG_DIR }}/typed.parquet'}}
  text: {driver: textfiles, args: {urlpath: '{{ CATALOG_DIR }}/*.txt'}}
  document: {driver: json, args: {urlpath: '{{ CATALOG_DIR }}/document.json'}}
  lines: {driver: jsonl, args: {urlpath: '{{ CATALOG_DIR }}/lines.jsonl'}}
  array: {driver: numpy, args: {path: '{{ CATALOG_DIR }}/array.npy', chunks: 3}}
  times: {driver: numpy, args: {path: '{{ CATALOG_DIR }}/times.npy'}}
  stack: {driver: numpy, args: {path: '{{ CATALOG_DIR }}/stack*.npy'}}
  structured: {driver: numpy, args: {path: '{{ CATALOG_DIR }}/structured.npy'}}
  grid: {driver: ndzarr, args: {urlpath: '{{ CATALOG_DIR }}/store.zarr', component: grid}}
  store: {driver: zarr_cat, args: {urlpath: '{{ CATALOG_DIR }}/store.zarr'}}
  alias: {driver: alias, args: {target: frame}}
  nested: {driver: yaml_file_cat, args: {path: '{{ CATALOG_DIR }}/catalog.yml'}}
  broken: {driver: csv, args: {urlpath: '{{ CATALOG_DIR }}/path-client.csv'}}
  missing: {driver: nosuch}
"""

PREAMBLE = """
import json, sys
import intake
catalog = intake.open_catalog(sys.argv[1])
def refused(action):
    try:
        action()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None
"""


def write_example(folder: Path) -> Path:
    (folder / "entry1_1.csv").write_text("name,score,rank\nAlice,100.5,1\nBob,50.3,2\n")
    (folder / "entry1_2.csv").write_text("name,score,rank\nCharlie,25.0,3\n")
    for day, hour, products in (("2026-11-20", "23", ["lamp"]), ("2026-11-21", "07", ["kettle", None])):
        path = folder / "tables" / "impression" / f"ds={day}" / f"hh={hour}" / "0.parquet"
        path.parent.mkdir(parents=True)
        pd.DataFrame({"product": products}).to_parquet(path)
    pd.DataFrame(
        {
            "at": pd.to_datetime(["2020-01-01", None]).tz_localize("Europe/Paris"),
            "kind": pd.Categorical(["a", "b"]),
            "count": pd.array([2**60 + 1, None], dtype="Int64"),
        },
        index=pd.Index(["x", "y"], name="key"),
    ).to_parquet(folder / "typed.parquet")
    (folder / "a.txt").write_text("one\ntwö\n")
    (folder / "b.txt").write_text("three")
    (folder / "document.json").write_text('{"x": [1, null]}')
    (folder / "lines.jsonl").write_text('{"x": 1}\n{"x": 2}\n')
    np.save(folder / "array.npy", np.arange(20.0).reshape(10, 2))
    np.save(folder / "times.npy", np.array(["2020-01-01", "NaT"], dtype="M8[ns]"))
    np.save(folder / "stack1.npy", np.zeros((2, 2), dtype="i4"))
    np.save(folder / "stack2.npy", np.ones((2, 2), dtype="i4"))
    np.save(folder / "structured.npy", np.array([(1, 2.0)], dtype=[("x", "<i4"), ("y", "<f8")]))
    store = zarr.open_group(folder / "store.zarr", mode="w")
    store.create_array("grid", shape=(5, 4), chunks=(2, 4), dtype="f4")[:] = np.arange(20).reshape(5, 4)
    (folder / "catalog.yml").write_text(CATALOG)
    return folder / "catalog.yml"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    folder = tmp_path_factory.mktemp("example")
    with start_daemon("intake_server", "--data-dir", folder / "data", write_example(folder)) as daemon:
        yield daemon


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def python(request: pytest.FixtureRequest) -> Path:
    return client_python(f"intake-{request.param}")


def ask(python: Path, server: DaemonProcess, script: str) -> Any:
    """What a script of the client prints as JSON in its last line."""
    printed = run_client(python, PREAMBLE + script, f"intake://127.0.0.1:{server.port}")
    return json.loads(printed.splitlines()[-1])


def test_catalogs_are_listed_whole_by_pages_nested_and_searched(python: Path, server: DaemonProcess):
    script = """
paged = intake.open_catalog(sys.argv[1], page_size=4)
found = catalog.search("two parts")
print(json.dumps({
    "names": list(catalog), "length": len(catalog), "owner": catalog.metadata["owner"],
    "paged": list(paged), "in_page": "frame" in paged, "not_there": "nope" in paged,
    "nested": list(catalog.nested), "deep": catalog.nested.nested.frame.read().shape,
    "dotted": catalog["nested.frame"].read().shape, "found": list(found), "opened": found["nested.frame"].read().shape,
    "unknown": refused(lambda: catalog["nope"]), "grid": catalog.store.grid.read().shape,
    "when": str(catalog.metadata["when"]),
}))
"""
    answer = ask(python, server, script)
    names = [
        line.split(":")[0].strip()
        for line in CATALOG.split("sources:")[1].splitlines()
        if line.startswith("  ") and not line.startswith("   ")
    ]
    assert answer["names"] == answer["paged"] == answer["nested"] == names
    assert (answer["length"], answer["owner"], answer["when"]) == (len(names), "me", "2020-01-02 03:04:05")
    assert (answer["in_page"], answer["not_there"]) == (True, False)
    assert answer["deep"] == answer["dotted"] == answer["opened"] == [3, 3]
    assert answer["found"] == ["frame", "nested.frame"]
    assert answer["unknown"].startswith("KeyError")
    assert answer["grid"] == [5, 4]


def test_frames_are_read_whole_by_partition_and_directly(python: Path, server: DaemonProcess):
    script = """
frame, table, typed = catalog.frame, catalog.table.read(), catalog.typed.read()
direct = catalog.part(part="2")
print(json.dumps({
    "names": list(frame.read()["name"]), "second": list(frame.read_partition(1)["name"]),
    "shape": frame.shape, "npartitions": frame.npartitions, "dtype": frame.dtype, "foo": frame.metadata["foo"],
    "sum": float(frame.to_dask()["score"].sum().compute()),
    "products": [x if isinstance(x, str) else None for x in table["product"]], "days": list(table["ds"]),
    "hours": list(table["hh"]), "kind": str(typed["kind"].dtype), "at": str(typed["at"].dtype), "key": typed.index.name,
    "count": int(typed["count"].iloc[0]), "direct": type(direct).__name__, "urlpath": direct.urlpath,
    "alias": len(catalog.alias.read()), "limit": refused(lambda: catalog.part(part="9")),
    "broken": refused(lambda: catalog.broken), "missing": refused(lambda: catalog.missing),
}))
"""
    answer = ask(python, server, script)
    assert answer["names"] == ["Alice", "Bob", "Charlie"]
    assert answer["second"] == ["Charlie"]
    assert (answer["shape"], answer["npartitions"]) == ([None, 3], 2)
    assert answer["dtype"] == {"name": "object", "score": "float64", "rank": "int64"}
    assert (answer["foo"], answer["sum"], answer["alias"]) == ("bar", 175.8, 3)
    assert (answer["products"], answer["hours"]) == (["lamp", "kettle", None], ["23", "07", "07"])
    assert answer["days"] == ["2026-11-20", "2026-11-21", "2026-11-21"]
    assert (answer["kind"], answer["key"], answer["count"]) == ("category", "key", 2**60 + 1)
    assert answer["at"].endswith(", Europe/Paris]")
    assert (answer["direct"], answer["urlpath"].endswith("/entry1_2.csv")) == ("CSVSource", True)
    assert answer["limit"].startswith("Exception: Server error: 400, parameter 'part'")
    assert "path-client" in answer["broken"]
    assert answer["missing"] is not None


def test_arrays_are_read_whole_and_by_blocks(python: Path, server: DaemonProcess):
    script = """
import numpy as np
array = catalog.array
print(json.dumps({
    "array": array.read().tolist(), "block": array.read_partition((3, 0)).tolist(),
    "sum": float(array.to_dask().sum().compute()),
    "chunks": array.chunks, "times": [str(t) for t in catalog.times.read()], "stack": catalog.stack.read().tolist(),
    "structured": str(catalog.structured.read_partition((0,)).dtype.names), "grid": float(catalog.grid.read().sum()),
}))
"""
    answer = ask(python, server, script)
    assert answer["array"] == np.arange(20.0).reshape(10, 2).tolist()
    assert (answer["block"], answer["sum"], answer["chunks"]) == ([[18.0, 19.0]], 190.0, [[3, 3, 3, 1], [2]])
    assert (answer["times"][0][:10], answer["times"][1]) == ("2020-01-01", "NaT")
    assert answer["stack"] == [[[0, 0], [0, 0]], [[1, 1], [1, 1]]]
    assert (answer["structured"], answer["grid"]) == ("('x', 'y')", 190.0)


def test_python_data_are_read(python: Path, server: DaemonProcess):
    script = """
import dask
with dask.config.set(scheduler="threads"):
    print(json.dumps({
        "text": catalog.text.read(), "second": catalog.text.read_partition(1), "document": catalog.document.read(),
        "lines": catalog.lines.read(),
    }))
"""
    assert ask(python, server, script) == {
        "text": ["one\n", "twö\n", "three"],
        "second": ["three"],
        "document": [{"x": [1, None]}],
        "lines": [{"x": 1}, {"x": 2}],
    }


def test_the_secret_lets_clients_in_and_its_absence_is_an_authentication_failure(python: Path, tmp_path: Path):
    script = """
from intake.auth.secret import SecretClientAuth
HEADERS = {"headers": {"intake-secret": "s3cret"}}
print(json.dumps({
    "without": refused(lambda: intake.open_catalog(sys.argv[1]).frame),
    "with": len(intake.open_catalog(sys.argv[1], auth=SecretClientAuth("s3cret")).frame.read()),
    "header": len(intake.open_catalog(sys.argv[1], storage_options=HEADERS).frame.read()),
}))
"""
    preamble = PREAMBLE.replace("catalog = intake.open_catalog(sys.argv[1])\n", "")
    with start_daemon("intake_server", "--auth-secret", "s3cret", write_example(tmp_path)) as server:
        printed = run_client(python, preamble + script, f"intake://127.0.0.1:{server.port}")
    answer = json.loads(printed)
    assert answer["without"].startswith("AuthenticationFailure")
    assert (answer["with"], answer["header"]) == (3, 3)


def test_the_command_line_client_works(server: DaemonProcess):
    python = client_python("intake-current")
    script = """
import subprocess, sys, pathlib
program = str(pathlib.Path(sys.executable).with_name("intake"))
for words in (["list", URL], ["describe", URL, "frame"], ["exists", URL, "frame"], ["exists", URL, "nope"],
              ["discover", URL, "frame"], ["get", URL, "frame"]):
    done = subprocess.run([program, *words], capture_output=True, text=True)
    print(words[0], done.returncode, done.stdout.replace("\\n", " | "))
""".replace("URL", repr(f"intake://127.0.0.1:{server.port}"))
    lines = run_client(python, script).splitlines()
    assert [line.split()[1] for line in lines] == ["0"] * 6
    assert "frame" in lines[0]
    assert "two parts" in lines[1]
    assert ("True" in lines[2], "False" in lines[3]) == (True, True)
    assert "float64" in lines[4]
    assert "Charlie" in lines[5]


def test_the_client_finds_the_server_under_a_prefix(tmp_path: Path):
    python = client_python("intake-current")
    with start_daemon("intake_server", "--prefix", "data/intake", write_example(tmp_path)) as server:
        printed = run_client(
            python, PREAMBLE + "print(len(catalog.frame.read()))", server.url.replace("http", "intake")
        )
    assert printed.strip() == "3"
