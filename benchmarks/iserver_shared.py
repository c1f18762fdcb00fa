"""What it costs to share sessions through Redis: `features` with the local journal, and with `--sessions redis://`.

Redis syncs every change (`appendfsync always`), as the journal does. Part of `python -m benchmarks.iserver`.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import uvloop

from benchmarks.harness import Line, Server, free_port, running, say
from benchmarks.http_load import load
from benchmarks.iserver import CLIENTS, DEVICES, measure, visits, welcome

EXAMPLE = Path(str(resources.files("iserver.example")))


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[Server]:
    """A Redis that syncs every change."""
    port = free_port()
    options = ["--appendonly", "yes", "--appendfsync", "always", "--save", "", "--dir", str(folder)]
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "ready to accept connections" in line.lower():
                break
        yield Server("Redis", f"redis://127.0.0.1:{port}/0", process.pid)
    finally:
        process.terminate()
        process.wait()


def measurements(folder: Path, seconds: float) -> Iterator[Line]:
    """Features with one client and with many; nothing when there is no Redis."""
    if shutil.which("redis-server") is None:
        say("shared: left out, there is no redis-server (Debian package redis-server)")
        return
    own = Path(sys.executable).with_name("iserver")
    with contextlib.ExitStack() as opened:
        redis = opened.enter_context(redis_server(folder))
        started = []
        shared_flags: list[str | Path] = ["--sessions", redis.url, "--warehouse", folder / "warehouse"]
        for name, flags in (("journal", []), ("shared", shared_flags)):
            data: list[str | Path] = ["--config", EXAMPLE / "shop.json", "--data-dir", folder / name, *flags]
            command: list[str | Path] = [own, "start", "--port", "{port}", *data]
            started.append(opened.enter_context(running(name, command, ready="/readyz", log=folder / f"{name}.log")))
        for server in started:
            requests = welcome(f"{server.url}/iserver")
            uvloop.run(load(requests, clients=1, seconds=120, most=DEVICES, warm_up=False))
        for clients in CLIENTS:
            say(f"features with the journal and with Redis, {clients} clients")
            alone, alone_text = measure(started[0], visits(f"{started[0].url}/iserver"), clients, seconds)
            before_s = redis.cpu_s()
            shared, shared_text = measure(started[1], visits(f"{started[1].url}/iserver"), clients, seconds)
            count = max(1, len(shared.latencies_ms))
            text = f"Redis: {shared_text}, Redis' CPU {(redis.cpu_s() - before_s) * 1000 / count:.3f} ms"
            yield Line(f"features; {clients} cl.", f"journal: {alone_text}", text, shared.rps / alone.rps)
