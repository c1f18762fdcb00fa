"""Which format a request means."""

from __future__ import annotations

import pytest

from intake_server.export.formats import NotAvailable, by_name, by_suffix, choose

BROWSER = "text/html,application/xhtml+xml,image/avif,image/webp,*/*;q=0.8"


@pytest.mark.parametrize(
    ("container", "accept", "expected"),
    [
        ("dataframe", "", "csv"),
        ("ndarray", "*/*", "npy"),
        ("python", "*/*", "jsonl"),
        ("dataframe", "application/vnd.apache.arrow.stream", "arrow"),
        ("dataframe", "application/vnd.apache.parquet, text/csv;q=0.5", "parquet"),
        ("dataframe", "application/x-ndjson", "jsonl"),
        ("dataframe", "application/json", "json"),
        ("dataframe", "text/*", "csv"),
        ("ndarray", "image/*", "png"),
        ("ndarray", "application/octet-stream", "npy"),
        ("python", "text/plain", "txt"),
        ("dataframe", "*/*;q=0.1, application/json;q=0.2", "json"),
        ("dataframe", "text/csv;q=0, */*", "jsonl"),
        ("ndarray", BROWSER, "npy"),
    ],
)
def test_the_accepted_format_with_the_greatest_weight_is_chosen(container, accept, expected):
    assert choose(container, None, accept).name == expected


def test_the_format_that_the_address_names_goes_before_accept():
    assert choose("dataframe", by_name("parquet"), "text/csv").name == "parquet"


@pytest.mark.parametrize(
    ("container", "named", "accept"),
    [("ndarray", "parquet", ""), ("dataframe", None, "video/mp4"), ("streamz", None, "*/*"), ("python", "png", "")],
)
def test_what_cannot_be_had_is_refused_with_what_can(container, named, accept):
    with pytest.raises(NotAvailable, match=f"a {container} can be had as"):
        choose(container, by_name(named) if named else None, accept)


def test_a_suffix_names_a_format_and_other_dots_belong_to_the_name():
    stem, form = by_suffix("v1.prices.Parquet") or ("", None)
    assert stem == "v1.prices"
    assert form is by_name("parquet")
    assert by_suffix("prices.xlsx") is None
    assert by_suffix(".csv") is None


def test_an_unknown_format_is_refused_by_name():
    with pytest.raises(NotAvailable, match="there is no format 'xlsx'"):
        by_name("xlsx")
