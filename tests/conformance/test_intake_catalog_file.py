"""Releases of intake that read the published catalog file: 2, which has no client for a server, and 0.7.0."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.conformance.environments import client_python, run_client
from tests.processes import start_daemon

RELEASES = ("2.0.9", "0.7.0")
CATALOG = """
sources:
  a b:
    driver: csv
    args: {urlpath: '{{ CATALOG_DIR }}/table_{{ part }}.csv'}
    parameters:
      part: {description: which, type: str, default: "1", allowed: ["1", "2 x"]}
  array: {driver: numpy, args: {path: '{{ CATALOG_DIR }}/array.npy'}}
  document: {driver: json, args: {urlpath: '{{ CATALOG_DIR }}/document.json'}}
  sub: {driver: yaml_file_cat, args: {path: '{{ CATALOG_DIR }}/catalog.yml'}}
"""
SCRIPT = """
import json, sys, warnings
warnings.simplefilter("ignore")
import intake
catalog = intake.open_catalog(sys.argv[1])
print(json.dumps({
    "names": list(catalog), "first": catalog["a b"].read().values.tolist(),
    "second": catalog["a b"](part="2 x").read().values.tolist(), "array": catalog.array.read().ravel().tolist(),
    "document": catalog.document.read(), "deep": catalog.sub.sub["a b"](part="2 x").read().values.tolist(),
}))
"""


@pytest.mark.parametrize("release", RELEASES)
def test_every_release_reads_the_catalog_file_under_a_prefix(release: str, tmp_path: Path):
    (tmp_path / "table_1.csv").write_text("a,b\n1,x\n")
    (tmp_path / "table_2 x.csv").write_text("a,b\n2,y\n")
    np.save(tmp_path / "array.npy", np.arange(6.0).reshape(2, 3))
    (tmp_path / "document.json").write_text('[{"x": 1}]')
    (tmp_path / "catalog.yml").write_text(CATALOG)
    python = client_python(f"intake-file-{release}")
    with start_daemon("intake_server", "--prefix", "data/intake", tmp_path / "catalog.yml") as server:
        printed = run_client(python, SCRIPT, f"{server.url}/catalog.yml")
    assert json.loads(printed.splitlines()[-1]) == {
        "names": ["a b", "array", "document", "sub"],
        "first": [[1, "x"]],
        "second": [[2, "y"]],
        "array": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
        "document": [{"x": 1}],
        "deep": [[2, "y"]],
    }
