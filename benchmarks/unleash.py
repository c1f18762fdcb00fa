"""A published flag server to stand beside: npm's `@unleash/proxy`, with a stand-in for the Unleash server it needs.

The proxy evaluates toggles in memory, for each request, in one process; it keeps nothing. It is installed once, in
the user's cache folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks.harness import Server, cache_folder, running, say

PACKAGE = "@unleash/proxy@1.4.9"
"""The last version for Node 20; later ones want 22."""

KEY = "benchmark"


def _rollout(salt: str) -> dict[str, Any]:
    parameters = {"rollout": "100", "stickiness": "userId", "groupId": salt}
    return {"name": "flexibleRollout", "parameters": parameters, "constraints": []}


def _variant(name: str, payload: object) -> dict[str, Any]:
    encoded = {"type": "json", "value": json.dumps(payload)}
    return {"name": name, "weight": 500, "weightType": "variable", "stickiness": "userId", "payload": encoded}


def toggles() -> dict[str, Any]:
    """Three toggles like the example's three features: two in an experiment with two variants, one plain."""
    box = {"callToAction": "Rate this product!", "actionButton": "Send Review", "tone": "CASUAL"}
    results = [{"id": "a", "title": "A", "score": 0.5}]
    variants = {
        "RatingBox": [_variant("control", box), _variant("Blue", {**box, "actionButton": "Submit"})],
        "ProductInfo": [],
        "Search": [_variant("control", {"results": results}), _variant("distance", {"results": results[::-1]})],
    }
    shared = {"type": "release", "enabled": True, "project": "default", "stale": False, "impressionData": False}
    return {
        "version": 1,
        "features": [
            {"name": name, **shared, "strategies": [_rollout(name)], "variants": found}
            for name, found in variants.items()
        ],
    }


class _Unleash(BaseHTTPRequestHandler):
    """As much of an Unleash server as the proxy asks for."""

    def do_GET(self) -> None:
        self._answer(200, json.dumps(toggles()).encode())

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self._answer(202, b"")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def _installed() -> Path:
    folder = cache_folder("npm", PACKAGE.replace("/", "-"))
    start = folder / "node_modules" / "@unleash" / "proxy" / "dist" / "start.js"
    if not (folder / "complete").exists():
        say(f"installing {PACKAGE} in {folder}")
        (folder / "package.json").write_text("{}")
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", PACKAGE], cwd=folder, check=True)
        (folder / "complete").touch()
    return start


@contextlib.contextmanager
def unleash_proxy(log: Path) -> Iterator[Server | None]:
    """A running proxy; None where Node or npm is missing."""
    missing = [program for program in ("node", "npm") if shutil.which(program) is None]
    if missing:
        say(f"{' and '.join(missing)} missing: {PACKAGE} is not measured")
        yield None
        return
    start = _installed()
    upstream = ThreadingHTTPServer(("127.0.0.1", 0), _Unleash)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    env = {
        "UNLEASH_URL": f"http://127.0.0.1:{upstream.server_address[1]}/api",
        "UNLEASH_API_TOKEN": "default:development.benchmark",
        "UNLEASH_PROXY_CLIENT_KEYS": KEY,
        "NODE_ENV": "production",
        "LOG_LEVEL": "error",
    }
    command: list[str | Path] = ["env", "PORT={port}", shutil.which("node") or "node", start]
    try:
        with running("@unleash/proxy", command, ready="/proxy/health", log=log, env={**os.environ, **env}) as server:
            yield server
    finally:
        upstream.shutdown()
        upstream.server_close()
