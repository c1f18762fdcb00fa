"""`POST external` (protocol §5)."""

from __future__ import annotations

import orjson
import pytest

DOCS = [{"id": "a", "title": "A", "score": 0.5}]


@pytest.fixture
async def iserver(open_iserver, shop, tmp_path):
    """The running example with search results that the application computes."""
    shop["features"]["Search"]["controls"]["results"] = [{"value": {"external": "popularity"}}]
    shop["experiments"] = []
    config = tmp_path / "external.json"
    config.write_bytes(orjson.dumps(shop))
    return await open_iserver(config_file=config)


async def search(iserver, impression="imp-1", query="shoes"):
    return (await iserver.features({"Search": {"query": query}}, impression=impression))["Search"]


async def post(iserver, **body):
    given = {"id": {"deviceId": "dev-1"}, "feature": "Search", "impressionId": "imp-1", "results": DOCS, **body}
    return await iserver.post("external", {name: value for name, value in given.items() if value != "absent"})


async def test_a_posted_value_serves_later_requests_together_with_its_name(iserver):
    assert "results" not in await search(iserver)
    answer = await post(iserver)
    assert (answer.status, await answer.read()) == (200, b"")
    later = await search(iserver, "imp-2")
    assert (later["results"], later["_external_results"]) == (DOCS, "popularity")
    await iserver.engine.retire_all()
    assert iserver.finished()[0].records[0].outputs["results"] == DOCS


async def test_outputs_keep_the_order_of_the_definition(iserver):
    await search(iserver)
    await post(iserver)
    assert list(await search(iserver))[4:] == [
        "query",
        "page",
        "results",
        "ranker",
        "_external_results",
        "_impressionId",
    ]


async def test_the_first_value_wins(iserver):
    await search(iserver)
    await post(iserver)
    assert (await post(iserver, results=[])).status == 200
    assert (await search(iserver))["results"] == DOCS


async def test_without_an_impression_the_only_waiting_record_is_meant(iserver):
    await search(iserver)
    assert (await post(iserver, impressionId="absent")).status == 200
    assert (await search(iserver))["results"] == DOCS


async def test_without_an_impression_two_waiting_records_are_too_many(iserver):
    await search(iserver)
    await search(iserver, query="socks")
    assert (await post(iserver, impressionId=None)).status == 404


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"feature": "Nothing"}, 404, "unknown feature 'Nothing'"),
        ({"feature": "RatingBox"}, 404, "'results' is not an external output"),
        ({"impressionId": "imp-9"}, 404, "impression 'imp-9' not found"),
        ({"results": "absent", "dwell": 3}, 404, "'dwell' is not an external output"),
        ({"results": "many"}, 400, "Expecting a list for results"),
        ({"results": [{"id": "a"}]}, 400, "results.title is missing"),
        ({"results": "absent"}, 400, "no output value is given"),
        ({"feature": None}, 400, "expected a string for 'feature'"),
        ({"id": {"deviceId": "dev-9"}}, 410, "session not found"),
    ],
)
async def test_a_value_that_cannot_be_stored_is_told_why(iserver, body, status, text):
    await search(iserver)
    answer = await post(iserver, **body)
    assert answer.status == status
    assert text in await answer.text()
    assert "results" not in await search(iserver)
