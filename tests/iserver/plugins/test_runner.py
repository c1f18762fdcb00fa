"""Plugins (protocol §16)."""

from __future__ import annotations

import asyncio

import pytest

from shared.errors import StartupError
from tests.iserver.plugins import example_plugins
from tests.iserver.plugins.example_plugins import CALLS, RELEASE, WAITING

HERE = example_plugins.__name__


@pytest.fixture(autouse=True)
def no_calls_yet():
    CALLS.clear()
    RELEASE.clear()
    WAITING.clear()
    yield
    RELEASE.set()


async def test_plugins_hear_of_everything_and_fill_what_is_theirs(open_iserver):
    iserver = await open_iserver(plugins=(f"{HERE}:Notes",))
    answer = await iserver.features({"RatingBox": {"product": "p"}, "Search": {"query": "shoes"}, "NewCheckout": {}})
    assert answer["session"]["tier"] == "gold"
    assert answer["Search"]["ranker"] == "best-shoes"
    await iserver.signal(feature="RatingBox", event="Rating", impressionId="imp-1", args={"stars": 4})
    await iserver.signal(event="AddToCart", args={"value": 1.5, "sku": "s"})
    assert CALLS == [
        ("session_fill", "dev-1"),
        ("fill", "RatingBox", {"product": "p"}, "gold"),
        ("fill", "Search", {"query": "shoes", "page": 0}, "gold"),
        ("new_variant", "Button copy", "Blue", ["RatingBox.actionButton"]),
        ("new_variant", "Ranking", None, []),
        ("on_impression", "RatingBox", ("imp-1",)),
        ("on_impression", "Search", ("imp-1",)),
        ("on_event", "RatingBox", "Rating", {"stars": 4}),
        ("on_event", None, "AddToCart", {"value": 1.5, "sku": "s", "qty": 1}),
    ]


async def test_memoized_features_are_not_filled_again(open_iserver):
    iserver = await open_iserver(plugins=(f"{HERE}:Notes",))
    for impression in ("imp-1", "imp-2"):
        answer = await iserver.features({"Search": {"query": "shoes"}}, impression=impression)
    assert answer["Search"]["ranker"] == "best-shoes"
    assert [call[0] for call in CALLS].count("fill") == 1
    assert [call[0] for call in CALLS].count("session_fill") == 1


async def test_what_plugins_filled_is_logged(open_iserver):
    iserver = await open_iserver(plugins=(f"{HERE}:Notes",))
    await iserver.features({"Search": {"query": "shoes"}})
    await iserver.engine.retire_all()
    (session,) = iserver.finished()
    assert session.plugin_outputs == {"tier": "gold"}
    assert session.records[0].plugin_outputs == {"ranker": "best-shoes"}


async def test_a_bot_is_served_and_not_logged(open_iserver):
    iserver = await open_iserver(plugins=(f"{HERE}:Bots",))
    for device in ("bot-1", "dev-1"):
        answer = await iserver.features({"ProductInfo": {}}, args={"deviceId": device})
        assert answer["ProductInfo"]["impressionCount"] == 1
    await iserver.engine.retire_all()
    assert [session.persistent_key for session in iserver.finished()] == ["dev-1"]


async def test_a_plugin_cannot_set_what_is_not_text(open_iserver):
    iserver = await open_iserver(plugins=(f"{HERE}:Garbled",))
    answer = await iserver.features({})
    assert answer["session"]["tier"] == "basic"


@pytest.mark.parametrize("plugin", ["Broken", "Slow"])
async def test_a_plugin_that_fails_changes_nothing(open_iserver, plugin):
    iserver = await open_iserver(plugins=(f"{HERE}:{plugin}",), plugin_timeout_ms=20)
    answer = await iserver.features({"Search": {"query": "shoes"}, "ProductInfo": {}})
    assert answer["session"]["tier"] == "basic"
    assert answer["Search"]["ranker"] == "none"
    assert answer["ProductInfo"]["impressionCount"] == 1
    assert await iserver.signal(event="AddToCart", args={"value": 1.5, "sku": "s"}) == 200
    metrics = await (await iserver.client.get("/metrics")).text()
    assert "causal_plugin_invokeFill_errors_total 1.0" in metrics
    assert "causal_plugin_invokeGenericFill_errors_total 2.0" in metrics


async def test_a_strict_server_makes_the_failure_an_error_of_the_feature(open_iserver):
    iserver = await open_iserver(plugins=(f"{HERE}:Broken",), strict_plugins=True)
    answer = await iserver.features([{"name": "RatingBox", "args": {"product": "p"}}])
    assert answer["errors"] == ["RatingBox: a plugin failed"]
    assert answer["impressions"][0]["tone"] == "CASUAL"


async def test_a_failing_plugin_does_not_stop_the_next(open_iserver):
    iserver = await open_iserver(plugins=(f"{HERE}:Broken", f"{HERE}:Notes"))
    answer = await iserver.features({"Search": {"query": "shoes"}})
    assert (answer["session"]["tier"], answer["Search"]["ranker"]) == ("gold", "best-shoes")


async def test_requests_of_one_session_wait_for_its_plugin_and_see_what_it_filled(open_iserver):
    iserver = await open_iserver(plugins=(f"{HERE}:Notes",))
    answers = await asyncio.gather(*(iserver.features({}, impression=f"imp-{n}") for n in range(10)))
    assert {answer["session"]["tier"] for answer in answers} == {"gold"}
    assert len({answer["session"]["sessionId"] for answer in answers}) == 1


async def test_a_session_that_ends_while_its_plugin_thinks_is_replaced(open_iserver):
    iserver = await open_iserver(plugins=(f"{HERE}:Slow",), plugin_timeout_ms=300)
    visit = asyncio.create_task(iserver.features({"ProductInfo": {}}))
    assert await asyncio.to_thread(WAITING.wait, 10)
    first = next(iter(iserver.engine.sessions)).id
    await iserver.engine.retire_all()
    answer = await visit
    assert answer["session"]["sessionId"] != first
    assert answer["ProductInfo"]["impressionCount"] == 1
    assert [session.id for session in iserver.engine.sessions] == [answer["session"]["sessionId"]]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nonsense", "expected package.module:Class"),
        ("no.such.module:Class", "ModuleNotFoundError"),
        (f"{HERE}:Nothing", "AttributeError"),
        (f"{HERE}:NotMade", "ValueError: out of order"),
    ],
)
async def test_a_plugin_that_cannot_be_made_stops_the_start(open_iserver, name, text):
    with pytest.raises(StartupError, match=text):
        await open_iserver(plugins=(name,))
