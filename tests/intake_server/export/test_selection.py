"""Query parameters that say which part of the data is wanted."""

from __future__ import annotations

import pytest

from intake_server.export.filters import Condition
from intake_server.export.selection import Axis, Rows, Selection, SelectionError, split_query


def selected(**query: str | list[str]) -> Selection:
    return Selection.parse({name: [value] if isinstance(value, str) else value for name, value in query.items()})


def test_columns_are_separated_by_commas_and_may_be_quoted_or_repeated():
    assert selected(columns=["a, b", '"c,d"']).columns == ("a", "b", "c,d")


@pytest.mark.parametrize(
    ("text", "rows"), [("10:20", Rows(10, 20)), (":5", Rows(0, 5)), ("7:", Rows(7, None)), (":", Rows())]
)
def test_rows_are_a_range_as_in_python(text, rows):
    assert selected(rows=text).rows == rows


@pytest.mark.parametrize("text", ["", "5", "-5:", "a:b", "5:2", "1:2:3", "9" * 30 + ":"])
def test_other_texts_are_no_range_of_rows(text):
    with pytest.raises(SelectionError, match="rows: "):
        selected(rows=text)


def test_a_slice_has_a_range_or_an_index_for_each_axis():
    assert selected(slice="0:10,::2,-1,:").axes == (Axis(0, 10), Axis(step=2), Axis(-1, is_index=True), Axis())


@pytest.mark.parametrize("text", ["", "a", "1:2:0", "1,,2", "1:2:-1", "-:3", "1.5"])
def test_other_texts_are_no_slice(text):
    with pytest.raises(SelectionError, match="slice: "):
        selected(slice=text)


def test_conditions_may_be_repeated():
    assert selected(where=["a>1", "b=x"]).where == (Condition("a", ">", ("1",)), Condition("b", "=", ("x",)))


@pytest.mark.parametrize(
    ("container", "query"),
    [
        ("ndarray", {"columns": "a"}),
        ("python", {"where": "a=1"}),
        ("dataframe", {"slice": "0"}),
        ("xarray", {"rows": ":1"}),
    ],
)
def test_what_the_data_do_not_have_cannot_be_selected(container, query):
    with pytest.raises(SelectionError, match=f"{next(iter(query))}: this entry is of the kind '{container}'"):
        selected(**query).check(container)


def test_equal_selections_have_equal_canonical_forms_and_different_ones_have_not():
    assert selected(rows=":5").canonical() == selected(rows="0:5").canonical()
    forms = [selected(**query) for query in ({}, {"rows": ":5"}, {"columns": "a"}, {"where": "a=1"}, {"slice": "1"})]
    assert len({form.canonical() for form in forms}) == len(forms)


def test_what_does_not_select_is_a_parameter_of_the_entry():
    pairs = [("columns", "a"), ("year", "2024"), ("p.rows", "x"), ("columns", "b")]
    assert split_query(pairs) == ({"columns": ["a", "b"]}, {"year": "2024", "rows": "x"})
    with pytest.raises(SelectionError, match="year: this parameter is given twice"):
        split_query([("year", "1"), ("p.year", "2")])
