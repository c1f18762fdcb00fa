"""Requests as the protocol page quotes them, one after the other, in one session (§4, §5, §8), and iOS's forms (§17).

The examples of §3.9 are in `test_http_features.py`, with their answers byte for byte.
"""

from __future__ import annotations

import asyncio
import re

import orjson
import pyarrow as pa
import pytest
from pyarrow import orc

from iserver.warehouse.ddl import ddl

HIVE_TYPES = {pa.string(): "string", pa.int64(): "bigint", pa.float64(): "double", pa.bool_(): "boolean"}
IOS_HEADERS = {"Content-Type": "application/json", "User-Agent": "Causal iOS Client", "x-causal-deviceid": "dev-1"}


@pytest.fixture
async def shown(open_iserver, shop, tmp_path):
    """An iserver whose search results are external, with a session that has seen a box and a search as imp-1."""
    shop["features"]["Search"]["controls"]["results"] = [{"value": {"external": "popularity"}}]
    shop["experiments"] = []
    config = tmp_path / "external.json"
    config.write_bytes(orjson.dumps(shop))
    iserver = await open_iserver(config_file=config, token="t0ken")
    features = {"RatingBox": {"product": "iPhone"}, "Search": {"query": "ext"}}
    await iserver.features(features, args={"deviceId": "dev-1", "arrivalId": "arr-1"})
    return iserver


@pytest.mark.parametrize(
    "body",
    [
        # events (§4.1)
        b'{"id":{"deviceId":"dev-1"},"feature":"RatingBox","event":"Rating","impressionId":"imp-1","args":{"stars":4}}',
        b'{"id":{"deviceId":"dev-1"},"event":"AddToCart","args":{"value":9.5,"sku":"s1","qty":2}}',
        b'{"options":{"ignore_missing_imp":true},"id":{"arrivalId":"arr-1"},"event":"Rating","feature":"RatingBox",'
        b'"impressionId":"imp-1","args":{"stars":5}}',
        # mutations (§4.2)
        b'{"id":{"deviceId":"dev-1","arrivalId":"arr-1"},"mutate":"userId","value":"u-7"}',
        b'{"id":{"deviceId":"dev-1"},"mutate":"userId","value":null}',
        # a cached copy that is shown (§4.3)
        b'{"id":{"deviceId":"dev-1"},"impressions":{"RatingBox":{"impression":"imp-1","newImpression":"imp-2"}}}',
        # keep-alives (§4.4)
        b'{"id":{"deviceId":"dev-1","channel":"email"}}',
        b'{"deviceId":"dev-1"}',
    ],
)
async def test_a_signal_as_it_is_quoted_is_answered_with_200_and_nothing(shown, body):
    answer = await shown.post("signal", body)
    assert (answer.status, await answer.read()) == (200, b"")
    assert answer.headers["Content-Type"].startswith("text/plain")


async def test_an_external_value_as_it_is_quoted_is_served_from_then_on(shown):
    answer = await shown.post(
        "external",
        b'{"id":{"deviceId":"dev-1","arrivalId":"arr-1"},"feature":"Search","impressionId":"imp-1",'
        b'"results":[{"id":"a","title":"A","score":0.5}]}',
    )
    assert (answer.status, await answer.read()) == (200, b"")
    again = await shown.features({"Search": {"query": "ext"}}, impression="imp-2")
    assert again["Search"]["results"] == [{"id": "a", "title": "A", "score": 0.5}]
    assert again["Search"]["_external_results"] == "popularity"


async def test_a_stream_reads_as_it_is_quoted(open_iserver, shop, tmp_path):
    config = tmp_path / "config.json"
    config.write_bytes(orjson.dumps(shop))
    iserver = await open_iserver(config_file=config, token="t0ken")
    await iserver.features({}, args={"deviceId": "dev-qa"})
    stream = await iserver.get("sse?id=dev-qa")
    overrides = shop["qa"]["devices"][0]["overrides"]
    overrides["RatingBox"]["values"] = {"tone": {"constant": "CASUAL"}}
    overrides["Search"] = {"active": False}
    config.write_bytes(orjson.dumps(shop))
    assert (await iserver.get("sync?token=t0ken")).status == 200
    iserver.clock.advance(ms=123_456)
    shop["fdl"][0]["content"] += "feature Another {}"
    config.write_bytes(orjson.dumps(shop))
    assert (await iserver.get("sync?token=t0ken")).status == 200
    quoted = (
        b"retry: 5000\n\n"
        b"event: hello\ndata: 1700000000000\n\n"
        b"event: flushfeatures\ndata: RatingBox Search\n\n"
        b"event: flushcache\ndata: 1700000123456\n\n"
    )
    assert await stream.content.readexactly(len(quoted)) == quoted


# --- iOS, whose client does not run here (§17) --------------------------------------------------


def ios_request(impression: str | None, *names: str) -> dict[str, object]:
    wanted = {"RatingBox": {"product": "iPhone"}, "Search": {"query": "shoes", "page": None}, "NewCheckout": {}}
    body = {"version": 2, "args": {"deviceId": "dev-1", "arrivalId": None, "userId": None, "channel": "email"}}
    reqs = [{"name": name, "args": wanted.get(name, {})} for name in names]
    return {**body, "reqs": reqs} if impression is None else {**body, "impressionId": impression, "reqs": reqs}


