"""The documents that clients and pages read (§5)."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from gateway.modules.builtin.demo import demo_file
from tests.gateway.conftest import Serve
from tests.gateway.examples import DEMO_TYPES, TYPES


async def document(serve: Serve, text: str = DEMO_TYPES, **options: Any) -> dict[str, Any]:
    gateway = await serve(text)
    answer = await gateway.http.get("/openapi.json", **options)
    assert answer.status == 200
    found: dict[str, Any] = await answer.json()
    return found


async def test_the_top_level_members_are_exactly_those(serve: Serve):
    found = await document(serve)
    assert list(found) == ["openapi", "info", "paths", "components"]
    assert found["openapi"] == "3.1.0"
    assert found["info"] == {
        "title": "Gateway",
        "description": "",
        "contact": {"name": "", "email": "example@domain.com"},
        "version": "3.0.0",
    }


async def test_the_demo_has_every_path_of_the_reference_that_clients_call(serve: Serve):
    paths = set((await document(serve, demo_file()))["paths"])
    names = [
        "example",
        "example_list",
        "never_ticks",
        "example_with_state",
        "example_with_state_multiple",
        "example_with_stage",
    ]
    for group in ("last", "next"):
        assert {f"/api/v1/{group}/{name}" for name in [*names, "basket", "basket/{key}", "controls", ""]} <= paths
    assert {f"/api/v1/lookup/{name}/{{id}}" for name in [*names, "basket", "id"]} <= paths
    assert {"/api/v1/send/example", "/api/v1/send/basket", "/api/v1/send/basket/{key}", "/api/v1/send/"} <= paths
    assert {f"/api/v1/state/{name}" for name in ("example", "example_with_state_alternative", "")} <= paths
    assert {"/api/v1/stage/example", "/api/v1/controls/heartbeat", "/api/v1/stream", "/api"} <= paths


async def test_every_operation_has_a_type_where_the_client_makes_structs(serve: Serve):
    paths = (await document(serve))["paths"]
    for path in ("last/example", "next/basket", "last/basket/{key}", "lookup/example/{id}", "state/by_x"):
        assert paths[f"/api/v1/{path}"]["get"]["type_"] == "shop.Example"
    assert paths["/api/v1/send/basket"]["post"]["type_"] == "shop.Example"
    assert paths["/api/v1/controls/stats"]["get"]["type_"] == "csp_gateway.utils.web.controls.Controls"
    for path in ("last/", "last/basket", "lookup/id/{id}"):
        assert "type_" not in paths[f"/api/v1/{path}"]["get"]


async def test_every_answer_resolves_to_an_object_with_properties(serve: Serve):
    found = await document(serve)
    answer = found["paths"]["/api/v1/last/example"]["get"]["responses"]["200"]
    schema = answer["content"]["application/json"]["schema"]
    assert schema == {"type": "array", "items": {"$ref": "#/components/schemas/Example"}}
    example = found["components"]["schemas"]["Example"]
    assert list(example["properties"]) == ["id", "timestamp", "x", "y", "nested"]
    assert example["additionalProperties"] is False
    assert "required" not in example
    assert example["properties"]["x"]["anyOf"] == [{"type": "integer", "minimum": 0}, {"type": "null"}]
    assert example["properties"]["y"] == {"type": "string", "title": "Y", "default": ""}
    assert example["properties"]["nested"] == {"$ref": "#/components/schemas/Nested", "default": {"z": 12}}


@pytest.mark.parametrize(
    ("field", "schema"),
    [
        ("int_", {"type": "integer"}),
        ("float_", {"type": "number"}),
        ("datetime_", {"type": "string", "format": "date-time"}),
        ("date_", {"type": "string", "format": "date"}),
        ("timedelta_", {"type": "number"}),
        ("array", {"type": "array", "items": {"type": "number"}}),
        ("matrix", {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}),
        ("dict_", {"type": "object", "additionalProperties": {"type": "integer"}}),
        ("number", {"$ref": "#/components/schemas/Number"}),
        ("literal", {"type": "string", "enum": ["x", "y"]}),
        ("positive", {"type": "number", "exclusiveMinimum": 0}),
    ],
)
async def test_schemas_say_what_is_really_printed(serve: Serve, field: str, schema: dict[str, Any]):
    found = await document(serve, TYPES)
    declared = found["components"]["schemas"]["Everything"]["properties"][field]
    assert declared["anyOf"] == [schema, {"type": "null"}]


async def test_enumerations_print_values_or_names(serve: Serve):
    schemas = (await document(serve, TYPES))["components"]["schemas"]
    assert schemas["Number"] == {"type": "integer", "enum": [1, 2, 3], "title": "Number"}
    assert schemas["Side"] == {"type": "string", "enum": ["BUY", "SELL"], "title": "Side"}


async def test_operations_are_named_as_clients_generate_from_them(serve: Serve):
    paths = (await document(serve))["paths"]
    operation = paths["/api/v1/last/example"]["get"]
    assert operation["operationId"] == "Get_Last_example_api_v1_last_example_get"
    assert (operation["summary"], operation["tags"]) == ("Get Last Example", ["Last"])
    assert paths["/api/v1/last/basket/{key}"]["get"]["summary"] == "Get Last Basket By Key"
    assert paths["/api/v1/send/example"]["post"]["tags"] == ["Requests"]
    assert paths["/api/v1/stage/example"]["post"]["summary"] == "Stage Add Example"
    ids = [each["operationId"] for methods in paths.values() for each in methods.values()]
    assert len(ids) == len(set(ids))


async def test_state_operations_describe_their_key_and_their_query(serve: Serve):
    operation = (await document(serve))["paths"]["/api/v1/state/by_x"]["get"]
    assert operation["description"].startswith("**Keyed by:** 'x'\n")
    assert '{"filters":[{"attr":"x","by":{"value":5,"where":"=="}}]}' in operation["description"]
    (query,) = operation["parameters"]
    assert (query["name"], query["required"]) == ("query", False)
    assert query["schema"]["contentMediaType"] == "application/json"


async def test_send_takes_one_or_many_and_a_basket_an_object(serve: Serve):
    paths = (await document(serve))["paths"]
    reference = {"$ref": "#/components/schemas/Example"}
    body = paths["/api/v1/send/example"]["post"]["requestBody"]
    assert body["required"] is True
    assert body["content"]["application/json"]["schema"]["anyOf"] == [{"type": "array", "items": reference}, reference]
    whole = paths["/api/v1/send/basket"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert whole["additionalProperties"] == reference
    assert whole["propertyNames"]["enum"] == ["A", "B", "C"]


async def test_with_keys_every_operation_is_secured(serve: Serve):
    found = await document(serve, "auth: {api_key: {keys: [k], name: pass}}\n" + DEMO_TYPES, params={"pass": "k"})
    assert found["components"]["securitySchemes"]["APIKeyHeader"] == {"type": "apiKey", "in": "header", "name": "pass"}
    assert all("security" in each for methods in found["paths"].values() for each in methods.values())
    assert "/api/v1/auth/login" in found["paths"]


async def test_every_documented_path_answers(serve: Serve):
    gateway = await serve(demo_file())
    document = await (await gateway.http.get("/openapi.json")).json()
    for path, methods in document["paths"].items():
        if "get" not in methods or "/next/" in path or path.endswith("/sse"):
            continue
        concrete = path.replace("{key}", "a" if "str_basket" in path else "A").replace("{id}", "1")
        status = (await gateway.http.get(concrete)).status
        assert status in (200, 404), (path, status)
        assert status == 200 or "never_ticks" in path or "lookup/id" in path, path


@pytest.mark.parametrize(("page", "script"), [("/docs", "swagger-ui-bundle.js"), ("/redoc", "redoc.standalone.js")])
async def test_the_pages_need_nothing_from_elsewhere(serve: Serve, page: str, script: str):
    gateway = await serve(DEMO_TYPES)
    text = await (await gateway.http.get(page)).text()
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//""", text)
    assert f"/static/{script}" in text
    answer = await gateway.http.get(f"/static/{script}")
    assert answer.status == 200
    assert "javascript" in answer.headers["content-type"]
    assert len(await answer.read()) > 100_000


async def test_icons_and_the_configuration_of_user_interfaces(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    answer = await gateway.http.get("/static/favicon.png")
    assert answer.headers["cache-control"] == "public, max-age=604800"
    assert (await answer.read()).startswith(b"\x89PNG")
    config = await (await gateway.http.get("/ui-config")).json()
    assert list(config) == ["title", "description", "headerLogo", "footerLogo", "customCss", "customJs", "basePath"]
    for path in ("/static/nope.js", "/static/..%2fapp.py"):
        assert (await gateway.http.get(path)).status == 404


async def test_the_asyncapi_document_describes_the_stream(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    found = await (await gateway.http.get("/asyncapi.json")).json()
    assert found["asyncapi"] == "3.0.0"
    assert found["channels"]["stream"]["address"] == "/api/v1/stream"
    messages = found["components"]["messages"]
    assert {"subscribe", "unsubscribe", "send_example", "example_ticked", "heartbeat"} <= set(messages)
    assert "send_never_ticks" not in messages
    references = re.findall(r'"\$ref":"#/([^"]+)"', json.dumps(found, separators=(",", ":")))
    for reference in references:
        target: Any = found
        for step in reference.split("/"):
            target = target[step]
