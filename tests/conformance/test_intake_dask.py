"""Reads on a dask cluster: a real scheduler and real workers, as processes."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distributed
import msgpack
import pandas as pd
import pyarrow as pa
import pytest

from intake_server.sources import dask_reads
from shared.errors import StartupError
from tests.processes import start_daemon

ROOT = Path(__file__).parents[2]
CATALOG = """
sources:
  frame: {driver: csv, args: {urlpath: '{{ CATALOG_DIR }}/f_*.csv'}}
  table: {driver: parquet, args: {urlpath: '{{ CATALOG_DIR }}/t.parquet'}}
"""


def post(port: int, **message: Any) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", "/v1/source", msgpack.packb(message))
        answer = connection.getresponse()
        return answer.status, msgpack.unpackb(answer.read(), strict_map_key=False)
    finally:
        connection.close()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """The address of a scheduler with two workers."""
    told = tmp_path / "scheduler.json"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    arguments = ["scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(told)]
    processes = [subprocess.Popen([sys.executable, "-m", "dask", *arguments], **quiet)]
    try:
        deadline = time.monotonic() + 60
        while not told.exists() or not told.read_text().endswith("}"):
            assert time.monotonic() < deadline, "the scheduler did not start"
            time.sleep(0.05)
        address: str = json.loads(told.read_text())["address"]
        worker = ["worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--name"]
        processes += [
            subprocess.Popen([sys.executable, "-m", "dask", *worker, name], env=environment, **quiet)
            for name in ("one", "two")
        ]
        with distributed.Client(address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
        yield address
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait(30)


def test_partitions_are_read_by_the_workers_of_a_cluster(cluster: str, tmp_path: Path):
    for n in range(4):
        (tmp_path / f"f_{n}.csv").write_text(f"n\n{n}\n")
    pd.DataFrame({"x": [1.5, None]}).to_parquet(tmp_path / "t.parquet")
    (tmp_path / "catalog.yml").write_text(CATALOG)
    with start_daemon("intake_server", tmp_path / "catalog.yml", "--scheduler", cluster) as server:
        server.wait_for_log("reads run on a dask cluster")
        status, opened = post(server.port, action="open", name="frame")
        assert (status, opened["npartitions"]) == (200, 4)
        for n in range(3):
            status, answer = post(server.port, action="read", source_id=opened["source_id"], partition=n)
            assert status == 200
            assert pa.ipc.open_stream(answer["data"]).read_all().to_pydict() == {"n": [n]}
        status, table = post(server.port, action="open", name="table")
        assert post(server.port, action="read", source_id=table["source_id"], partition=0)[0] == 200
        assert post(server.port, action="read", source_id=table["source_id"], partition=1)[0] == 400
        (tmp_path / "f_3.csv").unlink()
        assert post(server.port, action="read", source_id=opened["source_id"], partition=3)[0] == 410


def test_a_scheduler_that_does_not_answer_ends_the_start(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dask_reads, "_CONNECT_S", 0.5)
    with pytest.raises(StartupError, match=r"the dask scheduler at tcp://127\.0\.0\.1:1 does not answer"):
        dask_reads.DaskReads("tcp://127.0.0.1:1", stringify=False, limit=1)
