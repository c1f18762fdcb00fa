"""`session`, `nsessions`, health and metrics (protocol §6 and §15)."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import orjson
import pytest

from iserver.engine.engine import CHUNK
from iserver.sessions.session import Session
from tests.iserver.conftest import Iserver


async def test_a_session_is_shown_by_its_persistent_key(iserver):
    answer = await iserver.features({}, args={"deviceId": "dev 1/é", "channel": "email"})
    shown = await iserver.get("session", params={"id": "dev 1/é"})
    assert orjson.loads(await shown.read()) == answer["session"]
    assert shown.headers["Content-Type"] == "application/json; charset=utf-8"


async def test_looking_at_a_session_is_no_activity(iserver):
    await iserver.features({})
    iserver.clock.advance(minutes=20)
    assert (await iserver.get("session?id=dev-1")).status == 200
    iserver.clock.advance(minutes=10)
    assert (await iserver.get("session?id=dev-1")).status == 404


async def test_details_show_what_clients_are_not_told(iserver):
    await iserver.features(
        {"RatingBox": {"product": "p"}}, args={"deviceId": "dev-1", "channel": "paid", "userId": "u"}
    )
    answer = orjson.loads(await (await iserver.get("session?id=dev-1&detail=1")).read())
    assert answer["audiences"] == ["aud-paid"]
    assert len(answer["variants"]) == 1
    assert answer["histories"] == {"userId": [{"startTime": 1_700_000_000_000, "value": "u"}]}


@pytest.mark.parametrize(("query", "status"), [("", 400), ("?id=", 400), ("?id=dev-9", 404)])
async def test_a_session_that_is_not_named_or_not_there(iserver, query, status):
    answer = await iserver.get(f"session{query}")
    assert answer.status == status
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


async def test_nsessions_is_a_bare_number(iserver):
    assert await (await iserver.get("nsessions")).text() == "0"
    await iserver.features({})
    assert await (await iserver.get("nsessions")).text() == "1"


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("OPTIONS", 204), ("POST", 405)])
async def test_nsessions_serves_health_checks(iserver, method, status):
    answer = await iserver.client.request(method, "/iserver/nsessions")
    assert answer.status == status


async def test_health_is_outside_the_prefix(iserver):
    assert (await iserver.client.get("/healthz")).status == 200
    assert (await iserver.client.get("/readyz")).status == 200


async def test_metrics_name_the_vendors_gauges(iserver):
    await iserver.features({}, args={"deviceId": "dev-1", "arrivalId": "arr-1"})
    text = await (await iserver.client.get("/metrics")).text()
    assert "causal_iserver_sessions_active 1.0" in text
    assert "causal_iserver_sessions_by_user 1.0" in text
    assert "causal_iserver_sessions_retired 0.0" in text
    assert 'iserver_request_seconds_count{route="/iserver/features",status="200"} 1.0' in text


async def test_metrics_count_features_by_result_and_signals_by_kind(iserver):
    wanted = {"RatingBox": {"product": "p"}, "NewCheckout": {}, "Nothing": {}, "Search": {}}
    for impression in ("imp-1", "imp-2"):
        await iserver.features(wanted, impression=impression)
    await iserver.signal(mutate="userId", value="u-1", event="AddToCart", args={"value": 1.5, "sku": "s"})
    await iserver.signal()
    await iserver.signal(event="Nothing")
    text = await (await iserver.client.get("/metrics")).text()
    for result, count in {"on": 1, "memo": 1, "off": 2, "unknown": 2, "error": 2}.items():
        assert f'iserver_features_total{{result="{result}"}} {count}.0' in text
    for kind, count in {"mutate": 1, "impressions": 0, "event": 1, "keep_alive": 1}.items():
        assert f'iserver_signals_total{{kind="{kind}"}} {count}.0' in text
    assert 'iserver_configuration_info{revision="r42"} 1.0' in text


async def test_metrics_time_what_is_done_elsewhere_and_count_what_failed(iserver, monkeypatch):
    await iserver.features({})
    await iserver.components.flush_to_warehouse()

    async def fail(_configuration):
        raise OSError("the disk is full")

    monkeypatch.setattr(iserver.components.etl, "run", fail)
    with pytest.raises(OSError, match="full"):
        await iserver.components.run_etl()
    text = await (await iserver.client.get("/metrics")).text()
    assert "causal_aws_s3_uploads_time_count 2.0" in text
    assert "causal_aws_s3_uploads_fails_total 1.0" in text
    assert "causal_http_post_time_count 0.0" in text
    assert "causal_http_post_retries_total 0.0" in text
    monkeypatch.undo()


async def test_requests_go_between_the_portions_in_which_a_shorter_timeout_is_applied(iserver: Iserver):
    for number in range(1000):
        session = Session.begin(
            f"s-{number}",
            iserver.engine.configuration.definition,
            {"deviceId": f"d-{number}"},
            now_ms=iserver.clock(),
        )
        iserver.engine.sessions.add(session)
    configuration = iserver.engine.configuration
    settings = replace(configuration.document.settings, session_timeout_s=60)
    await iserver.engine.apply(replace(configuration, document=replace(configuration.document, settings=settings)))
    iserver.clock.advance(seconds=30)
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    others = asyncio.create_task(take_turns())
    await iserver.engine.sweep_all()  # nothing is over yet, so nothing is stored either
    others.cancel()
    assert turns >= 1000 // CHUNK
    assert len(iserver.engine.sessions) == 1000
    iserver.clock.advance(seconds=31)
    await iserver.engine.sweep_all()
    assert len(iserver.engine.sessions) == 0
