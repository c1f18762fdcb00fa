"""What the fast path buys: the same iserver answers the same requests on it and through aiohttp.

A request with the header ``TE`` takes its connection to aiohttp (`shared.http.fast_path`), so one process serves both.
Many short runs take turns, and medians of the server's processor time per request are compared, beside that of a bare
aiohttp handler; rates are medians too. Part of `python -m benchmarks.iserver`.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import uvloop

from benchmarks.harness import Goal, Line, Server, say
from benchmarks.http_load import Request, load
from benchmarks.iserver import CLIENTS, DEVICES, ratings, servers, visits, welcome

RUNS = 9
CPU_GOAL = Goal(1.25)
"""A fast path that saves less than a fifth of the processor time is not worth its code."""


@dataclass(slots=True)
class Way:
    """One way to be answered, and what its runs have shown.

    Attributes:
        server: Who answers.
        requests: What it is asked.
        cpu_us: The server's processor time per request of each run, in microseconds.
        rates: Answers per second of each run.
    """

    server: Server
    requests: Sequence[Request]
    cpu_us: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    def run(self, seconds: float) -> None:
        """Load the server once, with many clients."""
        before_s = self.server.cpu_s()
        measured = uvloop.run(load(self.requests, clients=max(CLIENTS), seconds=seconds))
        assert not measured.refused, measured.refused
        self.cpu_us.append((self.server.cpu_s() - before_s) * 1e6 / len(measured.latencies_ms))
        self.rates.append(measured.rps)

    def __str__(self) -> str:
        return f"{statistics.median(self.rates):.0f}/s, CPU {statistics.median(self.cpu_us):.0f} µs"


def measurements(folder: Path, seconds: float) -> Iterator[Line]:
    """Features and signals on both ways, and the bare handler's beside them."""
    with servers(folder) as (bare, _, own):
        url = f"{own.url}/iserver"
        uvloop.run(load(welcome(url), clients=1, seconds=120, most=DEVICES, warm_up=False))
        for what, made in (("features", visits), ("signal", ratings)):
            say(f"{what} on the fast path and through aiohttp, {max(CLIENTS)} clients")
            full = [replace(request, headers=(*request.headers, ("TE", "trailers"))) for request in made(url)]
            ways = {"fast": Way(own, made(url)), "full": Way(own, full), "bare": Way(bare, made(bare.url))}
            for way in [*ways.values(), *list(ways.values()) * RUNS]:
                way.run(seconds / RUNS)
            for way in ways.values():
                del way.cpu_us[0], way.rates[0]  # the first run warms up
            yield from _lines(what, ways)


def _lines(what: str, ways: Mapping[str, Way]) -> Iterator[Line]:
    fast, full, bare = ways["fast"], ways["full"], ways["bare"]
    name = f"{what}; {max(CLIENTS)} cl."
    yield Line(f"{name}, CPU", f"through aiohttp: {full}", f"fast path: {fast}", _ratio(full, fast), CPU_GOAL)
    yield Line(f"{name}, CPU", f"bare aiohttp: {bare}", f"fast path: {fast}", _ratio(bare, fast))
    yield Line(f"{name}, CPU", f"bare aiohttp: {bare}", f"through aiohttp: {full}", _ratio(bare, full))


def _ratio(one: Way, other: Way) -> float:
    """How often the other's processor time goes into the one's: the median over runs side by side."""
    return statistics.median(mine / theirs for mine, theirs in zip(one.cpu_us, other.cpu_us, strict=True))
