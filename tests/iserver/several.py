"""What tests of several iservers with the same sessions have in common; their fixtures are in `conftest`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import duckdb

from tests.iserver.conftest import Iserver

Together = Callable[..., Awaitable[Iserver]]
RATING = {"feature": "RatingBox", "event": "Rating"}


def logged(warehouse: Path) -> Counter[str]:
    """Impressions, ratings and sessions in the tables, with the number of times they are there."""

    def texts(query: str, table: str) -> list[str]:
        files = f"read_parquet('{warehouse}/tables/{table}/*/*/*.parquet', union_by_name=true)"
        return [text for (text,) in duckdb.connect().execute(query.format(files)).fetchall()]

    facts = Counter(texts("SELECT unnest(impressions).impression_id FROM {}", "rating_box"))
    facts.update(texts("SELECT 'stars ' || unnest(rating).stars FROM {}", "rating_box"))
    facts.update(texts("SELECT 'session ' || session_id FROM {}", "session"))
    return facts


async def flush(server: Iserver) -> str:
    answer = await server.post("cmd", {"action": "flushToWarehouse"})
    assert answer.status == 200, await answer.text()
    return await answer.text()


async def show(server: Iserver, impression: str, device: str = "dev-1", **args: Any) -> Any:
    body = {"RatingBox": {"product": "p1"}}
    return await server.features(body, impression=impression, args={"deviceId": device, **args})


async def until_logged(logs: Any, text: str) -> None:
    """Wait for a line of the log."""
    while not any(text in str(line) for line in logs):  # noqa: ASYNC110 - a log tells nobody
        await asyncio.sleep(0.01)
