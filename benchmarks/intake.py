"""The catalog server beside the classic one: ``python -m benchmarks.intake``, from the project's root.

Makes the classic server's own environment (intake 0.7.0 with libraries of May 2023) and the data once, in the user's
cache; then measures the same requests against the classic server, ours, and a bare aiohttp handler that answers with
the same bytes, one after the other in one run, which takes three to four minutes. Where one answer of the classic
server takes seconds, sixteen clients would wait for minutes: there, four clients ask both servers, as the lines say.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import click
import msgpack
import uvloop

from benchmarks import intake_data
from benchmarks.compare import Side, cheap_text, compare, measure, read_text
from benchmarks.harness import Goal, Line, Server, environment, python_environment, running, say, stop_cleanly, table
from benchmarks.http_load import Measured, Request, load

CLASSIC = (
    "intake==0.7.0",
    "dask==2023.5.0",
    "fsspec==2023.5.0",
    "numpy==1.24.3",
    "pandas==2.0.1",
    "pyarrow==12.0.0",
    "msgpack==1.0.5",
    "msgpack-numpy==0.4.8",
    "tornado==6.3.2",
    "xarray==2023.5.0",
    "zarr==2.14.2",
    "numcodecs==0.11.0",
    "fastparquet==2023.4.0",
    "intake-parquet==0.3.0",
    "requests==2.31.0",
    "jinja2==3.1.2",
    "pyyaml==6.0",
    "python-dateutil==2.8.2",
    "pytz==2023.3",
    "setuptools<81",
)
PACKAGES = ("aiohttp", "uvloop", "msgpack", "numpy", "pandas", "pyarrow", "fsspec")
BY_DEFAULT = {
    "accepted_formats": ["msgpack", "pickle2", "pickle1"],
    "accepted_compression": ["snappy", "gzip", "none"],
}
MSGPACK_ONLY = {"accepted_formats": ["msgpack"], "accepted_compression": ["none"]}
READERS = 16
FEW_READERS = 4
PATIENCE_S = 4.0
"""How long the classic server may take to answer all readers once; with more, there are few of them."""

BLOCK_MB = intake_data.ARRAY_LENGTH * 8 / 1e6


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers of one run.

    Attributes:
        classic: The classic server with the small catalog.
        classic_large: The classic server with the large catalog.
        ours: Ours with the small catalog, as it comes.
        ours_large: Ours with the large catalog.
        uncached: Ours without its cache of encoded partitions: every read goes to the file.
    """

    classic: Server
    classic_large: Server
    ours: Server
    ours_large: Server
    uncached: Server


@dataclass(frozen=True, slots=True)
class Times:
    """How long each measurement takes.

    Attributes:
        cheap_s: For cheap requests, in seconds.
        read_s: For reads, in seconds.
    """

    cheap_s: float
    read_s: float


@contextlib.contextmanager
def servers(data: intake_data.Data, log: Path) -> Iterator[Servers]:
    """All servers, running."""
    classic_python = python_environment("intake-classic", CLASSIC)
    ours = Path(sys.executable).with_name("intake_server")
    with contextlib.ExitStack() as stack:

        def start(name: str, command: Sequence[str | Path]) -> Server:
            return stack.enter_context(running(name, command, ready="/v1/info", log=log))

        def classic(catalog: Path) -> Server:
            module: list[str | Path] = [classic_python, "-m", "intake.cli.server", "-a", "127.0.0.1", "-p", "{port}"]
            return start("classic", [*module, catalog])

        def own(catalog: Path, *options: str) -> Server:
            return start("ours", [ours, "start", "--host", "127.0.0.1", "--port", "{port}", *options, catalog])

        yield Servers(
            classic(data.small),
            classic(data.large),
            own(data.small),
            own(data.large),
            own(data.small, "--cache", "1"),
        )


# Requests


def _post(server: Server, message: dict[str, Any], headers: tuple[tuple[str, str], ...] = ()) -> Request:
    body: bytes = msgpack.packb(message, use_bin_type=True)
    return Request(f"{server.url}/v1/source", "POST", headers, body)


