"""Every route of a whole iserver, with bodies nobody would send: never a 500, and afterwards it works as before."""

from __future__ import annotations

import asyncio
import copy
import functools
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iserver.app import make_http
from iserver.components import open_components
from iserver.configuration.compiled import configure
from iserver.document import DocumentError, read_document
from iserver.etl.writer import Warehouse
from iserver.fdl import FdlError, compile_program
from iserver.settings import ServerSettings
from tests.iserver.conftest import EXAMPLE
from tests.iserver.engine.test_fuzz import BODIES, NAMES, VALUES

DOCUMENT: dict[str, Any] = orjson.loads((EXAMPLE / "shop.json").read_bytes())
CONTEXTS = st.dictionaries(NAMES | st.just("targetingKey"), VALUES, max_size=6)
OFREP = st.fixed_dictionaries({}, optional={"context": CONTEXTS | VALUES})
PUSHES = st.fixed_dictionaries(
    {"token": st.sampled_from(["t0ken", "wrong", 7]), "env": st.just(DOCUMENT["environment"]["id"])},
    optional={"files": VALUES | st.lists(st.fixed_dictionaries({"name": VALUES, "content": VALUES}), max_size=2)},
)
RAW = st.binary(max_size=60) | st.sampled_from([b"[" * 5000, b'{"args":' * 2000, b"{}" * 2, b"null", b"\xef\xbb\xbf{}"])
ENCODED = (BODIES | OFREP | PUSHES).map(orjson.dumps)
QUERIES = st.sampled_from(
    ["", "?id=dev-1", "?id=dev-qa%20%00", "?id=%ff", "?token=t0ken", "?token=%ff&env=x", "?detail=1"]
)
CALLS = st.tuples(
    st.sampled_from(["POST", "POST", "POST", "GET", "HEAD", "OPTIONS", "PUT"]),
    st.sampled_from(
        [
            *("/iserver/features", "/iserver/feature", "/iserver/signal", "/iserver/external", "/iserver/cmd"),
            *("/iserver/sync", "/iserver/session", "/iserver/nsessions", "/iserver/sse", "/iserver//signal/"),
            *(
                "/ofrep/v1/evaluate/flags",
                "/ofrep/v1/evaluate/flags/RatingBox",
                "/ofrep/v1/evaluate/flags/Search.results",
            ),
            *("/api/graphql", "/fdl-push", "/fdlpush", "/metrics", "/nothing", "/iserver/%2e%2e/%00"),
        ]
    ),
    QUERIES,
    RAW | ENCODED,
    st.sampled_from([{}, {"Authorization": "t0ken"}, {"Origin": "null"}, {"X-Causal-deviceId": "dév"}]),
)


@given(calls=st.lists(CALLS, min_size=1, max_size=12))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_call_is_a_bug_and_none_harms_the_server(calls, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("fuzz")
    asyncio.run(_play(calls, folder))


async def _play(calls: list[Any], folder: Path) -> None:
    config = folder / "shop.json"
    config.write_bytes(orjson.dumps(DOCUMENT))
    options = ServerSettings(
        data_dir=folder / "data", config_file=config, enable_cmd=True, accept_fdl=True, token="t0ken"
    )
    components = await open_components(options, open_warehouse=Warehouse.open)
    async with TestClient(TestServer(make_http(components, options).app)) as client:
        for method, path, query, body, headers in calls:
            data = body if method in ("POST", "PUT") else None
            async with client.request(method, path + query, data=data, headers=headers) as answer:
                assert answer.status < 500, (method, path, query, body, await answer.text())
        visit = {"args": {"deviceId": "dev-new"}, "impressionId": "imp-new", "requests": {"ProductInfo": {}}}
        async with client.post("/iserver/features", json=visit) as answer:
            assert (await answer.json())["ProductInfo"]["impressionCount"] == 1
        assert len(components.streams) <= len(calls)


# --- configuration documents ----------------------------------------------------------------------


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    found = [path] if path else []
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in entries:
        found += places(item, (*path, key))
    return found


PLACES = places(DOCUMENT)
DEEP = functools.reduce(lambda inner, _: {"not": inner}, range(100), None)
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(PLACES), st.sampled_from(["replace", "remove", "repeat", "copy"]), VALUES | st.just(DEEP)
    ),
    min_size=1,
    max_size=4,
)


@given(CHANGES, st.sampled_from(PLACES))
@settings(max_examples=400, deadline=None)
def test_a_document_with_anything_anywhere_is_a_configuration_or_names_what_is_wrong(changes, source):
    document = copy.deepcopy(DOCUMENT)
    for place, change, value in changes:
        _change(document, place, change, value, source)
    try:
        read = read_document(orjson.dumps(document))
        configure(read, compile_program(read.fdl))
    except (DocumentError, FdlError) as error:
        assert str(error)


def _change(document: Any, place: tuple[Any, ...], change: str, value: Any, source: tuple[Any, ...]) -> None:
    try:
        owner = _at(document, place[:-1])
        owner[place[-1]]
    except (KeyError, IndexError, TypeError):
        return  # an earlier change took it away
    if change == "remove":
        del owner[place[-1]]
    elif change == "repeat" and isinstance(owner, list):
        owner.append(copy.deepcopy(owner[place[-1]]))
    elif change == "copy":
        owner[place[-1]] = copy.deepcopy(_at(DOCUMENT, source))
    else:
        owner[place[-1]] = value


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value
