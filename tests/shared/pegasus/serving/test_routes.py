"""The list of calls that `/` answers (specification §4.1, §15)."""

from __future__ import annotations

from shared.pegasus.serving.http import HttpRequest, Response
from shared.pegasus.serving.routes import Route, Router


def nothing(_request: HttpRequest) -> Response:
    return Response()


def listed(*routes: Route) -> bytes:
    request = HttpRequest("GET", "/")
    answer = Router(routes).find(request)(request)
    assert isinstance(answer, Response)
    return answer.body


def test_a_server_without_calls_lists_the_list():
    assert listed() == b'{"/":"List all supported calls."}\n'


def test_calls_are_listed_by_path_and_additions_are_not():
    assert listed(
        Route("/version", nothing, "Get the server version."),
        Route("/healthz", nothing, None),
        Route("/recentStartTime", nothing, "Gets recentStartTime test"),
    ) == (
        b'{"/":"List all supported calls.","/recentStartTime":"Gets recentStartTime test",'
        b'"/version":"Get the server version."}\n'
    )
