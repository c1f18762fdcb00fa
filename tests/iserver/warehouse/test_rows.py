"""The rows of finished sessions (protocol §12.4)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from iserver.fdl.model import FieldDefinition, ListType, ObjectDefinition, ObjectType, Scalar, ScalarType, TypeRef
from iserver.sessions.finished import Event, FinishedRecord, FinishedSession, Impression
from iserver.warehouse.arrow import arrow_type, fdl_array
from iserver.warehouse.rows import FeatureRows, SessionRows
from iserver.warehouse.tables import column_type
from tests.iserver.fdl.programs import program
from tests.iserver.warehouse.sessions import SHOP_PROGRAM, START_MS, visit

START = datetime(2023, 11, 14, 22, 13, 20)


def session_row(session: FinishedSession) -> dict[str, Any]:
    rows = SessionRows(SHOP_PROGRAM)
    rows.add(session)
    return rows.take().to_pylist()[0]


def feature_row(session: FinishedSession, number: int) -> dict[str, Any]:
    record = session.records[number]
    rows = FeatureRows(SHOP_PROGRAM, SHOP_PROGRAM.features[record.feature])
    rows.add(session, record)
    return rows.take().to_pylist()[0]


def test_a_session_is_one_row():
    assert session_row(visit()) == {
        "device_id": "dev-1",
        "arrival_id": None,
        "session_id": "session-1",
        "start_time": START,
        "session_length": 60_000,
        "user_agent": "UA/1",
        "entry_url": "/p/1",
        "variants": ["v-blue", "c-ranking"],
        "audiences": ["aud-paid"],
        "user_id": "u-7",
        "user_id_history": [
            {"start_time": START, "end_time": START + timedelta(seconds=30), "value": None},
            {"start_time": START + timedelta(seconds=30), "end_time": START + timedelta(seconds=1860), "value": "u-7"},
        ],
        "channel": "email",
        "tier": "basic",
        "add_to_cart": [
            {
                "event_time": START + timedelta(seconds=50),
                "impression_id": "session-1",
                "event_id": "e-1-1",
                "value": 9.5,
                "sku": "s1",
                "qty": 2,
            }
        ],
    }


def test_a_memo_record_is_one_row():
    assert feature_row(visit(), 0) == {
        "session_id": "session-1",
        "device_id": "dev-1",
        "impression_ids": ["imp-1", "imp-2"],
        "impressions": [
            {"impression_id": "imp-1", "impression_time": START + timedelta(milliseconds=250)},
            {"impression_id": "imp-2", "impression_time": START + timedelta(milliseconds=900)},
        ],
        "first_time": START + timedelta(milliseconds=250),
        "impression_count": 2,
        "product": "iPhone ☃",
        "call_to_action": "Rate!",
        "action_button": "Submit",
        "tone": "CASUAL",
        "rating": [
            {
                "event_time": START + timedelta(seconds=40),
                "impression_id": "imp-1",
                "event_id": "e-1-2",
                "stars": 4,
            }
        ],
    }


def test_objects_become_structs_with_null_for_what_is_absent():
    row = feature_row(visit(), 1)
    assert row["results"] == [{"id": "a", "title": "A", "score": 0.5}, {"id": "b", "title": "B", "score": None}]
    assert (row["dwell"], row["ranker"], row["click"]) == (59_000, "none", [])


def test_rows_keep_their_order_and_are_taken_once():
    rows = SessionRows(SHOP_PROGRAM)
    for number in range(5):
        rows.add(visit(number))
    assert len(rows) == 5
    assert rows.take().column("device_id").to_pylist() == [f"dev-{number}" for number in range(5)]
    assert len(rows) == 0
    assert rows.take().num_rows == 0


def test_events_of_several_rows_go_to_their_rows_in_order():
    text = "feature F { event A { n: Int! } event B {} }"
    shop = program(text)
    rows = FeatureRows(shop, shop.features["F"])

    def record(*names: str) -> FinishedRecord:
        events = tuple(Event(name[0], START_MS, "i", name, {"n": int(name[1:])}) for name in names)
        return FinishedRecord("F", shop.fingerprint, (Impression("i", START_MS),), events=events)

    for item in (record(), record("A1", "B2", "A3"), record(), record("B4", "A5")):
        rows.add(visit(), item)
    batch = rows.take().to_pylist()
    assert [[event["n"] for event in row["a"]] for row in batch] == [[], [1, 3], [], [5]]
    assert [[event["event_id"] for event in row["b"]] for row in batch] == [[], ["B2"], [], ["B4"]]


def test_a_mutable_key_has_its_history_before_the_keys():
    text = "session { args { b: ID! @persistent_key @mutable p: Int @mutable } }"
    shop = program(text)
    assert [field.name for field in SessionRows(shop).schema][:3] == ["b_history", "b", "session_id"]


def test_the_built_in_impression_time_is_a_timestamp():
    shop = program("feature F { args { shown: [ImpressionTime!] } }")
    rows = FeatureRows(shop, shop.features["F"])
    args: dict[str, Any] = {"shown": [{"impressionId": "x", "impressionTime": START_MS}]}
    rows.add(visit(), FinishedRecord("F", shop.fingerprint, (Impression("i", START_MS),), args=args))
    assert rows.take().to_pylist()[0]["shown"] == [{"impression_id": "x", "impression_time": START}]


def test_an_event_that_its_program_does_not_know_is_left_out_and_counted():
    rows = SessionRows(SHOP_PROGRAM)
    new = Event("OfANewProgram", START_MS, "session-1", "e-9", {})
    rows.add(replace(visit(1), events=(new, *visit(1).events)))
    assert len(rows.take().to_pylist()[0]["add_to_cart"]) == 1
    assert rows.unfit == {"OfANewProgram": 1}


def test_a_value_of_another_type_is_null_and_counted():
    rows = FeatureRows(SHOP_PROGRAM, SHOP_PROGRAM.features["Search"])
    for page in (1, "two", 3):
        record = replace(visit().records[1], args={"query": "q", "page": page}, outputs={"results": {"no": "list"}})
        rows.add(visit(), record)
    batch = rows.take()
    assert batch.column("page").to_pylist() == [1, None, 3]
    assert batch.column("results").to_pylist() == [None, None, None]
    assert rows.unfit == {"page": 1, "results": 3}


# --- any type, any value --------------------------------------------------------------------------

SCALARS: dict[Scalar, st.SearchStrategy[Any]] = {
    Scalar.INT: st.integers(-(2**63), 2**63 - 1),
    Scalar.FLOAT: st.floats(allow_nan=False, allow_infinity=False),
    Scalar.BOOLEAN: st.booleans(),
    Scalar.STRING: st.text(st.characters(exclude_categories=["Cs"])),
    Scalar.ID: st.text(st.characters(exclude_categories=["Cs"])),
}


def scalar_types() -> st.SearchStrategy[TypeRef]:
    return st.builds(ScalarType, st.sampled_from(Scalar), st.booleans())


def list_types(element: st.SearchStrategy[TypeRef]) -> st.SearchStrategy[TypeRef]:
    return st.builds(ListType, element, st.booleans())


def object_types(member: st.SearchStrategy[TypeRef]) -> st.SearchStrategy[TypeRef]:
    def build(types: list[TypeRef], nullable: bool) -> TypeRef:
        fields = tuple(FieldDefinition(f"f{n}", type_, f"f{n}") for n, type_ in enumerate(types))
        return ObjectType(ObjectDefinition("T", fields), nullable)

    return st.builds(build, st.lists(member, min_size=1, max_size=3), st.booleans())


TYPES = st.recursive(scalar_types(), lambda inner: list_types(inner) | object_types(inner), max_leaves=5)


def values(type_: TypeRef) -> st.SearchStrategy[Any]:
    match type_:
        case ScalarType(scalar=scalar):
            strategy = SCALARS[scalar]
        case ListType(element=element):
            strategy = st.lists(values(element), max_size=3)
        case ObjectType(definition=definition):
            strategy = st.fixed_dictionaries({item.name: values(item.type) for item in definition.fields})
        case _:
            raise AssertionError(type_)
    return st.none() | strategy if type_.nullable else strategy


@given(st.data())
@settings(deadline=None)
def test_values_of_any_type_come_back_from_arrow(data: st.DataObject):
    type_ = data.draw(TYPES)
    column = data.draw(st.lists(values(type_), max_size=8))
    array = fdl_array(column, type_)
    assert array.type == arrow_type(column_type(type_))
    array.validate(full=True)
    assert array.to_pylist() == column
    assert pa.concat_arrays([array, array]).to_pylist() == column + column
