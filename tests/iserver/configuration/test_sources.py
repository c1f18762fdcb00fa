"""Where the configuration comes from (protocol §9.2)."""

from __future__ import annotations

import asyncio

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from structlog.testing import capture_logs

from iserver.configuration.sources import FileSource, Loader, ServerSource
from iserver.errors import InvalidConfigurationError, UnreachableError
from iserver.fdl import SourceFile

ENVIRONMENT = "f6d3a522-320e-47f6-9ad7-4534c050cfa0"


class ControlPlane:
    """A configuration server whose document and health the test decides."""

    def __init__(self, document):
        self.document = document
        self.is_up = True
        self.asked: list[str | None] = []

    async def config(self, request: web.Request) -> web.Response:
        if not self.is_up:
            return web.Response(status=503)
        assert request.match_info["environment"] == ENVIRONMENT
        if request.headers["Authorization"] != "t0ken":
            return web.Response(status=403)
        etag = f'"{self.document["revision"]}"'
        self.asked.append(request.headers.get("If-None-Match"))
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304)
        return web.Response(body=orjson.dumps(self.document), headers={"ETag": etag})


@pytest.fixture
async def plane(shop):
    plane = ControlPlane(shop)
    app = web.Application()
    app.router.add_get("/api/v1/environments/{environment}/config", plane.config)
    async with TestServer(app) as server:
        plane.url = str(server.make_url("/"))
        yield plane


@pytest.fixture
async def open_loader(plane, tmp_path):
    loaders = []

    def start(token="t0ken", **options):
        source = ServerSource(plane.url, ENVIRONMENT, token, tmp_path / "config-cache.json")
        loaders.append(Loader(source, (), **options))
        return loaders[-1]

    yield start
    for loader in loaders:
        await loader.close()


async def test_an_unchanged_document_is_fetched_once_and_stays_the_same_object(open_loader, plane):
    loader = open_loader()
    first = await loader.load()
    assert await loader.load() is first
    assert plane.asked == [None, '"r42"']


async def test_a_changed_document_is_a_new_configuration_with_the_same_program(open_loader, plane):
    loader = open_loader()
    first = await loader.load()
    plane.document["revision"] = "r43"
    second = await loader.load()
    assert second.revision == "r43"
    assert second.definition.program is first.definition.program


async def test_the_last_good_document_serves_a_start_without_the_server(open_loader, plane):
    await open_loader().load()
    plane.is_up = False
    assert (await open_loader().load()).revision == "r42"


async def test_a_running_server_is_told_that_the_document_cannot_be_had(open_loader, plane):
    loader = open_loader()
    await loader.load()
    plane.is_up = False
    with pytest.raises(UnreachableError, match="answered 503"):
        await loader.load()


async def test_without_a_cache_there_is_nothing_to_start_with(open_loader, plane):
    plane.is_up = False
    with pytest.raises(UnreachableError, match="answered 503"):
        await open_loader().load()


async def test_an_invalid_document_is_not_remembered(open_loader, plane, tmp_path):
    loader = open_loader()
    await loader.load()
    good = (tmp_path / "config-cache.json").read_bytes()
    plane.document["revision"] = ""
    with pytest.raises(InvalidConfigurationError, match="revision"):
        await loader.load()
    assert (tmp_path / "config-cache.json").read_bytes() == good


async def test_a_document_that_cannot_be_remembered_is_in_force_all_the_same(plane, tmp_path):
    (tmp_path / "file").write_text("")
    loader = Loader(ServerSource(plane.url, ENVIRONMENT, "t0ken", tmp_path / "file" / "config-cache.json"), ())
    with capture_logs() as logged:
        assert (await loader.load()).revision == "r42"
    assert [line["event"] for line in logged] == ["cannot cache the configuration for later starts"]
    await loader.close()


async def test_a_remembered_document_that_is_damaged_is_named(open_loader, plane, tmp_path):
    await open_loader().load()
    cache = tmp_path / "config-cache.json"
    cache.write_bytes(cache.read_bytes()[:100])
    plane.is_up = False
    with pytest.raises(UnreachableError, match=r"answered 503 .* cached in .*/config-cache\.json is damaged"):
        await open_loader().load()


async def test_pushes_at_the_same_time_are_taken_one_after_the_other(tmp_path, shop):
    config = tmp_path / "config.json"
    config.write_bytes(orjson.dumps(shop))
    source = FileSource(config)
    texts = [shop["fdl"][0]["content"] + f"feature Pushed{number} {{}}" for number in range(8)]
    await asyncio.gather(*(source.replace_fdl([SourceFile("shop.fdl", text)]) for text in texts))
    assert orjson.loads(config.read_bytes())["fdl"][0]["content"] in texts
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


async def test_a_wrong_token_is_reported(open_loader):
    with pytest.raises(UnreachableError, match="answered 403"):
        await open_loader(token="wrong").load()


async def test_a_server_that_is_not_there_is_reported(tmp_path):
    loader = Loader(ServerSource("http://127.0.0.1:9", ENVIRONMENT, "t", tmp_path / "c.json"), ())
    with pytest.raises(UnreachableError, match=r"cannot reach http://127\.0\.0\.1:9/api/v1/environments/"):
        await loader.load()
    await loader.close()


async def test_local_fdl_replaces_the_documents(open_loader, shop, tmp_path):
    config, fdl = tmp_path / "c.json", tmp_path / "local.fdl"
    config.write_bytes(orjson.dumps({**shop, "features": {}, "experiments": [], "qa": {}, "audiences": []}))
    fdl.write_text("feature Local {}")
    configuration = await Loader(FileSource(config), [fdl]).load()
    assert list(configuration.features) == ["Local"]
    assert configuration.environment.name == "prod"


async def test_changed_fdl_is_loaded_again(tmp_path):
    fdl = tmp_path / "local.fdl"
    fdl.write_text("feature One {}")
    loader = Loader(None, [fdl])
    first = await loader.load()
    assert await loader.load() is first
    fdl.write_text("feature Two {}")
    assert list((await loader.load()).features) == ["Two"]


async def test_several_files_are_one_program(tmp_path):
    (tmp_path / "a.fdl").write_text("event Revenue { value: Float! }")
    (tmp_path / "b.fdl").write_text("feature Shop { event Buy { import Revenue } }")
    configuration = await Loader(None, [tmp_path / "a.fdl", tmp_path / "b.fdl"]).load()
    assert "Buy" in configuration.definition.program.features["Shop"].events
