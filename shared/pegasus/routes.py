"""A table of HTTP routes, matched as Pegasus matches them (specification §2.4, §4.1)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from shared.pegasus.call_help import HELP
from shared.pegasus.http import HttpRequest, Response
from shared.pegasus.printer import Table, tables

__all__ = ["Handler", "Route", "Router", "route"]

Handler = Callable[[HttpRequest], Response | Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """One call.

    Attributes:
        path: Normalised, without outer slashes.
        help: What `/` says about it; None for additions that the original does not have.
    """

    path: str
    handler: Handler
    help: str | None


def route(path: str, handler: Handler) -> Route:
    """A call under `path`, which is written with its leading slash; what it says of itself is in `call_help`."""
    return Route(path.strip("/"), handler, HELP.get(path))


class Router:
    """Finds the handler of a request, exactly and case-sensitively; answers `/` itself, with the list of calls."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes: Mapping[str, Route] = {route.path: route for route in [*routes, route("/", self.index)]}
        listed = ((f"/{path}", route.help) for path, route in sorted(self._routes.items()))
        self._index = tables(Table().add_all((path, text) for path, text in listed if text is not None))

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
