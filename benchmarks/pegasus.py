"""metaserver and replicaserver beside Redis, etcd, RocksDB in process and a bare asyncio protocol, in one run.

``python -m benchmarks.pegasus`` prints one table. Redis and etcd come from Debian's packages `redis-server` and
`etcd-server`; etcd is asked over gRPC, with `grpcio` (extra `benchmark`), whose own work counts in its numbers.
Keys are many and values are random, so that rows leave memory and do not compress.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import functools
import importlib.util
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import uvloop
from rocksdict import Options, Rdict, WriteBatch, WriteOptions

from benchmarks import frame_load, http_load
from benchmarks.frame_load import FrameRate, pegasus_reply, redis_reply
from benchmarks.harness import Goal, Line, Server, cache_folder, environment, free_port, running, say, table
from shared.pegasus.wire.framing import encode_request
from shared.pegasus.wire.keys import crc64, encode_key, partition_of
from shared.pegasus.wire.structures import rrdb
from shared.pegasus.wire.thrift import Codec, codec_of

PACKAGES = ("rocksdict", "uvloop", "anycrc", "pyarrow")
TEMP, PARTITIONS = 2, 8
KEYS = 50_000
PREFIX = "RPC_RRDB_RRDB_"
MANY = b"many rows"
MANY_ROWS = 20_000

Measure = Callable[[], Awaitable[FrameRate]]


@dataclass
class Bench:
    """What is running, and what was found."""

    seconds: float
    rounds: int
    bulk_rows: int
    folder: Path
    servers: dict[str, Server] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)

    async def turns(self, measures: dict[str, Measure]) -> dict[str, FrameRate]:
        """Each measure in turn, several times; the medians of rates and of 99th percentiles."""
        found: dict[str, list[FrameRate]] = {name: [] for name in measures}
        for _ in range(self.rounds):
            for name, measure in measures.items():
                found[name].append(await measure())
        return {name: _median(rates) for name, rates in found.items()}

    def add(self, what: str, theirs: str, ours: str, value: float, goal: Goal | None = None) -> None:
        """One line of the table."""
        self.lines.append(Line(what, theirs, ours, value, goal))


def _median(rates: Sequence[FrameRate]) -> FrameRate:
    return FrameRate(
        statistics.median(rate.per_s for rate in rates),
        statistics.median(rate.bytes_per_s for rate in rates),
        statistics.median(rate.p99_ms for rate in rates),
    )


class Values:
    """Values of one size that neither repeat nor compress."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._pool = random.Random(size).randbytes(1 << 22)

    def __getitem__(self, number: int) -> bytes:
        begin = number * 7919 % (len(self._pool) - self._size)
        return self._pool[begin : begin + self._size]


# -- requests ---------------------------------------------------------------------------------------


@functools.cache
def _codec(request: type) -> Codec[object]:
    return codec_of(request)


def frame(name: str, request: type, value: object, index: int) -> bytes:
    """A request to a partition of the table."""
    codec = _codec(request)
    arguments = codec.encode_field(value, 1)
    return encode_request(PREFIX + name, 1, arguments, app_id=TEMP, partition_index=index, timeout_ms=10_000)


def single_frames(size: int) -> dict[str, list[bytes]]:
    """Gets and puts of single rows with values of a size."""
    values = Values(size)
    keys = [encode_key(b"user-%06d" % number, b"name") for number in range(KEYS)]
    return {
        "put": [
            frame("PUT", rrdb.UpdateRequest, rrdb.UpdateRequest(key, values[n]), partition_of(key, PARTITIONS))
            for n, key in enumerate(keys)
        ],
        "get": [frame("GET", bytes, key, partition_of(key, PARTITIONS)) for key in keys],
    }


def redis_frames(size: int) -> dict[str, list[bytes]]:
    """The same for Redis."""
    values = Values(size)
    keys = [b"user-%06d:name" % number for number in range(KEYS)]
    return {
        "put": [
            b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(key), key, size, values[n])
            for n, key in enumerate(keys)
        ],
        "get": [b"*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n" % (len(key), key) for key in keys],
    }


def etcd_requests(size: int) -> dict[str, list[bytes]]:
    """The same for etcd."""
    from benchmarks import etcd_load

    values = Values(size)
    keys = [b"user-%06d:name" % number for number in range(KEYS)]
    return {
        "put": [etcd_load.put_request(key, values[n]) for n, key in enumerate(keys)],
        "get": [etcd_load.get_request(key) for key in keys],
    }


