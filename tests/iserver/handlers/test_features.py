"""`POST features` (protocol §3): the worked examples byte for byte, then rule by rule."""

from __future__ import annotations

import orjson
import pytest

SESSION_ID = "5d0a2f0e-7f0c-4a7e-9a55-0d2a3c7f1b11"

BUTTON_COPY = {
    "id": "e1a7c0de-0000-4000-8000-000000000001",
    "name": "Button copy",
    "variant": {"id": "e1a7c0de-0000-4000-8000-0000000000b1", "name": "Blue"},
}
RANKING_CONTROL = {"id": "e1a7c0de-0000-4000-8000-000000000002", "name": "Ranking", "variant": None}


async def begin_session(iserver, **args):
    """A session that is 250 ms old."""
    iserver.ids.next_are(SESSION_ID)
    await iserver.features({}, impression=None, args={"deviceId": "dev-1", **args})
    iserver.clock.advance(ms=250)


# --- worked examples (§3.9) -----------------------------------------------------------------------


async def test_the_typescript_example_is_answered_byte_for_byte(iserver):
    await begin_session(iserver, channel="email", userAgent="UA/1", entryUrl="/p/1")
    answer = await iserver.post(
        "features",
        b'{"fetchOptions":[],"args":{"deviceId":"dev-1","channel":"email","userAgent":"UA/1",'
        b'"clientType":"typescript","ipAddress":"10.0.0.9","entryUrl":"/p/1"},"impressionId":"imp-1",'
        b'"requests":{"RatingBox":{"product":"iPhone"},"NewCheckout":{},"Search":{"query":"shoes"}}}',
    )
    assert await answer.read() == (
        b'{"session":{"environment":"prod","deviceId":"dev-1","arrivalId":null,'
        b'"sessionId":"5d0a2f0e-7f0c-4a7e-9a55-0d2a3c7f1b11","startTime":1700000000000,"userAgent":"UA/1",'
        b'"entryUrl":"/p/1","userId":null,"channel":"email","tier":"basic","lastFlushTime":1700000000000},'
        b'"RatingBox":{"impressionIds":["imp-1"],"impressions":[{"impressionId":"imp-1",'
        b'"impressionTime":1700000000250}],"firstTime":1700000000250,"impressionCount":1,"product":"iPhone",'
        b'"callToAction":"Rate this product!","actionButton":"Submit","tone":"CASUAL",'
        b'"_impressionId":"imp-1"},"NewCheckout":"OFF","Search":{"impressionIds":["imp-1"],'
        b'"impressions":[{"impressionId":"imp-1","impressionTime":1700000000250}],'
        b'"firstTime":1700000000250,"impressionCount":1,"query":"shoes","page":0,'
        b'"results":[{"id":"a","title":"A","score":0.5}],"ranker":"none","_impressionId":"imp-1"},'
        b'"_variants":[{"id":"e1a7c0de-0000-4000-8000-000000000001","name":"Button copy",'
        b'"variant":{"id":"e1a7c0de-0000-4000-8000-0000000000b1","name":"Blue"}},'
        b'{"id":"e1a7c0de-0000-4000-8000-000000000002","name":"Ranking","variant":null}],"registered":false}'
    )


