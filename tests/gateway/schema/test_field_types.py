"""The type language of channel files (§8.2)."""

from __future__ import annotations

import pytest

from gateway.schema.field_types import (
    Array,
    DictOf,
    EnumOf,
    FieldType,
    ListOf,
    Nullable,
    Scalar,
    SetOf,
    StructOf,
    UnionOf,
    parse_type,
    spell_type,
)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("int", Scalar("int")),
        ("str?", Nullable(Scalar("str"))),
        ("float[]", Array("float", 1)),
        ("int[][]", Array("int", 2)),
        ("list[Side]", ListOf(EnumOf("Side"))),
        ("set[ int ]", SetOf(Scalar("int"))),
        ("dict[str, list[Quote]]", DictOf(ListOf(StructOf("Quote")))),
        ("int | str?", UnionOf((Scalar("int"), Nullable(Scalar("str"))))),
        ("float[]?", Nullable(Array("float", 1))),
    ],
)
def test_a_type_is_written_as_people_say_it(text: str, parsed: FieldType):
    assert parse_type(text, ["Side"], ["Quote"]) == parsed
    assert parse_type(spell_type(parsed), ["Side"], ["Quote"]) == parsed


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("integer", "unknown type 'integer'"),
        ("str[]", "only int[] and float[] are arrays"),
        ("list[int", "expected ']' at its end"),
        ("list(int)", "unexpected '('"),
        ("dict[int, str]", "keys of a dict are str, not int"),
        ("int int", "unexpected 'int'"),
        ("", "expected a type name at its end"),
    ],
)
def test_what_is_no_type_is_told(text: str, complaint: str):
    with pytest.raises(ValueError) as error:
        parse_type(text, [], [])
    assert complaint in str(error.value)
