"""The event stream of registered QA devices (specification §8)."""

from __future__ import annotations

from aiohttp import web

from iserver.server import ImpressionServer
from iserver.streams import OPENING, Streams, hello

HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}


class DeviceHandlers:
    """Server-sent events."""

    def __init__(self, server: ImpressionServer, streams: Streams) -> None:
        self._server = server
        self._streams = streams

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Tell a registered device what to drop from its cache, for as long as it listens.

        An unregistered one is answered 204, which tells a browser not to come back.
        """
        given = request.query.get("id", "").split()
        devices = self._server.configuration.devices
        device = next((item for item in given if item in devices), None)
        if device is None:
            return web.Response(status=204)
        response = web.StreamResponse(headers=HEADERS)
        with self._streams.open(device) as stream:
            await self._server.refresh(device)
            await response.prepare(request)
            await response.write(OPENING + hello(self._server.last_flush_ms(device)))
            while (event := await stream.next()) is not None:
                await response.write(event)
        return response