# -- measurements -----------------------------------------------------------------------------------


async def singles(bench: Bench) -> None:
    """Single gets and puts against everybody."""
    for size in (100, 1000):
        ours, redis = single_frames(size), redis_frames(size)
        etcd = etcd_requests(size) if "etcd" in bench.servers else {}
        for operation in ("put", "get"):
            if operation == "get":
                await _store_all(bench, ours["put"], redis["put"], etcd.get("put"))
            for clients in (1, 32):
                measures: dict[str, Measure] = {}
                for name in ("bare", "ours"):
                    measures[name] = _frames(bench, name, ours[operation], pegasus_reply, clients)
                for name in ("redis everysec", "redis always"):
                    if name in bench.ports:
                        measures[name] = _frames(bench, name, redis[operation], redis_reply, clients)
                if etcd:
                    measures["etcd"] = _etcd(bench, operation, etcd[operation], clients)
                say(f"{operation} of {size} bytes, {clients} connections")
                _compare(
                    bench, f"{operation}, {size} B, {clients} conn.", operation, clients, await bench.turns(measures)
                )


async def _store_all(bench: Bench, ours: Sequence[bytes], redis: Sequence[bytes], etcd: Sequence[bytes] | None) -> None:
    """Store every row everywhere, before they are read."""
    say(f"{KEYS:,} rows to read")
    for name, port in bench.ports.items():
        if name == "ours":
            await frame_load.load(port, ours, pegasus_reply, clients=32, seconds=None)
        elif name.startswith("redis"):
            await frame_load.load(port, redis, redis_reply, clients=32, seconds=None)
        elif name == "etcd" and etcd is not None:
            from benchmarks import etcd_load

            await etcd_load.load(port, "put", etcd, clients=32, seconds=None)


def _frames(bench: Bench, name: str, frames: Sequence[bytes], complete: frame_load.Complete, clients: int) -> Measure:
    async def measure() -> FrameRate:
        return await frame_load.load(bench.ports[name], frames, complete, clients=clients, seconds=bench.seconds)

    return measure


def _etcd(bench: Bench, operation: str, requests: Sequence[bytes], clients: int) -> Measure:
    async def measure() -> FrameRate:
        from benchmarks import etcd_load  # needs grpcio, which `start` has looked for

        return await etcd_load.load(bench.ports["etcd"], operation, requests, clients=clients, seconds=bench.seconds)

    return measure


def _shown(rate: FrameRate) -> str:
    return f"{rate.per_s:,.0f}/s, p99 {rate.p99_ms:.2f} ms"


def _compare(bench: Bench, what: str, operation: str, clients: int, rates: dict[str, FrameRate]) -> None:
    mine = rates.pop("ours")
    for name, rate in rates.items():
        goal = None
        if name == "bare" and clients == 32:
            goal = Goal(0.5)
        elif name == "etcd" and operation == "put":
            goal = Goal(3)
        elif name == "redis always" and operation == "put":
            goal = Goal(1)  # it syncs every write as well
        bench.add(f"{what} / {name}", _shown(rate), _shown(mine), mine.per_s / rate.per_s, goal)


async def many(bench: Bench) -> None:
    """multi_get and scans, in rows a second."""
    index = crc64(MANY) % PARTITIONS
    value = random.Random(1).randbytes(100)
    puts = [
        frame(
            "MULTI_PUT",
            rrdb.MultiPutRequest,
            rrdb.MultiPutRequest(MANY, [rrdb.KeyValue(b"%06d" % n, value) for n in range(start, start + 1000)]),
            index,
        )
        for start in range(0, MANY_ROWS, 1000)
    ]
    for put in puts:
        await frame_load.load(bench.ports["ours"], [put], pegasus_reply, clients=1, seconds=0.01)
    by_keys = [
        frame(
            "MULTI_GET",
            rrdb.MultiGetRequest,
            rrdb.MultiGetRequest(MANY, [b"%06d" % n for n in range(start, start + 100)]),
            index,
        )
        for start in range(0, MANY_ROWS, 100)
    ]
    pages = [
        frame(
            "GET_SCANNER",
            rrdb.GetScannerRequest,
            rrdb.GetScannerRequest(encode_key(MANY, b"%06d" % start), b"", True, batch_size=1000),
            index,
        )
        for start in range(0, MANY_ROWS - 1000, 1000)
    ]
    for what, frames, rows, least in (("multi_get of 100", by_keys, 100, 200_000), ("scan", pages, 1000, 300_000)):
        say(what)
        measure = _frames(bench, "ours", frames, pegasus_reply, 4)
        rate = (await bench.turns({"ours": measure}))["ours"].per_s * rows
        bench.add(what, "", f"{rate:,.0f} rows/s", rate, Goal(least, unit="rows/s"))


