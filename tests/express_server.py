"""aiohttp's test server with an express lane before it."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from shared.http.fast_path import ExpressLane


class ExpressTestServer(TestServer):
    """Serves an application whose hot routes are answered in the lane."""

    def __init__(self, app: web.Application, express: ExpressLane) -> None:
        super().__init__(app)
        self.express = express
        app.on_shutdown.append(lambda _app: express.drain(timeout_s=10))

    async def _make_runner(self, **options: Any) -> web.AppRunner:
        runner = _ExpressRunner(self.app, **options)
        runner.express = self.express
        return runner


class _ExpressRunner(web.AppRunner):
    express: ExpressLane

    @property
    def server(self) -> Any:
        server = super().server
        return None if server is None else self.express.before(server)
