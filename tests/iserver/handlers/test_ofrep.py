"""The OpenFeature Remote Evaluation Protocol."""

from __future__ import annotations

import orjson
import pytest

from iserver.errors import NotStoredError

CONTEXT = {"targetingKey": "dev-1", "channel": "email", "product": "iPhone", "query": "shoes"}


async def evaluate(iserver, key=None, headers=None, body=None, **context):
    path = "/ofrep/v1/evaluate/flags" + ("" if key is None else f"/{key}")
    data = orjson.dumps({"context": {**CONTEXT, **context}}) if body is None else body
    return await iserver.client.post(path, data=data, headers=headers)


async def logged(iserver):
    await iserver.engine.retire_all()
    (session,) = iserver.finished()
    return {record.feature: [item.id for item in record.impressions] for record in session.records}


async def test_a_feature_is_a_flag_that_is_on_or_off(iserver):
    answer = await evaluate(iserver, "RatingBox")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert await answer.json() == {
        "key": "RatingBox",
        "value": True,
        "variant": "on",
        "reason": "STATIC",
        "metadata": {},
    }
    assert (await (await evaluate(iserver, "NewCheckout")).json())["reason"] == "SPLIT"


@pytest.mark.parametrize("key", ["RatingBox", "RatingBox.tone"])
async def test_only_a_feature_that_is_switched_off_is_disabled(open_iserver, shop, tmp_path, key):
    shop["features"]["RatingBox"]["gate"] = {"active": False, "percent": 50}
    config = tmp_path / "off.json"
    config.write_bytes(orjson.dumps(shop))
    iserver = await open_iserver(config_file=config)
    assert (await (await evaluate(iserver, key)).json())["reason"] == "DISABLED"


async def test_an_output_is_a_flag_with_its_value_and_the_variant_behind_it(iserver):
    assert await (await evaluate(iserver, "RatingBox.actionButton")).json() == {
        "key": "RatingBox.actionButton",
        "value": "Submit",
        "variant": "Blue",
        "reason": "SPLIT",
        "metadata": {"experiment Button copy": "Blue"},
    }
    results = await (await evaluate(iserver, "Search.results")).json()
    assert (results["value"], results["variant"]) == ([{"id": "a", "title": "A", "score": 0.5}], "control")


@pytest.mark.parametrize(
    ("conditions", "channel", "expected"),
    [
        ({"audienceId": "aud-paid"}, "paid", ("FORMAL", "TARGETING_MATCH")),
        ({"audienceId": "aud-paid"}, "email", ("CASUAL", "TARGETING_MATCH")),
        ({"percent": 99.999}, "email", ("FORMAL", "SPLIT")),
        ({"percent": 0.001}, "email", ("CASUAL", "SPLIT")),
        ({}, "email", ("FORMAL", "STATIC")),
    ],
)
@pytest.mark.parametrize("is_gated", [True, False])
async def test_the_reason_says_what_decided(open_iserver, shop, tmp_path, conditions, channel, expected, is_gated):
    """An audience or a percentage decides also for those whom it leaves out."""
    shop["experiments"] = []
    shop["qa"] = {}
    default = {"value": {"constant": "CASUAL"}}
    shop["features"]["RatingBox"] = {
        "controls": {"tone": [{"value": {"constant": "FORMAL"}, **conditions}, default]},
        **({"gate": conditions} if is_gated else {}),
    }
    config = tmp_path / "reasons.json"
    config.write_bytes(orjson.dumps(shop))
    iserver = await open_iserver(config_file=config)
    output = await (await evaluate(iserver, "RatingBox.tone", channel=channel)).json()
    feature = await (await evaluate(iserver, "RatingBox", channel=channel)).json()
    assert (output["value"], output["reason"]) == expected
    assert (feature["value"], feature["reason"]) == (
        (expected[0] == "FORMAL", expected[1]) if is_gated else (True, "STATIC")
    )


