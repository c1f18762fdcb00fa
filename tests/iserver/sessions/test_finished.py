"""The record that travels from a finished session to the warehouse."""

from __future__ import annotations

import pytest

from iserver.sessions.finished import Event, FinishedRecord, FinishedSession, HistoryEntry, Impression

SESSION = FinishedSession(
    session_id="5d0a2f0e-7f0c-4a7e-9a55-0d2a3c7f1b11",
    definition="f00d",
    persistent_key="dev-1",
    start_ms=1_700_000_000_000,
    last_activity_ms=1_700_000_060_000,
    end_ms=1_700_001_860_000,
    user_agent="UA/1",
    entry_url="/p/1",
    args={"deviceId": "dev-1", "userId": "u-7", "channel": "email"},
    plugin_outputs={"tier": "basic"},
    histories={
        "userId": (
            HistoryEntry(1_700_000_000_000, 1_700_000_030_000, None),
            HistoryEntry(1_700_000_030_000, 1_700_001_860_000, "u-7"),
        )
    },
    variants=("v-blue",),
    audiences=("aud-paid",),
    events=(Event("AddToCart", 1_700_000_050_000, "5d0a", "e-1", {"value": 9.5, "sku": "s1", "qty": 2}),),
    records=(
        FinishedRecord(
            feature="RatingBox",
            definition="f00d",
            impressions=(Impression("imp-1", 1_700_000_000_250), Impression("imp-2", 1_700_000_000_900)),
            args={"product": "☃"},
            outputs={"tone": "CASUAL"},
            events=(Event("Rating", 1_700_000_040_000, "imp-1", "e-2", {"stars": 4}),),
        ),
    ),
)


def test_a_finished_session_survives_its_journey_as_json():
    assert FinishedSession.from_json(SESSION.to_json()) == SESSION


def test_the_length_of_a_session_ends_with_its_last_activity_not_with_its_expiry():
    assert SESSION.length_ms == 60_000


def test_a_record_counts_its_impressions_from_the_first():
    record = SESSION.records[0]
    assert (record.first_ms, record.impression_count) == (1_700_000_000_250, 2)


@pytest.mark.parametrize("text", [b"[]", b"{}", b"nonsense", b'{"session_id": "s"}'])
def test_anything_else_is_not_a_finished_session(text):
    with pytest.raises(ValueError):
        FinishedSession.from_json(text)
