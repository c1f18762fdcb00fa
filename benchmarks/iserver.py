"""The impression server beside its limit and its peer: ``python -m benchmarks.iserver``, from the project's root.

Measures `features` with three features and `signal` events, journaled and synced to disk, against a bare aiohttp
handler that answers with the same bytes and keeps nothing; with one client also against a bare handler that syncs the
body of every request, the limit of the disk; and `features` against the published flag server
`@unleash/proxy` with three toggles, which keeps nothing either. One after the other in one run, each one process
(the journal's thread and the warehouse's process stand by ours).

`--only fast-path` compares the fast path with aiohttp's way to the same routes (`benchmarks.iserver_fast_path`),
`--only shared` is `features` with sessions in Redis (`benchmarks.iserver_shared`), `--only sessions` a million running
sessions (`benchmarks.iserver_sessions`), `--only etl` a million finished ones on their way to Parquet
(`benchmarks.iserver_etl`).
"""

from __future__ import annotations

import contextlib
import json
import random
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path

import click
import uvloop

from benchmarks.harness import Goal, Line, Server, environment, running, say, table
from benchmarks.http_load import NUMBER, Measured, Request, load
from benchmarks.unleash import KEY, PACKAGE, unleash_proxy

PACKAGES = ("aiohttp", "uvloop", "orjson", "msgspec", "pyarrow")
CLIENTS = (1, 32)
DEVICES = 2000
REQUESTS = 40_000
P99_MS = 20.0
PEER = Goal(2.0)