def _ask(request: Request) -> bytes:
    made = urllib.request.Request(request.url, request.body or None, dict(request.headers), method=request.method)
    with urllib.request.urlopen(made, timeout=120) as answer:
        body: bytes = answer.read()
    return body


def _open(server: Server, name: str) -> str:
    answer = msgpack.unpackb(_ask(_post(server, {"action": "open", "name": name, "parameters": {}})), raw=False)
    return str(answer["source_id"])


def _read(server: Server, name: str, partition: Any, accepts: dict[str, list[str]]) -> Request:
    """A read of one partition, the way the client asks for it after an open."""
    return _post(server, {"action": "read", "source_id": _open(server, name), "partition": partition, **accepts})


# Measurements


def cheap(run: Servers, times: Times) -> Iterator[Line]:
    """Listings, descriptions, opens and searches, with one client and with sixteen."""
    opens: dict[str, Any] = {"action": "open", "parameters": {}}
    asked: list[tuple[str, Server, Server, Callable[[Server], Request], Goal | None]] = []

    def small(what: str, request: Callable[[Server], Request], goal: Goal | None) -> None:
        asked.append((what, run.classic, run.ours, request, goal))

    def large(what: str, request: Callable[[Server], Request], goal: Goal | None) -> None:
        asked.append((what, run.classic_large, run.ours_large, request, goal))

    small("list, 9 entries", lambda at: Request(f"{at.url}/v1/info"), None)
    large("list, 1000 entries", lambda at: Request(f"{at.url}/v1/info"), Goal(100))
    large("list, 50 of 1000", lambda at: Request(f"{at.url}/v1/info?page_size=50&page_offset=500"), None)
    small("describe, 9 entries", lambda at: Request(f"{at.url}/v1/source?name=csv_few"), Goal(4))
    large("describe, 1000 entries", lambda at: Request(f"{at.url}/v1/source?name=entry_0500"), Goal(4))
    small("open CSV, remote", lambda at: _post(at, {**opens, "name": "csv_few"}), Goal(4))
    direct = {**opens, "name": "csv_direct", "available_plugins": ["csv"]}
    small("open CSV, direct", lambda at: _post(at, direct), Goal(4))
    search = {"action": "search", "query": [["number 77"], {}], "source_id": None}
    large("search, 1000 entries", lambda at: _post(at, search), None)
    for what, classic, ours, request, goal in asked:
        for clients in (1, READERS):
            theirs, mine = Side(classic, request(classic)), Side(ours, request(ours))
            ratio = compare(theirs, mine, clients, times.cheap_s)
            their_text = cheap_text(theirs.measured, theirs.cpu_ms)
            yield Line(f"{what}; {clients} cl.", their_text, cheap_text(mine.measured, mine.cpu_ms), ratio, goal)


READS: tuple[tuple[str, str, Any], ...] = (
    ("text, 1000 lines", "text", 0),
    ("CSV, 100k rows", "csv_100k", 0),
    ("CSV, 1M rows", "csv_1m", 0),
    ("Parquet, 100k rows", "parquet_100k", 0),
    ("Parquet, 1M rows", "parquet_1m", 0),
    ("array, 10 MB block", "array_10mb", [3]),
    ("array, 100 MB block", "array_100mb", [0]),
)


def reads(run: Servers, times: Times, entries: Sequence[str]) -> Iterator[Line]:
    """Reads of partitions: the classic server in both negotiations; ours from the file and from its cache."""
    for what, name, partition in READS:
        if entries and name not in entries:
            continue
        alone_ms = 0.0
        for is_alone in (True, False):
            clients = 1 if is_alone else _readers(alone_ms)
            kinds = (("msgpack", MSGPACK_ONLY), ("by default", BY_DEFAULT))
            theirs = {
                kind: measure(_read(run.classic, name, partition, accepts), clients, times.read_s, warm_up=is_alone)
                for kind, accepts in kinds
            }
            fresh = measure(_read(run.uncached, name, partition, BY_DEFAULT), clients, times.read_s)
            cached = measure(_read(run.ours, name, partition, BY_DEFAULT), clients, times.read_s)
            alone_ms = max(measured.percentile(0.5) for measured in theirs.values())
            goal = Goal(3 if is_alone else 5) if name == "parquet_100k" else None
            for kind, classic in theirs.items():
                ratio = fresh.mb_per_s / classic.mb_per_s
                yield Line(
                    f"{what}; {clients} cl., from file; classic {kind}",
                    read_text(classic),
                    read_text(fresh),
                    ratio,
                    goal,
                )
            classic = theirs["by default"]
            yield Line(
                f"{what}; {clients} cl., cached",
                read_text(classic),
                read_text(cached),
                cached.mb_per_s / classic.mb_per_s,
                goal,
            )
            if name == "array_100mb":
                yield Line(f"{what}; {clients} cl., GB/s", "", "", fresh.mb_per_s / 1000, Goal(1, unit="GB/s"))


