"""A table of HTTP routes, matched as Pegasus matches them (protocol §2.4, §4.1)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from shared.pegasus.serving.call_help import HELP
from shared.pegasus.serving.http import HttpRequest, Response
from shared.pegasus.serving.json_format import Table, tables

__all__ = ["Handler", "Route", "Router", "route"]

Handler = Callable[[HttpRequest], Response | Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """One call.

    Attributes:
        path: Normalised, with its leading slash.
        help: What `/` says about it; None for additions that the original does not have.
    """

    path: str
    handler: Handler
    help: str | None


def route(path: str, handler: Handler) -> Route:
    """A call under `path`; what it says of itself in the list of calls is in `call_help`."""
    return Route(path, handler, HELP.get(path))


class Router:
    """Finds the handler of a request, exactly and case-sensitively; answers `/` itself, with the list of calls."""

    def __init__(self, routes: Sequence[Route]) -> None:
        calls = sorted([*routes, route("/", self.index)], key=lambda call: call.path)
        self._routes: Mapping[str, Route] = {call.path.strip("/"): call for call in calls}
        self._index = tables(Table().add_all((call.path, call.help) for call in calls if call.help is not None))

    def index(self, _request: HttpRequest) -> Response:
        """All calls that the original has too, by path (§4.1)."""
        return Response(self._index)

    def find(self, request: HttpRequest) -> Handler:
        """What answers a request: its handler, or the answer to one that has none."""
        if request.error is not None:
            message = f"failed to parse request: ERR_INVALID_PARAMETERS: {request.error}"
            return lambda _request: Response.text(message, 400)
        found = self._routes.get(request.path)
        if found is None:
            return lambda request: Response.text(f'service not found for "{request.path}"', 404)
        return found.handler
