"""The journal: what a restart finds again (§8.3)."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.conftest import FIRST_ID, Client, Serve
from tests.gateway.examples import DEMO_TYPES

FILE = """
structs:
  Row: {fields: {k: int, s: str = "", inner: Inner, when: datetime}}
  Inner: {fields: {z: int}}
channels:
  rows: {type: Row, send: true, state: [{keyby: [k]}, {keyby: [s, when], alias: by_s}]}
  pairs: {type: Row, keys: [b, a], send: true, state: {keyby: [k], alias: kept}}
  lists: {type: Row, list: true, send: true}
  few: {type: Row, send: true, state: {keyby: [k], max_keys: 2}}
  quiet: {type: Row, send: true}
"""


async def everything(gateway: Client) -> dict[str, Any]:
    """What readers see."""
    last = {name: await gateway.get(f"/last/{name}") for name in ("rows", "pairs", "pairs/a", "lists", "few", "quiet")}
    return last | {name: await gateway.get(f"/state/{name}") for name in ("rows", "by_s", "kept", "few")}


async def stop(gateway: Client) -> None:
    await gateway.http.close()


async def test_last_values_and_states_are_as_before(serve: Serve, tmp_path: Path):
    path = tmp_path / "gateway.db"
    gateway = await serve(FILE, journal=path)
    await gateway.send("rows", [{"k": 1, "s": "a"}, {"k": 2, "when": "2024-01-01T00:00:00Z"}, {"k": 1, "s": "b"}])
    await gateway.send("rows", {"id": "mine", "k": None, "inner": {"z": 1}})
    await gateway.send("pairs", {"a": {"k": 1}, "b": {"k": 2}})
    await gateway.send("lists", [{"k": 1}, {"k": 2}])
    await gateway.send("few", [{"k": 1}, {"k": 2}, {"k": 1}, {"k": 3}])
    before = await everything(gateway)
    await stop(gateway)
    again = await serve(FILE, journal=path)
    assert await everything(again) == before


KEYS = """
structs:
  Row: {fields: {n: int, key: TYPE}}
channels:
  rows: {type: Row, send: true, state: {keyby: [key]}}
  pairs: {type: Row, send: true, state: {keyby: [key, n], alias: by_pair}}