async def test_the_java_example_is_answered_byte_for_byte(open_iserver, shop, tmp_path):
    shop["features"]["Search"]["controls"]["results"] = [{"value": {"external": "popularity"}}]
    shop["experiments"] = shop["experiments"][:1]
    config = tmp_path / "external.json"
    config.write_bytes(orjson.dumps(shop))
    iserver = await open_iserver(config_file=config)
    await begin_session(iserver, arrivalId="arr-1", channel="email", userAgent="UA/1")
    answer = await iserver.post(
        "features",
        b'{"args":{"deviceId":"dev-1","arrivalId":"arr-1","channel":"email"},"impressionId":"imp-1",'
        b'"reqs":[{"name":"RatingBox","args":{"product":"iPhone"}},{"name":"NewCheckout","args":{}},'
        b'{"name":"Search","args":{"query":"ext"}}]}',
    )
    assert await answer.read() == (
        b'{"session":{"environment":"prod","deviceId":"dev-1","arrivalId":"arr-1",'
        b'"sessionId":"5d0a2f0e-7f0c-4a7e-9a55-0d2a3c7f1b11","startTime":1700000000000,"userAgent":"UA/1",'
        b'"entryUrl":null,"userId":null,"channel":"email","tier":"basic","lastFlushTime":1700000000000},'
        b'"impressions":[{"impressionIds":["imp-1"],"impressions":[{"impressionId":"imp-1",'
        b'"impressionTime":1700000000250}],"firstTime":1700000000250,"impressionCount":1,"product":"iPhone",'
        b'"callToAction":"Rate this product!","actionButton":"Submit","tone":"CASUAL",'
        b'"_impressionId":"imp-1"},"OFF",{"impressionIds":["imp-1"],"impressions":[{"impressionId":"imp-1",'
        b'"impressionTime":1700000000250}],"firstTime":1700000000250,"impressionCount":1,"query":"ext",'
        b'"page":0,"ranker":"none","_external_results":"popularity","_impressionId":"imp-1"}],'
        b'"_variants":[{"id":"e1a7c0de-0000-4000-8000-000000000001","name":"Button copy",'
        b'"variant":{"id":"e1a7c0de-0000-4000-8000-0000000000b1","name":"Blue"}}],"registered":false}'
    )


async def test_ruby_sends_nulls_and_reads_flags(iserver):
    answer = await iserver.features(
        [{"name": "RatingBox", "args": {"product": "iPhone"}}],
        args={"deviceId": "dev-1", "arrivalId": None, "userId": None, "channel": "email"},
        fetchOptions=["flags"],
    )
    assert answer["_flags"] == {"RatingBox": True, "ProductInfo": True, "NewCheckout": False, "Search": True}


async def test_a_cache_fill_is_answered_byte_for_byte(iserver):
    await begin_session(iserver, channel="email")
    iserver.ids.next_are("c0ffee00-0000-4000-8000-000000000001")
    answer = await iserver.post(
        "features",
        b'{"fetchOptions":[],"args":{"deviceId":"dev-1","channel":"email"},'
        b'"requests":{"RatingBox":{"product":"iPhone"}}}',
    )
    assert (await answer.read()).partition(b'"RatingBox":')[2] == (
        b'{"impressionCount":0,"product":"iPhone","callToAction":"Rate this product!",'
        b'"actionButton":"Submit","tone":"CASUAL","_impressionId":"c0ffee00-0000-4000-8000-000000000001",'
        b'"_variants":[{"id":"e1a7c0de-0000-4000-8000-000000000001","name":"Button copy",'
        b'"variant":{"id":"e1a7c0de-0000-4000-8000-0000000000b1","name":"Blue"}}]},"_variants":[],'
        b'"registered":false}'
    )


@pytest.mark.parametrize(
    ("form", "keys"),
    [
        (b'"requests":{}', ["session", "_variants", "registered"]),
        (b'"reqs":[]', ["session", "impressions", "_variants", "registered"]),
        (b'"version":2', ["session", "impressions", "_variants", "registered"]),
    ],
)
async def test_a_session_only_request_creates_the_session(iserver, form, keys):
    answer = await iserver.post("features", b'{"args":{"deviceId":"dev-1"},"impressionId":"imp-4",' + form + b"}")
    assert list(orjson.loads(await answer.read())) == keys
    assert len(iserver.engine.sessions) == 1


async def test_an_unknown_feature_is_no_error(iserver):
    assert (await iserver.features({"Future": {}}))["Future"] == "UNKNOWN"
    answer = await iserver.features([{"name": "Future"}])
    assert answer["impressions"] == ["UNKNOWN"]
    assert "errors" not in answer


