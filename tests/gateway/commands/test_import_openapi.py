"""Channel files from OpenAPI documents: of a running gateway, and of a file."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.commands.importers.draft import Draft
from gateway.commands.importers.openapi import Listings, draft_of_document
from gateway.schema.field_types import Scalar
from gateway.schema.structs import ABSENT
from tests.gateway.conftest import Client, Serve, declare
from tests.gateway.examples import DEMO_TYPES
from tests.processes import command

IMPLICIT = {"id": {"anyOf": [{"type": "string"}, {"type": "null"}]}, "timestamp": {"type": "string"}}


async def run(*arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    process = await asyncio.create_subprocess_exec(
        command("gateway"), *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def address(gateway: Client) -> str:
    return f"http://{gateway.http.host}:{gateway.http.port}"


def struct(title: str = "Quote", **properties: Any) -> dict[str, Any]:
    """The schema of a struct as csp-gateway writes it."""
    return {
        "type": "object", "title": title, "additionalProperties": False, "properties": {**IMPLICIT, **properties},
    }  # fmt: skip


def document(**channels: dict[str, Any]) -> dict[str, Any]:
    """A document with channels that have a schema and `last`."""
    paths: dict[str, Any] = {"/api/v1/last/": {"get": {}}}
    for name, schema in channels.items():
        paths[f"/api/v1/last/{name}"] = operation("get", schema)
    return {"openapi": "3.1.0", "info": {"title": "Desk", "version": "1"}, "paths": paths, "components": {}}


def operation(method: str, schema: dict[str, Any], **options: Any) -> dict[str, Any]:
    content = {"application/json": {"schema": {"type": "array", "items": schema}}}
    return {method: {"responses": {"200": {"content": content}}, **options}}


def field_of(schema: dict[str, Any], **listings: Any) -> Any:
    """How the file declares a field with a schema."""
    draft = draft_of_document(document(quotes=struct(x=schema)), Listings(**listings), "a test")
    return fields(draft)["x"]


def fields(draft: Draft, name: str = "Quote") -> Any:
    declare(draft.text())  # it loads
    return yaml.safe_load(draft.text())["structs"][name]["fields"]


async def test_a_running_gateway_comes_back_as_it_was_declared(serve: Serve, tmp_path: Path):
    gateway = await serve(DEMO_TYPES)
    for channel in ("example_list", "lists/p"):
        await gateway.send(channel, [{"x": 1}, {"x": 2}])  # a tick of several can only be that of a list channel
    file = tmp_path / "channels.yml"
    code, out, err = await run("import-openapi", address(gateway), "--output", file)
    assert (code, out) == (0, ""), err
    imported, declared = declare(file.read_text()), declare(DEMO_TYPES)
    without_key_enum = [replace(spec, key_enum=None) for spec in declared.channels]
    assert list(imported.channels) == without_key_enum  # the document has the keys, not what they are called together
    example = next(spec for spec in imported.structs if spec.name == "Example")
    assert example.python_type == "shop.Example"
    assert [(each.name, each.type, each.default) for each in example.fields[:2]] == [
        ("x", Scalar("int"), ABSENT), ("y", Scalar("str"), ""),
    ]  # fmt: skip


async def test_what_is_behind_a_key_is_named(serve: Serve):
    gateway = await serve(DEMO_TYPES + "auth: {api_key: {keys: [sesame]}}\n")
    code, out, err = await run("import-openapi", address(gateway))
    assert code == 0, err
    assert "see --token" in err and "auth: add keys" in err
    assert yaml.safe_load(out)["auth"] == {"api_key": {"name": "token"}}
    code, out, err = await run("import-openapi", address(gateway), "--token", "sesame")
    assert code == 0, err
    assert "see --token" not in err


@pytest.mark.parametrize(
    ("schema", "declared"),
    [
        ({"type": "integer", "default": 3}, "int = 3"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "int"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None}, "int? = null"),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}], "default": "a"}, 'int | str = "a"'),
        ({"type": "integer", "minimum": 0.0, "default": 0}, {"type": "int", "default": 0, "ge": 0}),
        ({"type": "string", "enum": ["a", "b"], "default": "a"}, {"literal": ["a", "b"], "default": "a"}),
        ({"type": "string", "format": "duration", "default": "PT1M30S"}, 'timedelta = "PT1M30S"'),
        ({"type": "string", "format": "date-time"}, "datetime"),
        ({"type": "string", "contentMediaType": "application/octet-stream", "default": ""}, 'bytes = ""'),
        ({"type": "array", "items": {"type": "string"}, "uniqueItems": True, "default": []}, "set[str] = []"),
        ({"type": "object", "additionalProperties": {"type": "array", "items": {"type": "number"}}},
         "dict[str, list[float]]"),
        ({"type": "object", "additionalProperties": True}, "object"),
        ({"type": "string", "pattern": "^[A-Z]+$"}, {"type": "str", "pattern": "^[A-Z]+$"}),
        ({"type": "string", "pattern": "(?=x)y"}, "str"),
        ({}, "any"),
    ],
)  # fmt: skip
def test_a_schema_of_a_field_becomes_a_type(schema: dict[str, Any], declared: Any):
    assert field_of(schema) == declared


def test_a_last_value_shows_that_a_field_is_an_array_of_numbers():
    assert field_of({}, last={"quotes": [{"x": [1.0, 2.0]}]}) == "float[]"
    assert field_of({}, last={"quotes": [{"x": [[1.0], [2.0]]}]}) == "float[][]"
    assert field_of({}, last={"quotes": [{"x": ["a"]}]}) == "any"


def test_nested_structs_and_enumerations_are_declared_by_name():
    side = {"type": "string", "enum": ["buy", "sell"], "title": "Side"}
    level = {"type": "string", "enum": ["LOW", "HIGH"], "title": "Level", "description": "An enumeration of Level"}
    leg = struct("Leg", symbol={"type": "string"})
    plain = {"type": "object", "title": "Terms", "properties": {"days": {"type": "integer", "default": 2}}}
    found = document(
        quotes=struct(
            side={"$ref": "#/components/schemas/Side", "default": "buy"}, level={**level, "default": "LOW"},
            legs={"type": "array", "items": leg}, terms={"$ref": "#/$defs/Terms", "default": {"days": 2}},
        ) | {"$defs": {"Terms": plain}}
    )  # fmt: skip
    found["components"] = {"schemas": {"Side": side}}
    draft = draft_of_document(found, Listings(), "a test")
    assert fields(draft) == {
        "side": 'Side = "buy"', "level": 'Level = "LOW"', "legs": "list[Leg]", "terms": 'Terms = {"days": 2}',
    }  # fmt: skip
    value = yaml.safe_load(draft.text())
    assert value["enums"]["Level"] == {"members": {"LOW": "LOW", "HIGH": "HIGH"}, "wire": "name"}
    assert value["structs"]["Terms"]["implicit"] is False
    assert "implicit" not in value["structs"]["Leg"]
    assert draft.notes["structs", "Terms"] == ["members that are not declared were ignored; here they are an error"]


def test_a_struct_may_contain_itself():
    tree = struct("Tree", left={"anyOf": [{"$ref": "#/components/schemas/Tree"}, {"type": "null"}]})
    found = document(trees={"$ref": "#/components/schemas/Tree"})
    found["components"] = {"schemas": {"Tree": tree}}
    assert fields(draft_of_document(found, Listings(), "a test"), "Tree") == {"left": "Tree"}


def test_keys_of_a_basket_come_from_the_listing_and_give_an_enumeration_its_names():
    found = document()
    venue = {"type": "integer", "enum": [1, 2], "title": "Venue"}
    found["components"] = {"schemas": {"Venue": venue}}
    found["paths"]["/api/v1/last/venues/{key}"] = operation("get", struct())
    key = {"name": "key", "in": "path", "schema": {"$ref": "#/components/schemas/Venue"}}
    found["paths"]["/api/v1/send/venues/{key}"] = operation("post", struct(), parameters=[key])
    found["paths"]["/api/v1/last/desks/{key}"] = operation("get", struct())
    listings = Listings(["venues/NYSE", "venues/LSE", "desks/paris", "desks/new york"], ["venues/NYSE", "venues/LSE"])
    value = yaml.safe_load(draft_of_document(found, listings, "a test").text())
    assert value["enums"]["Venue"]["members"] == {"NYSE": 1, "LSE": 2}
    assert value["channels"] == {
        "venues": {"type": "Quote", "keys": "Venue", "send": True},
        "desks": {"type": "Quote", "keys": ["paris", "new york"]},
    }


def test_a_basket_with_unknown_keys_is_written_as_a_comment():
    found = document(quotes=struct())
    found["paths"]["/api/v1/last/desks/{key}"] = operation("get", struct())
    draft = draft_of_document(found, Listings(), "a test")
    declare(draft.text())
    assert list(yaml.safe_load(draft.text())["channels"]) == ["quotes"]
    assert "  # desks: {type: Quote, keys: [KEY]}\n" in draft.text()


def test_states_find_their_channel_by_name_or_by_struct():
    found = document(quotes=struct(x={"type": "integer"}), trades=struct("Trade", y={"type": "integer"}))
    for alias, schema in (("quotes", struct(x={})), ("newest", struct("Trade", y={}))):
        about = "**Keyed by:** ``'id', 'timestamp'``\n\nGet state value"
        found["paths"][f"/api/v1/state/{alias}"] = operation("get", schema, description=about)
    channels = yaml.safe_load(draft_of_document(found, Listings(), "a test").text())["channels"]
    assert channels["quotes"]["state"] == {"keyby": ["id", "timestamp"]}
    assert channels["trades"]["state"] == {"keyby": ["id", "timestamp"], "alias": "newest"}


def test_what_can_be_sent_to_is_what_the_server_lists():
    found = document(quotes=struct(), trades=struct())
    for name in ("quotes", "trades"):  # csp-gateway can mount send for channels that take nothing
        found["paths"][f"/api/v1/send/{name}"] = operation("post", struct())
    with_listing = yaml.safe_load(draft_of_document(found, Listings(send=["quotes"]), "a test").text())["channels"]
    without = yaml.safe_load(draft_of_document(found, Listings(), "a test").text())["channels"]
    assert [name for name, options in with_listing.items() if options.get("send")] == ["quotes"]
    assert [name for name, options in without.items() if options.get("send")] == ["quotes", "trades"]


async def test_what_is_no_document_is_one_line(serve: Serve, tmp_path: Path):
    gateway = await serve(DEMO_TYPES)
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"openapi": "3.1.0", "paths": {"/pets": {}}}))
    for source, complaint in (
        (address(gateway) + "/nothing.json", "status 404"),
        (str(other), "it has no path such as /api/v1/last/"),
        (str(tmp_path / "missing.json"), "No such file"),
    ):
        code, out, err = await run("import-openapi", source)
        assert (code, out, err.count("\n")) == (1, "", 1), err
        assert complaint in err


async def test_a_file_that_is_there_is_left_alone(serve: Serve, tmp_path: Path):
    gateway = await serve(DEMO_TYPES)
    file = tmp_path / "channels.yml"
    file.write_text("mine")
    code, _, err = await run("import-openapi", address(gateway), "--output", file)
    assert code == 1 and "File exists" in err
    assert file.read_text() == "mine"