def _readers(alone_ms: float) -> int:
    """How many clients read at once from servers of which the slower takes so long for one of them."""
    return READERS if alone_ms * READERS <= PATIENCE_S * 1000 else FEW_READERS


def _read_for_long(requests: Sequence[Request], clients: int, seconds: float, started: Event) -> None:
    async def run() -> None:
        await load(requests, clients=clients, seconds=0, warm_up=True)
        started.set()
        await load(requests, clients=clients, seconds=seconds, warm_up=False)

    uvloop.run(run())


def listings_during_reads(run: Servers, times: Times) -> Iterator[Line]:
    """How long a listing takes while sixteen other clients read; the classic server is let off with four."""
    context = multiprocessing.get_context("spawn")
    for what, name, partition in (("CSV, 1M rows", "csv_1m", 0), ("array, 100 MB", "array_100mb", [0])):
        seen: list[Measured] = []
        for server, clients in ((run.classic, FEW_READERS), (run.uncached, READERS)):
            started = context.Event()
            request = _read(server, name, partition, BY_DEFAULT)
            arguments = ([request], clients, times.read_s + 60, started)
            readers = context.Process(target=_read_for_long, args=arguments, daemon=True)
            readers.start()
            started.wait(300)
            seen.append(measure(Request(f"{server.url}/v1/info"), 1, times.read_s))
            readers.kill()
            readers.join()
        theirs, ours = seen
        yield Line(
            f"list, 9 entries, p99 while {READERS} cl. read {what}",
            f"{cheap_text(theirs)} ({FEW_READERS} cl. read)",
            cheap_text(ours),
            ours.percentile(0.99),
            Goal(20, at_least=False, unit="ms"),
        )


def peak_memory(run: Servers, times: Times, permitted: int) -> Iterator[Line]:
    """The most memory held while sixteen clients read blocks of 100 MB."""
    peaks: list[float] = []
    for server in (run.classic, run.uncached):
        server.forget_peak()
        measure(_read(server, "array_100mb", [0], BY_DEFAULT), READERS, times.read_s)
        peaks.append(server.peak_mb())
    theirs, ours = peaks
    bound = 2 * BLOCK_MB * permitted
    what = f"peak memory, {READERS} cl. × {BLOCK_MB:.0f} MB, {permitted} reads at once"
    yield Line(what, f"{theirs:.0f} MB", f"{ours:.0f} MB", ours, Goal(round(bound), at_least=False, unit="MB"))


def real_client(run: Servers) -> Iterator[Line]:
    """The intake client of May 2023, end to end."""
    python = python_environment("intake-classic", CLASSIC)
    script = Path(__file__).with_name("intake_client.py")
    seen: list[dict[str, float]] = []
    for server in (run.classic, run.ours):
        command: list[str | Path] = [python, "-P", script, server.url.replace("http://", "intake://")]
        seen.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    theirs, ours = seen
    for what, time_ms in ours.items():
        yield Line(what, f"{theirs[what]:.0f} ms", f"{time_ms:.0f} ms", theirs[what] / time_ms)


EXPORTS = (
    ("parquet_1m", "csv"),
    ("parquet_1m", "arrow"),
    ("parquet_1m", "jsonl"),
    ("parquet_1m", "parquet?where=i0<500"),
    ("parquet_1m", "parquet"),
    ("array_100mb", "npy"),
)


