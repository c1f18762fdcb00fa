"""`POST signal` (protocol §4)."""

from __future__ import annotations

import pytest


async def shown(iserver, *, product="iPhone", impression="imp-1"):
    """A session in which the rating box was shown."""
    return await iserver.features({"RatingBox": {"product": product}}, impression=impression)


async def logged(iserver):
    """What is logged of the one session, which ends now."""
    await iserver.engine.retire_all()
    (session,) = iserver.finished()
    return session


# --- events (§4.1) --------------------------------------------------------------------------------


async def test_an_event_is_stored_with_its_impression_and_the_servers_time(iserver):
    await shown(iserver)
    iserver.clock.advance(seconds=5)
    iserver.ids.next_are("ev-1")
    answer = await iserver.post(
        "signal",
        b'{"id":{"deviceId":"dev-1"},"feature":"RatingBox","event":"Rating","impressionId":"imp-1","args":{"stars":4}}',
    )
    assert (answer.status, await answer.read()) == (200, b"")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    (event,) = (await logged(iserver)).records[0].events
    assert (event.name, event.time_ms, event.impression_id) == ("Rating", 1_700_000_005_000, "imp-1")
    assert (event.event_id, event.fields) == ("ev-1", {"stars": 4})


@pytest.mark.parametrize("feature", [{}, {"feature": "session"}, {"feature": None}])
async def test_a_session_event_belongs_to_the_session(iserver, feature):
    await iserver.features({})
    status = await iserver.signal(event="AddToCart", args={"value": 9.5, "sku": "s1"}, **feature)
    assert status == 200
    session = await logged(iserver)
    (event,) = session.events
    assert event.fields == {"value": 9.5, "sku": "s1", "qty": 1}
    assert event.impression_id == session.session_id


async def test_an_event_may_name_a_cache_fill(iserver):
    answer = await shown(iserver, impression=None)
    filled = answer["RatingBox"]["_impressionId"]
    rating = {"feature": "RatingBox", "event": "Rating", "impressionId": filled, "args": {"stars": 4}}
    assert await iserver.signal(**rating) == 200


async def test_an_event_goes_to_the_newest_record_that_holds_the_impression(iserver):
    await shown(iserver, product="iPhone")
    await shown(iserver, product="Pixel")
    await iserver.signal(feature="RatingBox", event="Rating", impressionId="imp-1", args={"stars": 4})
    records = (await logged(iserver)).records
    assert [(record.args["product"], len(record.events)) for record in records] == [("iPhone", 0), ("Pixel", 1)]


async def test_a_feature_that_was_switched_off_still_takes_events(iserver, open_iserver, shop, tmp_path):
    await shown(iserver)
    shop["features"]["RatingBox"]["gate"] = {"active": False}
    await iserver.engine.apply(configured(shop))
    assert (await shown(iserver, impression="imp-2"))["RatingBox"] == "OFF"
    assert await iserver.signal(feature="RatingBox", event="Rating", impressionId="imp-1", args={"stars": 4}) == 200


def configured(shop):
    import orjson

    from iserver.configuration.compiled import configure
    from iserver.document import read_document
    from iserver.fdl import compile_program

    document = read_document(orjson.dumps(shop))
    return configure(document, compile_program(document.fdl))


@pytest.mark.parametrize(
    ("signal", "status", "text"),
    [
        ({"feature": "Nothing", "event": "Rating"}, 404, "unknown feature 'Nothing'"),
        ({"feature": "RatingBox", "event": "Nothing"}, 404, "RatingBox: unknown event 'Nothing'"),
        ({"event": "Nothing"}, 404, "session: unknown event 'Nothing'"),
        ({"feature": "RatingBox", "event": "Rating", "impressionId": "imp-9"}, 404, "impression 'imp-9' not found"),
        ({"feature": "RatingBox", "event": "Rating", "impressionId": None}, 404, "impression '' not found"),
        (
            {"feature": "RatingBox", "event": "Rating", "impressionId": "imp-1"},
            400,
            "missing required argument 'stars'",
        ),
        (
            {"feature": "RatingBox", "event": "Rating", "impressionId": "imp-1", "args": {"stars": 4.0}},
            400,
            "Expecting an integer for stars",
        ),
        ({"event": 7}, 400, "expected a string for 'event'"),
        ({"event": "AddToCart", "args": []}, 400, "expected an object for 'args'"),
        ({"event": "AddToCart", "args": {"value": "9.5", "sku": "s"}}, 400, "Expecting float for value"),
    ],
)
async def test_an_event_that_cannot_be_stored_is_told_why(iserver, signal, status, text):
    await shown(iserver)
    answer = await iserver.post("signal", {"id": {"deviceId": "dev-1"}, **signal})
    assert answer.status == status
    assert text in await answer.text()
    assert (await logged(iserver)).records[0].events == ()