async def in_process(bench: Bench) -> None:
    """RocksDB through rocksdict, without a server: the limit of the engine."""
    say("RocksDB in process")
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    store = Rdict(str(bench.folder / "rocksdb"), options)
    synced = WriteOptions()
    synced.sync = True
    keys = [encode_key(b"user-%06d" % number, b"name") for number in range(KEYS)]
    values = Values(100)

    async def puts() -> FrameRate:
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < bench.seconds:
            batch = WriteBatch(raw_mode=True)
            batch.put(keys[count % KEYS], values[count % KEYS])
            store.write(batch, synced)
            count += 1
        return FrameRate(count / (time.perf_counter() - began), 0.0)

    async def gets() -> FrameRate:
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < bench.seconds:
            for key in keys:
                store.get(key)
            count += KEYS
        return FrameRate(count / (time.perf_counter() - began), 0.0)

    frames = single_frames(100)
    for operation, limit in (("put", puts), ("get", gets)):
        ours = _frames(bench, "ours", frames[operation], pegasus_reply, 32)
        found = await bench.turns({"limit": limit, "ours": ours})
        bench.add(
            f"{operation}, 100 B, 32 conn. / RocksDB in process",
            f"{found['limit'].per_s:,.0f}/s",
            _shown(found["ours"]),
            found["ours"].per_s / found["limit"].per_s,
        )
    store.close()


async def metrics(bench: Bench) -> None:
    """/metrics of a server with 64 partitions."""
    say("/metrics of 64 partitions")
    _operator(bench, "create-table", "wide", "--partitions", "64", "--replicas", "1")
    request = http_load.Request(f"{bench.servers['ours'].url}/metrics")
    measured = await http_load.load([request], clients=1, seconds=bench.seconds)
    size = measured.body_bytes // len(measured.latencies_ms)
    took = measured.percentile(0.5)
    bench.add("/metrics, 64 + 12 partitions", "", f"{size:,} bytes", took, Goal(20, at_least=False, unit="ms"))


async def bulk(bench: Bench) -> None:
    """Many rows from a Parquet file, by bulk load."""
    rows = bench.bulk_rows
    if not rows:
        return
    say(f"{rows:,} rows as Parquet")
    file = bench.folder / "rows.parquet"
    chunk = 250_000
    schema = pa.schema([("key", pa.string()), ("value", pa.string())])
    filler = base64.b64encode(random.Random(84).randbytes(1 << 20)).decode()
    with pq.ParquetWriter(file, schema) as writer:
        for start in range(0, rows, chunk):
            numbers = range(start, min(rows, start + chunk))
            writer.write_table(
                pa.table(
                    {"key": [f"row-{n:010d}" for n in numbers], "value": [_text(filler, n) for n in numbers]}, schema
                )
            )
    say("prepare")
    began = time.perf_counter()
    columns = ("--hash-key", "key", "--value", "value")
    _operator(bench, "bulk-load", "prepare", "temp", str(file), "--output", str(bench.folder / "files"), *columns)
    prepared_s = time.perf_counter() - began
    say("load")
    began = time.perf_counter()
    _operator(bench, "bulk-load", "start", "temp", "--wait", "--timeout", "600")
    loaded_s = time.perf_counter() - began
    scale = rows / 10_000_000
    ours = bench.servers["ours"]
    goal = Goal(120 * scale, at_least=False, unit="s")
    bench.add(f"{rows:,} rows, bulk load", "", f"prepared in {prepared_s:.0f} s", loaded_s, goal)
    await frame_load.load(
        bench.ports["ours"], single_frames(100)["get"], pegasus_reply, clients=32, seconds=bench.seconds
    )
    bench.add("peak memory of replicaserver", "", "", ours.peak_mb(), Goal(1024 * 1.048576, at_least=False, unit="MB"))


def _text(filler: str, number: int) -> str:
    """A text of 100 characters that hardly compresses."""
    begin = number * 7919 % (len(filler) - 84)
    return f"{number:016d}{filler[begin : begin + 84]}"