def exports(run: Servers, times: Times) -> Iterator[Line]:
    """Data over plain HTTP, which the classic server does not have: their speed, and the memory that they need."""
    for name, form in EXPORTS:
        request = Request(f"{run.uncached.url}/data/{name}.{form}")
        for clients in (1, 4):
            run.uncached.forget_peak()
            before = run.uncached.resident_mb()
            measured = measure(request, clients, times.read_s)
            more = run.uncached.peak_mb() - before
            yield Line(f"/data/{name}.{form}; {clients} cl., further memory", "", read_text(measured), more, unit="MB")


def beside_a_bare_handler(run: Servers, times: Times, log: Path) -> Iterator[Line]:
    """Ours beside an aiohttp handler that answers with the same bytes."""
    same = {
        "list, 9 entries": Request(f"{run.ours.url}/v1/info"),
        "list, 1000 entries": Request(f"{run.ours_large.url}/v1/info"),
        "read Parquet, 100k rows, cached": _read(run.ours, "parquet_100k", 0, BY_DEFAULT),
        "read array, 10 MB block, cached": _read(run.ours, "array_10mb", [3], BY_DEFAULT),
    }
    with tempfile.TemporaryDirectory() as folder:
        for number, request in enumerate(same.values()):
            Path(folder, str(number)).write_bytes(_ask(request))
        command = [sys.executable, "-m", "benchmarks.bare_http", "--port", "{port}", folder]
        with running("bare", command, ready="/0", log=log) as bare:
            for number, (what, request) in enumerate(same.items()):
                twin = Request(f"{bare.url}/{number}", request.method, request.headers, request.body)
                for clients in (1, READERS):
                    theirs, ours = Side(bare, twin), Side(run.ours, request)
                    ratio = compare(theirs, ours, clients, times.cheap_s)
                    texts = read_text(theirs.measured), read_text(ours.measured)
                    yield Line(f"{what}; {clients} cl.", texts[0], texts[1], ratio, Goal(0.6))


@click.command()
@click.option("--seconds", default=0.6, show_default=True, help="For how long cheap requests are measured.")
@click.option("--read-seconds", default=0.5, show_default=True, help="For how long reads are measured.")
@click.option("--only", multiple=True, help="Only these parts: cheap, reads, during, memory, client, exports, bare.")
@click.option("--entry", "entries", multiple=True, help="Only reads of these entries, such as parquet_100k.")
@click.option("--permitted", default=4, show_default=True, help="How many reads our server does at once.")
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the results there too."
)
@click.option("--check", is_flag=True, help="Exit with 1 when a goal is missed.")
def main(
    seconds: float,
    read_seconds: float,
    only: tuple[str, ...],
    entries: tuple[str, ...],
    permitted: int,
    json_file: Path | None,
    check: bool,
) -> None:
    """Measure the catalog server beside the classic one and beside a bare handler."""
    stop_cleanly()
    times = Times(seconds, read_seconds)
    print("\n".join(environment(PACKAGES)))
    print(f"classic   {', '.join(CLASSIC[:9])}")
    data = intake_data.prepare()
    found: list[Line] = []
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "servers.log")
        with servers(data, log) as run:
            parts: dict[str, Callable[[], Iterator[Line]]] = {
                "cheap": lambda: cheap(run, times),
                "reads": lambda: reads(run, times, entries),
                "during": lambda: listings_during_reads(run, times),
                "memory": lambda: peak_memory(run, times, permitted),
                "client": lambda: real_client(run),
                "exports": lambda: exports(run, times),
                "bare": lambda: beside_a_bare_handler(run, times, log),
            }
            for name, part in parts.items():
                if only and name not in only:
                    continue
                say(name)
                lines: list[Line] = []
                for line in part():
                    say(" | ".join(line.cells()))
                    lines.append(line)
                print(f"\n{table(lines, 'bare handler' if name == 'bare' else 'classic', 'ours')}", flush=True)
                found += lines
    missed = [line.what for line in found if not line.is_met]
    print(
        f"\n{sum(line.goal is not None for line in found)} goals, {len(missed)} missed{': ' if missed else ''}", end=""
    )
    print("; ".join(missed))
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(line) for line in found], indent=1))
    sys.exit(1 if check and missed else 0)


if __name__ == "__main__":
    main()
