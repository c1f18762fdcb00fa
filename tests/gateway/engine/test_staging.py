"""Staging: every row of the table of protocol §2.8, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateway.conftest import Client, Serve

FILE = """
structs:
  Order: {fields: {symbol: 'str = ""', quantity: int = 0}}
channels:
  orders: {type: Order, stage: true}
  other: {type: Order}
"""


@pytest.fixture
async def staged(serve: Serve) -> Client:
    return await serve(FILE)


async def stage(gateway: Client, method: str, query: str = "", order: Any = None) -> Any:
    body = {"json": order} if order is not None else {}
    answer = await gateway.http.request(method, "/api/v1/stage/orders" + query, **body)
    assert answer.status == 200, await answer.text()
    found = await answer.json()
    if isinstance(found, list):
        return found
    return {area: [record["symbol"] for record in records] for area, records in found.items()}


async def two_areas(gateway: Client) -> tuple[str, str]:
    """Two areas, the first holding A and the second B."""
    areas = []
    for symbol in "AB":
        (area,) = await stage(gateway, "POST")
        await stage(gateway, "POST", f"?id={area}", {"id": symbol, "symbol": symbol})
        areas.append(area)
    return areas[0], areas[1]


async def test_post_without_a_struct_opens_an_empty_area(staged: Client):
    opened = await stage(staged, "POST")
    also = await stage(staged, "POST", "?id=")
    assert list(opened.values()) == list(also.values()) == [[]]
    assert await stage(staged, "GET") == [*opened, *also]


async def test_post_without_a_struct_cannot_name_areas(staged: Client):
    detail = await staged.rejected("POST", "/stage/orders?id=a", 400)
    assert detail == "Cannot specify staging_ids without a struct to add"


async def test_post_adds_to_the_latest_area_or_opens_one(staged: Client):
    first = await stage(staged, "POST", order={"symbol": "A"})
    assert list(first.values()) == [["A"]]
    assert await stage(staged, "POST", order={"symbol": "B"}) == {area: ["A", "B"] for area in first}


async def test_post_with_an_empty_id_adds_to_every_area_that_lacks_it(staged: Client):
    first, second = await two_areas(staged)
    assert await stage(staged, "POST", "?id=", {"id": "A", "symbol": "A"}) == {second: ["B", "A"]}
    opened = await stage(staged, "POST", "?id=", {"id": "A", "symbol": "A"})
    assert list(opened.values()) == [["A"]]
    assert first not in opened
    assert second not in opened


async def test_post_to_named_areas_needs_all_of_them(staged: Client):
    first, second = await two_areas(staged)
    added = await stage(staged, "POST", f"?id={first},{second}", {"symbol": "C"})
    assert added == {first: ["A", "C"], second: ["B", "C"]}
    detail = await staged.rejected("POST", f"/stage/orders?id={first},nope", 400, json={"symbol": "D"})
    assert detail == "'Staging ID not found: nope'"
    assert await stage(staged, "PUT") == {first: ["A", "C"], second: ["B", "C"]}


async def test_delete_without_a_struct_drops_the_latest_all_or_empties_the_named(staged: Client):
    first, second = await two_areas(staged)
    assert await stage(staged, "DELETE", f"?id={first}") == {first: []}
    assert await stage(staged, "PUT") == {first: [], second: ["B"]}
    assert await stage(staged, "DELETE") == {second: []}
    assert await stage(staged, "GET") == [first]
    await stage(staged, "POST")
    assert len(await stage(staged, "DELETE", "?id=")) == 2
    assert await stage(staged, "GET") == []
    assert await stage(staged, "DELETE") == {}


async def test_delete_with_a_struct_takes_it_out(staged: Client):
    first, second = await two_areas(staged)
    await stage(staged, "POST", f"?id={second}", {"id": "A", "symbol": "A"})
    assert await stage(staged, "DELETE", order={"id": "A"}) == {second: ["B"]}
    assert await stage(staged, "DELETE", "?id=", {"id": "A"}) == {first: []}
    assert await stage(staged, "DELETE", f"?id={second}", {"id": "B"}) == {second: []}
    assert await stage(staged, "DELETE", order={"id": "nope"}) == {}


async def test_patch_ticks_what_was_staged_and_forgets_the_area(staged: Client):
    first, second = await two_areas(staged)
    assert await stage(staged, "PATCH", "?id=") == {}
    assert await stage(staged, "PATCH", f"?id={first},nope") == {first: ["A"]}
    assert [record["symbol"] for record in await staged.get("/last/orders")] == ["A"]
    assert await stage(staged, "GET") == [second]
    await stage(staged, "POST", order={"symbol": "C"})
    assert await stage(staged, "PATCH") == {second: ["B", "C"]}
    assert [tick.records[0].symbol for tick in staged.gateway.engine.channels["orders"].feeds[0].recent] == [
        "A",
        "B",
        "C",
    ]
    assert await stage(staged, "GET") == []


async def test_get_and_put_of_named_areas(staged: Client):
    first, _ = await two_areas(staged)
    assert await stage(staged, "GET", "?id=") == []
    assert await stage(staged, "GET", f"?id={first}") == [first]
    assert await stage(staged, "GET", "?id=nope") == []
    assert await stage(staged, "PUT", "?id=") == {}
    assert await stage(staged, "PUT", f"?id={first}") == {first: ["A"]}
    assert await stage(staged, "PUT", "?id=nope") == {}


async def test_a_staged_struct_has_id_and_timestamp_and_is_found_by_lookup(staged: Client):
    answer = await staged.http.post("/api/v1/stage/orders", json={"symbol": "A"})
    ((record,),) = (await answer.json()).values()
    assert record["timestamp"] == "2026-11-21T03:56:00.381782"
    assert await staged.get(f"/lookup/orders/{record['id']}") == [record]


async def test_what_cannot_be_staged_is_refused(staged: Client):
    (error,) = await staged.rejected("POST", "/stage/orders", 422, json={"quantity": "many"})
    assert error["loc"] == ["body", "quantity"]
    (error,) = await staged.rejected("POST", "/stage/orders", 422, json=[{"symbol": "A"}])
    assert error["loc"] == ["body"]
    assert await staged.rejected("POST", "/stage/other", 404, json={}) == "Not Found"


async def test_without_staged_channels_there_is_no_stage_group(serve: Serve):
    gateway = await serve("structs: {S: {fields: {x: int}}}\nchannels: {plain: {type: S}}\n")
    assert await gateway.rejected("GET", "/stage/", 404) == "Not Found"
