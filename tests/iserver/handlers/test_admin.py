"""`cmd` and `sync` (protocol §7 and §9.1)."""

from __future__ import annotations

import asyncio

import orjson
import pytest

FLUSH = {"action": "flushToWarehouse"}


@pytest.fixture
def config(shop, tmp_path):
    """The configuration document as a file that the test may change."""
    path = tmp_path / "config.json"
    path.write_bytes(orjson.dumps(shop))
    return path


@pytest.fixture
async def iserver(open_iserver, config):
    return await open_iserver(config_file=config, token="t0ken")


# --- cmd ------------------------------------------------------------------------------------------


async def test_flushing_ends_all_sessions_and_writes_them(iserver, tmp_path):
    await iserver.features({"RatingBox": {"product": "p"}})
    answer = await iserver.post("cmd", FLUSH)
    assert (answer.status, await answer.text()) == (200, "flushed 1 sessions to the warehouse\n")
    assert await iserver.signal() == 410
    assert len(list((tmp_path / "data/warehouse/tables/rating_box").rglob("*.parquet"))) >= 1
    assert iserver.finished() == []


async def test_flushing_counts_what_a_run_under_way_writes_for_it(iserver):
    """The timer's run may take the sessions that a command ended; the command waits for it."""
    await iserver.features({"RatingBox": {"product": "p"}})
    journal = iserver.components.store
    next_batch, finish = journal.next_batch, journal.finish
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def wait_first(*arguments):
        if not reached.is_set():
            reached.set()
            await go_on.wait()
        return await next_batch(*arguments)

    async def finish_and_go_on(*arguments):
        await finish(*arguments)
        go_on.set()

    journal.next_batch, journal.finish = wait_first, finish_and_go_on
    timer = asyncio.ensure_future(iserver.components.run_etl())
    await reached.wait()
    answer = await iserver.post("cmd", FLUSH)
    assert await answer.text() == "flushed 1 sessions to the warehouse\n"
    assert await timer == 1


@pytest.mark.parametrize("body", [{}, {"action": "simulate"}, {"action": 7}])
async def test_other_actions_are_refused(iserver, body):
    assert (await iserver.post("cmd", body)).status == 400


async def test_cmd_is_not_there_unless_enabled(open_iserver):
    iserver = await open_iserver(enable_cmd=False)
    assert (await iserver.post("cmd", FLUSH)).status == 404


@pytest.mark.parametrize(("headers", "status"), [({}, 401), ({"Authorization": "Bearer wrong"}, 403)])
async def test_cmd_can_want_a_token(open_iserver, headers, status):
    iserver = await open_iserver(cmd_token="secret")
    assert (await iserver.post("cmd", FLUSH, headers=headers)).status == status
    assert (await iserver.post("cmd", FLUSH, headers={"Authorization": "Bearer secret"})).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example", "Content-Type": "text/plain"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://[", "Content-Type": "text/plain"},
    ],
)
async def test_a_page_of_another_origin_sends_no_command_through_its_visitor(iserver, headers):
    await iserver.features({"RatingBox": {"product": "p"}})
    answer = await iserver.post("cmd", FLUSH, headers=headers)
    assert answer.status == 403
    assert "--cmd-token" in await answer.text()
    assert await iserver.signal() != 410


async def test_a_page_that_has_the_token_may_send_commands(open_iserver):
    iserver = await open_iserver(cmd_token="secret")
    headers = {"Origin": "http://admin.example", "Authorization": "Bearer secret"}
    assert (await iserver.post("cmd", FLUSH, headers=headers)).status == 200


async def test_a_warehouse_that_cannot_be_written_loses_nothing(open_iserver, tmp_path):
    iserver = await open_iserver(warehouse=str(tmp_path / "tables"))
    await iserver.features({"RatingBox": {"product": "p"}})
    (tmp_path / "tables/tables").unlink(missing_ok=True)
    (tmp_path / "tables/tables").write_text("a file where a folder should be")
    answer = await iserver.post("cmd", FLUSH)
    assert answer.status == 500
    assert "the sessions are safe" in await answer.text()
    (tmp_path / "tables/tables").unlink()
    assert (await iserver.post("cmd", FLUSH)).status == 200
    assert len(list((tmp_path / "tables/tables/rating_box").rglob("*.parquet"))) >= 1


# --- sync -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        {"headers": {"Authorization": "t0ken"}},
        {"headers": {"Authorization": "Bearer t0ken"}},
        {"params": {"token": "t0ken"}},
        {"data": b'{"token":"t0ken"}'},
        {"data": b"token=t0ken"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_token_may_come_in_any_carrier(iserver, call, method):
    answer = await iserver.client.request(method, "/iserver/sync", **call)
    assert answer.status == 200
    assert await answer.json() == {"status": "ok", "revision": "r42", "changed": False}


@pytest.mark.parametrize(("params", "status"), [({}, 401), ({"token": "wrong"}, 403)])
async def test_nobody_syncs_without_the_token(iserver, params, status):
    assert (await iserver.get("sync", params=params)).status == status


async def test_a_server_without_a_token_refuses_to_sync(open_iserver, config):
    iserver = await open_iserver(config_file=config)
    assert (await iserver.get("sync?token=")).status == 403


async def sync(iserver):
    return await iserver.get("sync", params={"token": "t0ken"})


async def test_a_changed_document_is_in_force_when_sync_answers(iserver, config, shop):
    shop["revision"] = "r43"
    shop["features"]["RatingBox"]["gate"] = {"active": False}
    config.write_bytes(orjson.dumps(shop))
    answer = await sync(iserver)
    assert await answer.json() == {"status": "ok", "revision": "r43", "changed": True}
    assert (await iserver.features({"RatingBox": {"product": "p"}}))["RatingBox"] == "OFF"


async def test_an_invalid_document_is_refused_with_its_reason_and_the_old_stays(iserver, config, shop):
    shop["features"]["RatingBox"]["controls"]["tone"] = [{"value": {"constant": "RUDE"}}]
    config.write_bytes(orjson.dumps(shop))
    answer = await sync(iserver)
    assert answer.status == 422
    assert "features.RatingBox.controls.tone[0].value: invalid value for tone" in await answer.text()
    assert (await iserver.features({"RatingBox": {"product": "p"}}))["RatingBox"]["tone"] == "CASUAL"


async def test_broken_fdl_is_refused_with_its_position(iserver, config, shop):
    shop["fdl"][0]["content"] = "feature Broken {"
    config.write_bytes(orjson.dumps(shop))
    answer = await sync(iserver)
    assert answer.status == 422
    assert "shop.fdl: line 1 char" in await answer.text()


async def test_a_document_that_cannot_be_read_is_a_bad_gateway(iserver, config):
    config.unlink()
    answer = await sync(iserver)
    assert answer.status == 502
    assert "config.json" in await answer.text()


async def test_concurrent_syncs_share_a_load(iserver, config, shop):
    shop["revision"] = "r43"
    config.write_bytes(orjson.dumps(shop))
    answers = await asyncio.gather(*(sync(iserver) for _ in range(20)))
    bodies = [await answer.json() for answer in answers]
    assert {body["revision"] for body in bodies} == {"r43"}
    assert any(body["changed"] for body in bodies)
