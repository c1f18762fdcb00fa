"""Data over plain HTTP in trouble: clients that take nothing, data that are large, a process that is killed."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests

from tests.processes import DaemonProcess, start_daemon

ROWS = 3_000_000
CATALOG = """
sources:
  text: {driver: textfiles, args: {urlpath: '{{ CATALOG_DIR }}/text.txt'}}
  rows: {driver: parquet, args: {urlpath: '{{ CATALOG_DIR }}/rows.parquet'}}
  array: {driver: numpy, args: {path: '{{ CATALOG_DIR }}/array.npy', chunks: 500000}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large")
    (folder / "catalog.yml").write_text(CATALOG)
    (folder / "text.txt").write_text("hello\n")
    random = np.random.default_rng(1)
    table = pa.table({name: random.normal(size=ROWS) for name in "abcd"})
    pq.write_table(table, folder / "rows.parquet", row_group_size=200_000)
    np.save(folder / "array.npy", np.zeros(8_000_000))
    return folder


@pytest.fixture
def server(folder: Path, tmp_path: Path) -> Iterator[DaemonProcess]:
    catalog = folder / "catalog.yml"
    with start_daemon("intake_server", catalog, "--send-timeout", "1", env={"TMPDIR": str(tmp_path)}) as daemon:
        yield daemon


def stuck(server: DaemonProcess, path: str) -> socket.socket:
    """A client that asks for much and takes nothing of it."""
    raw = socket.create_connection(("127.0.0.1", server.port))
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return raw


def memory_kb(server: DaemonProcess, field: str) -> int:
    lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


@pytest.mark.parametrize("path", ["/data/array.npy", "/data/rows.csv", "/data/rows.parquet"])
def test_clients_that_take_nothing_are_given_up_and_the_others_notice_nothing(server, path):
    clients = [stuck(server, path) for _ in range(8)]
    for _ in range(10):
        assert requests.get(f"{server.url}/data/text.txt", timeout=30).text == "hello\n"
    server.wait_for_log("a client took no data")
    assert requests.get(f"{server.url}/data/text.txt", timeout=30).text == "hello\n"
    for client in clients:
        client.close()


def test_an_export_needs_memory_for_a_few_batches_and_not_for_the_data(server):
    assert requests.get(f"{server.url}/data/rows.csv?rows=0:1", timeout=30).ok
    before = memory_kb(server, "VmRSS")
    Path(f"/proc/{server.pid}/clear_refs").write_text("5")
    size = 0
    with requests.get(
        f"{server.url}/data/rows.csv", headers={"Accept-Encoding": "identity"}, stream=True, timeout=60
    ) as answer:
        for chunk in answer.iter_content(1 << 20):
            size += len(chunk)
    assert size > 200_000_000
    assert memory_kb(server, "VmHWM") - before < 80_000


def test_a_process_that_is_killed_leaves_no_exports_behind(server, tmp_path):
    whole = requests.get(f"{server.url}/data/rows.parquet?columns=a&rows=:100000", timeout=30)
    assert whole.ok
    writing = stuck(server, "/data/rows.parquet?columns=b")
    requests.get(f"{server.url}/data/text.txt", timeout=30)
    server.kill()
    writing.close()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
