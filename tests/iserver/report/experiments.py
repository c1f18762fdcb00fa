"""A shop with an experiment whose effect is known, played into a warehouse."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from iserver.etl.writer import Warehouse
from iserver.sessions.finished import Event, FinishedRecord, FinishedSession, Impression
from iserver.settings import TableFormat
from iserver.warehouse.metadata import metadata_rows
from tests.iserver.warehouse.sessions import SHOP_PROGRAM

DAY_MS = 86_400_000
START_MS = 1_700_006_400_000
"""2023-11-15 00:00 UTC."""

DAYS = 6

EXPERIMENT = {
    "id": "exp-copy",
    "name": "Button copy",
    "variants": [
        {"id": "c-copy", "control": True, "weight": 50},
        {
            "id": "v-blue",
            "name": "Blue",
            "weight": 50,
            "values": [{"feature": "RatingBox", "field": "actionButton", "value": {"constant": "Submit"}}],
        },
    ],
}

OTHER = {
    "id": "exp-later",
    "name": "Nobody's",
    "variants": [
        {"id": "c-later", "control": True, "weight": 1},
        {"id": "v-later", "name": "New", "weight": 3, "values": [{"feature": "Search", "field": "results"}]},
    ],
}


def visitors(count: int, *, lift: float, share: float = 0.5, seed: int = 7) -> Iterator[FinishedSession]:
    """Visitors who rate with a probability of 20 % (control) or 20 % + `lift` (Blue), and buy for 10 more with Blue.

    Every third has a second session a day later, in which the rating happens. A rating before the first impression
    is made by everyone on the way, and must not count.

    Args:
        share: Probability to be assigned to Blue.
    """
    random = np.random.default_rng(seed)
    for number in range(count):
        is_blue = bool(random.random() < share)
        rates = bool(random.random() < 0.2 + lift * is_blue)
        spends = 10.0 + 10.0 * is_blue if random.random() < 0.3 else None
        day = int(number * DAYS / count)
        start_ms = START_MS + day * DAY_MS + 1_000 * (number % 60)
        comes_back = number % 3 == 0
        yield session(number, 1, start_ms, is_blue, rates and not comes_back, None if comes_back else spends)
        if comes_back:
            yield session(number, 2, start_ms + DAY_MS, is_blue, rates, spends)


def session(
    number: int, visit: int, start_ms: int, is_blue: bool, rates: bool, spends: float | None
) -> FinishedSession:
    """One session of a visitor: an impression after two seconds, then perhaps a rating and a purchase."""
    session_id = f"s-{number}-{visit}"
    definition = SHOP_PROGRAM.fingerprint
    rating = Event("Rating", start_ms + 5_000, "i", f"r-{session_id}", {"stars": 5})
    early = Event("AddToCart", start_ms + 1_000, session_id, f"a-{session_id}", {"value": 99.0, "sku": "s", "qty": 1})
    bought = Event(
        "AddToCart", start_ms + 9_000, session_id, f"b-{session_id}", {"value": spends, "sku": "s", "qty": 1}
    )
    return FinishedSession(
        session_id=session_id,
        definition=definition,
        persistent_key=f"dev-{number}-{visit}",
        start_ms=start_ms,
        last_activity_ms=start_ms + 9_000,
        end_ms=start_ms + 1_809_000,
        args={"deviceId": f"dev-{number}-{visit}", "userId": f"user-{number}", "channel": "email"},
        variants=("v-blue" if is_blue else "c-copy", "something-else"),
        events=(early, *([bought] if spends is not None else [])) if visit == 1 else ((bought,) if spends else ()),
        records=(
            FinishedRecord(
                "RatingBox", definition, (Impression("i", start_ms + 2_000),), events=(rating,) if rates else ()
            ),
        ),
    )


def play(folder: Path, sessions: Iterator[FinishedSession], table_format: TableFormat = "parquet") -> str:
    """Write sessions into a new warehouse; its location."""
    warehouse = Warehouse.open(str(folder), table_format)
    warehouse.prepare(SHOP_PROGRAM, START_MS)
    warehouse.write_metadata(metadata_rows({"experiments": [EXPERIMENT, OTHER]}))
    warehouse.write(sessions, "batch-1", {SHOP_PROGRAM.fingerprint: SHOP_PROGRAM}.__getitem__)
    return str(folder)


NOW = datetime(2023, 11, 22, 9, 30, tzinfo=UTC)
