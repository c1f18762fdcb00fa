"""Finished sessions that several tests use."""

from __future__ import annotations

from msgspec.structs import replace

from iserver.fdl import Program
from iserver.sessions.finished import Event, FinishedRecord, FinishedSession, HistoryEntry, Impression
from tests.iserver.fdl.programs import SHOP, program

START_MS = 1_700_000_000_000
"""2023-11-14 22:13:20 UTC."""

END_MS = START_MS + 1_860_000

SHOP_PROGRAM = program(SHOP)


def visit(number: int = 1, shop: Program = SHOP_PROGRAM) -> FinishedSession:
    """A visitor who rated a product twice, searched once, and put something into the cart."""
    session_id = f"session-{number}"
    return FinishedSession(
        session_id=session_id,
        definition=shop.fingerprint,
        persistent_key=f"dev-{number}",
        start_ms=START_MS,
        last_activity_ms=START_MS + 60_000,
        end_ms=END_MS,
        user_agent="UA/1",
        entry_url="/p/1",
        args={"deviceId": f"dev-{number}", "userId": "u-7", "channel": "email"},
        plugin_outputs={"tier": "basic"},
        histories={
            "userId": (
                HistoryEntry(START_MS, START_MS + 30_000, None),
                HistoryEntry(START_MS + 30_000, END_MS, "u-7"),
            )
        },
        variants=("v-blue", "c-ranking"),
        audiences=("aud-paid",),
        events=(
            Event("AddToCart", START_MS + 50_000, session_id, f"e-{number}-1", {"value": 9.5, "sku": "s1", "qty": 2}),
        ),
        records=(
            FinishedRecord(
                "RatingBox",
                shop.fingerprint,
                (Impression("imp-1", START_MS + 250), Impression("imp-2", START_MS + 900)),
                args={"product": "iPhone ☃"},
                outputs={"callToAction": "Rate!", "actionButton": "Submit", "tone": "CASUAL"},
                events=(Event("Rating", START_MS + 40_000, "imp-1", f"e-{number}-2", {"stars": 4}),),
            ),
            FinishedRecord(
                "Search",
                shop.fingerprint,
                (Impression("imp-3", START_MS + 1_000),),
                args={"query": "shoes", "page": 0},
                outputs={
                    "results": [{"id": "a", "title": "A", "score": 0.5}, {"id": "b", "title": "B"}],
                    "dwell": 59_000,
                },
                plugin_outputs={"ranker": "none"},
            ),
        ),
    )


def visits(count: int, shop: Program = SHOP_PROGRAM) -> list[FinishedSession]:
    """Several of them, all in one partition."""
    return [visit(number, shop) for number in range(1, count + 1)]


def later(session: FinishedSession, hours: int) -> FinishedSession:
    """The same session, expired some hours later."""
    return replace(session, end_ms=session.end_ms + hours * 3_600_000)
