"""Two servers side by side: the same requests in turns, and what came of them as text."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from statistics import median

import uvloop

from benchmarks.harness import Server
from benchmarks.http_load import Measured, Request, load

ROUNDS = 3


def measure(request: Request, clients: int, seconds: float, *, warm_up: bool = True) -> Measured:
    """Send one request again and again, from several clients at once."""
    return uvloop.run(load([request], clients=clients, seconds=seconds, warm_up=warm_up))


@dataclass(slots=True)
class Side:
    """One side of a comparison.

    Attributes:
        server: The server.
        request: What it is asked.
        measured: What it has shown.
        cpu_s: The processor time it has used, in seconds.
    """

    server: Server
    request: Request
    measured: Measured = field(default_factory=Measured)
    cpu_s: float = 0.0

    def measure(self, clients: int, seconds: float) -> float:
        """Measure once more; answers requests per second."""
        before = self.server.cpu_s()
        measured = measure(self.request, clients, seconds)
        self.cpu_s += self.server.cpu_s() - before
        self.measured.add(measured)
        return measured.rps

    @property
    def cpu_ms(self) -> float:
        """The processor time for one request, in milliseconds."""
        return self.cpu_s * 1000 / max(1, len(self.measured.latencies_ms))


def compare(theirs: Side, ours: Side, clients: int, seconds: float) -> float:
    """Measure both in turns, and take the median of the ratios, so that other work on the machine hits both alike.

    A round lasts until every client has had an answer. Where that takes a slow server longer than all rounds should,
    one round says enough.
    """
    ratios: list[float] = []
    began = time.perf_counter()
    while len(ratios) < ROUNDS and (not ratios or time.perf_counter() - began < 2 * seconds):
        before = theirs.measure(clients, seconds / ROUNDS)
        ratios.append(ours.measure(clients, seconds / ROUNDS) / before)
    return median(ratios)


def cheap_text(measured: Measured, cpu_ms: float | None = None) -> str:
    """A result of small requests: rate, latencies, and the processor time of each."""
    times = f"p50 {measured.percentile(0.5):.2f}, p99 {measured.percentile(0.99):.2f} ms"
    cpu = "" if cpu_ms is None else f", CPU {cpu_ms:.2f} ms"
    return f"{measured.rps:.0f}/s, {times}{cpu}{_refused(measured)}"


def read_text(measured: Measured) -> str:
    """A result of large answers: throughput, rate and latencies."""
    times = f"p50 {measured.percentile(0.5):.1f}, p99 {measured.percentile(0.99):.1f} ms"
    return f"{measured.mb_per_s:.0f} MB/s, {measured.rps:.1f}/s, {times}{_refused(measured)}"


def _refused(measured: Measured) -> str:
    return f", {sum(measured.refused.values())} REFUSED" if measured.refused else ""