async def test_an_output_that_the_experiment_does_not_set_is_not_split(iserver):
    answer = await (await evaluate(iserver, "RatingBox.callToAction")).json()
    assert (answer["variant"], answer["reason"], answer["metadata"]) == ("control", "STATIC", {})


async def test_an_experiment_that_switches_a_feature_decides_by_chance(open_iserver, shop, tmp_path):
    switch = {"feature": "NewCheckout", "active": True}
    shop["experiments"][0]["variants"][1]["values"].append(switch)
    config = tmp_path / "switch.json"
    config.write_bytes(orjson.dumps(shop))
    iserver = await open_iserver(config_file=config)
    flags = [await (await evaluate(iserver, "NewCheckout", targetingKey=f"dev-{n}")).json() for n in range(20)]
    assert {(flag["value"], flag["reason"]) for flag in flags} == {(True, "SPLIT"), (False, "SPLIT")}


async def test_an_evaluation_is_an_impression_with_the_id_that_the_context_names(iserver):
    await evaluate(iserver, "RatingBox", impressionId="imp-1")
    await evaluate(iserver, "RatingBox.tone", impressionId="imp-1")
    await evaluate(iserver, "RatingBox.tone")
    impressions = (await logged(iserver))["RatingBox"]
    assert (len(impressions), impressions[0]) == (2, "imp-1")


async def test_an_evaluation_need_not_be_an_impression(iserver):
    answer = await evaluate(iserver, "RatingBox.actionButton", recordImpression=False)
    assert (await answer.json())["variant"] == "Blue"
    assert await logged(iserver) == {}


async def test_all_flags_at_once_are_one_impression_a_feature_however_often_they_are_asked_for(iserver):
    for _ in range(3):
        answer = await evaluate(iserver)
    flags = {flag["key"]: flag.get("value") for flag in (await answer.json())["flags"]}
    assert flags["RatingBox"] is True
    assert flags["NewCheckout"] is False
    assert flags["RatingBox.actionButton"] == "Submit"
    assert "Search.dwell" not in flags
    assert await logged(iserver) == {"RatingBox": ["ofrep"], "ProductInfo": ["ofrep"], "Search": ["ofrep"]}


async def test_unchanged_flags_are_not_sent_again(iserver):
    tag = (await evaluate(iserver)).headers["ETag"]
    again = await evaluate(iserver, headers={"If-None-Match": tag})
    assert (again.status, again.headers["ETag"], await again.read()) == (304, tag, b"")
    other = await evaluate(iserver, headers={"If-None-Match": tag}, targetingKey="dev-9", channel="paid")
    assert other.status == 200


@pytest.mark.parametrize("known", ["W/{}", '"other", {}'])
async def test_a_tag_is_recognised_as_proxies_pass_it_on(iserver, known):
    tag = (await evaluate(iserver)).headers["ETag"]
    again = await evaluate(iserver, headers={"If-None-Match": known.format(tag)})
    assert again.status == 304


async def test_an_output_that_the_application_computes_leaves_the_default_of_the_code(open_iserver, shop, tmp_path):
    shop["features"]["Search"]["controls"]["results"] = [{"value": {"external": "popularity"}}]
    config = tmp_path / "external.json"
    config.write_bytes(orjson.dumps(shop))
    iserver = await open_iserver(config_file=config)
    answer = await evaluate(iserver, "Search.results")
    assert answer.status == 200
    assert await answer.json() == {
        "key": "Search.results",
        "variant": "control",
        "reason": "SPLIT",
        "metadata": {"experiment Ranking": "control"},
    }


async def test_every_flag_has_what_the_protocol_demands(iserver):
    flags = (await (await evaluate(iserver)).json())["flags"]
    for flag in flags:
        assert set(flag) <= {"key", "value", "variant", "reason", "metadata"}
        assert {"key", "reason", "variant"} <= set(flag)
        assert flag["reason"] in {"STATIC", "TARGETING_MATCH", "SPLIT", "DISABLED", "UNKNOWN"}
        assert all(isinstance(value, str | int | float | bool) for value in flag["metadata"].values())
        assert flag == {**await (await evaluate(iserver, flag["key"])).json()}