async def test_the_errors_example_in_map_form_is_answered_byte_for_byte(iserver):
    await begin_session(iserver)
    answer = await iserver.post(
        "features",
        b'{"args":{"deviceId":"dev-1"},"impressionId":"imp-5","requests":{"RatingBox":{},"ProductInfo":{}}}',
    )
    assert (await answer.read()).partition(b'},"RatingBox":')[2] == (
        b'{"callToAction":"Rate this product!","actionButton":"Send Review","tone":"CASUAL"},'
        b'"ProductInfo":{"impressionIds":["imp-5"],"impressions":[{"impressionId":"imp-5",'
        b'"impressionTime":1700000000250}],"firstTime":1700000000250,"impressionCount":1,'
        b'"_impressionId":"imp-5"},"errors":{"RatingBox":"RatingBox: missing required argument \'product\'"},'
        b'"_variants":[],"registered":false}'
    )


async def test_the_errors_example_in_array_form_is_answered_byte_for_byte(iserver):
    await begin_session(iserver)
    answer = await iserver.post(
        "features",
        b'{"args":{"deviceId":"dev-1"},"impressionId":"imp-5","reqs":[{"name":"RatingBox"},{"name":"ProductInfo"}]}',
    )
    assert (await answer.read()).partition(b'},"impressions":')[2] == (
        b'[{"callToAction":"Rate this product!","actionButton":"Send Review","tone":"CASUAL"},'
        b'{"impressionIds":["imp-5"],"impressions":[{"impressionId":"imp-5","impressionTime":1700000000250}],'
        b'"firstTime":1700000000250,"impressionCount":1,"_impressionId":"imp-5"}],'
        b'"errors":["RatingBox: missing required argument \'product\'",null],"_variants":[],"registered":false}'
    )


# --- the two forms --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["features", "feature", "features/", "/features", "/feature//"])
async def test_both_names_and_sloppy_paths_are_served_alike(iserver, path):
    answer = await iserver.post(path, {"args": {"deviceId": "dev-1"}, "requests": {"ProductInfo": {}}})
    assert answer.status == 200
    assert "ProductInfo" in orjson.loads(await answer.read())


async def test_an_empty_prefix_serves_at_the_root(open_iserver):
    iserver = await open_iserver(prefix="")
    assert "ProductInfo" in await iserver.features({"ProductInfo": {}})


async def test_flags_follow_the_errors_and_come_before_the_variants(iserver):
    answer = await iserver.features([{"name": "RatingBox"}], fetchOptions=["flags"])
    assert list(answer) == ["session", "impressions", "errors", "_flags", "_variants", "registered"]


async def test_the_array_form_may_ask_for_a_feature_twice(iserver):
    products = ["iPhone", "Pixel", "iPhone"]
    answer = await iserver.features([{"name": "RatingBox", "args": {"product": item}} for item in products])
    assert [item["product"] for item in answer["impressions"]] == products
    assert answer["impressions"][0]["impressionCount"] == answer["impressions"][2]["impressionCount"] == 1


async def test_the_content_type_of_a_request_is_never_looked_at(iserver):
    answer = await iserver.post(
        "features", {"args": {"deviceId": "dev-1"}}, headers={"Content-Type": "image/png", "Accept": "text/plain"}
    )
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"


# --- impressions and memoization ------------------------------------------------------------------


async def test_the_same_impression_is_counted_once(iserver):
    for _ in range(2):
        answer = await iserver.features({"RatingBox": {"product": "iPhone"}})
        iserver.clock.advance(seconds=1)
    assert answer["RatingBox"]["impressionCount"] == 1
    assert answer["RatingBox"]["impressions"] == [{"impressionId": "imp-1", "impressionTime": 1700000000000}]


async def test_equal_args_share_one_record_that_counts_its_impressions(iserver):
    await iserver.features({"Search": {"query": "shoes"}}, impression="imp-1")
    iserver.clock.advance(seconds=1)
    second = await iserver.features({"Search": {"query": "shoes", "page": 0}}, impression="imp-2")
    assert second["Search"]["impressionCount"] == 2
    assert second["Search"]["impressionIds"] == ["imp-2"]
    assert second["Search"]["firstTime"] == 1700000000000
    await iserver.engine.retire_all()
    (session,) = iserver.finished()
    (record,) = session.records
    assert [impression.id for impression in record.impressions] == ["imp-1", "imp-2"]


async def test_other_args_make_another_record(iserver):
    await iserver.features({"Search": {"query": "shoes"}})
    answer = await iserver.features({"Search": {"query": "socks"}})
    assert answer["Search"]["impressionCount"] == 1


