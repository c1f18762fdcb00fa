"""A million running sessions: ``python -m benchmarks.iserver --only sessions``, from the project's root.

A log is filled with sessions of one impression each, as an iserver writes them, and an iserver is started on it: how
long until it serves, and what memory it needs. Then all sessions expire within one second, while a client asks for
features as fast as it gets answers: its longest wait shows how long the sweeper keeps others from their turn.
"""

from __future__ import annotations

import asyncio
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from uuid import uuid4

import orjson
import uvloop

from benchmarks.harness import Goal, Line, Server, running, say
from benchmarks.http_load import NUMBER, Measured, Request, load
from shared.wal.log import CommitLog

MEMORY_MB = 3 * 2**30 / 1e6
REPLAY_S = 60.0
PAUSE_MS = 20.0
SHOP = Path(str(resources.files("iserver.example"))) / "shop.json"
EARLY_S = 8.0
"""How long the client asks before the sessions expire, in seconds."""

START_S_A_MILLION = 40.0
"""How long a start may take before sessions expire during it."""


@contextmanager
def iserver(data: Path, log: Path, timeout_s: float) -> Iterator[Server]:
    """An iserver on a data folder."""
    own = Path(sys.executable).with_name("iserver")
    command: list[str | Path] = [own, "start", "--port", "{port}", "--config", SHOP, "--data-dir", data]
    command += ["--session-timeout", str(timeout_s), "--warehouse", data / "warehouse"]
    with running("iserver", command, ready="/readyz", log=log, timeout_s=180) as server:
        yield server


def visit(url: str, device: str, impression: str) -> Request:
    """A visitor sees a rating box."""
    body = {
        "args": {"deviceId": device, "channel": "email", "userAgent": "Mozilla/5.0 (X11; Linux x86_64)"},
        "impressionId": impression,
        "requests": {"RatingBox": {"product": "iPhone"}},
    }
    return Request(f"{url}/iserver/features", "POST", body=orjson.dumps(body))


def first_payload(data: Path, log: Path) -> bytes:
    """What an iserver stores of a visit."""
    with iserver(data, log, 1800) as server:
        request = visit(server.url, "DEVICE", "IMPRESSION")
        with urllib.request.urlopen(urllib.request.Request(request.url, request.body), timeout=10) as answer:
            answer.read()
    stored = CommitLog.open(data / "journal")
    payload = next(payload for _, payload in stored.replay() if b"DEVICE" in payload)
    asyncio.run(stored.close())
    return payload


async def fill(data: Path, payload: bytes, sessions: int) -> int:
    """Store as many such visits, all of the same moment.

    Returns:
        The moment, in epoch milliseconds.
    """
    log = CommitLog.open(data / "journal")
    for _ in log.replay():
        pass
    log.start()
    session_id, changes = orjson.loads(payload)
    now_ms = time.time_ns() // 1_000_000
    payload = payload.replace(session_id.encode(), b"SESSION").replace(str(changes[0][2]).encode(), b"%d" % now_ms)
    for number in range(sessions):
        mine = payload.replace(b"SESSION", str(uuid4()).encode()).replace(b"DEVICE", b"dev-%08d-4a7e-9a55" % number)
        log.append(mine.replace(b"IMPRESSION", str(uuid4()).encode()), _must_not_fail)
        if number % 2000 == 0:
            await log.drained()
    await log.close()
    return now_ms


def _must_not_fail(error: OSError | None) -> None:
    if error is not None:
        raise SystemExit(f"the log cannot be filled: {error}")


def gauge(server: Server, name: str) -> float:
    """The value of a metric."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


def sweep(server: Server, sessions: int, expire_at_s: float) -> tuple[float, Measured, Measured]:
    """Ask for features until all sessions are swept.

    Returns:
        How many sessions were swept in a second, and what the client saw before and meanwhile.
    """
    requests = [visit(server.url, f"probe-{number}", f"imp-{NUMBER}") for number in range(500)]
    before, meanwhile = Measured(), Measured()
    while time.time() < expire_at_s - 1:
        before.add(uvloop.run(load(requests, clients=1, seconds=0.5, warm_up=False)))
    while gauge(server, "causal_iserver_sessions_active") >= sessions:
        pass
    began = time.perf_counter()
    while gauge(server, "causal_iserver_sessions_active") > len(requests):
        meanwhile.add(uvloop.run(load(requests, clients=1, seconds=0.5, warm_up=False)))
    return sessions / (time.perf_counter() - began), before, meanwhile


def _seen(measured: Measured) -> str:
    return f"{measured.rps:.0f}/s, p50 {measured.percentile(0.5):.2f}, p99 {measured.percentile(0.99):.2f} ms"


def measurements(folder: Path, sessions: int) -> Iterator[Line]:
    """The start, the memory, and the sweep."""
    data, log = folder / "data", folder / "log"
    say(f"filling a log with {sessions} sessions")
    filled_ms = asyncio.run(fill(data, first_payload(data, log), sessions))
    size_mb = sum(file.stat().st_size for file in (data / "journal").glob("*.log")) / 1e6
    say(f"starting an iserver on a log of {size_mb:.0f} MB")
    timeout_s = round(time.time() - filled_ms / 1000 + 5 + START_S_A_MILLION * sessions / 1e6 + EARLY_S)
    began = time.perf_counter()
    with iserver(data, log, timeout_s) as server:
        seconds = time.perf_counter() - began
        yield Line("start-up replay", "", f"{seconds:.1f} s", seconds, Goal(REPLAY_S, at_least=False, unit="s"))
        memory = f"{server.resident_mb():.0f} MB, peak {server.peak_mb():.0f} MB"
        yield Line("memory", "", memory, server.peak_mb(), Goal(MEMORY_MB, at_least=False, unit="MB"))
        say("asking for features while all of them expire")
        rate, before, meanwhile = sweep(server, sessions, filled_ms / 1000 + timeout_s)
        yield Line("sessions swept", "", f"{rate:.0f}/s", rate, unit="/s")
        yield Line("features before", "", _seen(before), max(before.latencies_ms), unit="ms at most")
        longest_ms = max(meanwhile.latencies_ms)
        pause = Goal(PAUSE_MS, at_least=False, unit="ms")
        yield Line("features meanwhile, longest", "", _seen(meanwhile), longest_ms, pause)
        yield Line("peak memory after", "", f"{server.peak_mb():.0f} MB", server.peak_mb(), unit="MB")
