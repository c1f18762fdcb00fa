"""Channel files: what they may say, and the line of what is wrong (§8.2)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.config.loader import parse_channel_file
from gateway.config.text import ChannelFileError
from gateway.modules.builtin.demo import demo_file
from tests.gateway.conftest import Serve, declare
from tests.gateway.examples import DEMO_TYPES, TYPES


@pytest.mark.parametrize("text", [demo_file(), DEMO_TYPES, TYPES])
def test_the_examples_are_right(text: str):
    assert declare(text).channels[-1].name == "controls"


def wrong(text: str, name: str = "channels.yml") -> str:
    """What is said about a file."""
    with pytest.raises(ChannelFileError) as error:
        parse_channel_file(text, name, {})
    return str(error.value)


GOOD = """\
structs:
  Quote:
    fields:
      symbol: str
      bid: float
channels:
  quotes: {type: Quote, send: true}
"""


@pytest.mark.parametrize(
    ("found", "instead", "complaint"),
    [
        ("send: true", "sned: true", "channels.yml:7: channels.quotes.sned: is no option here (did you mean 'send'?)"),
        ("send: true", "send: perhaps", "channels.yml:7: channels.quotes.send: input should be a valid boolean"),
        ("type: Quote", "type: Quota", "channels.yml:7: channels.quotes.type: 'Quota' is not a declared struct (did"),
        ("type: Quote, ", "", "channels.yml:7: channels.quotes.type: is missing"),
        ("bid: float", "bid: flaot", "channels.yml:5: structs.Quote.fields.bid: unknown type 'flaot'"),
        ("bid: float", "bid: int = x", "channels.yml:5: structs.Quote.fields.bid: the default 'x' is not JSON"),
        ("bid: float", "id: str", "channels.yml:5: structs.Quote.fields.id: every struct has this member already"),
        ("bid: float", "bid: {ge: 1}", "channels.yml:5: structs.Quote.fields.bid: expected either 'type' or 'literal'"),
        ("bid: float", "symbol: str", "channels.yml:5: structs.Quote.fields.symbol: is given twice"),
        ("  quotes:", "  id:", "channels.yml:7: channels.id: the name 'id' is taken by the gateway itself"),
        ("  quotes:", "  a-b:", "channels.yml:7: channels.a-b: 'a-b' is not a name"),
        ("send: true", "keys: Side", "channels.yml:7: channels.quotes.keys: 'Side' is not a declared enumeration"),
        ("send: true", "keys: [a, a]", "channels.yml:7: channels.quotes.keys: the key 'a' is given twice"),
        ("send: true", "keys: []", "channels.yml:7: channels.quotes.keys: a basket needs at least one key"),
        (
            "send: true",
            "state: {keyby: [symbl]}",
            "channels.yml:7: channels.quotes.state: keyby 'symbl' is not a field of Quote (did you mean 'symbol'?)",
        ),
        (
            "send: true",
            "state: [{keyby: [bid]}, {keyby: [symbol]}]",
            "channels.yml:7: channels.quotes.state: the alias 'quotes' belongs to 'quotes'",
        ),
        ("channels:", "colours: 1\nchannels:", "channels.yml:6: colours: is no option here"),
        ("channels:", "stream: {include: [quote]}\nchannels:", "channels.yml:6: stream.include.0: 'quote' is not a"),
        ("bid: float", "bid: [", "channels.yml:"),
        (
            "channels:",
            "fields: {day: 2026-13-45}\nchannels:",
            "channels.yml:6: fields.day: '2026-13-45': month must be",
        ),
        ("channels:", "fields: {n: !!int x}\nchannels:", "channels.yml:6: fields.n: 'x': invalid literal for int()"),
        (
            "channels:",
            "fields: &a [*a]\nchannels:",
            "channels.yml: values are nested too deeply, or contain themselves",
        ),
        (
            "channels:",
            "stream: {include: [quotes/a]}\nchannels:",
            "channels.yml:6: stream.include.0: 'quotes/a' is not a",
        ),
        (
            "channels:",
            "rest: {state: {include: [quotes]}}\nchannels:",
            "channels.yml:6: rest.state.include.0: 'quotes' is not a state",
        ),
        (
            "channels:",
            "auth: {api_key: {keys: [k, {key: k, read_only: true}]}}\nchannels:",
            "channels.yml:6: auth.api_key.keys.1: this key is given twice",
        ),
        (
            "channels:",
            "auth: {api_key: {keys: ['']}}\nchannels:",
            "channels.yml:6: auth.api_key.keys.0: string should have",
        ),
        (
            "bid: float",
            'bid: {type: str, pattern: "["}',
            "channels.yml:5: structs.Quote.fields.bid: pattern '[': unclosed character class",
        ),
        (
            "bid: float",
            'bid: {type: str, pattern: "(a)\\\\1", message: twice}',
            "channels.yml:5: structs.Quote.fields.bid: pattern '(a)\\\\1': backreferences are not supported",
        ),
        (
            "bid: float",
            "bid: {type: float, gt: zero}",
            "channels.yml:5: structs.Quote.fields.bid.gt: input should be a valid number, unable to parse",
        ),
        ("bid: float", "bid: {literal: []}", "channels.yml:5: structs.Quote.fields.bid.literal: list should have at"),
        (
            "bid: float",
            "bid: {type: {literal: [a, b]}, default: c}",
            "channels.yml:5: structs.Quote.fields.bid: default 'c': Input should be 'a' or 'b'",
        ),
        (
            "bid: float",
            "bid: {type: {literal: [a]}, literal: [a]}",
            "channels.yml:5: structs.Quote.fields.bid: expected either 'type' or 'literal'",
        ),
        ("bid: float", "bid: int = null", "channels.yml:5: structs.Quote.fields.bid: default None: Input should be a"),
        (
            "bid: float",
            "bid: Optional[str]",
            "channels.yml:5: structs.Quote.fields.bid: unknown type 'Optional'; write T?",
        ),
        ("bid: float", "bid: number", "channels.yml:5: structs.Quote.fields.bid: unknown type 'number'; write float"),
        (
            "bid: float",
            "bid: {type: float?}",
            "channels.yml:5: expected ',' or '}', but got '?'; inside { } a type with '?', '[' or ',' needs quotes",
        ),
        (
            "send: true",
            "readonly: true",
            "channels.yml:7: channels.quotes.readonly: is no option here; clients can send to a channel only if",
        ),
        (
            "channels:",
            "enums: {Side: {members: {buy: 1, sell: 1.0}}}\nchannels:",
            "channels.yml:6: enums.Side.members.sell: has the value of 'buy': 1.0",
        ),
        (
            "channels:",
            "auth: {api_key: {keys: [{key: k, channels: [quote]}]}}\nchannels:",
            "channels.yml:6: auth.api_key.keys.0.channels.0: 'quote' is not a channel (did you mean 'quotes'?)",
        ),
        (
            "channels:",
            "auth: {api_key: {keys: [{key: k, readonly: true}]}}\nchannels:",
            "channels.yml:6: auth.api_key.keys.0.readonly: is no option here (did you mean 'read_only'?)",
        ),
        (
            "channels:",
            "auth: {api_key: {keys: [{key: k, read_only: perhaps}]}}\nchannels:",
            "channels.yml:6: auth.api_key.keys.0.read_only: input should be a valid boolean",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_line(found: str, instead: str, complaint: str):
    assert found in GOOD
    assert wrong(GOOD.replace(found, instead, 1)).startswith(complaint)


@pytest.mark.parametrize(
    ("field", "complaint"),
    [
        ("x: {type: str, ge: 1}", "ge does not apply to str"),
        ("x: int = null", "default None: Input should be a valid integer"),
        (
            "x: {type: str, default_now: start}",
            "default_now needs a datetime or a date, not str",
        ),
    ],
)
def test_a_struct_that_contradicts_itself_is_told_by_name_and_line(field: str, complaint: str):
    said = wrong(f"structs:\n  S:\n    fields:\n      {field}\nchannels: {{c: {{type: S}}}}\n")
    assert said.startswith(f"channels.yml:4: structs.S.fields.x: {complaint}")


def test_a_mistake_in_a_nested_struct_is_told_where_it_is():
    text = "structs:\n  Outer:\n    fields: {inner: Inner}\n  Inner:\n    fields:\n      z: int = x\n"
    said = wrong(text.replace("= x", '= "x"') + "channels: {c: {type: Outer}}\n")
    assert said.startswith("channels.yml:6: structs.Inner.fields.z: default 'x': Input should be a valid integer")


async def test_a_literal_type_has_a_default_as_other_types_have(serve: Serve):
    gateway = await serve(
        "structs: {S: {fields: {side: {type: {literal: [buy, sell]}, default: buy}}}}\n"
        "channels: {c: {type: S, send: true}}\n"
    )
    assert [each["side"] for each in await gateway.send("c", [{}, {"side": "sell"}])] == ["buy", "sell"]
    (error,) = await gateway.rejected("POST", "/send/c", 422, json={"side": "hold"})
    assert error["loc"] == ["body", "side"]


async def test_a_pattern_with_a_message_takes_no_longer_than_one_without(serve: Serve):
    gateway = await serve(
        "structs: {S: {fields: {x: {type: str, pattern: '^(a+)+$', message: only a}}}}\n"
        "channels: {c: {type: S, send: true}}\n"
    )
    assert (await gateway.send("c", {"x": "a" * 50}))[0]["x"] == "a" * 50
    (error,) = await gateway.rejected(
        "POST", "/send/c", 422, json={"x": "a" * 50 + "b"}
    )  # 2 to the 50th steps for some
    assert error["msg"] == "Value error, only a"


def test_json_and_toml_say_the_same_as_yaml():
    toml = '[structs.Quote.fields]\nsymbol = "str"\nbid = "float"\n[channels.quotes]\ntype = "Quote"\nsend = true\n'
    value = {
        "structs": {"Quote": {"fields": {"symbol": "str", "bid": "float"}}},
        "channels": {"quotes": {"type": "Quote", "send": True}},
    }
    yaml, expected = declare(GOOD), parse_channel_file(json.dumps(value), "c.json", {})
    assert parse_channel_file(toml, "c.toml", {}).channels == expected.channels == yaml.channels
    assert expected.structs == yaml.structs
    assert wrong("[channels\n", "c.toml").startswith("c.toml: ")
    assert wrong('{"channels": }', "c.json").startswith("c.json:1: ")


def test_the_environment_fills_in():
    text = GOOD + "auth: {api_key: {keys: ['${ENV:KEY}', 'x-${ENV:OTHER:-none}']}}\n"
    options = declare(text, KEY="secret").options
    assert options.auth.api_key is not None
    assert options.auth.api_key.keys == ["secret", "x-none"]
    assert wrong(text) == "channels.yml:8: auth.api_key.keys.0: the environment variable KEY is not set"


def test_settings_can_be_put_over_the_file():
    overrides = ["server.title=Prices", "server.contact.name=me", "channels.quotes.send=false"]
    declared = parse_channel_file(GOOD, "c.yml", {}, None, overrides)
    assert declared.options.server.title == "Prices"
    assert declared.options.server.contact.name == "me"
    assert not declared.channels[0].sendable
    with pytest.raises(ChannelFileError, match=r"--set server\.title=\[: the value is not YAML"):
        parse_channel_file(GOOD, "c.yml", {}, None, ["server.title=["])
    with pytest.raises(ChannelFileError, match=r"--set nonsense: expected section\.option=value"):
        parse_channel_file(GOOD, "c.yml", {}, None, ["nonsense"])


def test_sizes_and_spans_are_written_as_people_say_them():
    text = GOOD + "server: {max_body: 2 MiB}\nlookup: {ttl: 1.5h}\nstream: {queue: {max_bytes: 500kB}}\n"
    options = declare(text).options
    assert (options.server.max_body, options.lookup.ttl, options.stream.queue.max_bytes) == (2**21, 5400.0, 500_000)
    assert "'much' is not a size such as 16MiB" in wrong(GOOD + "server: {max_body: much}\n")


async def test_a_struct_may_contain_itself(serve: Serve):
    gateway = await serve(
        "structs: {Node: {implicit: false, fields: {name: str, children: 'list[Node]', parent: Node}}}\n"
        "channels: {tree: {type: Node, send: true}}\n"
    )
    tree = {"name": "a", "children": [{"name": "b", "children": []}], "parent": {"name": "c"}}
    assert await gateway.send("tree", tree) == [tree]
    (error,) = await gateway.rejected("POST", "/send/tree", 422, json={"children": [{"children": [{"name": True}]}]})
    assert error["loc"] == ["body", "children", 0, "children", 0, "name"]
    document = await (await gateway.http.get("/openapi.json")).json()
    children = document["components"]["schemas"]["Node"]["properties"]["children"]["anyOf"][0]
    assert children == {"type": "array", "items": {"$ref": "#/components/schemas/Node"}}


async def test_a_field_with_the_struct_itself_may_have_an_empty_default(serve: Serve):
    gateway = await serve(
        "structs:\n"
        "  Node:\n    implicit: false\n"
        "    fields: {left: 'Node? = null', rest: 'list[Node] = []', named: 'dict[str, Node] = {}'}\n"
        "  Tree: {implicit: false, fields: {root: 'Node? = null', others: 'list[Node] = []'}}\n"
        "channels: {trees: {type: Tree, send: true}}\n"
    )
    leaf = {"left": None, "rest": [], "named": {}}
    assert await gateway.send("trees", {"root": {"left": {}}}) == [{"root": {**leaf, "left": leaf}, "others": []}]


async def test_a_struct_can_come_from_a_json_schema(serve: Serve, tmp_path: Path):
    schema = {
        "type": "object",
        "properties": {
            "count": {"type": "integer", "minimum": 1},
            "when": {"type": "string", "format": "date-time"},
            "kind": {"enum": ["a", "b"]},
            "note": {"type": ["string", "null"], "default": None},
            "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
            "rest": {"type": "array", "items": True},
            "other": True,
        },
    }
    (tmp_path / "thing.json").write_text(json.dumps(schema))
    text = "structs: {Thing: {schema: thing.json}}\nchannels: {things: {type: Thing, send: true}}\n"
    gateway = await serve(text, folder=tmp_path)
    (record,) = await gateway.send("things", {"count": 2, "when": "2024-01-01T00:00:00Z", "kind": "a", "tags": ["x"]})
    assert list(record) == ["id", "timestamp", "count", "when", "kind", "note", "tags"]
    for bad in ({"count": 0}, {"kind": "c"}, {"tags": ["a", "b", "c"]}, {"when": "soon"}):
        (error,) = await gateway.rejected("POST", "/send/things", 422, json=bad)
        assert error["loc"] == ["body", *bad]


async def test_a_struct_can_come_from_a_pydantic_model(serve: Serve, tmp_path: Path):
    (tmp_path / "models.py").write_text(
        "from datetime import datetime\n"
        "from pydantic import BaseModel, field_validator\n"
        "class Inner(BaseModel):\n    z: int = 12\n"
        "class Thing(BaseModel):\n"
        "    count: int\n    when: datetime | None = None\n    inner: Inner = Inner()\n"
        "    @field_validator('count')\n"
        "    @classmethod\n"
        "    def positive(cls, value):\n"
        "        if value < 0: raise ValueError('value must be non-negative.')\n"
        "        if value == 7: raise RuntimeError('a bug')\n"
        "        return value\n"
    )
    text = (
        "structs: {Thing: {pydantic: 'models.py:Thing'}}\n"
        "channels: {things: {type: Thing, send: true, state: {keyby: [count]}}}\n"
    )
    gateway = await serve(text, folder=tmp_path)
    sent = await gateway.send("things", [{"count": 2}, {"count": "1"}])
    assert [list(each) for each in sent] == [["id", "timestamp", "count", "when", "inner"]] * 2
    assert sent[0]["inner"] == {"z": 12}
    assert [each["count"] for each in await gateway.get("/state/things")] == [1, 2]
    (error,) = await gateway.rejected("POST", "/send/things", 422, json={"count": -1})
    assert (error["type"], error["loc"]) == ("value_error", ["body", "count"])
    assert error["msg"] == "Value error, value must be non-negative."
    assert "request id" in await gateway.rejected("POST", "/send/things", 500, json={"count": 7})


@pytest.mark.parametrize(
    ("struct", "complaint"),
    [
        ("{schema: nowhere.json}", "cannot read the schema nowhere.json"),
        ("{pydantic: 'json:loads'}", "json:loads is not a pydantic model"),
        ("{pydantic: 'nowhere:Thing'}", "cannot import nowhere:Thing"),
        ("{schema: a, pydantic: b}", "expected exactly one of 'fields', 'schema' and 'pydantic'"),
    ],
)
def test_a_struct_that_cannot_be_imported_is_told(struct: str, complaint: str, tmp_path: Path):
    with pytest.raises(ChannelFileError) as error:
        declare(f"structs:\n  Thing: {struct}\nchannels: {{things: {{type: Thing}}}}\n", tmp_path)
    assert str(error.value).startswith(f"channels.yml:2: structs.Thing: {complaint}")


@pytest.mark.parametrize(
    ("property_schema", "complaint"),
    [
        (3, "property 'x': 3 is not a schema"),
        ({"anyOf": [3]}, "property 'x': 3 is not a schema"),
        ({"anyOf": [{"type": "null"}]}, "property 'x' is null and nothing else"),
        ({"type": ["null"]}, "property 'x' is null and nothing else"),
        ({"type": "array", "items": 3}, "property 'x': 3 is not a schema"),
        ({"enum": 3}, "property 'x': enum is not a list of at least one item"),
        ({"enum": []}, "property 'x': enum is not a list of at least one item"),
        ({"type": "integer", "minimum": "a"}, "ValueError: 'ge' must be coercible to an integer"),
    ],
)
def test_a_json_schema_that_is_none_is_told(property_schema: object, complaint: str, tmp_path: Path):
    (tmp_path / "thing.json").write_text(json.dumps({"properties": {"x": property_schema}}))
    with pytest.raises(ChannelFileError) as error:
        declare("structs:\n  Thing: {schema: thing.json}\nchannels: {things: {type: Thing}}\n", tmp_path)
    assert str(error.value) == f"channels.yml:2: structs.Thing: {complaint}"