"""


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("any", [1, 2.5, "1", True, None, [1], {"a": 1}, "null", 2**70, ""]),
        ("int | str", [1, "1", 2**70, "NULL", None, ""]),
        ("object", [{"a": n} for n in range(10)]),
        ("list[int]", [[n] for n in range(10)]),
        ("str", ["NULL", '"NULL"', None, "null", "", "é"]),
        ("int", [0, 1, 2**63, 2**70, -(2**70), None]),
        ("float", [0, 1, 1.5, 1e300, -1e300, None]),
        ("datetime", ["9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+05:00", "2024-01-01T00:00:00Z", None]),
        ("timedelta", [0, 1.5, 1e12, None]),
    ],
)
async def test_every_combination_of_any_type_is_found_again_once(
    serve: Serve, tmp_path: Path, kind: str, keys: list[Any]
):
    path, text = tmp_path / "gateway.db", KEYS.replace("TYPE", f'"{kind}"')
    gateway = await serve(text, journal=path)
    for n in range(3):  # the second and third time they are updates
        for channel in ("rows", "pairs"):
            await gateway.send(channel, [{"n": n if channel == "rows" else 0, "key": key} for key in keys])
    before = {alias: await gateway.get(f"/state/{alias}") for alias in ("rows", "by_pair")}
    assert len(before["rows"]) == len(before["by_pair"]) == len(keys)
    await stop(gateway)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT alias, count(*) FROM state GROUP BY alias ORDER BY alias").fetchall() == [
            ("by_pair", len(keys)),
            ("rows", len(keys)),
        ]
    again = await serve(text, journal=path)
    assert {alias: await again.get(f"/state/{alias}") for alias in ("rows", "by_pair")} == before
    await again.send("rows", [{"n": 9, "key": key} for key in keys])
    assert [row["n"] for row in await again.get("/state/rows")] == [9] * len(keys)


async def test_rows_that_an_earlier_release_named_differently_are_renamed(serve: Serve, tmp_path: Path):
    path = tmp_path / "gateway.db"
    gateway = await serve(FILE, journal=path)
    await gateway.send("few", [{"k": 1}, {"k": 2}])
    await gateway.send("rows", [{"k": 1, "s": "a"}, {"k": 1, "s": "b"}])
    before = await everything(gateway)
    await stop(gateway)
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE state SET row = '<object at 0x7f' || row || '>'")
        database.execute(
            "INSERT INTO state SELECT alias, key, '<object at 0x8f>', number - 1, CAST('{\"k\":1}' AS BLOB) FROM state"
            " WHERE alias = 'few' AND row LIKE '%1%'"
        )
        database.commit()
    again = await serve(FILE, journal=path)
    assert await everything(again) == before
    await again.send("few", {"k": 3})  # evicts the oldest
    await stop(again)
    last = await serve(FILE.replace(", max_keys: 2", ""), journal=path)
    assert [row["k"] for row in await last.get("/state/few")] == [2, 3]


async def test_ids_go_on_where_they_stopped(serve: Serve, tmp_path: Path):
    path = tmp_path / "gateway.db"
    gateway = await serve(FILE, journal=path, epoch_ns=FIRST_ID)
    sent = await gateway.send("rows", [{} for _ in range(10)])
    await stop(gateway)
    again = await serve(FILE, journal=path, epoch_ns=FIRST_ID - 1_000_000)
    (record,) = await again.send("rows", {})
    assert int(record["id"]) > int(sent[-1]["id"])


async def test_evicted_rows_do_not_come_back(serve: Serve, tmp_path: Path):
    path = tmp_path / "gateway.db"
    gateway = await serve(FILE, journal=path)
    await gateway.send("few", [{"k": k} for k in range(100)])
    await stop(gateway)
    again = await serve(FILE.replace(", max_keys: 2", ""), journal=path)
    assert [row["k"] for row in await again.get("/state/few")] == [98, 99]


async def test_what_no_longer_fits_is_left_out(serve: Serve, tmp_path: Path):
    path = tmp_path / "gateway.db"
    gateway = await serve(FILE, journal=path)
    await gateway.send("rows", {"k": 1, "s": "word"})
    await gateway.send("quiet", {"k": 5})
    await stop(gateway)
    changed = FILE.replace('s: str = ""', "s: int = 0").replace("  quiet: {type: Row, send: true}\n", "")
    again = await serve(changed, journal=path)
    assert await again.get("/last/rows") == []
    assert await again.get("/state/rows") == []


async def test_sends_over_the_stream_are_kept_and_acknowledged_when_they_are(serve: Serve, tmp_path: Path):
    path = tmp_path / "gateway.db"
    gateway = await serve(FILE, journal=path)
    socket = await gateway.stream()
    await socket.send_json({"action": "hello", "errors": True})
    await socket.send_json({"action": "send", "channel": "rows", "data": {"id": "a", "k": 1}})
    answers = [await socket.receive_json(timeout=10) for _ in range(2)]
    assert answers[1]["data"]["ids"] == ["a"]
    await stop(gateway)
    again = await serve(FILE, journal=path)
    assert [row["id"] for row in await again.get("/last/rows")] == ["a"]


async def test_many_senders_share_few_commits(serve: Serve, tmp_path: Path):
    gateway = await serve(DEMO_TYPES, journal=tmp_path / "gateway.db")
    await asyncio.gather(*(gateway.send("by_x", {"x": x}) for x in range(50)))
    assert len(await gateway.get("/state/by_x")) == 50


async def test_a_file_that_is_no_database_is_one_clear_line(serve: Serve, tmp_path: Path):
    from shared.errors import StartupError

    path = tmp_path / "gateway.db"
    path.write_text("this is no database, and long enough to be read as one " * 20)
    with pytest.raises(StartupError, match=r"cannot open the database .*gateway\.db: file is not a database"):
        await serve(FILE, journal=path)
