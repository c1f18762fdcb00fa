"""Appendix A of the protocol page, row by row, in its order: what each refusal is on the wire."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

DEVICE = {"deviceId": "dev-1"}
CONFLICT = {"deviceId": "dev-1", "arrivalId": "arr-2"}
RATING = {"id": DEVICE, "feature": "RatingBox", "event": "Rating", "impressionId": "imp-1", "args": {"stars": 4}}
EXTERNAL = {"id": DEVICE, "feature": "Search", "impressionId": "imp-1", "results": []}


@pytest.fixture
async def iserver(open_iserver, shop, tmp_path):
    """The running example with external results, a token for sync, and a session that has seen two features."""
    shop["features"]["Search"]["controls"]["results"] = [{"value": {"external": "popularity"}}]
    shop["experiments"] = []
    config = tmp_path / "catalogue.json"
    config.write_bytes(orjson.dumps(shop))
    iserver = await open_iserver(config_file=config, token="t0ken")
    await iserver.features(
        {"RatingBox": {"product": "p"}, "Search": {"query": "q"}}, args={**DEVICE, "arrivalId": "arr-1"}
    )
    return iserver


ROWS: list[tuple[str, Any, int, str]] = [
    # any: bad JSON, not an object
    *[
        (path, body, 400, "malformed JSON: ")
        for path in ("features", "signal", "external", "cmd")
        for body in (b"{", [])
    ],
    # any: path unknown
    ("nothing", {}, 404, "Not Found"),
    # features: no keys, missing required session arg, wrong type
    ("features", {"args": {}}, 400, "'deviceId'"),
    ("features", {"args": {"deviceId": "new", "channel": None}}, 400, "channel"),
    ("features", {"args": {"deviceId": "new", "channel": 7}}, 400, "Expecting a string for channel"),
    # features: only session keys and no active session
    ("features", {"args": {"arrivalId": "arr-9"}}, 410, "session not found or expired"),
    # signal, external: no active session, or conflicting keys
    ("signal", {**RATING, "id": {"deviceId": "dev-9"}}, 410, "session not found or expired"),
    ("signal", {**RATING, "id": CONFLICT}, 410, "session not found or expired"),
    ("external", {**EXTERNAL, "id": {"deviceId": "dev-9"}}, 410, "session not found or expired"),
    ("external", {**EXTERNAL, "id": CONFLICT}, 410, "session not found or expired"),
    # signal event: unknown feature or event; impression not found
    ("signal", {**RATING, "feature": "Nothing"}, 404, "unknown feature 'Nothing'"),
    ("signal", {**RATING, "event": "Nothing"}, 404, "unknown event 'Nothing'"),
    ("signal", {**RATING, "impressionId": "imp-9"}, 404, "impression 'imp-9' not found"),
    ("signal", {**RATING, "impressionId": "imp-9", "options": {"ignore_missing_imp": True}}, 200, ""),
    ("signal", {**RATING, "event": "Nothing", "options": {"ignore_missing_imp": True}}, 404, "unknown event"),
    # signal event: bad args
    ("signal", {**RATING, "args": {"stars": "4"}}, 400, "Expecting an integer for stars"),
    # signal mutate: unknown, not mutable, bad type
    ("signal", {"id": DEVICE, "mutate": "nothing", "value": "v"}, 404, "unknown session field 'nothing'"),
    ("signal", {"id": DEVICE, "mutate": "channel", "value": "v"}, 400, "'channel' is not mutable"),
    ("signal", {"id": DEVICE, "mutate": "userId", "value": 7}, 400, "Expecting a string for userId"),
    # signal impressions: some ids unknown
    (
        "signal",
        {"id": DEVICE, "impressions": {"RatingBox": {"impression": "imp-9", "newImpression": "imp-2"}}},
        404,
        "impression not found: RatingBox",
    ),
    # external: unknown feature, output, impression; bad type
    ("external", {**EXTERNAL, "feature": "Nothing"}, 404, "unknown feature 'Nothing'"),
    (
        "external",
        {"id": DEVICE, "feature": "Search", "impressionId": "imp-1", "page": 1},
        404,
        "not an external output",
    ),
    ("external", {**EXTERNAL, "impressionId": "imp-9"}, 404, "impression 'imp-9' not found"),
    ("external", {**EXTERNAL, "results": 7}, 400, "Expecting a list for results"),
    # session: missing id, unknown
    ("GET session", None, 400, "missing query parameter 'id'"),
    ("GET session?id=dev-9", None, 404, "no active session for 'dev-9'"),
    # cmd: bad action
    ("cmd", {"action": "dance"}, 400, "unknown action"),
    ("cmd", {}, 400, "missing 'action': expected 'flushToWarehouse'"),
    # sync: no token, wrong token
    ("GET sync", None, 401, "a token is needed"),
    ("GET sync?token=wrong", None, 403, "wrong token"),
    # sse: id missing or unregistered
    ("GET sse", None, 204, ""),
    ("GET sse?id=dev-1", None, 204, ""),
]


@pytest.mark.parametrize(("call", "body", "status", "text"), ROWS)
async def test_each_row_has_its_status_and_says_why(iserver, call, body, status, text):
    answer = await (iserver.get(call[4:]) if call.startswith("GET ") else iserver.post(call, body))
    said = await answer.text()
    assert answer.status == status, said
    assert text in said
    if status != 204:
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("feature", "args", "answer", "errors"),
    [
        ("Nothing", {}, "UNKNOWN", None),
        ("NewCheckout", {}, "OFF", None),
        ("Search", {}, {"results": []}, ["Search: missing required argument 'query'"]),
        ("Search", {"query": 7}, {"results": []}, ["Search: Expecting a string for query"]),
    ],
)
async def test_a_feature_that_cannot_be_shown_fails_alone_with_200(iserver, feature, args, answer, errors):
    given = await iserver.features([{"name": feature, "args": args}])
    assert given["impressions"] == [answer]
    assert given.get("errors") == errors


async def test_unknown_ids_do_not_keep_the_known_ones_from_being_applied(iserver):
    known = {"impression": "imp-1", "newImpression": "imp-2"}
    unknown = {"impression": "imp-9", "newImpression": "imp-2"}
    assert await iserver.signal(impressions={"Search": unknown, "RatingBox": known}) == 404
    box = (await iserver.features({"RatingBox": {"product": "p"}}, impression="imp-3"))["RatingBox"]
    assert box["impressionCount"] == 3
