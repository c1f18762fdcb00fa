"""The gateway beside csp-gateway 3.0.0, the same load on both in one run.

usage: python -m benchmarks.gateway [--seconds S] [--rounds N] [--only NAME,…] [--kept N]

csp-gateway gets an environment of its own (made once, in the user's cache) and the channels of
`gateway_parts/reference.py`, its demonstration modules included; ours gets `gateway_parts/channels.yaml`. Beside both
stand the limits: a bare aiohttp handler, and a loop that writes ready-made frames to the same sockets. The load is one
process more. Servers run one after the other or side by side but only one is under load at a time, in turns.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

from benchmarks.harness import Goal, Line, Server, cache_folder, environment, python_environment, running, say, table

PARTS = Path(__file__).with_name("gateway_parts")
REFERENCE = ["csp-gateway==3.0.0", "csp==0.19.1"]
PACKAGES = ["aiohttp", "uvloop", "orjson", "pydantic", "numpy"]
STATE_KEYS = 100_000
LEAST_DELIVERIES = {1: 20_000, 100: 80_000}
WINDOW = {1: 2000, 10: 400, 100: 60}
Result: TypeAlias = dict[str, Any]


@dataclass(slots=True)
class Bench:
    """What is measured with, and what has been measured."""

    servers: Mapping[str, Callable[[], contextlib.AbstractContextManager[Server]]]
    seconds: float
    rounds: int
    kept: int
    lines: list[Line] = field(default_factory=list)

    def load(self, server: Server, scenario: str, **options: Any) -> Result:
        """Run one scenario in a process of its own."""
        options = {"port": int(server.url.rpartition(":")[2]), "seconds": self.seconds, **options}
        if server.name == "bare" and scenario == "bare_fan_out":
            options["port"] += 1
        used_before = server.cpu_s()
        done = subprocess.run(
            [sys.executable, PARTS / "load.py", scenario, json.dumps(options)],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            timeout=600,
        )
        if done.returncode:
            raise SystemExit(f"{scenario} on {server.name} failed")
        result: Result = json.loads(done.stdout)
        if "count" in result:
            result["cpu_us"] = (server.cpu_s() - used_before) * 1e6 / result["count"]
        say(f"{scenario:13}{server.name:12}{_describe(options)}  {_describe(result)}")
        return result

    def turns(self, running_servers: Mapping[str, Server], scenario: str, **options: Any) -> dict[str, Result]:
        """Run a scenario on every server in turns, and take the median of each number."""
        results: dict[str, list[Result]] = {name: [] for name in running_servers}
        for _ in range(self.rounds):
            for name, server in running_servers.items():
                results[name].append(self.load(server, scenario, **options))
        return {name: _median(items) for name, items in results.items()}

    def add(self, what: str, theirs: str, ours: str, value: float, goal: Goal | None = None, unit: str = "×") -> None:
        """Note a line of the table."""
        self.lines.append(Line(what, theirs, ours, value, goal, unit))


def _describe(values: Mapping[str, Any]) -> str:
    shown = {k: v for k, v in values.items() if k not in ("port", "seconds", "method", "statuses")}
    return " ".join(f"{k}={v:.0f}" if isinstance(v, float) and v > 100 else f"{k}={v}" for k, v in shown.items())


def _median(results: list[Result]) -> Result:
    numbers = {k for k, v in results[0].items() if isinstance(v, (int, float))}
    return {k: statistics.median([r[k] for r in results if r[k] is not None]) for k in numbers}


@contextlib.contextmanager
def _each(bench: Bench, *names: str) -> Iterator[dict[str, Server]]:
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(bench.servers[name]()) for name in names}


# --- what is measured ---


def rest(bench: Bench) -> None:
    """`last` and `send`, 32 connections."""
    with _each(bench, "csp-gateway", "ours", "bare") as servers:
        bench.load(servers["csp-gateway"], "fill", path="/api/v1/send/bench", count=1)
        bench.load(servers["ours"], "fill", path="/api/v1/send/bench", count=1)
        for what, method, path in (("last", "GET", "/api/v1/last/bench"), ("send", "POST", "/api/v1/send/bench")):
            results = bench.turns(servers, "rest", method=method, path=path, connections=32)
            theirs, ours, bare = results["csp-gateway"], results["ours"], results["bare"]
            bench.add(
                f"{what}, 32 connections",
                f"{theirs['rate']:.0f}/s, p99 {theirs['p99']:.1f} ms",
                f"{ours['rate']:.0f}/s, p99 {ours['p99']:.1f} ms",
                ours["rate"] / theirs["rate"],
                Goal(4),
            )
            bench.add(
                f"{what} beside a bare handler",
                f"bare {bare['rate']:.0f}/s, p99 {bare['p99']:.1f} ms",
                f"{ours['rate']:.0f}/s",
                ours["rate"] / bare["rate"],
                Goal(0.6),
            )
            bench.add(
                f"{what}, processor time each, beside a bare handler",
                f"csp-gateway {theirs['cpu_us']:.0f} µs, bare {bare['cpu_us']:.0f} µs",
                f"{ours['cpu_us']:.0f} µs",
                bare["cpu_us"] / ours["cpu_us"],
            )


def lists(bench: Bench) -> None:
    """`send` of lists of 100 structs, to channels that are kept for lookup, that are not, and that have a state."""
    with _each(bench, "csp-gateway", "ours") as servers:
        for channel, what in (("bench", "kept"), ("bench_free", "not kept"), ("bench_state", "with a state")):
            path = f"/api/v1/send/{channel}"
            results = bench.turns(servers, "rest", method="POST", path=path, connections=8, items=100)
            theirs, ours = results["csp-gateway"], results["ours"]
            for unit, number, ratio, goal in (
                ("/s", "rate", ours["rate"] / theirs["rate"], Goal(4)),
                (" µs of processor time", "cpu_us", theirs["cpu_us"] / ours["cpu_us"], Goal(4)),
            ):
                cells = f"{theirs[number]:.0f}{unit}", f"{ours[number]:.0f}{unit}"
                bench.add(f"send of 100, {what}", *cells, ratio, goal)


def state(bench: Bench) -> None:
    """Equality on the key, a range of 100 rows, and a whole dump of a state with 100,000 keys."""
    query = {"filters": [{"attr": "k", "by": {"value": "KEY", "where": "=="}}]}
    path = "/api/v1/state/bench_state?query=" + quote(json.dumps(query, separators=(",", ":")))
    with _each(bench, "csp-gateway", "ours") as servers:
        for server in servers.values():
            bench.load(server, "fill", path="/api/v1/send/bench_state", count=STATE_KEYS)
            bench.load(server, "rest", method="GET", path=path, connections=1, keys=STATE_KEYS, seconds=1)
        for connections in (1, 32):
            results = bench.turns(servers, "rest", method="GET", path=path, connections=connections, keys=STATE_KEYS)
            theirs, ours = results["csp-gateway"], results["ours"]
            bench.add(
                f"state equality, 100,000 keys, {connections} connection{'s' * (connections > 1)}",
                f"{theirs['rate']:.0f}/s, p50 {theirs['p50']:.2f} ms",
                f"{ours['rate']:.0f}/s, p50 {ours['p50']:.2f} ms",
                ours["rate"] / theirs["rate"],
                Goal(8),
            )
        ranges = [{"attr": "seq", "by": {"value": bound, "where": op}} for bound, op in (("LOW", ">="), ("HIGH", "<"))]
        text = json.dumps({"filters": ranges}, separators=(",", ":")).replace('"LOW"', "LOW").replace('"HIGH"', "HIGH")
        path = "/api/v1/state/bench_state?query=" + quote(text)
        results = bench.turns(servers, "rest", method="GET", path=path, connections=8, keys=STATE_KEYS)
        theirs, ours = results["csp-gateway"], results["ours"]
        for unit, number, ratio in (
            ("/s", "rate", ours["rate"] / theirs["rate"]),
            (" µs of processor time", "cpu_us", theirs["cpu_us"] / ours["cpu_us"]),
        ):
            cells = f"{theirs[number]:.0f}{unit}", f"{ours[number]:.0f}{unit}"
            bench.add("range of 100 rows in 100,000", *cells, ratio, Goal(4))
        results = bench.turns(
            servers, "dump", path="/api/v1/state/bench_state", beside="/api/v1/last/bench_free", times=3
        )
        theirs, ours = results["csp-gateway"], results["ours"]
        bench.add(
            f"state dump, 100,000 rows, {ours['bytes'] / 1e6:.1f} MB",
            f"{theirs['p50']:.0f} ms",
            f"{ours['p50']:.0f} ms",
            ours["p50"],
            Goal(250, at_least=False, unit="ms"),
        )
        bench.add(
            "longest `last` beside the dump",
            f"{theirs['delay_ms']:.0f} ms",
            f"{ours['delay_ms']:.0f} ms",
            ours["delay_ms"],
            Goal(20, at_least=False, unit="ms"),
        )


def fan_out(bench: Bench) -> None:
    """Ticks of one producer to 1 and to 100 subscribers."""
    for subscribers, least, channel in ((1, 2.0, "bench_free"), (100, 3.0, "bench_free"), (1, 2.0, "bench")):
        options = {"channel": channel, "subscribers": subscribers, "window": WINDOW[subscribers]}
        with _each(bench, "csp-gateway", "ours", "bare") as servers:
            bare = servers.pop("bare")
            limit = _median([bench.load(bare, "bare_fan_out", subscribers=subscribers) for _ in range(bench.rounds)])
            results = bench.turns(servers, "fan_out", **options)
            theirs, ours = results["csp-gateway"], results["ours"]
            what = "ticks to 1 subscriber" if subscribers == 1 else f"deliveries to {subscribers} subscribers"
            what += ", kept for lookup" if channel == "bench" else ""
            count = "rate" if subscribers == 1 else "deliveries"
            bench.add(what, f"{theirs[count]:.0f}/s", f"{ours[count]:.0f}/s", ours[count] / theirs[count], Goal(least))
            ratio = ours["deliveries"] / limit["deliveries"]
            bench.add(f"{what} beside ready-made frames", f"loop {limit['deliveries']:.0f}/s", "", ratio)
            # the goal's rate: the multiple of the reference's, and at least LEAST_DELIVERIES
            asked = max(least * theirs["deliveries"], LEAST_DELIVERIES[subscribers]) / subscribers
            for name, rate, goal in (
                ("the goal", asked / 2, Goal(20, at_least=False, unit="ms")),
                ("our most", ours["rate"] / 2, None),
            ):
                at_half = _median(
                    [bench.load(servers["ours"], "paced", **options, rate=rate) for _ in range(bench.rounds)]
                )
                their_rate = theirs["rate"] / 2
                beside = bench.load(servers["csp-gateway"], "paced", **options, rate=their_rate)
                bench.add(
                    f"p99 of {what} at half of {name}",
                    f"{beside['p99']:.1f} ms at {their_rate:.0f}/s",
                    f"{at_half['p99']:.1f} ms at {rate:.0f}/s",
                    at_half["p99"],
                    goal,
                    "ms",
                )


def slow_reader(bench: Bench) -> None:
    """The p99 of ten subscribers to ticks of a kilobyte, with and without an eleventh that stops reading."""
    options = {"channel": "bench_free", "subscribers": 10, "rate": 1000, "padding": 1000, "seconds": 10}
    with _each(bench, "csp-gateway", "ours") as servers:
        calm = bench.turns(servers, "paced", **options)
        disturbed = bench.turns(servers, "paced", **options, stalled=True)
    theirs, ours = disturbed["csp-gateway"], disturbed["ours"]
    bench.add(
        "p99 of 10 readers beside one that stopped",
        f"{calm['csp-gateway']['p99']:.2f} → {theirs['p99']:.2f} ms, {theirs['missing']:.0f} missing",
        f"{calm['ours']['p99']:.2f} → {ours['p99']:.2f} ms, {ours['missing']:.0f} missing",
        ours["p99"] / calm["ours"]["p99"],
        Goal(1.1, at_least=False),
    )


def memory(bench: Bench) -> None:
    """Memory for each million of ticks kept for lookup, and the p99 before and after them."""
    options = {"channel": "bench", "subscribers": 1, "rate": 1000}
    grown: dict[str, float] = {}
    delays: dict[str, tuple[float, float]] = {}
    for name in ("csp-gateway", "ours"):
        with bench.servers[name]() as server:
            bench.load(server, "fill", path="/api/v1/send/bench", count=1000)
            early = _median([bench.load(server, "paced", **options) for _ in range(bench.rounds)])
            before = server.resident_mb()
            bench.load(server, "fill", path="/api/v1/send/bench", count=bench.kept, first=1000)
            grown[name] = (server.resident_mb() - before) * 1e6 / 2**20 / (bench.kept / 1e6)
            late = _median([bench.load(server, "paced", **options) for _ in range(bench.rounds)])
            delays[name] = early["p99"], late["p99"]
    bench.add(
        f"memory per million kept ticks ({bench.kept:,} sent)",
        f"{grown['csp-gateway']:.0f} MiB",
        f"{grown['ours']:.0f} MiB",
        grown["ours"],
        Goal(200, at_least=False, unit="MiB"),
    )
    (their_early, their_late), (early_p99, late_p99) = delays["csp-gateway"], delays["ours"]
    bench.add(
        "p99 fresh → after those ticks, lookup on",
        f"{their_early:.1f} → {their_late:.1f} ms",
        f"{early_p99:.2f} → {late_p99:.2f} ms",
        late_p99 - early_p99,
        Goal(2, at_least=False, unit="ms more"),
    )


MEASUREMENTS = {
    "rest": rest,
    "lists": lists,
    "state": state,
    "fan_out": fan_out,
    "slow_reader": slow_reader,
    "memory": memory,
}


def _servers(log_folder: Path) -> dict[str, Callable[[], contextlib.AbstractContextManager[Server]]]:
    python = python_environment("csp-gateway", REFERENCE)
    commands: dict[str, tuple[list[str | Path], str]] = {
        "csp-gateway": ([python, PARTS / "reference.py", "{port}"], "/api/v1/last/"),
        "ours": (
            [Path(sys.executable).with_name("gateway"), "run", PARTS / "channels.yaml", "--port", "{port}"],
            "/api/v1/last/",
        ),
        "bare": ([sys.executable, PARTS / "bare.py", "{port}"], "/api/v1/last/bench"),
    }

    def server(name: str) -> Callable[[], contextlib.AbstractContextManager[Server]]:
        command, ready = commands[name]
        return lambda: running(name, command, ready=ready, log=log_folder / f"{name}.log")

    return {name: server(name) for name in commands}


def main() -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one measurement (4)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is repeated, in turns (3)")
    parser.add_argument("--kept", type=int, default=1_000_000, help="ticks kept for lookup to measure memory (1000000)")
    parser.add_argument("--only", default=",".join(MEASUREMENTS), help="some of: " + ", ".join(MEASUREMENTS))
    options = parser.parse_args()
    print("\n".join(environment(PACKAGES)))
    print(f"peer      {', '.join(REFERENCE)}\n", flush=True)
    with tempfile.TemporaryDirectory(dir=cache_folder("logs")) as folder:
        bench = Bench(_servers(Path(folder)), options.seconds, options.rounds, options.kept)
        for name in options.only.split(","):
            MEASUREMENTS[name](bench)
    print(table(bench.lines, "csp-gateway", "ours"))


if __name__ == "__main__":
    main()
