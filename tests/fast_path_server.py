"""aiohttp's test server with a fast path before it."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from shared.http.fast_path import FastPath


class FastPathTestServer(TestServer):
    """Serves an application whose fast routes are answered before it."""

    def __init__(self, app: web.Application, fast_path: FastPath) -> None:
        super().__init__(app)
        self.fast_path = fast_path
        app.on_shutdown.append(lambda _app: fast_path.drain(timeout_s=10))

    async def _make_runner(self, **options: Any) -> web.AppRunner:
        runner = _FastPathRunner(self.app, **options)
        runner.fast_path = self.fast_path
        return runner


class _FastPathRunner(web.AppRunner):
    fast_path: FastPath

    @property
    def server(self) -> Any:
        server = super().server
        return None if server is None else self.fast_path.before(server)
