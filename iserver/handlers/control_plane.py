"""What the published FDL compiler calls when this server is its control plane (§9.2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web

from iserver.configuration.control_plane import metadata, pushed_files
from iserver.engine.engine import Engine
from iserver.errors import InvalidConfigurationError, UnreachableError
from iserver.fdl import SourceFile
from iserver.handlers.admin import authorise
from iserver.handlers.client import JSON
from shared.auth import bearer_token
from shared.errors import Problem
from shared.http.app import json_response, read_body, read_json_object

Push = Callable[[Sequence[SourceFile]], Awaitable[None]]


class ControlPlaneHandlers:
    """Metadata for generated clients, and a place to push FDL to."""

    def __init__(self, engine: Engine, push: Push, *, token: str, location: str, max_body_bytes: int) -> None:
        self._engine = engine
        self._push = push
        self._token = token
        self._location = location
        self._max_body_bytes = max_body_bytes

    async def graphql(self, request: web.Request) -> web.Response:
        """The metadata of the environment, whatever the query."""
        authorise(bearer_token(request), self._token)
        return json_response(metadata(self._engine.configuration, self._location), content_type=JSON)

    async def push_files(self, request: web.Request) -> web.Response:
        """Replace the configuration's FDL by the files of the body."""
        body = await read_json_object(request, self._max_body_bytes)
        token = body.get("token")
        self._check(token if isinstance(token, str) else None, body.get("env"))
        return await self._pushed(pushed_files(body))

    async def push_text(self, request: web.Request) -> web.Response:
        """The older form: the body is the FDL, the query has the rest."""
        self._check(request.query.get("token"), request.query.get("env"))
        content = await read_body(request, self._max_body_bytes)
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            raise Problem(400, f"the FDL is not UTF-8: {error}") from error
        return await self._pushed([SourceFile("pushed.fdl", text)])

    def _check(self, token: str | None, environment: object) -> None:
        authorise(token, self._token)
        ours = self._engine.configuration.environment
        if environment not in (ours.id, ours.name):
            raise Problem(404, f"this server serves the environment '{ours.id}', not {environment!r}")

    async def _pushed(self, files: Sequence[SourceFile]) -> web.Response:
        try:
            await self._push(files)
        except InvalidConfigurationError as error:
            raise Problem(422, str(error)) from error
        except UnreachableError as error:
            raise Problem(502, str(error)) from error
        return web.Response(text="ok\n")
