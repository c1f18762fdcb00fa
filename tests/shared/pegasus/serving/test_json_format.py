"""The three JSON forms (protocol §3)."""

from __future__ import annotations

from shared.pegasus.serving.json_format import Table, pretty, sorted_json, tables


def test_the_published_table_of_two():
    first = Table("tp1")
    first.add("row1", 1.234)
    first.add("row2", 2345)
    first.add("row3", "3456")
    second = Table("tp2", "multi_columns_test", ["col0", "col1", "col2"])
    second.add("row0", "data00", "data01", "data02")
    assert tables(first, second) == (
        b'{"tp1":{"row1":"1.23","row2":"2345","row3":"3456"},'
        b'"tp2":{"row0":{"multi_columns_test":"row0","col0":"data00","col1":"data01","col2":"data02"}}}\n'
    )


def test_nothing_is_an_empty_object():
    assert tables() == tables(Table()) == b"{}\n"
    assert tables(Table("details")) == b'{"details":{}}\n'


def test_an_unnamed_table_stands_in_the_outer_object():
    assert tables(Table().add_all([("b", True), ("a", 1e-7), ("c", -3)])) == b'{"b":"true","a":"0.00","c":"-3"}\n'


def test_only_quotes_backslashes_and_control_characters_are_escaped():
    text = "é/<>&'\"\\\n\t\b\f\r\x01\x1f\\u001f"
    printed = tables(Table().add_all([("k", text)]))
    assert printed == '{"k":"é/<>&\'\\"\\\\\\n\\t\\b\\f\\r\\u0001\\u001F\\\\u001f"}\n'.encode()


def test_bytes_that_are_not_text_are_printed_as_they_came():
    assert tables(Table().add_all([("k", b"\x80".decode(errors="surrogateescape"))])) == b'{"k":"\x80"}\n'


def test_sorted_objects_have_real_types_and_no_line_feed():
    assert sorted_json({"b": 1, "10": None, "2": True, "a": {"d": "x", "c": -1}}) == (
        b'{"10":null,"2":true,"a":{"c":-1,"d":"x"},"b":1}'
    )
    assert sorted_json({"b": {"y": "", "x": ""}}, indent=True) == b'{\n  "b": {\n    "x": "",\n    "y": ""\n  }\n}'


def test_pretty_objects_are_indented_by_four():
    assert pretty({"entities": [], "attributes": {}, "value": 12.0}) == (
        b'{\n    "entities": [],\n    "attributes": {},\n    "value": 12.0\n}'
    )