async def test_a_missing_impression_may_be_ignored(iserver):
    await shown(iserver)
    signal = {"feature": "RatingBox", "event": "Rating", "impressionId": "imp-9", "args": {"stars": 4}}
    assert await iserver.signal(options={"ignore_missing_imp": True}, **signal) == 200
    assert (await logged(iserver)).records[0].events == ()


# --- abstract events, as Java and Ruby clients signal them ------------------------------------------


@pytest.fixture
async def checkout(open_iserver, shop, tmp_path):
    """The running example with the new checkout for everybody."""
    import orjson

    shop["features"]["NewCheckout"]["gate"]["percent"] = 100
    config = tmp_path / "checkout.json"
    config.write_bytes(orjson.dumps(shop))
    iserver = await open_iserver(config_file=config)
    await iserver.features({"NewCheckout": {}, "RatingBox": {"product": "p"}})
    return iserver


async def test_an_abstract_event_is_the_event_that_imports_it_of_what_was_shown(checkout):
    assert await checkout.signal(abstractEvent="Revenue", impressionId="imp-1", args={"value": 9.5}) == 200
    (record,) = [record for record in (await logged(checkout)).records if record.feature == "NewCheckout"]
    assert [(event.name, event.fields) for event in record.events] == [("Purchase", {"value": 9.5})]


@pytest.mark.parametrize("impression", [None, "session id"])
async def test_an_abstract_event_without_an_impression_is_one_of_the_session(checkout, impression):
    if impression:
        impression = (await checkout.features({}))["session"]["sessionId"]
    args = {"value": 9.5, "sku": "s1"}
    assert await checkout.signal(abstractEvent="Revenue", impressionId=impression, args=args) == 200
    (event,) = (await logged(checkout)).events
    assert (event.name, event.fields) == ("AddToCart", {"value": 9.5, "sku": "s1", "qty": 1})


@pytest.mark.parametrize(
    ("signal", "status", "text"),
    [
        ({"abstractEvent": "Nothing"}, 404, "unknown abstract event 'Nothing'"),
        ({"abstractEvent": "Revenue", "impressionId": "imp-9"}, 404, "Revenue: impression 'imp-9' not found"),
        ({"abstractEvent": "Revenue", "impressionId": "imp-1"}, 400, "missing required argument 'value'"),
        ({"abstractEvent": "Revenue", "args": {"value": 9.5}}, 400, "missing required argument 'sku'"),
        ({"abstractEvent": 7}, 400, "expected a string for 'abstractEvent'"),
    ],
)
async def test_an_abstract_event_that_cannot_be_stored_is_told_why(checkout, signal, status, text):
    answer = await checkout.post("signal", {"id": {"deviceId": "dev-1"}, **signal})
    assert answer.status == status
    assert text in await answer.text()


# --- mutations (§4.2) -----------------------------------------------------------------------------


async def test_a_mutation_keeps_every_value_with_its_time(iserver):
    await iserver.features({}, args={"deviceId": "dev-1", "userId": "u-1"})
    iserver.clock.advance(seconds=10)
    assert await iserver.signal(mutate="userId", value="u-7") == 200
    iserver.clock.advance(seconds=10)
    assert await iserver.signal(mutate="userId", value="u-7") == 200
    assert await iserver.signal(mutate="userId", value=None) == 200
    iserver.clock.advance(seconds=10)
    history = (await logged(iserver)).histories["userId"]
    assert [(entry.start_ms - 1_700_000_000_000, entry.value) for entry in history] == [
        (0, "u-1"),
        (10_000, "u-7"),
        (20_000, None),
    ]
    assert [entry.end_ms - 1_700_000_000_000 for entry in history] == [10_000, 20_000, 30_000]


@pytest.mark.parametrize(
    ("name", "value", "status"), [("nothing", "x", 404), ("channel", "x", 400), ("userId", 7, 400), (7, "x", 400)]
)
async def test_a_mutation_that_is_not_possible_is_refused(iserver, name, value, status):
    await iserver.features({})
    assert await iserver.signal(mutate=name, value=value) == status