async def test_a_cache_fill_is_neither_counted_nor_logged(iserver):
    await iserver.features({"RatingBox": {"product": "iPhone"}}, impression=None)
    await iserver.engine.retire_all()
    (session,) = iserver.finished()
    assert session.records == ()
    assert session.variants == ()


async def test_variants_of_the_whole_session_are_told_in_every_answer(iserver):
    await iserver.features({"RatingBox": {"product": "iPhone"}})
    answer = await iserver.features({"Search": {"query": "shoes"}}, impression="imp-2")
    assert answer["_variants"] == [BUTTON_COPY, RANKING_CONTROL]


async def test_features_work_without_a_feature_being_configured(iserver):
    answer = await iserver.features({"ProductInfo": {}})
    assert answer["ProductInfo"]["_impressionId"] == "imp-1"


# --- the session ----------------------------------------------------------------------------------


async def test_user_agent_and_referer_stand_in_for_the_args(iserver):
    body = {"args": {"deviceId": "dev-1"}, "requests": {}}
    answer = await iserver.post("features", body, headers={"User-Agent": "Ruby", "Referer": "http://shop/p/1"})
    session = orjson.loads(await answer.read())["session"]
    assert (session["userAgent"], session["entryUrl"]) == ("Ruby", "http://shop/p/1")


async def test_a_key_may_come_in_a_header_when_the_body_has_none(iserver):
    headers = {"x-causal-deviceid": "dev-9", "X-Causal-arrivalId": "null"}
    answer = await iserver.post("features", {"args": {}, "requests": {}}, headers=headers)
    session = orjson.loads(await answer.read())["session"]
    assert (session["deviceId"], session["arrivalId"]) == ("dev-9", None)


async def test_the_first_value_of_a_fixed_arg_wins(iserver):
    await iserver.features({}, args={"deviceId": "dev-1", "channel": "email"})
    answer = await iserver.features({}, args={"deviceId": "dev-1", "channel": "search"})
    assert answer["session"]["channel"] == "email"


async def test_a_changed_mutable_arg_takes_effect_and_null_does_not_unset_it(iserver):
    await iserver.features({}, args={"deviceId": "dev-1", "userId": "u-1"})
    answer = await iserver.features({}, args={"deviceId": "dev-1", "userId": "u-2"})
    assert answer["session"]["userId"] == "u-2"
    answer = await iserver.features({}, args={"deviceId": "dev-1", "userId": None})
    assert answer["session"]["userId"] == "u-2"


async def test_another_session_key_begins_another_session(iserver):
    first = await iserver.features({}, args={"deviceId": "dev-1", "arrivalId": "arr-1"})
    second = await iserver.features({}, args={"deviceId": "dev-1", "arrivalId": "arr-2"})
    assert first["session"]["sessionId"] != second["session"]["sessionId"]
    assert len(iserver.engine.sessions) == 1
    assert await iserver.signal(id={"arrivalId": "arr-1"}) == 410


async def test_a_session_adopts_a_key_it_did_not_have(iserver):
    first = await iserver.features({}, args={"deviceId": "dev-1"})
    second = await iserver.features({}, args={"deviceId": "dev-1", "arrivalId": "arr-1"})
    assert first["session"]["sessionId"] == second["session"]["sessionId"]
    assert await iserver.signal(id={"arrivalId": "arr-1"}) == 200


async def test_a_session_key_alone_finds_the_session(iserver):
    first = await iserver.features({}, args={"deviceId": "dev-1", "arrivalId": "arr-1"})
    second = await iserver.features({}, args={"arrivalId": "arr-1"})
    assert second["session"]["sessionId"] == first["session"]["sessionId"]


async def test_half_an_hour_of_silence_ends_a_session(iserver):
    first = await iserver.features({})
    iserver.clock.advance(minutes=29)
    assert (await iserver.features({}))["session"]["sessionId"] == first["session"]["sessionId"]
    iserver.clock.advance(minutes=30)
    assert (await iserver.features({}))["session"]["sessionId"] != first["session"]["sessionId"]


