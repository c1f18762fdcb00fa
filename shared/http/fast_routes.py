"""Hot routes: what clients call all the time, answered by one handler in the express lane and at aiohttp."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from aiohttp import web
from multidict import MultiMapping

from shared.http.app import read_body, response
from shared.http.lifecycle import Answer


@dataclass(frozen=True, slots=True)
class Later:
    """An answer that goes out when something else is done.

    Attributes:
        answer: The answer.
        after: What must be done before; when it fails, its error is the answer.
    """

    answer: Answer
    after: Awaitable[object]


class NotExpress(Exception):  # noqa: N818 - a way on, not an error
    """A handler found, before it answered or changed anything, that aiohttp has to answer this request."""


Handler = Callable[[bytes, Mapping[str, str]], "Answer | Later | Awaitable[Answer]"]
"""Answers a body and headers, at once or later; raises what `Manners` can make a problem of, or `NotExpress`."""

QueryHandler = Callable[[MultiMapping[str], Mapping[str, str]], "Answer | Later | Awaitable[Answer]"]
"""The same for a query and headers."""


@dataclass(frozen=True, slots=True)
class HotRoute:
    """A path whose POST requests the lane answers.

    Attributes:
        path: The path, exactly; metrics name the route by it.
        handler: Answers a request.
    """

    path: str
    handler: Handler
    method: ClassVar[str] = "POST"

    def full(self, max_body_bytes: int) -> web.RouteDef:
        """The same route for the aiohttp application beside the lane.

        Args:
            max_body_bytes: The most bytes of a body, after decompression.
        """

        async def handle(request: web.Request) -> web.Response:
            answer = self.handler(await read_body(request, max_body_bytes), request.headers)
            if isinstance(answer, Later):
                await answer.after
                answer = answer.answer
            elif not isinstance(answer, Answer):
                answer = await answer
            return response(answer)

        return web.post(self.path, handle)


@dataclass(frozen=True, slots=True)
class HotQuery:
    """A path whose GET requests the lane answers.

    Attributes:
        path: The path, exactly; metrics name the route by it.
        handler: Answers a request.
    """

    path: str
    handler: QueryHandler
    method: ClassVar[str] = "GET"