# --- impressions of cached outputs (§4.3) ---------------------------------------------------------


async def test_a_cached_copy_counts_when_it_is_really_shown(iserver):
    answer = await shown(iserver, impression=None)
    filled = answer["RatingBox"]["_impressionId"]
    iserver.clock.advance(seconds=1)
    for _ in range(2):
        cached = {"impression": filled, "newImpression": "imp-2"}
        assert await iserver.signal(impressions={"RatingBox": cached}) == 200
    session = await logged(iserver)
    assert [impression.id for impression in session.records[0].impressions] == ["imp-2"]
    assert session.variants == ("e1a7c0de-0000-4000-8000-0000000000b1",)


async def test_entries_without_an_impression_are_skipped(iserver):
    await shown(iserver)
    entries = {"NewCheckout": {"newImpression": "imp-2"}, "RatingBox": {"impression": "imp-1"}, "Search": {}}
    assert await iserver.signal(impressions=entries) == 200


async def test_known_impressions_are_applied_beside_unknown_ones(iserver):
    await shown(iserver)
    entries = {
        "Search": {"impression": "imp-1", "newImpression": "imp-2"},
        "Nothing": {"impression": "imp-1", "newImpression": "imp-2"},
        "RatingBox": {"impression": "imp-1", "newImpression": "imp-2"},
    }
    answer = await iserver.post("signal", {"id": {"deviceId": "dev-1"}, "impressions": entries})
    assert answer.status == 404
    assert "Search, Nothing" in await answer.text()
    assert [impression.id for impression in (await logged(iserver)).records[0].impressions] == ["imp-1", "imp-2"]


async def test_unknown_impressions_may_be_ignored(iserver):
    await shown(iserver)
    entries = {"Search": {"impression": "imp-1", "newImpression": "imp-2"}}
    assert await iserver.signal(impressions=entries, options={"ignore_missing_imp": True}) == 200


# --- keep-alive (§4.4) ----------------------------------------------------------------------------


@pytest.mark.parametrize("body", [{"id": {"deviceId": "dev-1", "channel": "email", "page": 7}}, {"deviceId": "dev-1"}])
async def test_a_keep_alive_postpones_expiry(iserver, body):
    await iserver.features({})
    iserver.clock.advance(minutes=20)
    assert (await iserver.post("signal", body)).status == 200
    iserver.clock.advance(minutes=20)
    assert len([s for s in iserver.engine.sessions if iserver.engine.sessions.is_alive(s, iserver.clock())]) == 1


async def test_a_refused_signal_is_no_activity(iserver):
    await iserver.features({})
    iserver.clock.advance(minutes=20)
    await iserver.signal(event="Nothing")
    iserver.clock.advance(minutes=20)
    assert await iserver.signal() == 410


# --- sessions -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("id_", "status"),
    [
        ({"deviceId": "dev-2"}, 410),
        ({"deviceId": "dev-1", "arrivalId": "arr-2"}, 410),
        ({"arrivalId": "arr-1", "deviceId": None}, 200),
        ({}, 400),
        ({"deviceId": 7}, 400),
        ([], 400),
    ],
)
async def test_a_signal_finds_its_session_by_any_key_that_does_not_conflict(iserver, id_, status):
    await iserver.features({}, args={"deviceId": "dev-1", "arrivalId": "arr-1"})
    assert await iserver.signal(id=id_) == status


async def test_a_signal_for_an_expired_session_is_gone(iserver):
    await iserver.features({})
    iserver.clock.advance(minutes=31)
    answer = await iserver.post("signal", {"id": {"deviceId": "dev-1"}})
    assert answer.status == 410
    assert "expired" in await answer.text()


async def test_several_kinds_in_one_signal_are_all_carried_out(iserver):
    await shown(iserver)
    status = await iserver.signal(
        mutate="userId",
        value="u-1",
        impressions={"RatingBox": {"impression": "imp-1", "newImpression": "imp-2"}},
        feature="RatingBox",
        event="Rating",
        impressionId="imp-2",
        args={"stars": 5},
    )
    assert status == 200
    session = await logged(iserver)
    assert session.args["userId"] == "u-1"
    assert session.records[0].events[0].impression_id == "imp-2"