async def test_a_session_that_cannot_be_stored_asks_to_come_back(iserver, monkeypatch):
    async def fail(*_):
        raise NotStoredError("the disk is full")

    monkeypatch.setattr(iserver.components.store, "store", fail)
    answer = await evaluate(iserver, "RatingBox")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert (await answer.json())["errorDetails"] == "the disk is full"


async def test_a_bug_has_the_protocols_form_too(iserver, monkeypatch):
    async def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(iserver.engine, "features", fail)
    answer = await evaluate(iserver, "RatingBox")
    assert answer.status == 500
    assert "internal error, request id" in (await answer.json())["errorDetails"]


async def test_a_wrong_method_has_the_protocols_form_too(iserver):
    answer = await iserver.client.get("/ofrep/v1/evaluate/flags")
    assert (answer.status, answer.headers["Allow"]) == (405, "POST")
    assert (await answer.json())["errorCode"] == "GENERAL"


async def test_a_flag_whose_args_are_missing_is_an_error_of_that_flag_alone(iserver):
    answer = await evaluate(iserver, body=orjson.dumps({"context": {"targetingKey": "dev-1"}}))
    flags = {flag["key"]: flag for flag in (await answer.json())["flags"]}
    assert flags["RatingBox"]["errorCode"] == "INVALID_CONTEXT"
    assert "missing required argument 'product'" in flags["RatingBox"]["errorDetails"]
    assert flags["ProductInfo"]["value"] is True


@pytest.mark.parametrize(
    ("key", "body", "status", "code"),
    [
        ("Nothing", None, 404, "FLAG_NOT_FOUND"),
        ("RatingBox.nothing", None, 404, "FLAG_NOT_FOUND"),
        ("RatingBox", b"{", 400, "PARSE_ERROR"),
        ("RatingBox", b"[]", 400, "PARSE_ERROR"),
        ("RatingBox", b"{}", 400, "TARGETING_KEY_MISSING"),
        ("RatingBox", b'{"context":{"targetingKey":""}}', 400, "TARGETING_KEY_MISSING"),
        ("RatingBox", b'{"context":7}', 400, "INVALID_CONTEXT"),
        ("RatingBox", b'{"context":{"targetingKey":7}}', 400, "INVALID_CONTEXT"),
        ("RatingBox", b'{"context":{"targetingKey":"d"}}', 400, "INVALID_CONTEXT"),
        ("RatingBox", b'{"context":{"targetingKey":"d","product":"p","channel":7}}', 400, "INVALID_CONTEXT"),
        ("RatingBox", b'{"context":{"targetingKey":"d","product":"p","impressionId":7}}', 400, "INVALID_CONTEXT"),
        (None, b"{}", 400, "TARGETING_KEY_MISSING"),
    ],
)
async def test_errors_have_the_protocols_codes(iserver, key, body, status, code):
    answer = await evaluate(iserver, key, body=body)
    error = await answer.json()
    assert (answer.status, error["errorCode"]) == (status, code)
    assert error["errorDetails"]
    assert error.get("key") == key


async def test_a_trailing_slash_is_no_part_of_the_key(iserver):
    answer = await evaluate(iserver, "RatingBox/")
    assert (answer.status, (await answer.json())["key"]) == (200, "RatingBox")
    assert (await evaluate(iserver, "Nothing/")).status == 404


async def test_half_of_a_surrogate_pair_in_a_context_is_read_as_browsers_would_send_it(iserver):
    body = rb'{"context": {"targetingKey": "dev-1", "product": "cut \ud83d", "note": "\udc00"}}'
    answer = await evaluate(iserver, "RatingBox", body=body)
    assert (answer.status, (await answer.json())["value"]) == (200, True)
    await iserver.engine.retire_all()
    (session,) = iserver.finished()
    assert session.records[0].args["product"] == "cut \ufffd"