@pytest.mark.parametrize("impression", ["imp-1", None])
async def test_ios_gets_an_element_it_can_decode_for_every_request(iserver, impression):
    names = ["RatingBox", "NewCheckout", "Search", "ProductInfo", "RatingBox"]
    answer = await iserver.post("features", ios_request(impression, *names), headers=IOS_HEADERS)
    told = orjson.loads(await answer.read())
    assert list(told)[:2] == ["session", "impressions"]
    assert {"deviceId", "sessionId", "startTime", "lastFlushTime"} <= set(told["session"])
    assert told["session"]["userAgent"] == "Causal iOS Client"
    assert len(told["impressions"]) == len(names)
    features = iserver.engine.configuration.definition.program.features
    for name, element in zip(names, told["impressions"], strict=True):
        if element == "OFF":
            continue
        required = [item.name for item in features[name].outputs if not item.type.nullable and item.elapsed is None]
        assert all(element[output] is not None for output in required)
        assert element["_impressionId"]


async def test_ios_shows_what_it_cached_and_names_features_that_were_off(iserver):
    filled = orjson.loads(
        await (
            await iserver.post("features", ios_request(None, "RatingBox", "NewCheckout"), headers=IOS_HEADERS)
        ).read()
    )
    shown = {
        "RatingBox": {"impression": filled["impressions"][0]["_impressionId"], "newImpression": "imp-7"},
        "NewCheckout": {"newImpression": "imp-7"},
    }
    answer = await iserver.post("signal", {"id": {"deviceId": "dev-1"}, "impressions": shown}, headers=IOS_HEADERS)
    assert answer.status == 200
    assert (await iserver.post("signal", {"deviceId": "dev-1"}, headers=IOS_HEADERS)).status == 200
    await iserver.engine.retire_all()
    (session,) = iserver.finished()
    assert [[item.id for item in record.impressions] for record in session.records] == [["imp-7"]]


async def test_ios_hears_that_its_session_is_over(iserver):
    await iserver.post("features", ios_request("imp-1", "RatingBox"), headers=IOS_HEADERS)
    iserver.clock.advance(minutes=31)
    assert (await iserver.post("signal", {"deviceId": "dev-1"}, headers=IOS_HEADERS)).status == 410


# --- sync under load (§9.4, §17) ----------------------------------------------------------------


async def test_every_answer_during_syncs_is_of_one_configuration(open_iserver, shop, tmp_path):
    """Two outputs are always configured alike; an answer that mixes two configurations would show two values."""
    config = tmp_path / "config.json"
    shop["experiments"] = []

    def configure(number):
        value = [{"value": {"constant": f"v{number}"}}]
        shop["features"]["RatingBox"]["controls"] = {"callToAction": value, "actionButton": value}
        config.write_bytes(orjson.dumps({**shop, "revision": f"r{number}"}))

    configure(0)
    iserver = await open_iserver(config_file=config, token="t0ken")
    seen = set()

    async def visit(lane):
        for turn in range(40):
            args = {"deviceId": f"dev-{lane}-{turn}"}
            answer = await iserver.features([{"name": "RatingBox", "args": {"product": "p"}}] * 3, args=args)
            values = {item[output] for item in answer["impressions"] for output in ("callToAction", "actionButton")}
            assert len(values) == 1
            seen.update(values)

    async def change():
        for number in range(1, 30):
            configure(number)
            answer = await iserver.get("sync?token=t0ken")
            assert (await answer.json())["revision"] == f"r{number}"

    await asyncio.gather(change(), *(visit(lane) for lane in range(8)))
    assert len(seen) > 1


def declared(statements: str, table: str) -> list[tuple[str, str]]:
    """Names and types of a table's columns in Hive's statements."""
    (columns,) = re.findall(rf"create external table `{table}`\(\n(.*?)\n\)", statements, re.DOTALL)
    return re.findall(r"^  `(\w+)` ([^ \n]+?)(?: comment .*?)?,?$", columns, re.MULTILINE)


def hive_type(type_: pa.DataType) -> str:
    """What Hive calls the type that an ORC file has."""
    if pa.types.is_list(type_):
        return f"array<{hive_type(type_.value_type)}>"
    if pa.types.is_struct(type_):
        return f"struct<{','.join(f'{part.name}:{hive_type(part.type)}' for part in type_)}>"
    return "timestamp" if pa.types.is_timestamp(type_) else HIVE_TYPES[type_]


async def test_flushing_to_the_warehouse_writes_orc_with_the_columns_of_the_ddl(open_iserver, tmp_path):
    iserver = await open_iserver(table_format="orc")
    await iserver.features({"RatingBox": {"product": "p"}, "Search": {"query": "q"}})
    assert (await iserver.post("cmd", {"action": "flushToWarehouse"})).status == 200
    program = iserver.engine.configuration.definition.program
    for name in ("RatingBox", "Search"):
        table = program.features[name].table
        files = sorted((tmp_path / "data/warehouse/tables" / table).rglob("ds=*/hh=*/*.orc"))
        rows = [row for file in files for row in orc.ORCFile(file).read().to_pylist()]
        assert [(row["device_id"], row["impression_count"]) for row in rows] == [("dev-1", 1)]
        wanted = declared(ddl(program, "hive", "/warehouse", table_format="orc"), table)
        assert len(wanted) > 6
        for file in files:
            assert [(item.name, hive_type(item.type)) for item in orc.ORCFile(file).schema] == wanted