def _operator(bench: Bench, *arguments: str) -> None:
    command = [str(Path(sys.executable).with_name("metaserver")), *arguments, "--meta"]
    subprocess.run([*command, bench.servers["meta"].url.removeprefix("http://")], check=True, stdout=subprocess.DEVNULL)


MEASUREMENTS = {"singles": singles, "many": many, "in_process": in_process, "metrics": metrics, "bulk": bulk}


# -- servers ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def redis(policy: str, folder: Path) -> Iterator[int]:
    """A Redis with an append-only file; its port."""
    port = free_port()
    folder.mkdir()
    options = ("--port", str(port), "--dir", str(folder), "--appendonly", "yes", "--appendfsync", policy, "--save", "")
    process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


def start(bench: Bench, stack: contextlib.ExitStack) -> None:
    """Start everybody that is there."""
    python, scripts = sys.executable, Path(sys.executable).parent
    log = bench.folder / "log"

    def serve(name: str, command: Sequence[str | Path], ready: str) -> Server:
        server = stack.enter_context(running(name, command, ready=ready, log=log))
        bench.servers[name] = server
        bench.ports[name] = int(server.url.rpartition(":")[2])
        return server

    serve("bare", [python, "-m", "benchmarks.bare_frames", "--port", "{port}"], "/")
    provider = f"local_service={bench.folder / 'files'}"
    folder = ("--data-dir", str(bench.folder / "meta"), "--provider", provider)
    meta = serve("meta", [scripts / "metaserver", "start", "--port", "{port}", *folder], "/readyz")
    folder = ("--data-dir", str(bench.folder / "replica"), "--provider", provider)
    address = meta.url.removeprefix("http://")
    few = ("--set", "disk_min_available_space_ratio=0", "--write-buffers-mb", "32")
    serve("ours", [scripts / "replicaserver", "start", "--port", "{port}", "--meta", address, *folder, *few], "/readyz")
    _wait_until_served(meta)
    for policy in ("everysec", "always"):
        if _is_there("redis-server"):
            bench.ports[f"redis {policy}"] = stack.enter_context(redis(policy, bench.folder / policy))
    if _is_there("etcd") and _has_grpc():
        urls = ("--listen-client-urls", "http://127.0.0.1:{port}", "--advertise-client-urls", "http://127.0.0.1:{port}")
        peer = f"http://127.0.0.1:{free_port()}"
        peers = (
            "--listen-peer-urls",
            peer,
            "--initial-advertise-peer-urls",
            peer,
            "--initial-cluster",
            f"default={peer}",
        )
        serve("etcd", ["etcd", "--data-dir", bench.folder / "etcd", *urls, *peers], "/health")


def _is_there(program: str) -> bool:
    there = any(os.access(Path(folder) / program, os.X_OK) for folder in os.get_exec_path())
    if not there:
        say(f"{program} is not installed: left out")
    return there


def _has_grpc() -> bool:
    there = importlib.util.find_spec("grpc") is not None
    if not there:
        say("grpcio is not installed (extra 'benchmark'): etcd is left out")
    return there


def _wait_until_served(meta: Server) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{meta.url}/meta/app?name=temp&detail") as answer:
                if json.load(answer)["healthy"]["read_unhealthy_partition_count"] == "0":
                    return
        except urllib.error.HTTPError as error:
            error.close()  # the table is being created
        time.sleep(0.1)
    raise SystemExit("the table temp is not served")


async def _run(bench: Bench, names: Sequence[str]) -> None:
    for name in names:
        await MEASUREMENTS[name](bench)


def main() -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one measurement (2)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is repeated, in turns (3)")
    parser.add_argument(
        "--bulk-rows", type=int, default=10_000_000, help="rows of the bulk load, 0 for none (10000000)"
    )
    parser.add_argument("--only", default=",".join(MEASUREMENTS), help="some of: " + ", ".join(MEASUREMENTS))
    options = parser.parse_args()
    print("\n".join(environment(PACKAGES)) + "\n", flush=True)
    with tempfile.TemporaryDirectory(dir=cache_folder("logs")) as folder, contextlib.ExitStack() as stack:
        bench = Bench(options.seconds, options.rounds, options.bulk_rows, Path(folder))
        start(bench, stack)
        uvloop.run(_run(bench, options.only.split(",")))
        print(table(bench.lines, "theirs", "ours"))


if __name__ == "__main__":
    main()
