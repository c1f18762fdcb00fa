"""The endpoints of the published FDL compiler (protocol §9.2)."""

from __future__ import annotations

import orjson
import pytest

ENVIRONMENT = "f6d3a522-320e-47f6-9ad7-4534c050cfa0"
TOKEN = {"Authorization": "t0ken"}


@pytest.fixture
def config(shop, tmp_path):
    shop["features"]["RatingBox"]["controls"]["actionButton"] = [{"value": {"constant": "Send it"}}]
    path = tmp_path / "config.json"
    path.write_bytes(orjson.dumps(shop))
    return path


@pytest.fixture
async def iserver(open_iserver, config):
    return await open_iserver(config_file=config, token="t0ken", accept_fdl=True)


def push(shop, more="feature Another {}", **changes):
    files = [{"name": "shop.fdl", "content": shop["fdl"][0]["content"] + more}]
    return {"env": ENVIRONMENT, "token": "t0ken", "files": files, **changes}


async def post(iserver, path, body, **options):
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    return await iserver.client.post(path, data=data, **options)


async def test_control_values_are_those_in_force(iserver):
    answer = await post(iserver, "/api/graphql", {"query": "{ anything }"}, headers=TOKEN)
    tenant = (await answer.json())["data"]["authedTenant"]
    assert tenant["environment"]["id"] == ENVIRONMENT
    fields = {field["name"]: field for feature in tenant["features"] for field in feature["fields"]}
    assert fields["actionButton"]["controlValue"] == '{"constant":"Send it"}'
    assert fields["tone"]["controlValue"] == '{"constant":"CASUAL"}'
    assert fields["product"]["controlValue"] is None


async def test_the_compiler_is_told_where_the_tables_are(open_iserver, config, tmp_path):
    """Without a location it refuses to write statements for Hive."""
    iserver = await open_iserver(config_file=config, token="t0ken", accept_fdl=True)
    answer = await post(iserver, "/api/graphql", {}, headers=TOKEN)
    tenant = (await answer.json())["data"]["authedTenant"]
    assert tenant["environment"]["warehouseLocation"] == str(tmp_path / "data" / "warehouse")
    assert tenant["environments"][0]["warehouseLocation"] == str(tmp_path / "data" / "warehouse")


async def test_pushed_fdl_is_in_force_and_in_the_file(iserver, shop, config):
    answer = await post(iserver, "/fdl-push", push(shop))
    assert answer.status == 200
    assert "Another" in await iserver.features({"Another": {}})
    document = orjson.loads(config.read_bytes())
    assert document["fdl"][0]["content"].endswith("feature Another {}")
    assert document["revision"].startswith("push-")
    assert document["experiments"] == shop["experiments"]


async def test_the_older_form_is_served_too(iserver, shop):
    text = (shop["fdl"][0]["content"] + "feature Another {}").encode()
    answer = await post(
        iserver, f"/fdlpush?token=t0ken&env={ENVIRONMENT}", text, headers={"Content-Type": "text/plain"}
    )
    assert answer.status == 200
    assert (await iserver.features({"Another": {}}))["Another"]["impressionCount"] == 1


@pytest.mark.parametrize(
    ("changes", "status", "text"),
    [
        ({"token": "wrong"}, 403, "wrong token"),
        ({"token": None}, 401, "a token is needed"),
        ({"env": "other"}, 404, "not 'other'"),
        ({"files": []}, 400, "expected a list of files"),
        ({"files": [{"name": "x"}]}, 400, "files[0].name"),
        ({"files": [{"name": "x.fdl", "content": "feature {"}]}, 422, "x.fdl: line 1 char"),
        ({"files": [{"name": "x.fdl", "content": "feature Only {}"}]}, 422, "audiences: audience 'aud-paid'"),
    ],
)
async def test_a_push_that_cannot_be_taken_changes_nothing(iserver, shop, config, changes, status, text):
    before = config.read_bytes()
    answer = await post(iserver, "/fdl-push", push(shop, **changes))
    assert answer.status == status
    assert text in await answer.text()
    assert config.read_bytes() == before


async def test_metadata_is_for_those_with_the_token(iserver):
    assert (await post(iserver, "/api/graphql", {})).status == 401
    assert (await post(iserver, "/api/graphql", {}, headers={"Authorization": "x"})).status == 403


async def test_nothing_of_it_is_there_unless_asked_for(open_iserver, config):
    iserver = await open_iserver(config_file=config, token="t0ken")
    assert (await post(iserver, "/fdl-push", {})).status == 404
