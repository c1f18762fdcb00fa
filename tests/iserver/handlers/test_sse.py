"""Server-sent events (protocol §8)."""

from __future__ import annotations

import orjson
import pytest

from iserver.errors import NotStoredError
from iserver.handlers.sse import MAX_WAITING, EventStream, EventStreams


@pytest.fixture
def config(shop, tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(orjson.dumps(shop))
    return path


@pytest.fixture
async def iserver(open_iserver, config):
    return await open_iserver(config_file=config, token="t0ken")


async def listen(iserver, device="dev-qa"):
    answer = await iserver.get("sse", params={"id": device})
    assert answer.status == 200
    return answer


async def event(answer):
    """The next event: its name and data."""
    block = b""
    while not block.startswith(b"event:"):
        block = await answer.content.readuntil(b"\n\n")
    lines = block.decode().splitlines()
    return lines[0].removeprefix("event: "), lines[1].removeprefix("data: ")


async def change(iserver, config, shop):
    config.write_bytes(orjson.dumps(shop))
    assert (await iserver.get("sync?token=t0ken")).status == 200


async def test_a_stream_opens_with_retry_and_hello(iserver):
    answer = await listen(iserver)
    opening = b"retry: 5000\n\nevent: hello\ndata: 0\n\n"
    assert await answer.content.readexactly(len(opening)) == opening
    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-cache, no-transform"
    assert answer.headers["X-Accel-Buffering"] == "no"


@pytest.mark.parametrize("query", ["", "?id=", "?id=dev-1", "?id=%20"])
async def test_who_is_not_registered_is_told_not_to_come_back(iserver, query):
    assert (await iserver.get(f"sse{query}")).status == 204


async def test_an_old_client_sends_all_its_keys(iserver):
    answer = await iserver.get("sse?id=arr-1+dev-qa+")
    assert answer.status == 200


async def test_hello_is_what_features_told(iserver):
    session = (await iserver.features({}, args={"deviceId": "dev-qa"}))["session"]
    assert await event(await listen(iserver)) == ("hello", str(session["lastFlushTime"]))


async def test_without_a_session_hello_is_zero(iserver):
    assert await event(await listen(iserver)) == ("hello", "0")


async def test_listening_is_no_activity(iserver):
    await iserver.features({}, args={"deviceId": "dev-qa"})
    iserver.clock.advance(minutes=20)
    await listen(iserver)
    iserver.clock.advance(minutes=10)
    assert await iserver.signal(id={"deviceId": "dev-qa"}) == 410


async def test_a_changed_override_flushes_its_feature_and_the_memo_of_the_device(iserver, config, shop):
    box = {"RatingBox": {"product": "p"}}
    device = {"deviceId": "dev-qa"}
    assert (await iserver.features(box, args=device))["RatingBox"]["tone"] == "FORMAL"
    first, second = await listen(iserver), await listen(iserver)
    shop["qa"]["devices"][0]["overrides"]["RatingBox"]["values"] = {"callToAction": {"constant": "Rate!"}}
    await change(iserver, config, shop)
    for answer in (first, second):
        assert (await event(answer))[0] == "hello"
        assert await event(answer) == ("flushfeatures", "RatingBox")
    answer = (await iserver.features(box, args=device))["RatingBox"]
    assert (answer["callToAction"], answer["tone"]) == ("Rate!", "CASUAL")


async def test_devices_are_told_later_what_could_not_be_stored_when_the_configuration_changed(
    iserver, config, shop, monkeypatch
):
    await iserver.features({"RatingBox": {"product": "p"}}, args={"deviceId": "dev-qa"})
    answer = await listen(iserver)
    shop["qa"]["devices"][0]["overrides"]["RatingBox"]["values"] = {"callToAction": {"constant": "Rate!"}}
    with monkeypatch.context() as full:

        def store(*_):
            raise NotStoredError("cannot store changes: No space left on device")

        full.setattr(iserver.components.store, "store", store)
        await change(iserver, config, shop)
    await iserver.engine.sweep_all()
    assert (await event(answer))[0] == "hello"
    assert await event(answer) == ("flushfeatures", "RatingBox")


async def test_changed_fdl_flushes_everything_with_a_new_time(iserver, config, shop):
    before = (await iserver.features({}, args={"deviceId": "dev-qa"}))["session"]["lastFlushTime"]
    answer = await listen(iserver)
    iserver.clock.advance(seconds=5)
    shop["fdl"][0]["content"] += "feature Another {}"
    await change(iserver, config, shop)
    assert (await event(answer))[0] == "hello"
    name, data = await event(answer)
    after = (await iserver.features({}, args={"deviceId": "dev-qa"}))["session"]["lastFlushTime"]
    assert (name, int(data)) == ("flushcache", after)
    assert after == before + 5000


async def test_a_device_that_is_not_registered_any_more_hears_so_and_is_hung_up(iserver, config, shop):
    answer = await listen(iserver)
    shop["qa"]["devices"] = []
    await change(iserver, config, shop)
    assert (await event(answer))[0] == "hello"
    rest = await answer.content.read()
    assert b"event: flushcache" in rest
    assert (await iserver.get("sse?id=dev-qa")).status == 204


async def test_other_sessions_keep_what_they_saw(iserver, config, shop):
    box = {"RatingBox": {"product": "p"}}
    await iserver.features(box)
    shop["features"]["RatingBox"]["controls"]["callToAction"] = [{"value": {"constant": "Rate!"}}]
    await change(iserver, config, shop)
    assert (await iserver.features(box))["RatingBox"]["callToAction"] == "Rate this product!"


async def test_the_heartbeat_reaches_everybody(iserver):
    answers = [await listen(iserver) for _ in range(50)]
    assert len(iserver.components.streams) == 50
    iserver.components.streams.send_heartbeat()
    for answer in answers:
        assert (await event(answer))[0] == "hello"
        assert await answer.content.readuntil(b"\n\n") == b":\n\n"


async def test_draining_ends_all_streams(iserver):
    answer = await listen(iserver)
    iserver.components.streams.close()
    await answer.content.read()
    assert answer.content.at_eof()


async def test_a_connection_that_does_not_keep_up_is_ended():
    streams = EventStreams()
    with streams.open("dev-qa") as stream:
        for number in range(MAX_WAITING + 1):
            streams.send("dev-qa", b"event %d" % number)
        assert await stream.next() is None
    assert len(streams) == 0


async def test_a_stream_keeps_the_order_of_its_events():
    stream = EventStream()
    stream.send(b"1")
    stream.send(b"2")
    assert [await stream.next(), await stream.next()] == [b"1", b"2"]