def devices() -> list[str]:
    """Who sends each request: in random order, and of as many clients each has devices of its own."""
    chosen, clients = random.Random(7), max(CLIENTS)
    parts = [range(DEVICES * number // clients, DEVICES * (number + 1) // clients) for number in range(clients)]
    return [f"dev-{chosen.choice(part)}" for part in parts for _ in range(REQUESTS // clients)]


def visits(url: str) -> list[Request]:
    """Visits of many devices, each with an impression that no other request has, and three features."""
    return [
        _post(
            f"{url}/features",
            {
                "fetchOptions": [],
                "args": {"deviceId": device, "channel": "email", "userAgent": "UA/1"},
                "impressionId": f"imp-{NUMBER}",
                "requests": {"RatingBox": {"product": "iPhone"}, "ProductInfo": {}, "Search": {"query": "shoes"}},
            },
        )
        for device in devices()
    ]


def ratings(url: str) -> list[Request]:
    """Events on the impressions that `welcome` has made."""
    return [
        _post(
            f"{url}/signal",
            {
                "id": {"deviceId": device},
                "feature": "RatingBox",
                "event": "Rating",
                "impressionId": "imp-first",
                "args": {"stars": number % 5},
            },
        )
        for number, device in enumerate(devices())
    ]


def welcome(url: str) -> list[Request]:
    """A first visit of every device."""
    wanted = {"RatingBox": {"product": "iPhone"}}
    return [
        _post(
            f"{url}/features",
            {"args": {"deviceId": f"dev-{number}"}, "impressionId": "imp-first", "requests": wanted},
        )
        for number in range(DEVICES)
    ]


def flags(url: str) -> list[Request]:
    """Requests of many users for all toggles, as the proxy's own clients send them."""
    key = (("Authorization", KEY),)
    return [Request(f"{url}/proxy?userId={user}&properties[channel]=email", headers=key) for user in devices()]


def _post(url: str, body: object) -> Request:
    encoded = json.dumps(body, separators=(",", ":")).encode()
    return Request(url, "POST", (("Content-Type", "text/plain;charset=UTF-8"),), encoded)


def _ask(request: Request) -> bytes:
    made = urllib.request.Request(request.url, request.body or None, dict(request.headers), method=request.method)
    with urllib.request.urlopen(made, timeout=30) as answer:
        body: bytes = answer.read()
    return body


@contextlib.contextmanager
def servers(folder: Path) -> Iterator[tuple[Server, Server, Server]]:
    """The bare handler, the one that syncs, and ours; the bare ones answer with bytes that ours gave."""
    own = Path(sys.executable).with_name("iserver")
    example = Path(str(resources.files("iserver.example"))) / "shop.json"
    answers = folder / "answers"
    answers.mkdir()
    command: list[str | Path] = [own, "start", "--port", "{port}", "--config", example, "--data-dir", folder / "data"]
    with running("iserver", command, ready="/readyz", log=folder / "log") as ours:
        url = f"{ours.url}/iserver"
        (answers / "features").write_bytes(_ask(visits(url)[0]))
        (answers / "signal").write_bytes(b"")
        bare: list[str | Path] = [sys.executable, "-m", "benchmarks.bare_http", "--port", "{port}", answers]
        syncing = [*bare, "--log", folder / "bare.log"]
        with (
            running("bare aiohttp", bare, ready="/signal", log=folder / "log") as limit,
            running("syncing aiohttp", syncing, ready="/signal", log=folder / "log") as disk,
        ):
            yield limit, disk, ours


def measure(server: Server, requests: Sequence[Request], clients: int, seconds: float) -> tuple[Measured, str]:
    """Load a server; returns the result as text, too."""
    before = server.cpu_s()
    measured = uvloop.run(load(requests, clients=clients, seconds=seconds))
    cpu_ms = (server.cpu_s() - before) * 1000 / max(1, len(measured.latencies_ms))
    refused = f", {dict(measured.refused)} REFUSED" if measured.refused else ""
    text = (
        f"{measured.rps:.0f}/s, p50 {measured.percentile(0.5):.2f}, p99 {measured.percentile(0.99):.2f} ms,"
        f" CPU {cpu_ms:.3f} ms{refused}"
    )
    return measured, text


def measurements(limit: Server, disk: Server, ours: Server, peer: Server | None, seconds: float) -> Iterator[Line]:
    """Features and signals, with one client and with many."""
    own = f"{ours.url}/iserver"
    uvloop.run(load(welcome(own), clients=1, seconds=120, most=DEVICES, warm_up=False))
    for what, made, goal in (("features", visits, Goal(0.6)), ("signal", ratings, Goal(0.7))):
        for clients in CLIENTS:
            say(f"{what}, {clients} clients")
            bare, bare_text = measure(limit, made(limit.url), clients, seconds)
            mine, my_text = measure(ours, made(own), clients, seconds)
            name = f"{what}; {clients} cl."
            yield Line(name, f"bare aiohttp: {bare_text}", my_text, mine.rps / bare.rps, goal)
            if clients == 1:  # with more, a syncing handler would have to share its syncs
                durable, durable_text = measure(disk, made(disk.url), clients, seconds)
                yield Line(name, f"syncing aiohttp: {durable_text}", my_text, mine.rps / durable.rps)
            if peer is not None and what == "features":
                theirs, their_text = measure(peer, flags(peer.url), clients, seconds)
                yield Line(name, f"{PACKAGE}: {their_text}", my_text, mine.rps / theirs.rps, PEER)
            if clients > 1:
                p99_ms = mine.percentile(0.99)
                yield Line(f"{name}, p99", "", f"{p99_ms:.2f} ms", p99_ms, Goal(P99_MS, at_least=False, unit="ms"))


def requests_lines(seconds: float) -> list[Line]:
    """All measurements of requests."""
    with (
        tempfile.TemporaryDirectory() as folder,
        servers(Path(folder)) as (limit, disk, ours),
        unleash_proxy(Path(folder) / "log") as peer,
    ):
        if peer is not None:
            shown = json.loads(_ask(flags(peer.url)[0]))["toggles"]
            assert len(shown) == len(json.loads(visits("")[0].body)["requests"]), shown
            uvloop.run(load(flags(peer.url), clients=8, seconds=seconds))  # until Node has compiled what is hot
        return list(measurements(limit, disk, ours, peer, seconds))


PARTS = ("requests", "fast-path", "shared", "sessions", "etl")


@click.command()
@click.option("--seconds", default=5.0, show_default=True, help="How long each measurement of requests takes.")
@click.option("--only", type=click.Choice(PARTS), multiple=True, help="A part to measure; by default all.")
@click.option("--sessions", default=1_000_000, show_default=True, help="How many sessions are running, or written.")
def main(seconds: float, only: Sequence[str], sessions: int) -> None:
    """Measure, and print a table; the exit status is 1 when a goal is missed."""
    # they use the requests of this module
    from benchmarks import iserver_etl, iserver_fast_path, iserver_sessions, iserver_shared

    print("\n".join(environment(PACKAGES)), end="\n\n")
    lines: list[Line] = []
    for part in only or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            if part == "requests":
                lines += requests_lines(seconds)
            elif part == "fast-path":
                lines += iserver_fast_path.measurements(Path(folder), seconds)
            elif part == "shared":
                lines += iserver_shared.measurements(Path(folder), seconds)
            elif part == "sessions":
                lines += iserver_sessions.measurements(Path(folder), sessions)
            else:
                lines += iserver_etl.measurements(Path(folder), sessions)
    print(table(lines, "the other", "iserver"))
    sys.exit(0 if all(line.is_met for line in lines) else 1)


if __name__ == "__main__":
    main()
