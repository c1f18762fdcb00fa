"""What csp-gateway 3.0.0 was seen to answer where a difference is easily made (§1, §2)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.gateway.conftest import Serve

FILE = """
enums:
  Venue: {members: {NYSE: nyse, LSE: lse}}
  Number: {members: {ONE: 1, TWO: 2}}
structs:
  Row:
    fields: {x: int, f: float, s: 'str = ""', vector: "float[]", matrix: "float[][]", whole: "int[]"}
channels:
  rows: {type: Row, send: true, stage: true, state: {keyby: [x]}}
  venues: {type: Row, keys: Venue, send: true}
  numbers: {type: Row, keys: Number, send: true}
  words: {type: Row, keys: [a, b], send: true}
"""
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize("key", ["nyse", "NYSE"])
async def test_a_basket_over_an_enumeration_of_texts_takes_names_and_values(serve: Serve, key: str):
    gateway = await serve(FILE)
    await gateway.send(f"venues/{key}", {"x": 1})
    await gateway.send("venues", {key: {"x": 2}})
    for path in ("/last/venues/NYSE", "/last/venues/nyse"):
        assert [row["x"] for row in await gateway.get(path)] == [2]
    assert await gateway.get("/send/") == [
        "controls", "numbers", "numbers/ONE", "numbers/TWO", "rows", "venues", "venues/LSE", "venues/NYSE", "words",
        "words/a", "words/b",
    ]  # fmt: skip
    await gateway.rejected("POST", "/send/numbers/1", 422, json={"x": 1})


async def test_null_in_an_array_of_floats_is_nan_as_it_is_printed(serve: Serve):
    gateway = await serve(FILE)
    (row,) = await gateway.send("rows", {"vector": [1, None, "2.5"], "matrix": [[None], []]})
    assert (row["vector"], row["matrix"]) == ([1.0, None, 2.5], [[None], []])
    (again,) = await gateway.send("rows", row)
    assert again["vector"] == row["vector"]
    await gateway.rejected("POST", "/send/rows", 422, json={"whole": [1, None]})


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
async def test_a_body_may_be_in_any_encoding_of_unicode(serve: Serve, encoding: str):
    gateway = await serve(FILE)
    for path, value, answered in (
        ("/send/rows", {"s": "ü€"}, lambda answer: answer[0]),
        ("/send/rows", [{"s": "ü€"}], lambda answer: answer[0]),
        ("/send/words/a", {"s": "ü€"}, lambda answer: answer[0]),
        ("/send/words", {"a": {"s": "ü€"}}, lambda answer: answer[0]),
        ("/stage/rows", {"s": "ü€"}, lambda answer: next(iter(answer.values()))[0]),
    ):
        body = json.dumps(value, ensure_ascii=False).encode(encoding)
        answer = await gateway.http.post("/api/v1" + path, data=body, headers=JSON)
        assert answer.status == 200, (path, await answer.text())
        assert answered(await answer.json())["s"] == "ü€"


@pytest.mark.parametrize(
    "body",
    [b'{"s":"\xff"}', b'{"\xff":1}', b'\xff\xfe{"s":12', b'{"x":' + b"1" * 5000 + b"}", b"[" * 100_000],
    ids=["value", "name", "odd UTF-16", "digits", "nesting"],
)
@pytest.mark.parametrize("path", ["/send/rows", "/send/words", "/send/words/a", "/stage/rows"])
async def test_a_body_that_cannot_be_read_is_a_bad_request(serve: Serve, path: str, body: bytes):
    gateway = await serve(FILE)
    detail = await gateway.rejected("POST", path, 400, data=body, headers=JSON)
    assert detail == "There was an error parsing the body"


@pytest.mark.parametrize("headers", [{"content-type": "text/plain"}, {"content-type": "application/octet-stream"}])
@pytest.mark.parametrize("path", ["/send/rows", "/stage/rows"])
async def test_a_body_of_another_content_type_is_no_struct(serve: Serve, path: str, headers: dict[str, str]):
    gateway = await serve(FILE)
    (error,) = await gateway.rejected("POST", path, 422, data=b'{"x":1}', headers=headers)
    assert (error["type"], error["loc"]) == ("model_attributes_type", ["body"])


@pytest.mark.parametrize("digits", [309, 400, 4000])
async def test_an_integer_beyond_the_range_of_floats_is_no_float(serve: Serve, digits: int):
    gateway = await serve(FILE)
    number = "1" * digits if digits > 309 else "9" * 309
    for count in (1, 300):
        rows = [f'{{"x":{at}}}' for at in range(count - 1)] + [f'{{"f":{number}}}']
        body = f"[{','.join(rows)}]" if count > 1 else rows[0]
        errors = await gateway.rejected("POST", "/send/rows", 422, data=body.encode(), headers=JSON)
        assert [(error["type"], error["loc"][-1]) for error in errors] == [("float_type", "f")]
    body = f'{{"x":{number},"s":"{number}","f":1e400}}'
    answer = await gateway.http.post("/api/v1/send/rows", data=body.encode(), headers=JSON)
    (row,) = await answer.json()
    assert (str(row["x"]), row["s"], row["f"]) == (number, number, None)


@pytest.mark.parametrize(
    ("method", "path", "location"),
    [
        ("GET", "/api/v1/last/rows/", "/api/v1/last/rows"),
        ("POST", "/api/v1/send/rows/", "/api/v1/send/rows"),
        ("GET", "/api/v1/send/rows/", "/api/v1/send/rows"),
        ("GET", "/api/v1/state/rows/", "/api/v1/state/rows"),
        ("POST", "/api/v1/stage/rows/", "/api/v1/stage/rows"),
        ("GET", "/api/v1/controls/heartbeat/", "/api/v1/controls/heartbeat"),
        ("GET", "/api/v1/stream/?a=b", "/api/v1/stream?a=b"),
        ("GET", "/api/v1/stage", "/api/v1/stage/"),
        ("GET", "/api/", "/api"),
        ("GET", "/openapi.json/", "/openapi.json"),
    ],
)
async def test_a_slash_too_many_or_too_few_is_redirected_on_every_route(
    serve: Serve, method: str, path: str, location: str
):
    gateway = await serve(FILE)
    answer = await gateway.http.request(method, path, allow_redirects=False)
    assert answer.status == 307
    assert answer.headers["location"] == f"http://{gateway.http.host}:{gateway.http.port}{location}"


@pytest.mark.parametrize(
    ("method", "path", "detail"),
    [
        ("GET", "/last/words/", "Channel not found: words/"),
        ("GET", "/next/words/", "Channel not found: words/"),
        ("POST", "/send/words/", "Channel not found: words/"),
        ("GET", "/last/nothing/", "Not Found"),
        ("POST", "/send/nothing/", "Not Found"),
        ("GET", "/field/", "Not Found"),
    ],
)
async def test_the_empty_key_and_an_unknown_channel_are_not_found(serve: Serve, method: str, path: str, detail: str):
    gateway = await serve(FILE)
    assert await gateway.rejected(method, path, 404, json={} if method == "POST" else None) == detail


async def test_with_keys_a_redirect_does_not_tell_which_channels_there_are(serve: Serve):
    gateway = await serve("auth: {api_key: {keys: [k]}}\n" + FILE)
    for path in ("/last/words/", "/last/rows/", "/last/nothing/"):
        assert (await gateway.http.get("/api/v1" + path, allow_redirects=False)).status == 307


async def test_lookup_is_read_with_get_alone(serve: Serve):
    gateway = await serve(FILE)
    answer = await gateway.http.post("/api/v1/lookup/rows/1")
    assert (answer.status, answer.headers["allow"]) == (405, "GET")


async def test_a_struct_that_is_staged_twice_is_there_twice(serve: Serve):
    gateway = await serve(FILE)
    areas: dict[str, list[dict[str, Any]]] = {}
    for x in (1, 2):
        areas = await (await gateway.http.post("/api/v1/stage/rows", json={"id": "same", "x": x})).json()
    (area,) = areas
    assert [row["x"] for row in areas[area]] == [1, 2]
    removed = await gateway.http.delete(f"/api/v1/stage/rows?id={area}", json={"id": "same"})
    assert [row["x"] for row in (await removed.json())[area]] == [2]