# --- refusals (appendix A) ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{", "malformed JSON"),
        (b"[]", "expected an object"),
        (b'{"args":{"deviceId":"d","x":NaN}}', "malformed JSON"),
        (b'{"args":[]}', "expected an object for 'args', found an array"),
        (b'{"args":{"deviceId":"d"},"reqs":{}}', "expected an array for 'reqs', found an object"),
        (b'{"args":{"deviceId":"d"},"requests":[]}', "expected an object for 'requests', found an array"),
        (b'{"args":{"deviceId":"d"},"reqs":[1]}', "'reqs[0]', found an integer"),
        (b'{"args":{"deviceId":"d"},"reqs":[{}]}', "'reqs[0].name', found nothing"),
        (b'{"args":{"deviceId":"d"},"requests":{"RatingBox":3}}', "the args of 'RatingBox', found an integer"),
        (b'{"args":{"deviceId":"d"},"requests":{},"reqs":[]}', "exclude each other"),
        (b'{"args":{"deviceId":"d"},"impressionId":7}', "'impressionId', found an integer"),
        (b'{"args":{}}', "expected 'deviceId'"),
        (b'{"args":{"deviceId":null}}', "expected 'deviceId'"),
        (b'{"args":{"deviceId":7}}', "Expecting a string for deviceId"),
        (b'{"args":{"deviceId":"d","channel":7}}', "Expecting a string for channel"),
        (b'{"args":{"deviceId":"d","channel":null}}', "channel"),
    ],
)
async def test_a_malformed_request_is_told_what_is_wrong(iserver, body, text):
    answer = await iserver.post("features", body)
    assert answer.status == 400
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert text in await answer.text()
    assert len(iserver.engine.sessions) == 0


async def test_a_session_key_without_a_session_is_gone(iserver):
    assert (await iserver.post("features", {"args": {"arrivalId": "arr-1"}})).status == 410


async def test_a_body_over_one_mebibyte_is_too_large(iserver):
    answer = await iserver.post("features", b'{"args":{"deviceId":"' + b"x" * 2**20 + b'"}}')
    assert answer.status == 413


@pytest.mark.parametrize(
    ("name", "args", "text"),
    [
        ("RatingBox", {"product": 7}, "RatingBox: Expecting a string for product"),
        ("Search", {"query": "q", "page": 1.0}, "Search: Expecting an integer for page"),
        ("Search", {"query": "q", "page": True}, "Search: Expecting an integer for page"),
        ("Search", {"query": None}, "Search: Expecting a string for query"),
    ],
)
async def test_a_wrong_arg_is_an_error_of_its_feature_alone(iserver, name, args, text):
    answer = await iserver.features({name: args, "ProductInfo": {}})
    assert answer["errors"] == {name: text}
    assert "_impressionId" not in answer[name]
    assert answer["ProductInfo"]["impressionCount"] == 1


# --- defaults of plugin outputs -------------------------------------------------------------------


async def test_the_default_of_a_plugin_output_is_logged_when_no_plugin_fills_it(iserver):
    await iserver.features({"Search": {"query": "shoes"}})
    await iserver.engine.retire_all()
    (session,) = iserver.finished()
    assert session.records[0].plugin_outputs == {"ranker": "none"}


@pytest.mark.parametrize("place", ["gate", "control"])
async def test_an_audience_sees_the_default_of_a_plugin_output(open_iserver, shop, tmp_path, place):
    rule = {"field": "feature.ranker", "op": "eq", "value": "none"}
    shop["audiences"].append({"id": "aud-unranked", "name": "unranked", "definition": rule})
    shop["experiments"] = []
    rollout = {"audienceId": "aud-unranked", "value": {"constant": [{"id": "b", "title": "B", "score": 1.5}]}}
    shop["features"]["Search"] = {
        "gate": {"audienceId": "aud-unranked"} if place == "gate" else {},
        "controls": {"results": [rollout]},
    }
    config = tmp_path / "audience.json"
    config.write_bytes(orjson.dumps(shop))
    iserver = await open_iserver(config_file=config)
    answer = await iserver.features({"Search": {"query": "shoes"}})
    assert answer["Search"]["results"][0]["id"] == "b"
