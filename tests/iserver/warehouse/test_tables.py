"""Tables, views and the statements that create them (protocol §12.3, §12.4)."""

from __future__ import annotations

import re

import duckdb
import pytest
import yaml

from iserver.warehouse.catalog import catalog_text
from iserver.warehouse.ddl import ddl
from iserver.warehouse.metadata import json_lines, metadata_rows
from iserver.warehouse.tables import ViewSource, metadata_tables, tables, views
from tests.iserver.fdl.programs import SHOP, program


def test_the_running_example_has_the_columns_of_the_protocol():
    columns = {table.name: [column.name for column in table.columns] for table in tables(program(SHOP))}
    assert list(columns) == ["session", "rating_box", "product_info", "new_checkout", "search"]
    assert columns["session"] == [
        "device_id",
        "arrival_id",
        "session_id",
        "start_time",
        "session_length",
        "user_agent",
        "entry_url",
        "variants",
        "audiences",
        "user_id",
        "user_id_history",
        "channel",
        "tier",
        "add_to_cart",
    ]
    assert columns["search"] == [
        "session_id",
        "device_id",
        "impression_ids",
        "impressions",
        "first_time",
        "impression_count",
        "query",
        "page",
        "results",
        "dwell",
        "ranker",
        "click",
    ]


def test_abstract_features_have_no_table():
    assert [table.name for table in tables(program("abstract feature A {} feature B {}"))] == ["session", "b"]


def test_a_view_unites_the_session_and_the_features_in_order():
    text = """
        event Ev { v: Int }
        feature Z { import Ev event Other { import Ev } }
        abstract feature A { import Ev }
        feature B { import A event Mine { import Ev } }
        session { event S { import Ev } import Ev }
    """
    (view,) = views(program(text))
    assert view.sources == (
        ViewSource("session", "ev"),
        ViewSource("session", "s"),
        ViewSource("z", "ev"),
        ViewSource("z", "other"),
        ViewSource("b", "ev"),
        ViewSource("b", "mine"),
    )


def test_descriptions_and_deprecations_become_comments():
    text = """
        "A box" feature F @deprecated(reason: "use G") {
            args { "What" a: Int @deprecated(reason: "b") c: Int @deprecated }
        }
    """
    table = tables(program(text))[1]
    assert table.comment == "A box (deprecated: use G)"
    assert [column.comment for column in table.columns][-2:] == ["What (deprecated: b)", "(deprecated: )"]


def test_redshift_takes_lengths_from_hints():
    text = "feature F { args { a: String @hint(length: 40) b: String } output { c: String @hint(length: 7) } }"
    statements = ddl(program(text), "redshift", "s3://b/w", schema="spectrum")
    assert '"a" varchar(40),\n  "b" varchar,\n  "c" varchar(7)\n' in statements
    assert 'create external table spectrum."f"(' in statements


@pytest.mark.parametrize(("table_format", "serde"), [("parquet", "ParquetHiveSerDe"), ("orc", "OrcSerde")])
def test_hive_reads_the_format_the_tables_have(table_format: str, serde: str):
    statements = ddl(program(SHOP), "hive", "s3://b/w", table_format=table_format)  # type: ignore[arg-type]
    assert len(re.findall(serde, statements)) == 5


def test_an_event_that_nothing_imports_has_an_empty_view():
    statements = ddl(program("event Lonely { value: Float! }"), "duckdb", "/w").split("\n----\n")
    connection = duckdb.connect()
    connection.execute(statements[-1])
    assert connection.execute("select * from lonely").fetchall() == []
    names = [row[0] for row in connection.execute("describe lonely").fetchall()]
    assert names == ["ds", "hh", "session_id", "feature", "impression_id", "event_time", "value"]


# --- the catalog ----------------------------------------------------------------------------------


def catalog(text: str, previous: str | None = None) -> str:
    shop = program(text)
    return catalog_text(shop, {table.name: "s1" for table in tables(shop)}, "parquet", previous)


def test_the_catalog_names_every_table():
    sources = yaml.safe_load(catalog(SHOP))["sources"]
    assert list(sources)[:5] == ["session", "rating_box", "product_info", "new_checkout", "search"]
    assert list(sources)[5:] == ["experiment", "variant", "variant_value", "audience", "metric"]
    assert sources["rating_box"]["description"] == "Collects a star rating for a product"
    assert sources["rating_box"]["driver"] == "parquet"
    assert sources["rating_box"]["args"] == {"urlpath": "{{ CATALOG_DIR }}/tables/rating_box/"}


def test_the_catalog_says_who_is_a_visitor_and_what_the_views_unite():
    metadata = yaml.safe_load(catalog(SHOP))["metadata"]
    assert (metadata["persistent_key"], metadata["split_key"]) == ("device_id", "user_id")
    assert metadata["views"]["revenue"] == [
        {"table": "session", "column": "add_to_cart"},
        {"table": "new_checkout", "column": "purchase"},
    ]


def test_tables_of_an_earlier_program_stay_in_the_catalog():
    after = yaml.safe_load(catalog("feature New {}", previous=catalog(SHOP)))["sources"]
    assert {"rating_box", "search", "new"} <= after.keys()


@pytest.mark.parametrize("previous", ["", "[]", "sources: nothing", "42"])
def test_a_catalog_that_is_no_catalog_is_replaced(previous: str):
    assert catalog(SHOP, previous) == catalog(SHOP)


# --- metadata -------------------------------------------------------------------------------------

DOCUMENT = {
    "experiments": [
        {
            "id": "exp-1",
            "name": "Button copy",
            "startTs": 1_700_000_000_250,
            "variants": [
                {"id": "c-1", "name": "ignored", "control": True, "weight": 1},
                {
                    "id": "v-1",
                    "name": "Blue",
                    "weight": 1,
                    "values": [
                        {"feature": "RatingBox", "field": "actionButton", "value": {"constant": "Submit"}},
                        {"feature": "NewCheckout", "active": True},
                    ],
                },
            ],
        }
    ],
    "audiences": [{"id": "aud-1", "name": "paid", "definition": {"field": "session.channel", "op": "eq"}}],
    "metrics": [{"id": "m-1", "name": "Revenue", "definition": {"event": "Purchase"}}],
}


def test_metadata_rows_say_what_the_configuration_says():
    rows = metadata_rows(DOCUMENT)
    assert rows["experiment"][0]["start_ts"] == "2023-11-14 22:13:20.250"
    assert rows["experiment"][0]["state"] == "published"
    assert [row["name"] for row in rows["variant"]] == [None, "Blue"]
    assert [(row["field_name"], row["field_value"]) for row in rows["variant_value"]] == [
        ("actionButton", '{"constant":"Submit"}'),
        (None, '{"active":true}'),
    ]
    assert rows["audience"][0]["definition"] == '{"field":"session.channel","op":"eq"}'
    assert rows["metric"][0]["metric_def"] == '{"event":"Purchase"}'


def test_metadata_rows_have_exactly_the_columns_of_their_tables():
    rows = metadata_rows(DOCUMENT)
    for table in metadata_tables():
        for row in rows[table.name]:
            assert [name for name in row if name != "weight"] == [column.name for column in table.columns]
    assert metadata_rows({}) == {table.name: [] for table in metadata_tables()}
    assert json_lines([]) == b""
